"""Tiles that are synced with the volume that they show: a write of voxels removes those that show them.

What is removed is cut from the volume when it is asked for, as every missing tile of a synced instance, until it is
generated again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, product
from typing import TYPE_CHECKING, Any, ClassVar

from dvidcore.datatypes.call import Call
from dvidcore.datatypes.following import Change, Guard
from dvidcore.datatypes.imageblk.change import ImageChange
from dvidcore.datatypes.imageblk.planes import Plane
from dvidcore.datatypes.imagetile.levels import Level, levels_of
from dvidcore.datatypes.imagetile.tiles import PLANES, TILES, Tiles
from dvidcore.geometry import ZYX
from dvidcore.storage.engine import Batch, Value
from dvidcore.storage.keys import (
    VERSION_BYTES,
    data_prefix,
    kind_range,
    prefix_end,
    prefix_range,
    version_bytes,
    version_of,
    zyx_key,
)
from dvidcore.storage.staged import StagedWrite
from dvidcore.storage.versioned import View

if TYPE_CHECKING:
    from dvidcore.datatypes.base import DataType

CHANGED = 3
"""The kind of a row under version 0 that has another value after each write that removes tiles."""


class Synced(Tiles):
    """What follows from a change of the volume."""

    follows: ClassVar[frozenset[str] | None] = frozenset({"uint8blk"})

    derives = True

    @property
    def changed_key(self) -> bytes:
        """Whoever makes tiles of what he reads guards them by this row, so that none outlives a change."""
        return data_prefix(self.record.id, CHANGED) + version_bytes(0)

    def follow(self, call: Call, change: Change, batch: Batch) -> Guard:
        if isinstance(change, ImageChange):
            self._remove(call, change.low, change.high, batch)
        return {}

    def follow_later(self, source: DataType, version: int, intents: Sequence[Mapping[str, Any]]) -> None:
        node = self.repo.dag.nodes[version]
        call = Call(self.engine, node, self.database.ancestry_for(self.repo, node, self.record))
        batch = Batch()
        try:
            for intent in intents:
                self._remove(call, ZYX(*intent["low"]), ZYX(*intent["high"]), batch)
            self.engine.write(batch, sync=self.database.options.sync)
        finally:
            call.close()

    def settle(self, call: Call, order: Mapping[int, int] | None) -> None:
        """Where one of the merged versions removed a tile and another has one, no tile shows the changes of both."""
        with StagedWrite(self.engine) as staged:
            for prefix_key, entries in self._entries(call):
                writers = call.ancestry.frontier(entries)
                tiles = [writer for writer in writers if len(entries[writer])]
                if tiles and len(tiles) < len(writers) and self.record.syncs:
                    staged.put(prefix_key + version_bytes(call.version), b"")
                elif len(tiles) > 1 and order is not None:
                    winner = min(tiles, key=order.__getitem__)
                    value = bytes(call.snapshot.load(entries[winner]))
                    staged.put(prefix_key + version_bytes(call.version), value)
            staged.commit()

    def _entries(self, call: Call) -> Iterator[tuple[bytes, dict[int, Value]]]:
        """The tiles that the version or an ancestor wrote: prefix key, and the stub of each writer."""
        members = call.ancestry.rank
        rows = call.snapshot.stubs(*kind_range(self.record.id, TILES))
        for prefix_key, group in groupby(rows, key=lambda row: row[0][:-VERSION_BYTES]):
            yield prefix_key, {version: stub for key, stub in group if (version := version_of(key)) in members}

    def _remove(self, call: Call, low: ZYX, high: ZYX, batch: Batch) -> None:
        """Hides all tiles that show voxels from ``low`` to ``high``, and has those that are being made be made again."""
        suffix = version_bytes(call.version)
        for number, level in enumerate(levels_of(self._metadata()["Levels"])):
            for plane in PLANES:
                for key in self._showing(call.view, plane, number, level, (low, high)):
                    batch.put(key + suffix, b"")
        batch.put(self.changed_key, os.urandom(8))

    def _showing(self, view: View, plane: Plane, number: int, level: Level, box: tuple[ZYX, ZYX]) -> Iterator[bytes]:
        """The prefix keys of the tiles of a plane and level that are stored and show a part of a box."""
        prefix = self.prefix_key(plane, number, ZYX(0, 0, 0))[: -len(zyx_key(0, 0, 0))]
        if next(view.keys(*prefix_range(prefix)), None) is None:
            return
        by = level.shrink(plane)
        sides = [1, 1, 1]
        sides[plane.columns], sides[plane.rows] = level.width(plane) * by.columns, level.height(plane) * by.rows
        first, last = (ZYX(*(c // side for c, side in zip(corner, sides, strict=True))) for corner in box)
        for z, y in product(range(first.z, last.z + 1), range(first.y, last.y + 1)):
            start, stop = prefix + zyx_key(z, y, first.x), prefix_end(prefix + zyx_key(z, y, last.x))
            yield from view.keys(start, stop)
