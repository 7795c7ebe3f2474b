"""Coarser scales of an image instance (MaxDownresLevel), made with each write and in its batch.

A block of scale s covers eight of scale s - 1, of which each makes an octant of it (``downres``); block coordinates halve,
rounded down. A write makes the octants of the blocks that it writes, and what follows from them scale by scale. The
other octants of those coarser blocks are kept, so a writer computes from what is stored: it guards its batch with the
*generations* of the tiles that it touches and raises them, and a writer that was overtaken computes again.

Where versions were merged that both wrote below the same coarser block, neither's row is right. Nobody has to mend it:
such a block is in conflict, and whoever reads it makes it anew from the finer scale, down to where there is no conflict.
A conflict of scale 0 is one at all scales.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvidcore.datatypes.imageblk.downres import halved
from dvidcore.datatypes.imageblk.stored import StoredBlocks
from dvidcore.geometry import ZYX, BlockBox
from dvidcore.storage.engine import Batch, Value
from dvidcore.storage.keys import data_prefix, version_bytes, zyx_key
from dvidcore.storage.versioned import KeyConflict, View

if TYPE_CHECKING:
    from dvidcore.storage.staged import StagedWrite

MAX_BODY = 512 << 20
"""Bytes of voxels of one write, of which an eighth and what surrounds it at scale 1 is in memory."""

TILE_KIND = 3
"""The row kind of generations: tile z, y, x and version (16 bytes), under version 0, which no version has."""
_NO_VERSION = version_bytes(0)
_LEAST_TILE = 3
"""A tile has at least 2 to this power blocks of scale 0 along each side."""


class CoarseBlocks(StoredBlocks):
    """The blocks of a coarser scale."""

    __slots__ = ("finer", "method")

    def __init__(self, prefix: bytes, finer: StoredBlocks, method: str) -> None:
        super().__init__(
            prefix,
            finer.element,
            finer.block,
            background=finer.background,
            compression=finer.compression,
            checksum=finer.checksum,
        )
        self.finer = finer
        self.method = method

    def rows(self, view: View, box: BlockBox) -> Iterator[tuple[bytes, Value]]:
        if view.ancestry.linear:
            yield from super().rows(view, box)
            return
        coords = box.coords()
        for at in coords:
            value = self.value(view, at)
            if value is not None:
                yield self.prefix + zyx_key(*at), value

    def value(self, view: View, at: ZYX) -> Value | None:
        try:
            return super().value(view, at)
        except KeyConflict:
            return self.pack(self.made(view, at).reshape(-1).view(np.uint8).data)

    def made(self, view: View, at: ZYX) -> NDArray[Any]:
        """The voxels of a block as they follow from the finer scale."""
        offset = ZYX(*(2 * c * b for c, b in zip(at, self.block, strict=True)))
        return self.half(self.finer.read(view, offset, self._family))

    def values(self, view: View, coords: Sequence[ZYX]) -> list[Value | None]:
        return super().values(view, coords) if view.ancestry.linear else [self.value(view, at) for at in coords]

    @property
    def _family(self) -> ZYX:
        """The voxels of the finer scale that make a block."""
        return ZYX(*(2 * b for b in self.block))

    def half(self, volume: NDArray[Any]) -> NDArray[Any]:
        """A volume of the finer scale at this one."""
        return halved(volume, self.method, self.element)


class Coarser:
    """What one write of whole blocks changes at the coarser scales."""

    def __init__(self, instance: int, scales: list[CoarseBlocks], offset: ZYX, size: ZYX) -> None:
        """Of the box of ``size`` voxels at ``offset``; ``scales`` are those from 1 on."""
        self._prefix = data_prefix(instance, TILE_KIND)
        self._scales = scales
        self._first = BlockBox.covering(offset, size, scales[0].block)
        self._half = scales[0].element.empty(tuple(n // 2 for n in size))
        self._offset = ZYX(*(o // 2 for o in offset))
        self._inside = np.ones(self._first.shape, np.bool_)

    def add(self, z: int, y: int, volume: NDArray[Any], inside: NDArray[np.bool_] | None = None) -> None:
        """Takes the voxels of whole blocks, as wide as the box, ``z`` and ``y`` voxels from its start.

        ``inside``, a bool for each block, says which of them are written.
        """
        depth, height = volume.shape[:2]
        block = self._scales[0].block
        self._half[z // 2 : (z + depth) // 2, y // 2 : (y + height) // 2] = self._scales[0].half(volume)
        if inside is not None:
            self._inside[z // block.z : (z + depth) // block.z, y // block.y : (y + height) // block.y] = inside

    def add_blocks(self, first: int, data: bytes) -> None:
        """Takes blocks that lie along X one after the other, the first of them ``first`` from the start of the box."""
        scale = self._scales[0]
        count = len(data) // scale.block_bytes
        stacked = scale.element.array(data, (count * scale.block.z, *scale.block[1:]))
        halves = scale.half(stacked).reshape(
            count, scale.block.z // 2, *self._half.shape[1:2], scale.block.x // 2, *self._half.shape[3:]
        )
        side = scale.block.x // 2
        for k, half in enumerate(halves, first):
            self._half[:, :, k * side : (k + 1) * side] = half

    def tiles(self) -> list[ZYX]:
        """The tiles that the write touches: all that one block of the coarsest scale covers lies in one tile."""
        power = max(_LEAST_TILE, len(self._scales))
        low, high = (ZYX(*(c >> power for c in corner)) for corner in self._first)
        return list(BlockBox(low, high).coords())

    def put(self, staged: StagedWrite, view: View, version: int, final: Batch) -> dict[bytes, bytes | None]:
        """Adds the coarser blocks to the write, and the next generations to its final batch; answers its guard.

        Raises StoreError for a damaged block.
        """
        suffix = version.to_bytes(4, "big") + _NO_VERSION
        guard: dict[bytes, bytes | None] = {}
        for tile in self.tiles():
            key = self._prefix + zyx_key(*tile) + suffix
            now = view.snapshot.get(key)
            guard[key] = None if now is None else bytes(now)
            final.put(key, (int.from_bytes(now or b"", "big") + 1).to_bytes(8, "big"))
        part = _Part(self._offset, self._half, self._first, self._inside)
        for scale in self._scales:
            part = _merged(scale, view, part)
            for rows in scale.cut(part.volume, part.offset, version, part.inside):
                for key, value in rows:
                    staged.put(key, value)
            if scale is not self._scales[-1]:
                part = part.next(self._scales[0])
        return guard


class _Part:
    """Voxels of a scale that follow from a write: ``volume`` at ``offset``, as far as ``inside`` says.

    ``blocks`` are the blocks that they follow from, of this scale or the finer one, and ``inside`` has a bool for each.
    """

    __slots__ = ("blocks", "inside", "offset", "volume")

    def __init__(self, offset: ZYX, volume: NDArray[Any], blocks: BlockBox, inside: NDArray[np.bool_]) -> None:
        self.offset, self.volume, self.blocks, self.inside = offset, volume, blocks, inside

    def next(self, scale: CoarseBlocks) -> _Part:
        """The same at half the resolution."""
        return _Part(ZYX(*(o // 2 for o in self.offset)), scale.half(self.volume), self.blocks, self.inside)


def _merged(scale: CoarseBlocks, view: View, part: _Part) -> _Part:
    """Whole blocks of a scale: what follows from a write, between the octants that are kept."""
    block = scale.block
    box = BlockBox.covering(part.offset, part.volume.shape[:3], block)
    origin = ZYX(*(c * b for c, b in zip(box.low, block, strict=True)))
    size = ZYX(*(n * b for n, b in zip(box.shape, block, strict=True)))
    if part.inside.all() and origin == part.offset and size == part.volume.shape[:3]:
        return _Part(origin, part.volume, box, np.ones(box.shape, np.bool_))
    written = _parents(part, box)
    if view.ancestry.linear:
        volume = scale.read(view, origin, size)
    else:
        volume = _kept(scale, view, part, box, written)
    where = tuple(slice(a - o, a - o + n) for a, o, n in zip(part.offset, origin, part.volume.shape[:3], strict=False))
    if part.inside.all():
        volume[where] = part.volume
    else:
        octant = [b // 2 for b in block]
        inside = part.inside
        for axis, n in enumerate(octant):
            inside = inside.repeat(n, axis)
        np.copyto(volume[where], part.volume, where=inside if volume.ndim == 3 else inside[..., None])
    return _Part(origin, volume, box, written)


def _parents(part: _Part, box: BlockBox) -> NDArray[np.bool_]:
    """Which blocks of a scale have an octant that a write changes."""
    written = np.zeros(box.shape, np.bool_)
    at = np.argwhere(part.inside) + part.blocks.low
    z, y, x = (at // 2 - box.low).T
    written[z, y, x] = True
    return written


def _kept(scale: CoarseBlocks, view: View, part: _Part, box: BlockBox, written: NDArray[np.bool_]) -> NDArray[Any]:
    """The blocks of a box as they are seen below a merge. Those that cannot be made are taken out of ``written``.

    That is where an octant is in conflict that this write does not settle: the block stays in conflict too.
    """
    block = scale.block
    volume = scale.element.empty(tuple(n * b for n, b in zip(box.shape, block, strict=True)))
    for at in box.coords():
        place = ZYX(*(a - low for a, low in zip(at, box.low, strict=True)))
        target = volume[tuple(slice(p * b, (p + 1) * b) for p, b in zip(place, block, strict=True))]
        try:
            value = StoredBlocks.value(scale, view, at)
            target[...] = scale.background if value is None else scale.element.array(scale.voxels(value), block)
        except KeyConflict:
            try:
                _fill_octants(scale, view, part, at, target)
            except KeyConflict:
                written[place] = False
    return volume


def _fill_octants(scale: CoarseBlocks, view: View, part: _Part, at: ZYX, target: NDArray[Any]) -> None:
    """Makes a block from those of the finer scale that a write leaves as they are. Raises KeyConflict."""
    octant = [b // 2 for b in scale.block]
    for corner in product((0, 1), repeat=3):
        child = ZYX(*(2 * a + c for a, c in zip(at, corner, strict=True)))
        place = tuple(c - low for c, low in zip(child, part.blocks.low, strict=True))
        if all(0 <= p < n for p, n in zip(place, part.inside.shape, strict=True)) and part.inside[place]:
            continue
        offset = ZYX(*(c * b for c, b in zip(child, scale.block, strict=True)))
        half = scale.half(scale.finer.read(view, offset, scale.block))
        target[tuple(slice(c * n, (c + 1) * n) for c, n in zip(corner, octant, strict=True))] = half
