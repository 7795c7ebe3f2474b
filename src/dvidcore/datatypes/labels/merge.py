"""Merging bodies: supervoxels of some bodies come to belong to another. Voxels do not change, nor does any scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dvidcore import labels
from dvidcore.datatypes.base import Call
from dvidcore.datatypes.labels import inputs
from dvidcore.datatypes.labels.index import Columns
from dvidcore.datatypes.labels.rows import BodyRecord
from dvidcore.datatypes.labels.transaction import Transaction, write
from dvidcore.errors import BadRequest
from dvidcore.storage.keys import zyx_key

if TYPE_CHECKING:
    from dvidcore.datatypes.labels.engine import LabelEngine


def merge(label: LabelEngine, call: Call) -> dict[str, int]:
    """``POST merge`` with ``[target, a, b, …]``: answers ``{"MutationID": n}``.

    The rows of the merged bodies move to the target, so the cost is that of the merged bodies, not of the target.
    Raises BadRequest, with nothing changed, where a label is not a body at this version.
    """
    target, merged = _bodies_of(inputs.labels(call.body).tolist())

    def change(change: Transaction) -> dict[str, int]:
        moved = _move(label, change, target, merged)
        change.map(moved, np.full(len(moved), target, np.uint64))
        change.log({"Action": "merge-complete", "Target": target, "Labels": merged})
        change.tell("merge", bodies=dict.fromkeys(merged, target))
        return {"MutationID": change.mutation}

    return write(label, call, change, bodies=[target, *merged])


def _bodies_of(listed: list[int]) -> tuple[int, list[int]]:
    if len(listed) < 2:
        raise BadRequest(f"the body must list at least two labels, [target, a, b, …]; it lists {len(listed)}")
    if 0 in listed:
        raise BadRequest("0 is background, it cannot be merged")
    target, merged = listed[0], list(dict.fromkeys(listed[1:]))
    if target in merged:
        raise BadRequest(f"label {target} cannot be merged into itself")
    return target, merged


def _move(label: LabelEngine, change: Transaction, target: int, merged: list[int]) -> NDArray[np.uint64]:
    """Moves the merged bodies into the target; answers their supervoxels."""
    total = _need(change, target)
    for body in merged:
        _need(change, body)
    writer, mutation = change.batch, change.mutation
    gone: list[Columns] = []
    for body in merged:
        columns = label.index.read(change.view, body)
        gone.append(columns)
        for coord in columns.blocks().tolist():
            writer.delete(label.rows.index(body, zyx_key(*coord)))
        writer.delete(label.rows.body(body))
    coords, supervoxels, counts, surface = (np.concatenate(part) for part in zip(*gone, strict=True))
    order = np.lexsort((supervoxels, coords[:, 2], coords[:, 1], coords[:, 0]))
    moving = Columns(coords[order], supervoxels[order], counts[order], surface[order])
    blocks = moving.blocks()
    keys = [label.rows.index(target, zyx_key(*coord)) for coord in blocks.tolist()]
    starts = np.flatnonzero(np.concatenate(([True], (moving.coords[1:] != moving.coords[:-1]).any(axis=1))))
    rows = labels.pack_rows(moving.supervoxels, moving.counts, starts, mutation)
    shared = 0
    for key, row, old in zip(keys, rows, change.view.get_many(keys), strict=True):
        shared += old is not None
        writer.put(key, row if old is None else labels.join_rows(old, row))
    voxels = total.voxels + int(moving.counts.sum(dtype=np.uint64))
    change.put_body(target, voxels, total.blocks + len(blocks) - shared)
    return np.unique(moving.supervoxels)


def _need(change: Transaction, body: int) -> BodyRecord:
    record = change.record(body)
    if record is None:
        raise BadRequest(f"label {body} is not a body at this version")
    return record
