"""Label instances that follow others: a labelvol its labelblk, a labelblk its labelvol, or a labelblk twice as fine.

Each puts its own blocks into the batch of the change that it follows, with what is derived from them, and tells its own
followers. What these rows are computed from is guarded and raised like that of any write.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from dvidcore import blocks
from dvidcore.datatypes import following
from dvidcore.datatypes.call import Call
from dvidcore.datatypes.following import Guard, LabelChange
from dvidcore.datatypes.labels import stored
from dvidcore.datatypes.labels.reading import points
from dvidcore.datatypes.labels.writing import counters
from dvidcore.datatypes.labels.writing.downres import halved
from dvidcore.datatypes.labels.writing.generations import raise_generations, read_guard, tiles_of
from dvidcore.datatypes.labels.writing.indexing import index_changes
from dvidcore.geometry import ZYX
from dvidcore.pool import ordered_map
from dvidcore.storage.engine import Batch
from dvidcore.storage.versioned import VersionedBatch

if TYPE_CHECKING:
    from dvidcore.datatypes.labels.engine import LabelEngine

Stored = bytes | memoryview


def copy(data: LabelEngine, call: Call, change: LabelChange, batch: Batch) -> Guard:
    """A labelvol takes the blocks of its labelblk over; its index changes by what differs."""
    fresh = change.fresh
    if not fresh:
        return {}
    guard = _put(data, call, fresh, batch)
    counts = list(ordered_map(lambda item: (item[0], *blocks.counts(stored.coded(item[1]))), fresh.items()))
    index_changes(data, call, counts, change.mutation, batch)
    largest = max((int(found[-1]) for _, found, _ in counts if len(found)), default=0)
    counters.raise_maximum(data, call.view, batch, largest)
    return guard | _tell(data, call, change, fresh, batch)


def rename(data: LabelEngine, call: Call, change: LabelChange, batch: Batch) -> Guard:
    """A labelblk gives its own voxels the labels that a merge or split in its labelvol gave to those there."""
    renamed = change.renamed
    if renamed is None:
        return {}
    coords = renamed.blocks()

    def new(item: tuple[int, Stored | None]) -> Stored | None:
        return None if item[1] is None else renamed.of(*item)  # type: ignore[arg-type]

    values = ordered_map(new, enumerate(data.get_blocks(call.view, 0, coords)))
    fresh = {at: value for at, value in zip(coords, values, strict=True) if value is not None}
    return _put(data, call, fresh, batch) | _tell(data, call, change, fresh, batch) if fresh else {}


def halve(data: LabelEngine, source: LabelEngine, call: Call, change: LabelChange, batch: Batch) -> Guard:
    """A labelblk is another one at half the resolution: the octants of the blocks that changed there are voted anew."""
    if not change.fresh:
        return {}
    there = call.of(source).view
    fresh = halved(
        change.fresh,
        data.block,
        lambda coords: data.get_blocks(call.view, 0, coords),
        lambda coords: source.get_blocks(there, 0, coords),
        zeros=True,
    )
    if not fresh:
        return {}
    low, high = _box(source, change.fresh)
    box = _half(low), _half(high)
    guard = _put(data, call, fresh, batch, box)
    written = np.array(list(fresh), np.int64)
    voted = LabelChange(
        change.action,
        change.mutation,
        points.after(data, call, None, fresh),
        data.block,
        blocks=written,
        fresh=fresh,
        path=(*change.path, data.record.data_uuid),
    )
    return guard | following.tell(data, call, voted, batch)


def _put(
    data: LabelEngine, call: Call, fresh: Mapping[ZYX, Stored], batch: Batch, box: counters.Box | None = None
) -> Guard:
    """Puts blocks, and extents that hold them or ``box``."""
    tiles = [data.rows.tile(*tile) for tile in sorted(tiles_of(data, fresh))]
    guard = read_guard(call.snapshot, [data.rows.indexed, *tiles])
    raise_generations(batch, guard)
    writer = VersionedBatch(batch, call.version)
    for at, value in fresh.items():
        writer.put(data.rows.block(0, *at), value)
    counters.grow_extents(data, call.view, batch, box or _box(data, fresh))
    return guard


def _tell(data: LabelEngine, call: Call, change: LabelChange, fresh: Mapping[ZYX, Stored], batch: Batch) -> Guard:
    """Tells the followers the same of this instance."""
    told = LabelChange(
        change.action,
        change.mutation,
        points.after(data, call, None, fresh),
        data.block,
        change.bodies,
        change.blocks,
        change.losing,
        fresh,
        change.renamed,
        path=(*change.path, data.record.data_uuid),
    )
    return following.tell(data, call, told, batch)


def _box(data: LabelEngine, fresh: Mapping[ZYX, Stored]) -> counters.Box:
    """The lowest and the highest voxel of blocks."""
    ends = np.array(list(fresh), np.int64)
    low, high = ends.min(axis=0) * data.block, (ends.max(axis=0) + 1) * data.block - 1
    return tuple(low.tolist()), tuple(high.tolist())


def _half(point: tuple[int, int, int]) -> tuple[int, int, int]:
    z, y, x = point
    return z >> 1, y >> 1, x >> 1
