"""Splitting supervoxels and bodies: voxels that a sparse volume lists get other labels than those that it does not.

All is computed, and every voxel of the volume compared with what is stored, before anything is written: blocks, coarser
scales, index rows, mapping, counters and the log are one transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dvidcore import blocks, budget
from dvidcore.datatypes.call import Call
from dvidcore.datatypes.labels import stored
from dvidcore.datatypes.labels.index import Columns
from dvidcore.datatypes.labels.mutations.rewrite import Relabelling, Rewriting
from dvidcore.datatypes.labels.mutations.runs_input import PostedRuns, blocks_met, cut, memory_for, read_runs
from dvidcore.datatypes.labels.mutations.split_index import Affected
from dvidcore.datatypes.labels.writing.generations import tiles_of
from dvidcore.datatypes.labels.writing.new_ids import NewIds
from dvidcore.datatypes.labels.writing.transaction import Transaction, write
from dvidcore.errors import BadRequest
from dvidcore.geometry import ZYX
from dvidcore.pool import ordered_map
from dvidcore.repos import blobs

if TYPE_CHECKING:
    from dvidcore.datatypes.labels.engine import LabelEngine

Labels = NDArray[np.uint64]


def split_supervoxel(
    label: LabelEngine, call: Call, supervoxel: int, *, split: int | None, remain: int | None, downres: bool
) -> dict[str, int]:
    """``POST split-supervoxel``: the voxels of the body become one supervoxel, the others of ``supervoxel`` another.

    ``split`` and ``remain`` are their ids, None for the next ones. Answers ``SplitSupervoxel``, ``RemainSupervoxel`` and
    ``MutationID``. Raises BadRequest, with nothing changed and no id used up, unless the body is a non-empty part of the
    supervoxel's voxels, and not all of them, and the ids are new.
    """
    with budget.work.borrow(memory_for(call.body)):
        posted = read_runs(call.body)
        body = label.mapping.at(call).body(supervoxel)
        columns = _need_supervoxel(label.index.columns(call.view, body) if body else None, supervoxel, body)
        tiles = tiles_of(label, map(ZYX._make, columns.of(supervoxel).coords.tolist()))

        def change(write: Transaction) -> dict[str, int]:
            return _split_supervoxel(write, supervoxel, posted, (split, remain), downres)

        return write(label, call, change, bodies=[body], tiles=tiles)


def _need_supervoxel(columns: Columns | None, supervoxel: int, body: int) -> Columns:
    """The index of a supervoxel's body; BadRequest where there is no such supervoxel."""
    if not body:
        raise BadRequest(f"supervoxel {supervoxel} was split or retired, it is no longer there")
    if columns is None or not (columns.supervoxels == np.uint64(supervoxel)).any():
        raise BadRequest(f"there is no supervoxel {supervoxel} at this version")
    return columns


def _split_supervoxel(
    change: Transaction, supervoxel: int, posted: PostedRuns, given: tuple[int | None, int | None], downres: bool
) -> dict[str, int]:
    body = change.mapped().body(supervoxel)
    columns = _need_supervoxel(change.columns(body) if body else None, supervoxel, body)
    old = np.array([supervoxel], np.uint64)
    affected = Affected(columns, old)
    size = affected.voxels()
    if posted.voxels >= size:
        raise BadRequest(
            f"the body lists {posted.voxels} voxels and supervoxel {supervoxel} has {size}: some must stay"
        )
    pieces, outside = cut(posted, affected.coords, change.data.block)
    if len(outside):
        raise BadRequest(f"run {outside[0].tolist()} (x, y, z, length) is not within supervoxel {supervoxel}")
    ids = NewIds(change, [label for label in given if label is not None])
    split, remain = (ids.choose(label, name) for label, name in zip(given, ("split", "remain"), strict=True))
    new = np.array([split, remain], np.uint64)
    rewriting = Rewriting(
        change,
        pieces,
        Relabelling(old, new[:1], new[1:]),
        fresh_labels=new,
        strict=True,
        whose=f"supervoxel {supervoxel}",
    )
    counted = rewriting.run(downres)
    parts = affected.become(counted, pieces.touched(), new[:1], new[1:])
    sizes = [part.voxels() for part in parts]
    record = change.record(body)
    assert record is not None
    lost = affected.replace(change, body, *parts)
    change.put_body(body, record.voxels + sum(sizes) - size, record.blocks - lost)
    change.map(np.array([split, remain, supervoxel], np.uint64), np.array([body, body, 0], np.uint64))
    change.log(
        {
            "Action": "split-supervoxel-complete",
            "Supervoxel": supervoxel,
            "Body": body,
            "SplitSupervoxel": split,
            "RemainSupervoxel": remain,
            "Split": put_blob(change, posted),
            "SplitSize": sizes[0],
            "RemainSize": sizes[1],
        }
    )
    return {"SplitSupervoxel": split, "RemainSupervoxel": remain, "MutationID": change.mutation}


def split_body(label: LabelEngine, call: Call, body: int) -> dict[str, int]:
    """``POST split``: the voxels of the request's body become a new body, with new supervoxels for all that it touches.

    Background among them is left alone. Answers ``label`` and ``MutationID``. Raises BadRequest, with nothing changed
    and no id used up, unless there are voxels of the body among them, but not all of it, and none of another body.
    """
    with budget.work.borrow(memory_for(call.body)):
        posted = read_runs(call.body)
        columns = _need_body(label.index.columns(call.view, body), body)
        tiles = tiles_of(label, map(ZYX._make, columns.blocks().tolist()))
        return write(label, call, lambda change: _split_body(change, body, posted), bodies=[body], tiles=tiles)


def _need_body(columns: Columns | None, body: int) -> Columns:
    if columns is None:
        raise BadRequest(f"label {body} is not a body at this version")
    return columns


def _split_body(change: Transaction, body: int, posted: PostedRuns) -> dict[str, int]:
    record, columns = change.record(body), _need_body(change.columns(body), body)
    assert record is not None
    if posted.voxels >= record.voxels:
        raise BadRequest(
            f"the request lists {posted.voxels} voxels and body {body} has {record.voxels}: some must stay"
        )
    old = _supervoxels_met(change, body, posted)
    new, *parts = change.new_labels(1 + 2 * len(old))
    made = np.array(parts, np.uint64).reshape(-1, 2)
    inside, outside = np.ascontiguousarray(made[:, 0]), np.ascontiguousarray(made[:, 1])
    affected = Affected(columns, old)
    before = affected.voxels()
    pieces, _ = cut(posted, affected.coords, change.data.block)
    rewriting = Rewriting(change, pieces, Relabelling(old, inside, outside), fresh_labels=made.ravel())
    counted = rewriting.run(downres=True)
    moved, stay = affected.become(counted, pieces.touched(), inside, outside)
    lost = affected.replace(change, body, stay)
    change.put_body(body, record.voxels - before + stay.voxels(), record.blocks - lost)
    change.put_body(new, moved.voxels(), affected.create(change, new, moved))
    zeros, size = np.zeros(len(old), np.uint64), len(old)
    change.map(
        np.concatenate((inside, outside, old)),
        np.concatenate((np.full(size, new, np.uint64), np.full(size, body, np.uint64), zeros)),
    )
    change.log(
        {
            "Action": "split-complete",
            "Target": body,
            "NewLabel": new,
            "Split": put_blob(change, posted),
            "SVSplits": {
                str(supervoxel): {"Split": split, "Remain": remain}
                for supervoxel, (split, remain) in zip(old.tolist(), made.tolist(), strict=True)
            },
        }
    )
    touched = pieces.coords[pieces.touched()].astype(np.int64)
    change.tell("split", blocks=touched, losing=(body,), fresh=rewriting.fresh)
    return {"label": new, "MutationID": change.mutation}


def _supervoxels_met(change: Transaction, body: int, posted: PostedRuns) -> Labels:
    """The body's supervoxels that the runs meet: blocks in Z, Y, X order, in each the runs as they were given.

    Raises BadRequest where they meet another body, all of this one, or nothing of it.
    """
    label = change.data
    pieces, _ = cut(posted, blocks_met(posted, label.block), label.block)
    change.touch(map(ZYX._make, pieces.coords.tolist()))

    def met(number: int) -> tuple[Labels, Labels]:
        at = ZYX(*pieces.coords[number].tolist())
        (value,) = label.get_blocks(change.view, 0, [at])
        if value is None:
            return np.empty(0, np.uint64), np.empty(0, np.uint64)
        return blocks.labels_in_runs(stored.coded(value), pieces.of(number))

    mapped = change.mapped()
    found: dict[int, None] = {}
    voxels = 0
    for number, (there, counts) in enumerate(ordered_map(met, range(len(pieces.coords)))):
        there, counts = there[there != 0], counts[there != 0]
        other = mapped.bodies(there) != np.uint64(body)
        if other.any():
            at = ZYX(*pieces.coords[number].tolist())
            raise BadRequest(
                f"the runs in block {at.xyz()} meet supervoxel {there[other][0]}, which is not of body {body}"
            )
        found.update(dict.fromkeys(there.tolist()))
        voxels += int(counts.sum())
    if not found:
        raise BadRequest(f"the runs meet no voxel of body {body}")
    return np.array(list(found), np.uint64)


def put_blob(change: Transaction, posted: PostedRuns) -> str:
    """Stores the runs as a blob, in the batch of the split itself; answers its reference."""
    data = posted.blob()
    reference = blobs.blob_reference(data)
    change.batch.batch.put(blobs.blob_key(reference), data)
    return reference
