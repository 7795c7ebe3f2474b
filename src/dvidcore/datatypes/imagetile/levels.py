"""The tile specification: what resolution and which tile size each level has, and which tiles there are.

It is kept in the instance's settings in the form of the JSON answers, so points and sizes are in X, Y, Z order there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from dvidcore.datatypes.imageblk.planes import Plane
from dvidcore.datatypes.voxel_settings import voxel_size
from dvidcore.errors import BadRequest
from dvidcore.geometry import INT32_MAX, INT32_MIN, ZYX

MAX_LEVELS = 256
"""A scale is one byte of a tile's key."""
MAX_SIDE = 16_384
MAX_PIXELS = 1 << 26
"""Of one tile."""
MAX_SHRINK = 1 << 20
"""How many voxels along an axis a pixel of the coarsest level may stand for."""
DEFAULT_SIDE = 512
_TOLERANCE = 1e-4
"""Of a ratio of resolutions, which are float32."""


class Shrink(NamedTuple):
    """How many columns and rows become one."""

    columns: int
    rows: int


@dataclass(frozen=True, slots=True)
class Level:
    """One scale of tiles. Arrays and tuples are Z, Y, X."""

    tile: ZYX
    """Pixels of a tile along each axis."""
    ratios: tuple[ZYX, ...]
    """How the axes shrink from each level to the next, from level 0 to this one."""

    def width(self, plane: Plane) -> int:
        return self.tile[plane.columns]

    def height(self, plane: Plane) -> int:
        return self.tile[plane.rows]

    def steps(self, plane: Plane) -> list[Shrink]:
        """What makes a slice of this level from one of level 0, in order."""
        return [Shrink(r[plane.columns], r[plane.rows]) for r in self.ratios]

    def shrink(self, plane: Plane) -> Shrink:
        """All steps together."""
        columns = rows = 1
        for step in self.steps(plane):
            columns, rows = columns * step.columns, rows * step.rows
        return Shrink(columns, rows)


def slice_axis(plane: Plane) -> int:
    """The axis (index into Z, Y, X) that tiles of a plane do not extend along."""
    return 3 - plane.columns - plane.rows


def parse_levels(value: Any) -> dict[str, Any]:
    """``Levels`` of a body, checked, as it is kept: level → Resolution and TileSize.

    Raises BadRequest unless the names are 0 … n-1, each level has three positive resolutions and three tile sizes of 1
    to 16384, and each resolution is an integral multiple of that of the level before. A level that is the only one may
    have the resolution 0, 0, 0, which is what clients send that know of none.
    """
    if not isinstance(value, dict) or not value:
        raise BadRequest('Levels: an object is needed, {"0": {"Resolution": [x, y, z], "TileSize": [x, y, z]}, …}')
    names = [str(k) for k in range(len(value))]
    if len(names) > MAX_LEVELS:
        raise BadRequest(f"Levels: there are {len(names)}, at most {MAX_LEVELS} are allowed")
    if set(names) != value.keys():
        raise BadRequest(f"Levels: the names must be 0 to {len(names) - 1} without a gap, not {', '.join(value)[:200]}")
    levels = {name: _parse_level(value[name], f"level {name}", alone=len(names) == 1) for name in names}
    total = [1, 1, 1]
    for finer, coarser in pairwise(names):
        ratios = _ratios(levels[finer]["Resolution"], levels[coarser]["Resolution"], f"level {coarser}")
        total = [t * r for t, r in zip(total, ratios, strict=True)]
        if max(total) > MAX_SHRINK:
            raise BadRequest(f"level {coarser}: a pixel may stand for at most {MAX_SHRINK} voxels along an axis")
    return levels


def _parse_level(value: Any, name: str, *, alone: bool) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRequest(f"{name}: an object with Resolution and TileSize is needed")
    of = {key.lower(): item for key, item in value.items()}
    given = of.get("resolution")
    resolution = [0.0] * 3 if alone and given == [0, 0, 0] else voxel_size(given, f"{name}: Resolution")
    tile = _parse_point(of.get("tilesize"), f"{name}: TileSize")
    x, y, z = tile
    if min(tile) < 1 or max(tile) > MAX_SIDE or max(x * y, x * z, y * z) > MAX_PIXELS:
        raise BadRequest(f"{name}: TileSize {tile} must be 1 to {MAX_SIDE} along each axis, with at most 2^26 pixels")
    return {"Resolution": resolution, "TileSize": tile}


def _parse_point(value: Any, name: str) -> list[int]:
    if (
        not isinstance(value, list)
        or len(value) != 3
        or not all(isinstance(c, int) and not isinstance(c, bool) and INT32_MIN <= c <= INT32_MAX for c in value)
    ):
        raise BadRequest(f"{name}: three int32 in a list are needed, for x, y and z")
    return value


def _ratios(finer: Sequence[float], coarser: Sequence[float], name: str) -> list[int]:
    """How often each resolution of the finer level goes into that of the coarser."""
    out = []
    for fine, coarse in zip(finer, coarser, strict=True):
        ratio = round(coarse / fine)
        if ratio < 1 or abs(coarse / fine - ratio) > _TOLERANCE * ratio:
            raise BadRequest(f"{name}: Resolution {coarse} is not a multiple of {fine}, that of the level before")
        out.append(ratio)
    return out


def parse_metadata(value: Any) -> dict[str, Any]:
    """The body of ``POST metadata`` as it is kept: Levels, and the least and greatest tile coordinates.

    Its keys are taken in any case.
    """
    if not isinstance(value, dict):
        raise BadRequest('the body must be {"MinTileCoord": [x, y, z], "MaxTileCoord": [x, y, z], "Levels": {…}}')
    of = {key.lower(): item for key, item in value.items()}
    low, high = (_parse_point(of.get(name.lower(), [0, 0, 0]), name) for name in ("MinTileCoord", "MaxTileCoord"))
    if any(a > b for a, b in zip(low, high, strict=True)):
        raise BadRequest(f"MinTileCoord {low} is above MaxTileCoord {high}")
    return {"MinTileCoord": low, "MaxTileCoord": high, "Levels": parse_levels(of.get("levels"))}


def levels_of(kept: Mapping[str, Any]) -> list[Level]:
    """The levels as ``parse_levels`` answers them, in order."""
    out: list[Level] = []
    ratios: list[ZYX] = []
    before: list[float] | None = None
    for k in range(len(kept)):
        level = kept[str(k)]
        if before is not None:
            x, y, z = _ratios(before, level["Resolution"], f"level {k}")
            ratios.append(ZYX(z, y, x))
        before = level["Resolution"]
        x, y, z = level["TileSize"]
        out.append(Level(ZYX(z, y, x), tuple(ratios)))
    return out


def default_levels(voxel: Sequence[float], size: Sequence[int]) -> dict[str, Any]:
    """The levels of a volume of ``size`` voxels where none are given: tiles of 512, each level half as fine.

    There are as many as the longest side, in whole tiles, needs to fit one tile.
    """
    tiles = -(-max(size) // DEFAULT_SIDE)
    count = (tiles - 1).bit_length() + 1
    return parse_levels(
        {str(k): {"Resolution": [v * 2**k for v in voxel], "TileSize": [DEFAULT_SIDE] * 3} for k in range(count)}
    )
