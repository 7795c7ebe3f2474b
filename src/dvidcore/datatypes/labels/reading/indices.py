"""Label indices on the wire: protobuf messages, one or many, and what is known of a body's last change."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import lz4.block
import numpy as np
from numpy.typing import NDArray

from dvidcore import labels
from dvidcore.datatypes.call import Buffer
from dvidcore.datatypes.labels.index import Columns
from dvidcore.datatypes.labels.rows import BodyRecord
from dvidcore.errors import BadRequest

if TYPE_CHECKING:
    from dvidcore.datatypes.call import Call
    from dvidcore.datatypes.labels.engine import LabelEngine

MOST = 50_000
"""Labels that one request for indices may list."""
_LZ4 = 0x80
"""First byte of DVID's serialisation: LZ4 without a checksum."""
_RECORD = struct.Struct("<QQ")
_SIZED = struct.Struct("<BI")
_EMPTY = Columns(np.empty((0, 3), np.int32), np.empty(0, np.uint64), np.empty(0, np.uint32), np.empty(0, np.uint64))


def encode(label: int, record: BodyRecord, columns: Columns) -> bytes:
    """The message; BadRequest where the body has blocks whose coordinates its keys, of 21 bits each, cannot hold."""
    try:
        return labels.encode_index(
            label,
            columns.coords,
            columns.supervoxels,
            columns.counts,
            columns.surface,
            record.last_mutid,
            record.last_mod_time,
            record.last_mod_user,
            record.last_mod_app,
        )
    except ValueError as e:
        raise BadRequest(f"label: a LabelIndex message cannot hold the index of {label}: {e}") from None


def index(data: LabelEngine, call: Call, label: int) -> bytes | None:
    """A body's LabelIndex message; None where it does not exist."""
    record = data.index.record(call.view, label)
    columns = None if record is None else data.index.columns(call.view, label)
    return None if record is None or columns is None else encode(label, record, columns)


def indices(data: LabelEngine, call: Call, bodies: NDArray[np.uint64]) -> bytes:
    """A LabelIndices message with the index of each body, in that order; of a missing one with its label alone."""
    messages, size, most = [], 0, data.database.options.max_data_request
    for body in bodies.tolist():
        message = index(data, call, body)
        if message is None:
            message = labels.encode_index(body, _EMPTY.coords, _EMPTY.supervoxels, _EMPTY.counts)
        messages.append(message)
        size += len(message)
        if size > most:
            raise BadRequest(
                f"the indices asked for have more than {most} bytes, ask for fewer labels (maxDataRequest)"
            )
    return labels.encode_indices(messages)


def compressed(data: LabelEngine, call: Call, bodies: NDArray[np.uint64]) -> Iterator[Buffer]:
    """For each body uint64 size, uint64 label and the index in DVID's stored form; size 0 where it is missing."""
    for body in bodies.tolist():
        message = index(data, call, body)
        if message is None:
            yield _RECORD.pack(0, body)
            continue
        packed = lz4.block.compress(message, store_size=False)
        yield _RECORD.pack(_SIZED.size + len(packed), body) + _SIZED.pack(_LZ4, len(message)) + packed


def metadata(record: BodyRecord) -> dict[str, Any]:
    """``GET index?metadata-only=true``."""
    return {
        "num_voxels": record.voxels,
        "last_mutid": record.last_mutid,
        "last_mod_time": record.last_mod_time,
        "last_mod_user": record.last_mod_user,
        "last_mod_app": record.last_mod_app,
    }


def last_change(record: BodyRecord) -> dict[str, Any]:
    """``GET lastmod``."""
    return {
        "mutation id": record.last_mutid,
        "last mod user": record.last_mod_user,
        "last mod app": record.last_mod_app,
        "last mod time": record.last_mod_time,
    }


def writer(data: LabelEngine, call: Call, label: int) -> int | None:
    """The version whose entry for the body, or deletion of it, is what this version sees; None without any."""
    prefix_key = data.rows.body(label)
    entries = {version for _, version, _ in call.view.scan_entries(prefix_key, prefix_key + b"\xff" * 4)}
    seen = call.ancestry.frontier(entries)
    return seen[0] if seen else None
