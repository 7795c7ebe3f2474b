"""The settings that all voxel volumes have, images and labels alike: block size, voxel size and units, first extents."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dvidcore.datatypes.base import Setting
from dvidcore.errors import BadRequest
from dvidcore.geometry import parse_int, parse_ints

MAX_BLOCK_SIDE = 1024
MAX_BLOCK_VOXELS = 2**24
_EXACT = 2.0**53
"""Below this a float is the only one that is nearest to its whole number."""


def parse_triple(value: str, name: str) -> list[int]:
    """``"x,y,z"``, spaces round the numbers allowed, as three int32."""
    return parse_ints(",".join(p.strip() for p in value.split(",")), name, 3, ",")


def parse_block_size(value: str, name: str) -> list[int]:
    """``"x,y,z"``, each from 1 to 1024, together at most 2²⁴ voxels."""
    size = parse_triple(value, name)
    if min(size) < 1 or max(size) > MAX_BLOCK_SIDE or math.prod(size) > MAX_BLOCK_VOXELS:
        raise BadRequest(f'{name}: "{value}" must be 1 to {MAX_BLOCK_SIDE} along each axis and at most 2^24 voxels')
    return size


def parse_label_block_size(value: str, name: str) -> list[int]:
    """As ``parse_block_size``, each a multiple of 16, which the down-sampling of coded blocks needs."""
    return _multiples(parse_block_size(value, name), 16, name)


def parse_coded_block_size(value: str, name: str) -> list[int]:
    """As ``parse_block_size``, each a multiple of 8, since coded blocks are made of sub-blocks of 8 x 8 x 8 voxels."""
    return _multiples(parse_block_size(value, name), 8, name)


def _multiples(size: list[int], of: int, name: str) -> list[int]:
    if any(n % of for n in size):
        raise BadRequest(f'{name}: "{",".join(map(str, size))}" must be a multiple of {of} along each axis')
    return size


def voxel_size(value: Any, name: str) -> list[float | int]:
    """The resolution along X, Y and Z, as a JSON list: three positive numbers that float32 can hold.

    They are kept as JSON should show them: in the shortest form of their float32, whole numbers without a point.
    """
    if not isinstance(value, list):
        raise BadRequest(f"{name}: a list of three numbers is needed, along X, Y and Z")
    if (
        len(value) != 3
        or not all(isinstance(s, int | float) and not isinstance(s, bool) for s in value)
        or not all(math.isfinite(s) and s > 0 for s in value)
    ):
        raise BadRequest(f"{name}: three positive numbers are needed, for x, y and z")
    return [_shortest(s, name) for s in value]


def _shortest(value: float, name: str) -> float | int:
    with np.errstate(over="ignore"):
        single = np.float32(value)
    if not 0 < single < math.inf:
        raise BadRequest(f"{name}: {value!r} is out of the range of float32")
    return shown(float(str(single)))


def shown(value: float) -> float | int:
    """As JSON should show it: a whole number without a point."""
    return int(value) if value.is_integer() and abs(value) < _EXACT else value


def parse_voxel_size(text: str, name: str) -> list[float | int]:
    """``"x,y,z"`` floats."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise BadRequest(f'{name}: "{text[:60]}" is not three positive numbers separated by commas') from None
    return voxel_size(numbers, name)


def parse_units(value: str, name: str) -> list[str]:
    """``"u,v,w"``, kept to the letter."""
    units = value.split(",")
    if len(units) != 3:
        raise BadRequest(f'{name}: "{value[:60]}" is not three names separated by commas')
    return units


def check_extents(value: Any) -> tuple[list[int], list[int]]:
    """``{"MinPoint": [x, y, z], "MaxPoint": [x, y, z]}``, keys in any case, as (min, max), min ≤ max.

    BadRequest for anything else.
    """
    if not isinstance(value, dict):
        raise BadRequest('the body must be {"MinPoint": [x, y, z], "MaxPoint": [x, y, z]}')
    given = {key.lower(): point for key, point in value.items()}
    points = []
    for name in ("MinPoint", "MaxPoint"):
        point = given.get(name.lower())
        if (
            not isinstance(point, list)
            or len(point) != 3
            or not all(isinstance(c, int) and not isinstance(c, bool) and -(2**31) <= c < 2**31 for c in point)
        ):
            raise BadRequest(f"{name}: three int32 in a list are needed, for x, y and z")
        points.append(point)
    if any(low > high for low, high in zip(*points, strict=True)):
        raise BadRequest(f"MinPoint {points[0]} is above MaxPoint {points[1]}")
    return points[0], points[1]


def check_first_extents(settings: dict[str, Any]) -> None:
    """``MinPoint`` and ``MaxPoint`` at creation come together, min ≤ max."""
    low, high = settings["MinPoint"], settings["MaxPoint"]
    if (low is None) != (high is None):
        raise BadRequest("MinPoint and MaxPoint: give both or none")
    if low is not None and any(a > b for a, b in zip(low, high, strict=True)):
        raise BadRequest(f"MinPoint {low} is above MaxPoint {high}")


def axes(settings: Mapping[str, Any], low: Sequence[int], high: Sequence[int]) -> list[dict[str, Any]]:
    """The ``Axes`` of ``metadata``, from the lowest and the highest voxel (x, y, z)."""
    return [
        {
            "Label": label,
            "Resolution": settings["VoxelSize"][k],
            "Units": settings["VoxelUnits"][k],
            "Size": high[k] - low[k] + 1,
            "Offset": low[k],
        }
        for k, label in enumerate("XYZ")
    ]


def _background(text: str, name: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise BadRequest(f'{name}: "{text[:40]}" is not a number from 0 to 255')
    return parse_int(text, name, 0, 255)


def _no_grid_store(text: str, name: str) -> str:
    if text:
        raise BadRequest(f'{name}: there is no store "{text[:60]}" of chunked volumes for this type')
    return text


VOXEL_SIZE = Setting("VoxelSize", "VoxelSize", [8, 8, 8], parse_voxel_size, "x,y,z size of a voxel, in VoxelUnits")
VOXEL_UNITS = Setting("VoxelUnits", "VoxelUnits", ["nanometers"] * 3, parse_units, "u,v,w units of the voxel size")
MIN_POINT = Setting("MinPoint", "MinPoint", None, parse_triple, "x,y,z lowest voxel, before anything is written")
MAX_POINT = Setting("MaxPoint", "MaxPoint", None, parse_triple, "x,y,z highest voxel, before anything is written")
GRID_STORE = Setting(
    "GridStore", "GridStore", "", _no_grid_store, "a store of chunked volumes in the server's configuration"
)
SCALE_LEVEL = Setting("ScaleLevel", "ScaleLevel", 0, parse_int, "the scale of the volume in its GridStore")


def background(help: str) -> Setting:
    """The ``Background`` setting, 0 to 255."""
    return Setting("Background", "Background", 0, _background, help)


def block_size(default: Sequence[int], parse: Callable[[str, str], list[int]] = parse_block_size) -> Setting:
    """The ``BlockSize`` setting; ``default`` is X, Y, Z."""
    return Setting("BlockSize", "BlockSize", list(default), parse, "x,y,z voxels of a block")
