"""Slices as images: labels bit by bit, in false colours, or with square pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvidcore import images
from dvidcore.datatypes.call import Reply
from dvidcore.datatypes.labels.reading.volume import Voxels
from dvidcore.errors import BadRequest
from dvidcore.geometry import ZYX, parse_ints, parse_size

_NAMES = {(0, 1): ("xy", "0_1", "0,1"), (0, 2): ("xz", "0_2", "0,2"), (1, 2): ("yz", "1_2", "1,2")}
_PLANES = {name: plane for plane, names in _NAMES.items() for name in names}
_VOLUMES = ("0_1_2", "0,1,2", "vol")


class Shape(NamedTuple):
    """What ``dims`` and ``size`` of a URL ask for: a box, and for a slice its two axes (0 is x), width first."""

    size: ZYX
    plane: tuple[int, int] | None


def parse_shape(dims: str, size: str) -> Shape:
    """``"0_1_2"`` and ``"64_64_32"``, or ``"xz"`` and ``"64_32"``, in any case; BadRequest for anything else."""
    name = dims.lower()
    if name in _VOLUMES:
        return Shape(parse_size(size, "size"), None)
    plane = _PLANES.get(name)
    if plane is None:
        raise BadRequest(
            f'dims: "{dims[:40]}" is not one of 0_1_2, vol, xy, xz, yz, 0_1, 0_2, 1_2, or these with commas'
        )
    sides = parse_ints(size, "size", 2)
    if min(sides) < 1:
        raise BadRequest(f'size: "{size[:60]}" must be at least 1 along each axis')
    return Shape(_thin(plane, sides), plane)


def _thin(plane: tuple[int, int], sides: Sequence[int]) -> ZYX:
    """The box, one voxel thick, of a slice of (width, height)."""
    xyz = [1, 1, 1]
    for axis, side in zip(plane, sides, strict=True):
        xyz[axis] = side
    return ZYX(*xyz[::-1])


def read(reader: Voxels, offset: ZYX, shape: Shape) -> NDArray[Any]:
    """The slice at ``offset``, (height, width)."""
    if shape.plane is None:
        raise BadRequest("dims: a slice is expected, xy, xz or yz")
    across = 3 - sum(shape.plane)
    return reader.box(offset, shape.size).squeeze(axis=2 - across)


def labels_image(labels: NDArray[np.uint64], kind: str, quality: int) -> Reply:
    """Labels (height, width) as an image of 16-bit RGBA, which holds their eight bytes in order.

    ``kind`` and ``quality`` are as of ``images.parse_format``.
    """
    return _image(images.pixels(labels), kind, quality)


def pseudocolor_image(labels: NDArray[np.uint64], kind: str, quality: int) -> Reply:
    """Labels (height, width) as an RGB image: the top three bytes of each label's hash."""
    hashed = murmur3(labels)
    rgb = np.stack([(hashed >> np.uint32(shift)).astype(np.uint8) for shift in (24, 16, 8)], axis=-1)
    return _image(rgb, kind, quality)


def _image(pixels: NDArray[Any], kind: str, quality: int) -> Reply:
    try:
        return Reply(images.encode(pixels, kind, quality), images.CONTENT_TYPES[kind])
    except ValueError as e:
        raise BadRequest(f"size: {e}") from None


def murmur3(labels: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """MurmurHash3 x86 32-bit, seed 0, over each label's eight little-endian bytes."""
    h = np.zeros(labels.shape, np.uint32)
    for half in (labels.astype(np.uint32), (labels >> np.uint64(32)).astype(np.uint32)):
        k = half * np.uint32(0xCC9E2D51)
        k = (k << np.uint32(15)) | (k >> np.uint32(17))
        h ^= k * np.uint32(0x1B873593)
        h = (h << np.uint32(13)) | (h >> np.uint32(19))
        h = h * np.uint32(5) + np.uint32(0xE6546B64)
    h ^= np.uint32(8)
    h ^= h >> np.uint32(16)
    h *= np.uint32(0x85EBCA6B)
    h ^= h >> np.uint32(13)
    h *= np.uint32(0xC2B2AE35)
    h ^= h >> np.uint32(16)
    return h


def isotropic(reader: Voxels, offset: ZYX, shape: Shape, voxel: Sequence[float]) -> NDArray[np.uint64]:
    """A slice of pixels as square as the smaller side of its voxels, uint64 (height, width).

    ``voxel`` is the voxel size along x, y, z. Along the axis of the larger side fewer voxels are read, and each pixel
    shows the nearest.
    """
    if shape.plane is None:
        raise BadRequest("dims: a slice is expected, xy, xz or yz")
    width, height = (shape.size.xyz()[axis] for axis in shape.plane)
    ra, rb = (voxel[axis] for axis in shape.plane)
    columns = max(1, int(width * rb / ra + 0.5)) if ra > rb else width
    rows = max(1, int(height * ra / rb + 0.5)) if ra < rb else height
    source = read(reader, offset, Shape(_thin(shape.plane, (columns, rows)), shape.plane))
    y = np.arange(height) * rows // height
    x = np.arange(width) * columns // width
    return source[y[:, None], x[None, :]]
