"""V3D raw files (.v3draw, .raw) and what is kept of one beside its voxels.

A file is 24 bytes of magic, ``L``, the bytes per voxel (uint16), width, height, depth and channels (uint32 each), all
little-endian, then channel after channel, each in ZYX order.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np
import orjson
from numpy.typing import NDArray

from dvidcore.datatypes.call import Body
from dvidcore.datatypes.imageblk.elements import UINT8, UINT16, Element
from dvidcore.errors import BadRequest
from dvidcore.geometry import ZYX

MAGIC = b"raw_image_stack_by_hpeng"
MAX_CHANNELS = 1024
MAX_SIDE = 1 << 20

_HEADER = struct.Struct("<24scH4I")


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack that was loaded: its size in voxels (Z, Y, X), bytes per voxel, and (least, greatest) of each channel."""

    size: ZYX
    depth: int
    ranges: tuple[tuple[int, int], ...] = ()

    @property
    def element(self) -> Element:
        """What a voxel of a channel is."""
        return UINT8 if self.depth == 1 else UINT16

    def pack(self) -> bytes:
        """As a stored value."""
        return orjson.dumps({"size": self.size.xyz(), "bytes": self.depth, "ranges": self.ranges})

    def describe(self) -> list[dict[str, str]]:
        """``Values`` of the JSON answers."""
        return [{"DataType": self.element.name, "Label": f"channel{c}"} for c in range(len(self.ranges))]

    def shade(self, channel: int, voxels: NDArray[np.integer]) -> NDArray[np.uint8]:
        """A channel's voxels as they are in the composite: least … greatest of the channel as 0 … 255, rounded down.

        A constant channel gives 0.
        """
        low, high = self.ranges[channel]
        if low == high:
            return np.zeros(voxels.shape, np.uint8)
        table = np.zeros(1 << 8 * self.depth, np.uint8)
        table[low : high + 1] = 255 * np.arange(high - low + 1) // (high - low)
        shaded: NDArray[np.uint8] = table[voxels]
        return shaded


def unpack(value: bytes | memoryview) -> Stack:
    """A stack from its stored value."""
    kept = orjson.loads(value)
    x, y, z = kept["size"]
    return Stack(ZYX(z, y, x), kept["bytes"], tuple((low, high) for low, high in kept["ranges"]))


def read_header(body: Body) -> tuple[Stack, int]:
    """The stack (without ranges) that a file holds, and its number of channels; the voxels are left in the body.

    Raises BadRequest unless the header is right in every part and goes with the length of the body.
    """
    head = body.read(_HEADER.size)
    if len(head) < _HEADER.size or head[: len(MAGIC)] != MAGIC:
        raise BadRequest("the body is not a V3D raw file: it does not start with raw_image_stack_by_hpeng and a header")
    _, order, depth, width, height, layers, channels = _HEADER.unpack(head)
    if order != b"L":
        raise BadRequest(f"byte order: {order!r} is not supported, only L (little-endian) is")
    if depth not in (1, 2):
        raise BadRequest(f"bytes per voxel: {depth} are not supported, only 1 and 2 are")
    for name, value, most in (
        ("width", width, MAX_SIDE),
        ("height", height, MAX_SIDE),
        ("depth", layers, MAX_SIDE),
        ("channels", channels, MAX_CHANNELS),
    ):
        if not 1 <= value <= most:
            raise BadRequest(f"{name}: {value} is out of range, allowed is 1 to {most}")
    size = ZYX(layers, height, width)
    wanted = _HEADER.size + math.prod(size) * channels * depth
    if body.length != wanted:
        raise BadRequest(
            f"the body has {body.length} bytes; {channels} channels of {size.xyz()} voxels with {depth} bytes take {wanted}"
        )
    return Stack(size, depth), channels
