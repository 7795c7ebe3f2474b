"""Merging bodies: supervoxels of some bodies come to belong to another. Voxels do not change, nor does any scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dvidcore import labels
from dvidcore.datatypes.call import Call
from dvidcore.datatypes.labels.reading import inputs
from dvidcore.datatypes.labels.rows import INDEX_ZYX_OFFSET, SURFACE_BYTES, BodyRecord, pack_u64
from dvidcore.datatypes.labels.writing.transaction import Transaction, write
from dvidcore.errors import BadRequest
from dvidcore.storage.keys import prefix_end

if TYPE_CHECKING:
    from dvidcore.datatypes.labels.engine import LabelEngine

Stored = bytes | memoryview

_SCANNED = 8
"""To look for one row takes as long as to read so many that follow each other."""


def merge(label: LabelEngine, call: Call) -> dict[str, int]:
    """``POST merge`` with ``[target, a, b, …]``: answers ``{"MutationID": n}``.

    The rows of the merged bodies move to the target, so the cost is that of the merged bodies, not of the target. What
    maps to a merged body and has no voxels is in none of its rows, and stays as it is.
    Raises BadRequest, with nothing changed, where a label is not a body at this version.
    """
    target, merged = bodies_of(inputs.labels(call.body).tolist())

    def change(change: Transaction) -> dict[str, int]:
        moved = _move(label, change, target, merged)
        change.map(moved, np.full(len(moved), target, np.uint64))
        change.log({"Action": "merge-complete", "Target": target, "Labels": merged})
        change.tell("merge", bodies=dict.fromkeys(merged, target))
        return {"MutationID": change.mutation}

    return write(label, call, change, bodies=[target, *merged])


def bodies_of(listed: list[int]) -> tuple[int, list[int]]:
    """The target and the other bodies of ``[target, a, b, …]``, each once; BadRequest where that is no merge."""
    if len(listed) < 2:
        raise BadRequest(f"the body must list at least two labels, [target, a, b, …]; it lists {len(listed)}")
    if 0 in listed:
        raise BadRequest("0 is background, it cannot be merged")
    target, merged = listed[0], list(dict.fromkeys(listed[1:]))
    if target in merged:
        raise BadRequest(f"label {target} cannot be merged into itself")
    return target, merged


def _move(label: LabelEngine, change: Transaction, target: int, merged: list[int]) -> NDArray[np.uint64]:
    """Moves the merged bodies into the target; answers their supervoxels, ascending."""
    total, parts = _need(change, target), [_need(change, body) for body in merged]
    writer, stamp = change.batch, pack_u64(change.mutation)
    moving: dict[bytes, bytes] = {}
    for body in merged:
        start = label.rows.index(body)
        for key, value in change.view.scan(start, prefix_end(start)):
            writer.delete(key)
            zyx, row = key[INDEX_ZYX_OFFSET:], stamp + value[SURFACE_BYTES:]
            moving[zyx] = _joined(stamp, moving[zyx], row) if zyx in moving else row
        writer.delete(label.rows.body(body))
    supervoxels = labels.supervoxels_of(moving.values())
    prefix = label.rows.index(target)
    there = rows_at(change, prefix, list(moving), total.blocks)
    for zyx, row in moving.items():
        old = there.get(zyx)
        writer.put(prefix + zyx, row if old is None else _joined(stamp, old, row))
    voxels = total.voxels + sum(part.voxels for part in parts)
    change.put_body(target, voxels, total.blocks + len(moving) - len(there))
    return supervoxels


def rows_at(change: Transaction, prefix: bytes, blocks: list[bytes], stored: int) -> dict[bytes, Stored]:
    """The rows that a body, of ``stored`` rows, has in some blocks."""
    if stored <= _SCANNED * len(blocks):
        wanted = set(blocks)
        rows = ((key[INDEX_ZYX_OFFSET:], row) for key, row in change.view.scan(prefix, prefix_end(prefix)))
        return {zyx: row for zyx, row in rows if zyx in wanted}
    found = change.view.get_many([prefix + zyx for zyx in blocks])
    return {zyx: row for zyx, row in zip(blocks, found, strict=True) if row is not None}


def _joined(stamp: bytes, one: Stored, other: Stored) -> bytes:
    return stamp + labels.join_rows(one, other)[SURFACE_BYTES:]


def _need(change: Transaction, body: int) -> BodyRecord:
    record = change.record(body)
    if record is None:
        raise BadRequest(f"label {body} is not a body at this version")
    return record
