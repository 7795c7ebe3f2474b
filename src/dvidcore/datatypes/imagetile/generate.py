"""Making all tiles of a volume: slices are read in bands of rows, which run through the levels and leave as tiles.

What is in memory is some slices of a block's depth, of each level a row of tiles and of the volume a band, whatever the
size of the volume.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from dvidcore.datatypes.imageblk.extents import Extents
from dvidcore.datatypes.imageblk.planes import Plane, plane_of
from dvidcore.datatypes.imagetile.levels import Level, Shrink, slice_axis
from dvidcore.datatypes.imagetile.source import Gray, Volume, mean
from dvidcore.errors import BadRequest
from dvidcore.geometry import ZYX, parse_ints

_HELD = 64 << 20
"""Bytes that the slices that are worked on together may take."""
_BAND = 16 << 20
"""Bytes of voxels that are read at a time."""

Emit = Callable[[int, int, int, Gray], None]
"""Takes a row of tiles: level, row, first column, and the pixels (slice, row, column) of whole tiles."""


def parse_planes(text: str, name: str = "planes") -> list[Plane]:
    """``"xy;yz"``, each by any of its names, without repetition; BadRequest for a volume and for what is no plane."""
    out: list[Plane] = []
    for word in text.split(";"):
        plane = plane_of(word.strip(), name)
        if plane not in out:
            out.append(plane)
    return out


def parse_range(text: str, name: str) -> tuple[int, int]:
    """``"a,b"``, both included, a ≤ b."""
    low, high = parse_ints(text, name, 2, ",")
    if low > high:
        raise BadRequest(f"{name}: {low} is above {high}")
    return low, high


class Slices(NamedTuple):
    """The slices of a plane that are tiled, from ``first`` to ``last``, both included."""

    plane: Plane
    first: int
    last: int

    @property
    def number(self) -> int:
        return max(0, self.last - self.first + 1)


def chosen(extents: Extents, planes: Sequence[Plane], ranges: Sequence[tuple[int, int] | None]) -> list[Slices]:
    """The slices of each plane within the extents; ``ranges`` limits them along Z, Y, X."""
    out = []
    for plane in planes:
        axis = slice_axis(plane)
        low, high = extents.low[axis], extents.high[axis]
        limit = ranges[axis]
        if limit is not None:
            low, high = max(low, limit[0]), min(high, limit[1])
        out.append(Slices(plane, low, high))
    return out


def groups(slices: Slices, extents: Extents, levels: Sequence[Level], block: int) -> Iterator[tuple[int, int]]:
    """Slices in groups, (first, stop), cut between blocks of ``block`` voxels, of which all are worked on together."""
    plane = slices.plane
    row = extents.high[plane.columns] - extents.low[plane.columns] + 1
    each = sum(level.height(plane) * (row // level.shrink(plane).columns + 2 * level.width(plane)) for level in levels)
    depth = max(1, min(block, _HELD // each))
    at = slices.first
    while at <= slices.last:
        stop = min(at + depth, at // block * block + block, slices.last + 1)
        yield at, stop
        at = stop


def shown(extents: Extents, plane: Plane, level: Level) -> tuple[range, range]:
    """The columns and the rows of tiles that show something of the extents; none before the origin, nobody could read
    those."""
    by, out = level.shrink(plane), []
    for axis, shrink, side in (
        (plane.columns, by.columns, level.width(plane)),
        (plane.rows, by.rows, level.height(plane)),
    ):
        low, high = (end[axis] // shrink // side for end in extents)
        out.append(range(max(0, low), high + 1))
    return out[0], out[1]


def tile(volume: Volume, slices: Slices, group: tuple[int, int], levels: Sequence[Level], emit: Emit) -> None:
    """Hands all tiles of a group of slices to ``emit``, and some around them that lie outside of the extents."""
    plane, extents = slices.plane, volume.extents
    assert extents is not None
    whole = levels[-1].shrink(plane)
    x0, x1 = _span(extents, plane.columns, whole.columns)
    y0, y1 = _span(extents, plane.rows, whole.rows)
    count = group[1] - group[0]
    first: _Scale | None = None
    for number in range(len(levels) - 1, -1, -1):
        level = levels[number]
        by = level.shrink(plane)
        step = levels[number + 1].steps(plane)[-1] if first is not None else None
        start = ZYX(count, y0 // by.rows, x0 // by.columns)
        size = (level.height(plane), level.width(plane))
        first = _Scale(number, size, start, (x1 - x0) // by.columns, _Outlets(emit, step, first))
    assert first is not None
    band = max(1, _BAND // (count * (x1 - x0)))
    axis = slice_axis(plane)
    for y in range(y0, y1, band):
        low, high = [group[0]] * 3, [group[1]] * 3
        low[plane.columns], high[plane.columns] = x0, x1
        low[plane.rows], high[plane.rows] = y, min(y + band, y1)
        first.add(np.moveaxis(volume.read(ZYX(*low), ZYX(*high)), axis, 0))
    first.finish()


def _span(extents: Extents, axis: int, by: int) -> tuple[int, int]:
    """The extents along an axis, start and stop, rounded out to whole pixels of the coarsest level."""
    return extents.low[axis] // by * by, (extents.high[axis] // by + 1) * by


class _Outlets(NamedTuple):
    """Where a level's pixels go: as tiles, and shrunk by ``step`` to the next level."""

    emit: Emit
    step: Shrink | None
    coarser: _Scale | None


class _Scale:
    """One level of some slices: takes rows of pixels in their order."""

    def __init__(self, number: int, size: tuple[int, int], start: ZYX, width: int, outlets: _Outlets) -> None:
        """``size``: rows and columns of a tile; ``start``: number of slices, first row and column; ``width``: columns."""
        self._number = number
        self._outlets = outlets
        height, side = size
        self._row, self._filled = divmod(start.y, height)
        self._column, self._left = divmod(start.x, side)
        columns = math.ceil((self._left + width) / side) * side
        self._tiles = np.zeros((start.z, height, columns), np.uint8)
        """A row of tiles, zeros where nothing has come yet."""
        self._dirty = False
        self._rest = np.zeros((start.z, 0, width), np.uint8)
        """What does not yet make a row of the next level."""

    def add(self, rows: Gray) -> None:
        """Takes pixels (slice, row, column)."""
        at, height = 0, self._tiles.shape[1]
        while at < rows.shape[1]:
            n = min(height - self._filled, rows.shape[1] - at)
            target = self._tiles[:, self._filled : self._filled + n, self._left : self._left + rows.shape[2]]
            target[...] = rows[:, at : at + n]
            self._filled += n
            self._dirty = True
            at += n
            if self._filled == height:
                self._flush()
        step, coarser = self._outlets.step, self._outlets.coarser
        if step is not None and coarser is not None:
            joined = np.concatenate([self._rest, rows], axis=1) if self._rest.shape[1] else rows
            whole = joined.shape[1] // step.rows * step.rows
            if whole:
                coarser.add(mean(joined[:, :whole], step))
            self._rest = joined[:, whole:].copy()

    def finish(self) -> None:
        """All has come: what is begun leaves as tiles, of this level and the coarser ones."""
        if self._dirty:
            self._flush()
        if self._outlets.coarser is not None:
            self._outlets.coarser.finish()

    def _flush(self) -> None:
        self._outlets.emit(self._number, self._row, self._column, self._tiles)
        self._tiles.fill(0)
        self._row += 1
        self._filled = 0
        self._dirty = False
