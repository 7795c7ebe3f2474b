"""Boxes that do not end where blocks end: written as the whole blocks around them, with the other voxels as they are.

Shared by the Python face, which reads these from the store, and by ``dvidcore load``, which may ask a server for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvidcore.geometry import ZYX, BlockBox

Read = Callable[[ZYX, ZYX], NDArray[Any]]
"""The voxels of a box, given by its lowest voxel and its size."""


def whole_blocks(low: Sequence[int], size: Sequence[int], block: Sequence[int]) -> tuple[ZYX, ZYX]:
    """(lowest voxel, size) of the box of whole blocks around a box."""
    box = BlockBox.covering(low, size, block)
    first = ZYX(*(c * b for c, b in zip(box.low, block, strict=True)))
    return first, ZYX(*(n * b for n, b in zip(box.shape, block, strict=True)))


def is_aligned(low: Sequence[int], size: Sequence[int], block: Sequence[int]) -> bool:
    """Whether a box consists of whole blocks."""
    return whole_blocks(low, size, block) == (tuple(low), tuple(size))


def completed(volume: NDArray[Any], low: ZYX, block: ZYX, read: Read) -> tuple[ZYX, NDArray[Any]]:
    """(lowest voxel, voxels) of the whole blocks around ``volume`` at ``low``; those around it are read.

    Only blocks that the volume covers in part are read: a layer at each side that does not end where blocks end.
    """
    size = ZYX(*volume.shape[:3])
    first, whole = whole_blocks(low, size, block)
    if (first, whole) == (low, size):
        return low, volume
    out = np.empty((*whole, *volume.shape[3:]), volume.dtype)
    start, stop = list(first), [f + n for f, n in zip(first, whole, strict=True)]
    end = [a + n for a, n in zip(low, size, strict=True)]

    def fill(axis: int, begin: int, until: int) -> None:
        """Reads the part of the box that is left, from ``begin`` to ``until`` along one axis."""
        lo, hi = list(start), list(stop)
        lo[axis], hi[axis] = begin, until
        part = tuple(slice(a - f, b - f) for a, b, f in zip(lo, hi, first, strict=True))
        out[part] = read(ZYX(*lo), ZYX(*(b - a for a, b in zip(lo, hi, strict=True))))

    for axis in range(3):
        if start[axis] < low[axis]:
            fill(axis, start[axis], start[axis] + block[axis])
            start[axis] += block[axis]
        if stop[axis] > end[axis] and start[axis] < stop[axis]:
            fill(axis, stop[axis] - block[axis], stop[axis])
            stop[axis] -= block[axis]
        if start[axis] >= stop[axis]:
            break
    out[tuple(slice(a - f, a - f + n) for a, f, n in zip(low, first, size, strict=True))] = volume
    return first, out
