"""Slices along the axes: how URLs name them, how they are cut, and how anisotropic ones are stretched."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvidcore.errors import BadRequest
from dvidcore.geometry import ZYX, check_box, parse_ints, parse_size

_VOLUME = ("vol", "0_1_2", "0,1,2")
_NAMES = (("xy", "0_1", "0,1"), ("xz", "0_2", "0,2"), ("yz", "1_2", "1,2"))


class Plane(NamedTuple):
    """The axes of a slice, as indices into Z, Y, X."""

    columns: int
    rows: int

    def size(self, width: int, height: int) -> ZYX:
        """The box that a slice of so many columns and rows of voxels is."""
        size = [1, 1, 1]
        size[self.columns], size[self.rows] = width, height
        return ZYX(*size)

    def image(self, volume: NDArray[Any]) -> NDArray[Any]:
        """A box of ``size`` as an array (row, column) or (row, column, channel); not copied."""
        height, width = volume.shape[self.rows], volume.shape[self.columns]
        return volume.reshape(height, width, *volume.shape[3:])


_PLANES = {
    name: plane for names, plane in zip(_NAMES, (Plane(2, 1), Plane(2, 0), Plane(1, 0)), strict=True) for name in names
}


def parse_dims(text: str) -> Plane | None:
    """A slice's plane, or None for a volume; BadRequest for anything else."""
    name = text.lower()
    if name in _VOLUME:
        return None
    plane = _PLANES.get(name)
    if plane is None:
        raise BadRequest(
            f'dims: "{text[:40]}" is not one of xy, xz, yz, vol, 0_1, 0_2, 1_2, 0_1_2, or these with commas'
        )
    return plane


def plane_of(text: str, name: str = "dims") -> Plane:
    """The plane of a slice by any of its names; BadRequest for a volume and for what is no plane."""
    plane = parse_dims(text)
    if plane is None:
        raise BadRequest(f'{name}: "{text[:40]}" is a volume; only slices, xy, xz or yz, are allowed here')
    return plane


def parse_volume(size: str, offset: ZYX) -> ZYX:
    """``"dx_dy_dz"`` of a box that starts at ``offset`` and must not leave int32."""
    box = parse_size(size, "size")
    check_box(offset, box)
    return box


def parse_image(size: str) -> tuple[int, int]:
    """``"w_h"``, each at least 1."""
    width, height = parse_ints(size, "size", 2)
    if width < 1 or height < 1:
        raise BadRequest(f'size: "{size[:60]}" must be at least 1 along each axis')
    return width, height


def source_size(width: int, height: int, x_resolution: float, y_resolution: float) -> tuple[int, int]:
    """The (columns, rows) of voxels under ``width`` x ``height`` pixels of the finer of two resolutions.

    In float32, truncated, as DVID does it, but at least one voxel.
    """
    rx, ry, half = np.float32(x_resolution), np.float32(y_resolution), np.float32(0.5)
    if rx < ry:
        return width, max(1, int(np.float32(height) * rx / ry + half))
    if ry < rx:
        return max(1, int(np.float32(width) * ry / rx + half)), height
    return width, height


def resample(image: NDArray[Any], width: int, height: int) -> NDArray[Any]:
    """An image (row, column[, channel]) of integers as ``height`` x ``width`` pixels.

    Each pixel is the mean of what it covers, weighted by area and rounded down: exact in integers. O(pixels), of which a
    band at a time is in memory as int64.
    """
    if len(image) != height:
        image = _stretched(image, height)
    if image.shape[1] != width:
        image = _stretched(image.swapaxes(0, 1), width).swapaxes(0, 1)
    return image


def _stretched(image: NDArray[Any], count: int) -> NDArray[Any]:
    """An image with ``count`` pixels along its first axis."""
    out = np.empty((count, *image.shape[1:]), image.dtype)
    step = max(1, _BAND * image.shape[1] // max(out.size, image.size))
    for k in range(0, image.shape[1], step):
        out[:, k : k + step] = _stretch(image[:, k : k + step], count)
    return out


_BAND = 1 << 20
"""Values that are stretched at a time."""


def _stretch(image: NDArray[Any], count: int) -> NDArray[Any]:
    """Resamples the first axis to ``count`` pixels.

    On a common grid each source pixel covers ``count`` units and each target pixel as many units as there are source
    pixels; a target is the difference of the integrals at its two ends.
    """
    have = len(image)
    values = image.astype(np.int64)
    ends = np.arange(count + 1, dtype=np.int64) * have
    whole, part = np.divmod(ends, count)
    integral = np.zeros((have + 1, *values.shape[1:]), np.int64)
    np.cumsum(values, axis=0, out=integral[1:])
    integral *= count
    broadcast = (slice(None),) + (None,) * (values.ndim - 1)
    at_ends = integral[whole] + part[broadcast] * values[np.minimum(whole, have - 1)]
    out: NDArray[Any] = np.diff(at_ends, axis=0) // have
    return out
