"""Tiles from the volume that they show: what makes a coarser slice, and one tile cut when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvidcore.datatypes.imageblk.extents import Extents
from dvidcore.datatypes.imageblk.planes import Plane
from dvidcore.datatypes.imageblk.stored import StoredBlocks
from dvidcore.datatypes.imagetile.levels import Level, Shrink, slice_axis
from dvidcore.geometry import ZYX
from dvidcore.storage.versioned import View

MAX_CUT = 1 << 26
"""Voxels that are read for one tile."""
_BAND = 1 << 24
"""Voxels that are read at a time."""

Gray = NDArray[np.uint8]


def mean(images: Gray, by: Shrink) -> Gray:
    """Images (…, row, column) shrunk: each pixel is the mean of ``by.rows`` x ``by.columns``, rounded down.

    Rows and columns must be multiples of these. O(pixels).
    """
    if by == (1, 1):
        return images
    if by == (2, 2):
        # Both pixels of a pair in one 16-bit word: vector instructions instead of strides.
        words = np.ascontiguousarray(images).view("<u2")
        pairs = (words & 0xFF) + (words >> 8)
        halved: Gray = ((pairs[..., 0::2, :] + pairs[..., 1::2, :]) >> 2).astype(np.uint8)
        return halved
    *more, height, width = images.shape
    sums = np.zeros((*more, height // by.rows, width), np.uint64)
    for k in range(by.rows):
        sums += images[..., k :: by.rows, :]
    total = sums.reshape(*sums.shape[:-1], width // by.columns, by.columns).sum(axis=-1)
    out: Gray = (total // (by.rows * by.columns)).astype(np.uint8)
    return out


def shrunk(image: Gray, steps: Sequence[Shrink]) -> Gray:
    """An image of level 0 at a coarser level: shrunk and rounded level by level, as stored tiles are made."""
    for step in steps:
        image = mean(image, step)
    return image


class Volume(NamedTuple):
    """What an instance's tiles show, at a version."""

    stored: StoredBlocks
    view: View
    extents: Extents | None
    resolution: list[float]
    """Along X, Y and Z."""
    coarse: Sequence[StoredBlocks] = ()
    """The blocks of scales 1, 2 … where the volume has them."""

    def at_scale(self, scale: int) -> Volume:
        """The volume with voxels that are twice as long at each scale."""
        if not scale or self.extents is None:
            return self
        extents = Extents(*(ZYX(*(c >> scale for c in end)) for end in self.extents))
        return self._replace(stored=self.coarse[scale - 1], extents=extents, coarse=())

    def shows(self, plane: Plane, level: Level, coord: ZYX) -> bool:
        """Whether a tile lies within the extents, in part at least."""
        if self.extents is None:
            return False
        by = level.shrink(plane)
        axes = (
            (plane.columns, level.width(plane) * by.columns),
            (plane.rows, level.height(plane) * by.rows),
            (slice_axis(plane), 1),
        )
        low, high = self.extents
        return all(low[axis] // side <= coord[axis] <= high[axis] // side for axis, side in axes)

    def read(self, low: ZYX, high: ZYX) -> Gray:
        """The voxels from ``low`` to below ``high``, shape (z, y, x), zeros outside the extents."""
        out = np.zeros([b - a for a, b in zip(low, high, strict=True)], np.uint8)
        if self.extents is None:
            return out
        first = ZYX(*map(max, low, self.extents.low))
        stop = ZYX(*(min(a, b + 1) for a, b in zip(high, self.extents.high, strict=True)))
        if any(a >= b for a, b in zip(first, stop, strict=True)):
            return out
        voxels: Gray = self.stored.read(self.view, first, ZYX(*(b - a for a, b in zip(first, stop, strict=True))))
        if (first, stop) == (low, high):
            return voxels
        out[tuple(slice(a - o, b - o) for a, b, o in zip(first, stop, low, strict=True))] = voxels
        return out


def cut(volume: Volume, plane: Plane, level: Level, coord: ZYX) -> Gray | None:
    """The tile of a plane and level at ``coord``, zeros outside the extents of the volume.

    Where that takes more than MAX_CUT voxels, and the volume has coarser scales, it is cut from the finest of these
    that will do. None where it lies wholly outside, and where no scale will do. Memory is bounded by a tile and a band
    of voxels.
    """
    if not volume.shows(plane, level, coord):
        return None
    at, steps = coord[slice_axis(plane)], level.steps(plane)
    size = level.width(plane), level.height(plane)
    for scale in range(len(volume.coarse) + 1):
        place = (coord[plane.columns], coord[plane.rows], at >> scale)
        found = _cut(volume.at_scale(scale), plane, steps, size, place)
        if found is not None:
            return found
        steps = halved_steps(steps)
        if not steps:
            return None
    return None


def halved_steps(steps: Sequence[Shrink]) -> list[Shrink]:
    """The steps that are left when both axes are at half the resolution already; none where they cannot be."""
    for k, step in enumerate(steps):
        if step.columns % 2 == 0 and step.rows % 2 == 0:
            return [*steps[:k], Shrink(step.columns // 2, step.rows // 2), *steps[k + 1 :]]
    return []


def _cut(
    volume: Volume, plane: Plane, steps: Sequence[Shrink], size: tuple[int, int], place: tuple[int, int, int]
) -> Gray | None:
    """A tile of ``size`` columns and rows at ``place``, its column and row and the slice; None above MAX_CUT voxels."""
    extents, at = volume.extents, place[2]
    assert extents is not None
    (width, height), columns, rows = size, prod(s.columns for s in steps), prod(s.rows for s in steps)
    left, top = place[0] * width, place[1] * height
    x0, x1 = max(left, extents.low[plane.columns] // columns), extents.high[plane.columns] // columns + 1
    y0, y1 = max(top, extents.low[plane.rows] // rows), extents.high[plane.rows] // rows + 1
    x1, y1 = min(x1, left + width), min(y1, top + height)
    across = (x1 - x0) * columns
    if across * (y1 - y0) * rows > MAX_CUT:
        return None
    tile = np.zeros((height, width), np.uint8)
    band = max(1, _BAND // (across * rows))
    for y in range(y0, y1, band):
        stop = min(y + band, y1)
        low, high = [at] * 3, [at + 1] * 3
        low[plane.columns], high[plane.columns] = x0 * columns, x1 * columns
        low[plane.rows], high[plane.rows] = y * rows, stop * rows
        image = plane.image(volume.read(ZYX(*low), ZYX(*high)))
        tile[y - top : stop - top, x0 - left : x1 - left] = shrunk(image, steps)
    return tile
