"""Merging bodies: supervoxels of some bodies come to belong to another. Voxels do not change, nor does any scale."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvidcore import labels
from dvidcore.datatypes.base import Call
from dvidcore.datatypes.labels.index import Columns
from dvidcore.datatypes.labels.ingest import read_guard
from dvidcore.datatypes.labels.rows import BodyRecord, pack_u64, unpack_u64
from dvidcore.errors import BadRequest, GuardFailed
from dvidcore.geometry import UINT64_MAX
from dvidcore.mutations import log
from dvidcore.storage.engine import Batch
from dvidcore.storage.keys import zyx_key
from dvidcore.storage.versioned import VersionedBatch, View

if TYPE_CHECKING:
    from dvidcore.datatypes.labels.engine import LabelEngine


def merge(label: LabelEngine, call: Call) -> dict[str, int]:
    """``POST merge`` with ``[target, a, b, …]``: answers ``{"MutationID": n}``.

    The rows of the merged bodies move to the target, so the cost is that of the merged bodies, not of the target.
    Raises BadRequest, with nothing changed, where a label is not a body at this version.
    """
    target, merged = _bodies_of(call.body.json())
    with label.commit_lock:
        while True:
            view = call.renew()
            guard = read_guard(view.snapshot, [label.rows.indexed, label.rows.mapped])
            mutation = label.repo.next_mutation_id()
            batch, moved = _move(label, call, target, merged, mutation)
            for key, value in guard.items():
                batch.put(key, pack_u64(unpack_u64(value) + 1))
            record = {
                "Action": "merge-complete",
                "Target": target,
                "Labels": merged,
                "UUID": call.node.uuid,
                "MutationID": mutation,
                "Timestamp": log.timestamp(),
                **{key: who for key, who in (("User", call.user), ("App", call.app)) if who},
            }
            records = log.append(batch, label.record.id, call.version, mutation, [record])
            try:
                label.engine.write(batch, sync=label.database.options.sync, guard=guard)
            except GuardFailed:
                continue  # another process changed the index or the mapping
            bodies = np.full(len(moved), target, np.uint64)
            label.mapping.wrote(call.version, moved, bodies, unpack_u64(guard[label.rows.mapped]) + 1)
            label.publish(call, records)
            return {"MutationID": mutation}


def _bodies_of(value: Any) -> tuple[int, list[int]]:
    if not isinstance(value, list) or len(value) < 2:
        raise BadRequest("the body must be a list of at least two labels, [target, a, b, …]")
    for n in value:
        if not isinstance(n, int) or isinstance(n, bool) or not 0 < n <= UINT64_MAX:
            raise BadRequest(f"{n!r} is not a label: a uint64, not 0, is needed")
    target, merged = value[0], list(dict.fromkeys(value[1:]))
    if target in merged:
        raise BadRequest(f"label {target} cannot be merged into itself")
    return target, merged


def _move(
    label: LabelEngine, call: Call, target: int, merged: list[int], mutation: int
) -> tuple[Batch, NDArray[np.uint64]]:
    """(what moves the merged bodies into the target, their supervoxels)."""
    view, batch = call.view, Batch()
    total = _need(label, view, target)
    writer = VersionedBatch(batch, call.version)
    gone: list[Columns] = []
    for body in merged:
        _need(label, view, body)
        columns = label.index.read(view, body)
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
    for key, row, old in zip(keys, rows, view.get_many(keys), strict=True):
        shared += old is not None
        writer.put(key, row if old is None else labels.join_rows(old, row))
    writer.put(
        label.rows.body(target),
        BodyRecord(
            voxels=total.voxels + int(moving.counts.sum(dtype=np.uint64)),
            blocks=total.blocks + len(blocks) - shared,
            change=mutation,
            last_mutid=mutation,
            last_mod_time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            last_mod_user=call.user,
            last_mod_app=call.app,
        ).pack(),
    )
    moved = np.unique(moving.supervoxels)
    value = pack_u64(target)
    for supervoxel in moved.tolist():
        writer.put(label.rows.mapping(supervoxel), value)
    return batch, moved


def _need(label: LabelEngine, view: View, body: int) -> BodyRecord:
    record = label.index.record(view, body)
    if record is None:
        raise BadRequest(f"label {body} is not a body at this version")
    return record
