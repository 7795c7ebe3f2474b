"""The settings of an image instance: how creation writes them, and how they are kept and shown.

Kept are the values of the JSON answers, so points and sizes are in X, Y, Z order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dvidcore.datatypes.base import Setting
from dvidcore.datatypes.imageblk.downres import METHODS
from dvidcore.datatypes.voxel_settings import (
    GRID_STORE,
    MAX_POINT,
    MIN_POINT,
    SCALE_LEVEL,
    VOXEL_SIZE,
    VOXEL_UNITS,
    background,
    block_size,
)
from dvidcore.errors import BadRequest
from dvidcore.geometry import parse_int

SETTINGS = (
    block_size([32, 32, 32]),
    VOXEL_SIZE,
    VOXEL_UNITS,
    MIN_POINT,
    MAX_POINT,
    background("0 to 255, the value of voxels that are not stored"),
    GRID_STORE,
    SCALE_LEVEL,
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
