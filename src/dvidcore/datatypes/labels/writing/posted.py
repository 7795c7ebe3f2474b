"""Label indices and mappings as clients post them: bulk loaders, which store voxels by ``ingest-supervoxels``.

They are stored as given and not compared with voxels. All of a request is checked first, and written in one batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvidcore import labels
from dvidcore.datatypes.labels.index import Columns
from dvidcore.datatypes.labels.rows import LONGEST_TEXT, BodyRecord
from dvidcore.datatypes.labels.writing.transaction import Transaction, write
from dvidcore.errors import BadRequest
from dvidcore.storage.keys import prefix_end, zyx_keys

if TYPE_CHECKING:
    from dvidcore.datatypes.call import Buffer, Call
    from dvidcore.datatypes.labels.engine import LabelEngine


class Entries(NamedTuple):
    """Supervoxels, each once, and the bodies that they map to: uint64 (n,) both."""

    supervoxels: NDArray[np.uint64]
    bodies: NDArray[np.uint64]


class Posted(NamedTuple):
    """A body's index as it was posted; without rows the body is deleted."""

    label: int
    columns: Columns
    last_mutid: int
    last_mod: tuple[str, str, str]
    """Time, user and application."""


# -- indices -----------------------------------------------------------------------------------------------------------


def post_index(data: LabelEngine, call: Call, label: int) -> None:
    """``POST index``: a LabelIndex message becomes the index of its label, which must be ``label``."""
    posted = _decode(call.body.read(), "the body")
    if posted.label != label:
        raise BadRequest(f"label: the path says {label}, the index in the body is of {posted.label}")
    _replace(data, call, [posted])


def post_indices(data: LabelEngine, call: Call) -> None:
    """``POST indices``: a LabelIndices message, all of it or nothing. Of a label listed twice the last index counts."""
    try:
        messages = labels.decode_indices(call.body.read())
    except ValueError as e:
        raise BadRequest(f"the body is not a LabelIndices message: {e}") from None
    by_label: dict[int, Posted] = {}
    for place, message in enumerate(messages):
        posted = _decode(message, f"index {place}")
        if not posted.label:
            raise BadRequest(f"index {place} is of label 0, which is background")
        by_label[posted.label] = posted
    _replace(data, call, list(by_label.values()))


def _decode(message: Buffer, what: str) -> Posted:
    """The index in a message; BadRequest for what is none, or names supervoxel 0.

    Supervoxels without voxels are left out, and blocks without any.
    """
    try:
        label, coords, supervoxels, counts, surface, last_mutid, time, user, app = labels.decode_index(message)
    except ValueError as e:
        raise BadRequest(f"{what} is not a LabelIndex message: {e}") from None
    found = Columns(coords, supervoxels, counts, surface)
    there = found.counts != 0
    if not there.all():
        found = Columns(*(column[there] for column in found))
    if not found.supervoxels.all():
        raise BadRequest(f"{what}, of label {label}, counts voxels of supervoxel 0, which is background")
    for name, text in (("time", time), ("user", user), ("app", app)):
        if len(text.encode()) > LONGEST_TEXT:
            raise BadRequest(f"{what}, of label {label}: last_mod_{name} is longer than {LONGEST_TEXT} bytes")
    return Posted(label, found, last_mutid, (time, user, app))


def _replace(data: LabelEngine, call: Call, indices: list[Posted]) -> None:
    """Stores the indices in one write, with the totals of their bodies; raises the maximum to the largest body."""
    largest = max((posted.label for posted in indices if len(posted.columns.counts)), default=0)
    members = max((int(p.columns.supervoxels.max()) for p in indices if len(p.columns.counts)), default=0)

    def put(change: Transaction) -> None:
        for posted in indices:
            _put_index(data, change, posted)
        change.raise_maximum(largest, in_use=members)

    if indices:
        write(data, call, put, bodies=[posted.label for posted in indices])


def _put_index(data: LabelEngine, change: Transaction, posted: Posted) -> None:
    """The rows and the record of one body."""
    writer = change.batch
    change.record(posted.label)
    of_body, record = data.rows.index(posted.label), data.rows.body(posted.label)
    gone = set(change.view.keys(of_body, prefix_end(of_body)))
    columns = posted.columns
    if len(columns.counts):
        starts = np.flatnonzero(np.concatenate(([True], (columns.coords[1:] != columns.coords[:-1]).any(axis=1))))
        keys = zyx_keys(columns.coords[starts], of_body)
        rows = labels.pack_rows(columns.supervoxels, columns.counts, starts, columns.surface[starts])
        for key, row in zip(keys, rows, strict=True):
            writer.put(key, row)
        gone.difference_update(keys)
        voxels = int(columns.counts.sum(dtype=np.uint64))
        writer.put(record, BodyRecord(voxels, len(keys), change.mutation, posted.last_mutid, *posted.last_mod).pack())
    elif gone:
        writer.delete(record)
    for key in gone:
        writer.delete(key)


# -- mappings ----------------------------------------------------------------------------------------------------------


def post_mappings(data: LabelEngine, call: Call) -> None:
    """``POST mappings``: the operations of a MappingOps message become the mapping of this version, the last one wins.

    Indices are not changed. No label of the message is given out later.
    """
    entries = _entries(call.body.read())
    if not len(entries.supervoxels):
        return
    bodies = np.setdiff1d(entries.bodies, entries.supervoxels)  # the others have an entry of their own
    largest = int(max(entries.supervoxels.max(), entries.bodies.max()))

    def put(change: Transaction) -> None:
        change.map(entries.supervoxels, entries.bodies)
        change.name(bodies[bodies != 0])
        change.raise_maximum(0, in_use=largest)

    write(data, call, put)


def _entries(message: Buffer) -> Entries:
    """Each supervoxel of a MappingOps message and its body; BadRequest for what is none, or maps 0 to a body."""
    try:
        operations = labels.decode_mapping_ops(message)
    except ValueError as e:
        raise BadRequest(f"the body is not a MappingOps message: {e}") from None
    empty: NDArray[np.uint64] = np.empty(0, np.uint64)
    supervoxels = np.concatenate([empty, *(original for _, _, original in operations)])
    bodies = np.concatenate([empty, *(np.full(len(original), body, np.uint64) for _, body, original in operations)])
    if bodies[supervoxels == 0].any():
        raise BadRequest("supervoxel 0 is background and cannot be mapped to a body")
    found, last = np.unique(supervoxels[::-1], return_index=True)
    mapped = bodies[::-1][last]
    return Entries(found[found != 0], mapped[found != 0])
