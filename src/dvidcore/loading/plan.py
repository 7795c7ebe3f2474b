"""How a volume is cut into boxes that are written one by one, each of whole blocks but for the volume's own edges."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from dvidcore.errors import BadRequest
from dvidcore.geometry import ZYX, check_box


@dataclass(frozen=True, slots=True)
class Box:
    """One write: its number in the plan, the lowest voxel in the instance, the size."""

    number: int
    low: ZYX
    size: ZYX

    @property
    def voxels(self) -> int:
        return math.prod(self.size)


@dataclass(frozen=True, slots=True)
class Plan:
    """The volume of ``size`` at ``low`` in layers of one block's thickness, and these in boxes of ``step`` at most."""

    low: ZYX
    size: ZYX
    step: ZYX

    @classmethod
    def of(cls, low: ZYX, size: ZYX, block: ZYX, voxels: int) -> Plan:
        """Boxes of about ``voxels`` voxels, long along X, where the blocks are stored side by side."""
        if min(size) < 1:
            raise BadRequest(f"size: {size.xyz()} must be at least 1 along each axis")
        check_box(low, size)
        columns = min(max(1, voxels // (block.z * block.y * block.x)), -(-size.x // block.x) + 1)
        rows = max(1, voxels // (block.z * block.y * columns * block.x))
        return cls(low, size, ZYX(block.z, rows * block.y, columns * block.x))

    def layers(self) -> Iterator[list[Box]]:
        """The boxes of each layer. Cuts lie at multiples of the step, so that no two boxes share a block."""
        number = 0
        for z0, z1 in self._cuts(0):
            layer = []
            for y0, y1 in self._cuts(1):
                for x0, x1 in self._cuts(2):
                    layer.append(Box(number, ZYX(z0, y0, x0), ZYX(z1 - z0, y1 - y0, x1 - x0)))
                    number += 1
            yield layer

    def __len__(self) -> int:
        return math.prod(sum(1 for _ in self._cuts(axis)) for axis in range(3))

    def _cuts(self, axis: int) -> Iterator[tuple[int, int]]:
        at, end, step = self.low[axis], self.low[axis] + self.size[axis], self.step[axis]
        while at < end:
            stop = min(end, (at // step + 1) * step)
            yield at, stop
            at = stop
