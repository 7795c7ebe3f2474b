"""Points, sizes and block grids: how the URLs write them and how blocks tile the int32 lattice.

In URLs and JSON a point is X, Y, Z (``"64_64_64"``); inside dvidcore, as in numpy, everything is Z, Y, X. The
functions here are where the order changes, so nothing else has to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dvidcore.errors import BadRequest

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
UINT64_MAX = 2**64 - 1

_INT = re.compile(r"[+-]?[0-9]+\Z", re.ASCII)


class ZYX(NamedTuple):
    """A point, a size or a block coordinate in Z, Y, X order."""

    z: int
    y: int
    x: int

    def xyz(self) -> list[int]:
        """The same in the order of URLs and JSON."""
        return [self.x, self.y, self.z]


def parse_int(text: str, name: str, low: int = INT32_MIN, high: int = INT32_MAX) -> int:
    """A decimal integer within ``low`` … ``high``, else BadRequest naming the argument."""
    if not _INT.match(text):
        raise BadRequest(f'{name}: "{text[:40]}" is not an integer')
    value = int(text) if len(text) < 40 else high + 1
    if not low <= value <= high:
        raise BadRequest(f"{name}: {text[:40]} is out of range, allowed is {low} to {high}")
    return value


def parse_ints(text: str, name: str, count: int, separator: str = "_") -> list[int]:
    """``count`` int32 numbers, as in ``"64_64_-8"``; BadRequest for another count, or what is no int32."""
    parts = text.split(separator)
    if len(parts) != count:
        raise BadRequest(f'{name}: "{text[:60]}" has {len(parts)} numbers, {count} separated by "{separator}" expected')
    return [parse_int(p, name) for p in parts]


def parse_point(text: str, name: str, separator: str = "_") -> ZYX:
    """``"x_y_z"`` as ZYX."""
    x, y, z = parse_ints(text, name, 3, separator)
    return ZYX(z, y, x)


def parse_size(text: str, name: str) -> ZYX:
    """``"dx_dy_dz"``, each at least 1, as ZYX."""
    size = parse_point(text, name)
    if min(size) < 1:
        raise BadRequest(f'{name}: "{text[:60]}" must be at least 1 along each axis')
    return size


def check_box(offset: ZYX, size: ZYX, name: str = "offset") -> None:
    """BadRequest where a box leaves the int32 lattice."""
    if any(o + s - 1 > INT32_MAX for o, s in zip(offset, size, strict=True)):
        raise BadRequest(f"{name}: the box {offset.xyz()} + {size.xyz()} leaves the range of int32")


def check_aligned(offset: ZYX, size: ZYX, block: ZYX) -> None:
    """BadRequest unless offset and size are multiples of the block size."""
    for name, value in (("offset", offset), ("size", size)):
        if any(v % b for v, b in zip(value, block, strict=True)):
            raise BadRequest(f"{name} {value.xyz()} is not a multiple of the block size {block.xyz()}")


class BlockBox(NamedTuple):
    """The blocks from ``low`` up to and including ``high``, in block coordinates (Z, Y, X)."""

    low: ZYX
    high: ZYX

    @classmethod
    def covering(cls, offset: Sequence[int], size: Sequence[int], block: Sequence[int]) -> BlockBox:
        """The blocks that a voxel box (Z, Y, X) touches."""
        low = ZYX(*(o // b for o, b in zip(offset, block, strict=True)))
        high = ZYX(*((o + s - 1) // b for o, s, b in zip(offset, size, block, strict=True)))
        return cls(low, high)

    def __len__(self) -> int:
        z, y, x = self.shape
        return z * y * x

    @property
    def shape(self) -> ZYX:
        low, high = self.low, self.high
        return ZYX(high.z - low.z + 1, high.y - low.y + 1, high.x - low.x + 1)

    def rows(self) -> Iterator[tuple[int, int]]:
        """The (z, y) of each span of blocks along X, in key order."""
        for z in range(self.low.z, self.high.z + 1):
            for y in range(self.low.y, self.high.y + 1):
                yield z, y

    def coords(self) -> Iterator[ZYX]:
        """All block coordinates in Z, Y, X order."""
        for z, y in self.rows():
            for x in range(self.low.x, self.high.x + 1):
                yield ZYX(z, y, x)

    def next_inside(self, z: int, y: int, x: int) -> ZYX | None:
        """The first block inside, in Z, Y, X order, behind one that is outside in y or x; None where none is left."""
        low, high = self
        if x > high.x:
            y += 1
        if y > high.y:
            z, y = z + 1, low.y
        return ZYX(z, max(y, low.y), low.x) if z <= high.z else None
