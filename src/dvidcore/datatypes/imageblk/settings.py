"""The settings of an image instance: how creation writes them, and how they are kept and shown.

Kept are the values of the JSON answers, so points and sizes are in X, Y, Z order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dvidcore.datatypes.base import Setting
from dvidcore.datatypes.imageblk.downres import METHODS
from dvidcore.datatypes.voxel_settings import MAX_POINT, MIN_POINT, VOXEL_UNITS, block_size, check_voxel_size
from dvidcore.errors import BadRequest
from dvidcore.geometry import parse_int


def voxel_size(value: Any, name: str) -> list[float | int]:
    """The resolution along X, Y and Z, as a JSON list: three positive numbers that float32 can hold.

    They are kept as JSON should show them: in the shortest form of their float32, whole numbers without a point.
    """
    if not isinstance(value, list):
        raise BadRequest(f"{name}: a list of three numbers is needed, along X, Y and Z")
    return [_shortest(v, name) for v in check_voxel_size(value, name)]


def _shortest(value: float, name: str) -> float | int:
    with np.errstate(over="ignore"):
        single = np.float32(value)
    if not 0 < single < math.inf:
        raise BadRequest(f"{name}: {value!r} is out of the range of float32")
    shown = float(str(single))
    return int(shown) if shown.is_integer() and shown < 2**53 else shown


def _voxel_size(text: str, name: str) -> list[float | int]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise BadRequest(f'{name}: "{text[:60]}" is not three numbers separated by commas') from None
    return voxel_size(numbers, name)


def _background(text: str, name: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise BadRequest(f'{name}: "{text[:40]}" is not a number from 0 to 255')
    return parse_int(text, name, 0, 255)


def _no_grid_store(text: str, name: str) -> str:
    if text:
        raise BadRequest(f'{name}: there is no store "{text[:60]}" of chunked volumes for this type')
    return text


SETTINGS = (
    block_size([32, 32, 32]),
    Setting("VoxelSize", "VoxelSize", [8, 8, 8], _voxel_size, "x,y,z size of a voxel, in VoxelUnits"),
    VOXEL_UNITS,
    MIN_POINT,
    MAX_POINT,
    Setting("Background", "Background", 0, _background, "0 to 255, the value of voxels that are not stored"),
    Setting("GridStore", "GridStore", "", _no_grid_store, "a store of chunked volumes in the server's configuration"),
    Setting("ScaleLevel", "ScaleLevel", 0, parse_int, "the scale of the volume in its GridStore"),
)


def _scales(text: str, name: str) -> int:
    return parse_int(text, name, 0, MAX_LEVEL)


def _method(text: str, name: str) -> str:
    if (word := text.lower()) not in METHODS:
        raise BadRequest(f'{name}: "{text[:40]}" is not one of {", ".join(METHODS)}')
    return word


MAX_LEVEL = 24
"""Scales beside scale 0: at the last, all of int32 is a few blocks."""
SCALES = (
    Setting(
        "MaxDownresLevel",
        "MaxDownresLevel",
        0,
        _scales,
        "number of coarser scales that are made with each write, 0 to 24",
    ),
    Setting(
        "DownresMethod",
        "DownresMethod",
        None,
        _method,
        "how a voxel stands for eight: mean (rounded, halves up), majority (the least of equally frequent values) or"
        " nearest (the one of the lowest coordinates); by default majority for uint32 and uint64, else mean",
    ),
)
"""What makes an instance hold coarser scales."""


def check_scales(settings: Mapping[str, Any]) -> None:
    """BadRequest for coarser scales of blocks that cannot be halved."""
    if settings["MaxDownresLevel"] and any(n % 2 for n in settings["BlockSize"]):
        raise BadRequest(f"MaxDownresLevel: the BlockSize {settings['BlockSize']} must be even along each axis")
