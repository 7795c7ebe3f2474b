"""Slices in any plane, interpolated between the eight voxels around each point.

Done in float64 in DVID's order of operations, so that the pixels are the same. A plane is worked on in bands of pixels,
and within a band block by block, so that memory is bounded by the band and one block whatever the plane cuts through.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from dvidcore.datatypes.imageblk.stored import StoredBlocks
from dvidcore.errors import BadRequest
from dvidcore.geometry import INT32_MAX, INT32_MIN
from dvidcore.pool import ordered_map, processors
from dvidcore.storage.keys import zyx_keys
from dvidcore.storage.versioned import View

MAX_PIXELS = 64_000_000
BAND = 1 << 16
"""Pixels that one task works on."""

FAR = 1e50
"""Beyond all voxels, and small enough that areas do not overflow."""

Points = NDArray[np.float64]
Lookup = Callable[[NDArray[np.int64]], NDArray[Any]]
"""The values of voxels (n, 3), Z, Y, X, shape (n, channels)."""


class ObliquePlane(NamedTuple):
    """Three corners and the pixel in world units; corners are Z, Y, X."""

    top_left: tuple[float, ...]
    across: tuple[float, ...]
    down: tuple[float, ...]
    columns: int
    rows: int

    def starts(self) -> Points:
        """The first point of each row, shape (rows, 3): each the one above it and a step."""
        starts: Points = _walk(np.array(self.top_left)[None], np.array(self.down), self.rows)[0]
        return starts


def _number(text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) < FAR:
        raise BadRequest(f'{name}: "{text[:40]}" is not a number, or too large for one')
    return value


def _corner(text: str, name: str) -> tuple[float, ...]:
    parts = text.split("_")
    if len(parts) != 3:
        raise BadRequest(f'{name}: "{text[:60]}" has {len(parts)} numbers, three separated by "_" are needed')
    return tuple(_number(p, name) for p in reversed(parts))


def parse(top_left: str, top_right: str, bottom_left: str, res: str) -> ObliquePlane:
    """The plane of a URL; BadRequest for what is no number, corners on a line, and more than MAX_PIXELS pixels."""
    tl, tr, bl = _corner(top_left, "top_left"), _corner(top_right, "top_right"), _corner(bottom_left, "bottom_left")
    pixel = _number(res, "res")
    if pixel <= 0:
        raise BadRequest(f"res: {res[:40]} is not greater than 0")
    across, down = (tuple(b - a for a, b in zip(tl, end, strict=True)) for end in (tr, bl))
    normal = np.cross(across, down)
    area = float(np.linalg.norm(normal))
    if not area > 1e-9 * math.hypot(*across) * math.hypot(*down):
        raise BadRequest("the corners lie on one line: they span no plane")
    nx, ny = (math.hypot(*side[::-1]) / pixel for side in (across, down))
    if (nx + 1) * (ny + 1) > MAX_PIXELS:
        raise BadRequest(f"res: the image would have {nx:.0f} x {ny:.0f} pixels, at most {MAX_PIXELS} are allowed")
    columns, rows = math.floor(nx), math.floor(ny)
    step_across = tuple(d / columns if columns else 0.0 for d in across)
    step_down = tuple(d / rows if rows else 0.0 for d in down)
    return ObliquePlane(tl, step_across, step_down, columns + 1, rows + 1)


def _walk(starts: Points, step: Points, count: int) -> Points:
    """``count`` points from each start, by repeated addition: shape (starts, count, 3)."""
    walk = np.empty((len(starts), count, 3))
    walk[:, 0] = starts
    walk[:, 1:] = step
    np.add.accumulate(walk, axis=1, out=walk)
    return walk


def cut(
    lookup: Lookup, plane: ObliquePlane, resolution: tuple[float, float, float], window: int = 2 * processors()
) -> NDArray[Any]:
    """The image of a plane, (row, column) or (row, column, channel).

    ``resolution`` is that of a voxel along Z, Y, X; ``window`` bands of pixels are worked on at a time, 1 leaves the
    pool alone. O(pixels log pixels + blocks touched in each band).
    """
    size = np.array(resolution, np.float32).astype(np.float64)
    starts = plane.starts()
    reach = np.stack([starts[0], starts[-1], *_walk(starts[[0, -1]], np.array(plane.across), plane.columns)[:, -1]])
    if (reach / size < INT32_MIN).any() or (reach / size > INT32_MAX).any():
        raise BadRequest("the plane leaves the range of int32 voxels")

    def bands() -> Iterator[Points]:
        rows = max(1, BAND // plane.columns)
        for k in range(0, plane.rows, rows):
            yield starts[k : k + rows]

    def band(some: Points) -> NDArray[Any]:
        points = _walk(some, np.array(plane.across), plane.columns).reshape(-1, 3)
        return _interpolate(lookup, points, size)

    image = np.concatenate(list(ordered_map(band, bands(), window)))
    channels = image.shape[1:] if image.shape[1] > 1 else ()
    return image.reshape(plane.rows, plane.columns, *channels)


def _interpolate(lookup: Lookup, points: Points, size: Points) -> NDArray[Any]:
    """The values at points (n, 3) in world units."""
    at = points / size
    low, high = np.floor(at).astype(np.int64), np.ceil(at).astype(np.int64)
    span = (high - low) * size
    part = np.where(span > 0, (points - low * size) / np.where(span > 0, span, 1), 0.0)
    ends = (low, high)
    corners = np.stack([np.stack([ends[k][:, axis] for axis, k in enumerate(c)], -1) for c in _CORNERS])
    values = lookup(corners.reshape(-1, 3)).reshape(8, len(points), -1).astype(np.float64)
    fz, fy, fx = (part[:, axis, None] for axis in range(3))
    along_x = values[0::2] * (1 - fx) + values[1::2] * fx
    along_y = along_x[0::2] * (1 - fy) + along_x[1::2] * fy
    result = along_y[0] * (1 - fz) + along_y[1] * fz
    rounded: NDArray[np.uint8] = np.minimum(np.floor(result + 0.5), 255).astype(np.uint8)
    return rounded


_CORNERS = list(itertools.product((0, 1), repeat=3))
"""Of a cell, by Z, Y, X: 0 is the lower end; X changes fastest."""


def stored_voxels(stored: StoredBlocks, view: View, voxels: NDArray[np.int64]) -> NDArray[Any]:
    """The values of voxels (n, 3), shape (n, channels); each block is read once, and one is held at a time."""
    shape = np.array(stored.block)
    blocks = voxels // shape
    channels = stored.element.channels
    out = np.full((len(voxels), channels), stored.background, stored.element.dtype)
    order = np.lexsort(blocks.T[::-1])
    ordered = blocks[order]
    first = np.flatnonzero(np.r_[True, (ordered[1:] != ordered[:-1]).any(axis=1)])
    inside = voxels - blocks * shape
    flat = (inside[:, 0] * shape[1] + inside[:, 1]) * shape[2] + inside[:, 2]
    for key, start, stop in zip(
        zyx_keys(ordered[first], stored.prefix), first, np.r_[first[1:], len(order)], strict=True
    ):
        value = view.get(key)
        if value is not None:
            # DVID takes the channels of an rgba8 voxel from the byte at the voxel's index, not at four times it, and
            # the pixels are to be the same as its own.
            data = sliding_window_view(np.frombuffer(stored.voxels(value), np.uint8), channels)
            here = order[start:stop]
            out[here] = data[flat[here]]
    return out
