"""Repairs of a labelvol: taking a label out of some blocks, or making it that of the labelblk there.

They change its own blocks and index alone; nobody is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dvidcore import blocks, budget
from dvidcore.datatypes.call import Call
from dvidcore.datatypes.labels import stored
from dvidcore.datatypes.labels.index import Columns
from dvidcore.datatypes.labels.mutations.relabel import rewrite, tiles, whole
from dvidcore.datatypes.labels.mutations.relabel_index import Moved, move
from dvidcore.datatypes.labels.mutations.rewrite import Relabelling
from dvidcore.datatypes.labels.mutations.runs_input import PostedRuns, cut, memory_for, read_runs
from dvidcore.datatypes.labels.reading.reader import BlockReader
from dvidcore.datatypes.labels.writing.indexing import Counts, index_changes
from dvidcore.datatypes.labels.writing.transaction import Transaction, write
from dvidcore.geometry import INT32_MAX, ZYX, BlockBox
from dvidcore.pool import ordered_map

if TYPE_CHECKING:
    from dvidcore.datatypes.labels.engine import LabelEngine

Coords = NDArray[np.int32]
_BLOCK = ZYX(1, 1, 1)


# -- area --------------------------------------------------------------------------------------------------------------


def erase(data: LabelEngine, call: Call, label: int, box: BlockBox) -> None:
    """Makes the label's voxels in the blocks of a box background; nothing where it has none there."""
    columns = data.index.columns(call.view, label)
    if columns is not None:
        write(
            data,
            call,
            lambda change: _erase(change, label, box),
            bodies=[label],
            tiles=tiles(data, _inside(columns, box).coords),
        )


def _inside(columns: Columns, box: BlockBox) -> Columns:
    low, high = box
    inside = (columns.coords >= np.array(low)) & (columns.coords <= np.array(high))
    return columns.where(inside[:, 0] & inside[:, 1] & inside[:, 2])


def _erase(change: Transaction, label: int, box: BlockBox) -> None:
    columns = change.columns(label)
    there = None if columns is None else _inside(columns, box)
    if there is None or not len(there.coords):
        return
    old, nothing = np.array([label], np.uint64), np.zeros(1, np.uint64)
    rewrite(change, whole(there.coords), Relabelling(old, nothing, nothing)).run(False)
    move(change, [Moved(label, there.coords, there.counts.astype(np.int64))], None)


# -- resync ------------------------------------------------------------------------------------------------------------


def resync(data: LabelEngine, call: Call, label: int, source: LabelEngine) -> None:
    """Gives the label, in the blocks that the body lists, the voxels that it has in the source."""
    with budget.work.borrow(memory_for(call.body)):
        posted = read_runs(call.body)

        def change(change: Transaction) -> None:
            _resync(change, label, posted, source)

        write(data, call, change)


def _resync(change: Transaction, label: int, posted: PostedRuns, source: LabelEngine) -> None:
    data, there = change.data, BlockReader(source, change.call.of(source))
    coords = _listed(posted, there, change.columns(label))
    change.touch(map(ZYX._make, coords))
    old = np.uint64(label)

    def patched(at: ZYX) -> tuple[Counts, bytes] | None:
        (mine,) = data.get_blocks(change.view, 0, [at])
        (theirs,) = there.get([at])
        before = np.zeros(data.block, np.uint64) if mine is None else blocks.decode(stored.coded(mine))
        right = np.zeros(data.block, bool) if theirs is None else blocks.decode(stored.coded(theirs)) == old
        if np.array_equal(right, before == old):
            return None
        before[before == old] = 0
        before[right] = old
        block = blocks.encode(before)
        return (at, *blocks.counts(block)), stored.store(block)

    counts: list[Counts] = []
    for made in ordered_map(patched, coords):
        if made is not None:
            counts.append(made[0])
            change.put_block(0, made[0][0], made[1])
    if counts:
        change.raise_maximum(label)
        change.at_commit(lambda now, batch: index_changes(data, now, counts, change.mutation, batch.batch))


def _listed(posted: PostedRuns, there: BlockReader, columns: Columns | None) -> list[ZYX]:
    """The listed blocks that the source has, or in which the label is: of others nothing can change."""
    found: set[ZYX] = set()
    for x, y, z, length in posted.runs.tolist():
        box = BlockBox(ZYX(z, y, x), ZYX(z, y, min(x + length - 1, INT32_MAX)))
        found.update(at for at, _ in there.scan(box))
    if columns is not None:
        pieces, _ = cut(posted, columns.coords, _BLOCK)
        found.update(ZYX(*at) for at in pieces.coords[pieces.touched()].tolist())
    return sorted(found)
