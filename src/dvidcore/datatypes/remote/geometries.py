"""The geometries of a BrainMaps volume: its scales, each with its size and pixels, and which answers what."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dvidcore.errors import BadRequest
from dvidcore.geometry import ZYX

TYPES: Mapping[str, np.dtype[Any]] = {
    "UINT8": np.dtype("|u1"),
    "FLOAT": np.dtype("<f4"),
    "UINT64": np.dtype("<u8"),
}
CHANNEL_TYPES = {"uint8": "UINT8", "float32": "FLOAT", "uint64": "UINT64"}
"""By the name of a numpy type."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """One scale of a volume."""

    size: ZYX
    channels: int
    channel_type: str
    pixel: tuple[float, float, float]
    """X, Y, Z."""

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> Geometry:
        """From the JSON of the service, whose integers are texts. KeyError, TypeError or ValueError for other JSON."""
        size, pixel = item["volumeSize"], item["pixelSize"]
        x, y, z = (float(pixel[axis]) for axis in "xyz")
        if min(x, y, z) <= 0:
            raise ValueError("pixelSize is not positive")
        voxels = ZYX(*(int(size[axis]) for axis in "zyx"))
        return cls(voxels, int(item.get("channelCount", 1)), str(item["channelType"]), (x, y, z))

    def shown(self) -> dict[str, Any]:
        """As ``info`` shows it, and as it is kept."""
        return {
            "volumeSize": dict(zip("xyz", self.size.xyz(), strict=True)),
            "channelCount": self.channels,
            "channelType": self.channel_type,
            "pixelSize": dict(zip("xyz", self.pixel, strict=True)),
        }

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of a voxel. BadRequest for a type that cannot be read."""
        found = TYPES.get(self.channel_type)
        if found is None or self.channels != 1:
            raise BadRequest(
                f"the volume has {self.channels} channels of {self.channel_type}; one of {', '.join(TYPES)} can be read"
            )
        return found

    def inside(self, offset: ZYX, size: ZYX) -> tuple[ZYX, ZYX] | None:
        """The offset and size of the part of a box that lies in the volume; None where there is none."""
        low = ZYX(*(max(0, o) for o in offset))
        high = ZYX(*(min(n, o + s) for n, o, s in zip(self.size, offset, size, strict=True)))
        part = ZYX(*(b - a for a, b in zip(low, high, strict=True)))
        return (low, part) if min(part) > 0 else None


class ScaleMap:
    """Which geometry answers a slice or a box at a scale."""

    def __init__(self, geometries: Sequence[Geometry]) -> None:
        self.geometries = geometries
        self.finest = min(range(len(geometries)), key=lambda k: math.prod(geometries[k].pixel))
        self.by_name: dict[str, int] = {f"{dims}:0": self.finest for dims in ("XY", "XZ", "YZ", "XYZ")}
        fine = geometries[self.finest].pixel
        for k, geometry in enumerate(geometries):
            if k == self.finest:
                continue
            x, y, z = (pixel / best for pixel, best in zip(geometry.pixel, fine, strict=True))
            if x > z and y > z:
                dims = "XY"
            elif x > y and z > y:
                dims = "XZ"
            elif y > x and z > x:
                dims = "YZ"
            else:
                dims = "XYZ"
            scale = max(0, math.ceil(math.log2(max(x, y, z))))
            self.by_name.setdefault(f"{dims}:{scale}", k)

    def find(self, dims: str, scale: int) -> int:
        """The index of the geometry for ``XY``, ``XZ``, ``YZ`` or ``XYZ``, where a slice may come from a box's.

        BadRequest where none serves the scale.
        """
        for name in (dims, "XYZ"):
            found = self.by_name.get(f"{name}:{scale}")
            if found is not None:
                return found
        served = sorted(
            {int(name.partition(":")[2]) for name in self.by_name if name.partition(":")[0] in (dims, "XYZ")}
        )
        raise BadRequest(
            f"scale: the volume has no {dims.lower()} at scale {scale}, only at {', '.join(map(str, served))}"
        )

    @property
    def levels(self) -> int:
        """How many scales there are, up to the coarsest."""
        return 1 + max(int(name.partition(":")[2]) for name in self.by_name)
