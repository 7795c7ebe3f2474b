"""Tiles from the volume that they show: what makes a coarser slice, and one tile cut when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
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

    None where it lies wholly outside, or where more than MAX_CUT voxels would have to be read. Memory is bounded by a
    tile and a band of voxels.
    """
    extents, axis = volume.extents, slice_axis(plane)
    at = coord[axis]
    if extents is None or not extents.low[axis] <= at <= extents.high[axis]:
        return None
    width, height, by = level.width(plane), level.height(plane), level.shrink(plane)
    left, top = coord[plane.columns] * width, coord[plane.rows] * height
    x0, x1 = max(left, extents.low[plane.columns] // by.columns), extents.high[plane.columns] // by.columns + 1
    y0, y1 = max(top, extents.low[plane.rows] // by.rows), extents.high[plane.rows] // by.rows + 1
    x1, y1 = min(x1, left + width), min(y1, top + height)
    across = (x1 - x0) * by.columns
    if x0 >= x1 or y0 >= y1 or across * (y1 - y0) * by.rows > MAX_CUT:
        return None
    tile = np.zeros((height, width), np.uint8)
    band = max(1, _BAND // (across * by.rows))
    for y in range(y0, y1, band):
        stop = min(y + band, y1)
        low, high = [at] * 3, [at + 1] * 3
        low[plane.columns], high[plane.columns] = x0 * by.columns, x1 * by.columns
        low[plane.rows], high[plane.rows] = y * by.rows, stop * by.rows
        image = plane.image(volume.read(ZYX(*low), ZYX(*high)))
        tile[y - top : stop - top, x0 - left : x1 - left] = shrunk(image, level.steps(plane))
    return tile
