"""Cleaving: some supervoxels of a body become a body of their own. Voxels do not change, nor does any scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from dvidcore import labels
from dvidcore.datatypes.labels.index import Columns, starts_of_blocks
from dvidcore.datatypes.labels.reading import inputs
from dvidcore.datatypes.labels.writing.transaction import Transaction, write
from dvidcore.errors import BadRequest
from dvidcore.repos import blobs
from dvidcore.storage.keys import zyx_keys

if TYPE_CHECKING:
    from dvidcore.datatypes.call import Call
    from dvidcore.datatypes.labels.engine import LabelEngine

_LARGEST_RECORD = 980 << 10
"""Bytes of JSON beyond which a record names a blob instead of the supervoxels."""


def cleave(data: LabelEngine, call: Call, body: int) -> dict[str, int]:
    """``POST cleave`` with ``[supervoxel, …]``: answers ``{"CleavedLabel": n, "MutationID": n}``.

    Rows change in the blocks that the supervoxels are in, but the body's whole index is needed to find them.
    Raises BadRequest, with nothing changed and no label used up, unless they are some of the body's supervoxels and
    not all. Those that map to the body and have no voxels may be among them, and stay.
    """
    posted = inputs.labels(call.body)
    asked = np.unique(posted)
    if not len(asked) or not asked[0]:
        raise BadRequest("the body must list the supervoxels that leave, at least one, and 0 is none")
    return write(data, call, lambda change: _cleave(change, body, posted.tolist(), asked), bodies=[body])


def _cleave(change: Transaction, body: int, posted: list[int], asked: NDArray[np.uint64]) -> dict[str, int]:
    record, columns = change.record(body), change.columns(body)
    if record is None or columns is None:
        raise BadRequest(f"label {body} is not a body at this version")
    leaving, staying = (columns.where(rows) for rows in labels.divide(columns.coords, columns.supervoxels, asked))
    moved, sizes = labels.totals(leaving.supervoxels, leaving.counts)
    _check(change, body, asked, moved)
    if len(leaving.counts) == len(columns.counts):
        raise BadRequest(f"these are all supervoxels of body {body}: nothing of it would remain")
    (new,) = change.new_labels(1)
    voxels = int(sizes.sum())
    left, kept = _put_rows(change, new, leaving), _put_rows(change, body, staying)
    for zyx in set(left).difference(kept):
        change.batch.delete(change.data.rows.index(body, zyx))
    change.put_body(body, record.voxels - voxels, record.blocks - len(left) + len(kept))
    change.put_body(new, voxels, len(left))
    change.map(moved, np.full(len(moved), new, np.uint64))
    change.map(np.array([new], np.uint64), np.zeros(1, np.uint64))
    _log(change, {"OrigLabel": body, "CleavedLabel": new}, posted, (voxels, record.voxels - voxels))
    if change.data.has_followers():
        change.tell("cleave", blocks=leaving.blocks().astype(np.int64), losing=(body,))
    return {"CleavedLabel": new, "MutationID": change.mutation}


def _check(change: Transaction, body: int, asked: NDArray[np.uint64], found: NDArray[np.uint64]) -> None:
    """Refuses supervoxels that are not of the body; both arrays ascend, ``found`` are those that have voxels in it."""
    if len(found) == len(asked):
        return
    missing = np.setdiff1d(asked, found, assume_unique=True)
    strange = missing[change.mapped().bodies(missing) != np.uint64(body)]
    if len(strange):
        raise BadRequest(f"supervoxel {strange[0]} is not part of body {body}; nothing was cleaved")
    if not len(found):
        raise BadRequest(f"none of the supervoxels has voxels in body {body}; nothing was cleaved")


def _put_rows(change: Transaction, body: int, columns: Columns) -> list[bytes]:
    """Puts rows of a body; answers their blocks, as of ``zyx_key``."""
    starts = starts_of_blocks(columns.coords)
    blocks, prefix = zyx_keys(columns.coords[starts]), change.data.rows.index(body)
    rows = labels.pack_rows(columns.supervoxels, columns.counts, starts, change.mutation)
    for zyx, row in zip(blocks, rows, strict=True):
        change.batch.put(prefix + zyx, row)
    return blocks


def _log(change: Transaction, bodies: dict[str, int], posted: list[int], sizes: tuple[int, int]) -> None:
    """The record; one that would be large names a blob, the JSON of the start of the mutation, in place of the list."""
    start = {"Action": "cleave", **bodies, "CleavedSupervoxels": posted}
    listed: dict[str, Any] = {"CleavedSupervoxels": posted}
    if len(posted) > _LARGEST_RECORD // 21 and len(message := orjson.dumps(start)) > _LARGEST_RECORD:
        reference = blobs.blob_reference(message)
        change.batch.batch.put(blobs.blob_key(reference), message)
        listed = {"DataRef": reference}
    sized = {"CleavedSize": sizes[0], "RemainSize": sizes[1]}
    change.log({"Action": "cleave-complete", **bodies, **listed, **sized})
