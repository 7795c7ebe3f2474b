"""The settings of an image instance: how creation writes them, and how they are kept and shown.

Kept are the values of the JSON answers, so points and sizes are in X, Y, Z order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dvidcore.datatypes.base import Setting
from dvidcore.errors import BadRequest
from dvidcore.geometry import parse_int

MAX_SIDE = 1024
"""Of a block along an axis, in voxels."""
MAX_BLOCK = 128 << 20
"""Bytes of one block: it is read and written whole."""


def number(value: Any, name: str) -> float | int:
    """A positive, finite float32 as JSON should show it: in its shortest form, whole numbers without a point."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRequest(f"{name}: {value!r} is not a number")
    with np.errstate(over="ignore"):
        single = np.float32(value) if abs(value) < 1e39 else np.float32(math.inf)
    if not math.isfinite(single) or single <= 0:
        raise BadRequest(f"{name}: {value!r} is out of range, allowed is a positive number that float32 can hold")
    shown = float(str(single))
    return int(shown) if shown.is_integer() and shown < 2**53 else shown


def voxel_size(value: Any, name: str) -> list[float | int]:
    """The resolution along X, Y and Z, of the body of ``POST resolution``."""
    if not isinstance(value, list) or len(value) != 3:
        raise BadRequest(f"{name}: a list of three numbers is needed, along X, Y and Z")
    return [number(v, name) for v in value]


def point(value: Any, name: str) -> list[int]:
    """Three int32 of a JSON list, X, Y, Z."""
    if not isinstance(value, list) or len(value) != 3:
        raise BadRequest(f"{name}: a list of three integers is needed, x, y and z")
    for v in value:
        if isinstance(v, bool) or not isinstance(v, int) or not -(2**31) <= v < 2**31:
            raise BadRequest(f"{name}: {v!r} is not an int32")
    return value


def check_order(low: Sequence[int], high: Sequence[int]) -> None:
    """BadRequest unless the one point is not above the other on any axis."""
    if any(a > b for a, b in zip(low, high, strict=True)):
        raise BadRequest(f"MinPoint {list(low)} is greater than MaxPoint {list(high)}")


def _three(text: str, name: str) -> list[str]:
    parts = [p.strip() for p in text.split(",")]
    if len(parts) != 3:
        raise BadRequest(f'{name}: "{text[:60]}" has {len(parts)} values, three separated by "," are needed')
    return parts


def _integers(text: str, name: str) -> list[int]:
    return [parse_int(p, name) for p in _three(text, name)]


def _block_size(text: str, name: str) -> list[int]:
    return [parse_int(p, name, 1, MAX_SIDE) for p in _three(text, name)]


def _floats(text: str, name: str) -> list[float | int]:
    out = []
    for part in _three(text, name):
        try:
            value = float(part)
        except ValueError:
            raise BadRequest(f'{name}: "{part[:40]}" is not a number') from None
        out.append(number(value, name))
    return out


def _units(text: str, name: str) -> list[str]:
    parts = _three(text, name)
    if not all(parts):
        raise BadRequest(f'{name}: "{text[:60]}" has an empty unit')
    return parts


def _background(text: str, name: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise BadRequest(f'{name}: "{text[:40]}" is not a number from 0 to 255')
    return parse_int(text, name, 0, 255)


def _grid_store(text: str, name: str) -> str:
    if text:
        raise BadRequest(f'{name}: there is no store "{text[:60]}" of chunked volumes')
    return text


SETTINGS = (
    Setting("BlockSize", "BlockSize", [32, 32, 32], _block_size, '"x,y,z", the voxels of a block along each axis'),
    Setting("VoxelSize", "VoxelSize", [8, 8, 8], _floats, '"x,y,z", the resolution along each axis'),
    Setting("VoxelUnits", "VoxelUnits", ["nanometers"] * 3, _units, '"u,v,w", the units of VoxelSize'),
    Setting("MinPoint", "MinPoint", None, _integers, '"x,y,z", the smallest point of the first extents'),
    Setting("MaxPoint", "MaxPoint", None, _integers, '"x,y,z", the greatest point of the first extents, inclusive'),
    Setting("Background", "Background", 0, _background, "0 to 255, the value of voxels that are not stored"),
    Setting("GridStore", "GridStore", "", _grid_store, "a store of chunked volumes in the server's configuration"),
    Setting("ScaleLevel", "ScaleLevel", 0, parse_int, "the scale of the volume in its GridStore"),
)


def check(settings: dict[str, Any], nbytes: int) -> None:
    """BadRequest where settings do not go together; ``nbytes`` are those of a voxel."""
    low, high = settings["MinPoint"], settings["MaxPoint"]
    if (low is None) != (high is None):
        raise BadRequest("MinPoint and MaxPoint belong together: give both or neither")
    if low is not None:
        check_order(low, high)
    size = math.prod(settings["BlockSize"]) * nbytes
    if size > MAX_BLOCK:
        raise BadRequest(f"BlockSize: a block would take {size} bytes, at most {MAX_BLOCK} are allowed")
