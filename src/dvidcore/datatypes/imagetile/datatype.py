"""The datatype imagetile: tiles, and images that are stitched from them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dvidcore import images
from dvidcore.datatypes.call import Call, Reply
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.imageblk import planes
from dvidcore.datatypes.imageblk.pictures import answer
from dvidcore.datatypes.imageblk.planes import Plane
from dvidcore.datatypes.imageblk.volumes import MAX_IMAGE
from dvidcore.datatypes.imagetile import pictures
from dvidcore.datatypes.imagetile.generating import Generating
from dvidcore.datatypes.imagetile.levels import Level
from dvidcore.datatypes.imagetile.source import Volume
from dvidcore.datatypes.imagetile.tiles import drawn
from dvidcore.errors import BadRequest
from dvidcore.geometry import ZYX, check_box
from dvidcore.storage.versioned import View

MAX_TILES = 1 << 14
"""That one image is stitched from."""

_PIXELS: Mapping[str, NDArray[Any]] = {
    "uint8": np.zeros((1, 1), np.uint8),
    "uint16": np.zeros((1, 1), np.uint16),
    "rgba8": np.zeros((1, 1, 4), np.uint8),
}
"""By the element of a Source that can be shown: a pixel of its form."""


class ImageTile(Generating):
    """Images of the xy, xz and yz slices of a volume, cut into tiles, at several scales.

    A tile is named by its plane, its scale and x_y_z: along the two axes of the plane these count tiles, along the
    third it is the coordinate of the slice in voxels, at every scale. Tiles are posted, or generated from the instance
    that Source names. Synced with its Source (POST sync), an instance forgets the tiles that show voxels as soon as
    these are written, and what is not stored is cut from there.
    """

    typename: ClassVar[str] = "imagetile"
    typeversion: ClassVar[str] = "0.1"
    url: ClassVar[str] = "github.com/janelia-flyem/dvid/datatype/imagetile"

    @endpoint("GET", "raw/{plane:text}/{size:text}/{offset:point}", answers="image/png")
    @endpoint("GET", "raw/{plane:text}/{size:text}/{offset:point}/{format:text}", answers="image/png")
    def get_raw(self, call: Call, plane: str, size: str, offset: ZYX, format: str = "") -> Reply:
        """An image of ``width_height`` pixels, stitched from the tiles of scale 0: png (default), jpg, tif or bmp.

        Its pixels are those of the Source, a uint8blk, uint16blk or rgba8blk (uint8 without one). Missing tiles are
        zeros, or cut from the Source where the instance is synced with it.
        """
        axes = planes.plane_of(plane, "plane")
        kind, quality = images.parse_format(format)
        width, height = planes.parse_image(size)
        level = self.levels()[0]
        _, blank = self.shown_as()
        return self._image(
            self._stitched(call, axes, level, (width, height), offset=offset, blank=blank), kind, quality
        )

    @endpoint("GET", "isotropic/{plane:text}/{size:text}/{offset:point}", answers="image/png")
    @endpoint("GET", "isotropic/{plane:text}/{size:text}/{offset:point}/{format:text}", answers="image/png")
    def get_isotropic(self, call: Call, plane: str, size: str, offset: ZYX, format: str = "") -> Reply:
        """As ``raw``, but stretched where the voxels of the Source are not square (those of level 0 without a Source).

        ``width_height`` are pixels of the finer resolution of the plane.
        """
        axes = planes.plane_of(plane, "plane")
        kind, quality = images.parse_format(format)
        width, height = planes.parse_image(size)
        level = self.levels()[0]
        sides, blank = self.shown_as()
        _check_pixels(width, height, blank)
        resolution = sides[::-1]
        have = planes.source_size(width, height, resolution[axes.columns], resolution[axes.rows])
        image = self._stitched(call, axes, level, have, offset=offset, blank=blank)
        return self._image(planes.resample(image, width, height), kind, quality)

    def _image(self, image: NDArray[Any], kind: str, quality: int) -> Reply:
        return answer(image, kind, quality, intensities=True, typename=self.typename)

    def shown_as(self) -> tuple[list[float], NDArray[Any]]:
        """The size of a voxel along X, Y and Z, and a pixel of the form that images have.

        BadRequest where the Source that is named does not exist, or its elements are no pixels.
        """
        source = self.source_instance(_PIXELS)
        if source is not None:
            return list(source.record.settings["VoxelSize"]), _PIXELS[source.element.name]
        if name := self.record.settings["Source"]:
            raise BadRequest(f'there is no instance "{name[:60]}" in this repo, which the tiles have as their Source')
        found = self.record.settings["Levels"]["0"]["Resolution"]
        return list(found) if all(found) else [1.0] * 3, _PIXELS["uint8"]

    def _stitched(
        self, call: Call, plane: Plane, level: Level, size: tuple[int, int], *, offset: ZYX, blank: NDArray[Any]
    ) -> NDArray[Any]:
        """The image of ``size`` (columns, rows) voxels at ``offset``, of pixels like ``blank``."""
        width, height = size
        check_box(offset, plane.size(width, height))
        _check_pixels(width, height, blank)
        x, y = offset[plane.columns], offset[plane.rows]
        columns, rows = list(_pieces(x, width, level.width(plane))), list(_pieces(y, height, level.height(plane)))
        if len(columns) * len(rows) > MAX_TILES:
            raise BadRequest(f"size: the image has {len(columns) * len(rows)} tiles, at most {MAX_TILES} are allowed")
        with self.behind(call) as volume:
            image = _background(volume, plane, (width, height), offset, blank)
            for row, column in product(rows, columns):
                point = list(offset)
                point[plane.columns], point[plane.rows] = column.index, row.index
                tile = self._pixels(call.view, volume, plane, ZYX(*point))
                if tile is not None:
                    target, part = image[row.place, column.place], tile[row.inside, column.inside]
                    target[...] = 0
                    target[: part.shape[0], : part.shape[1]] = pictures.as_pixels(part, blank)
        return image

    def _pixels(self, view: View, volume: Volume | None, plane: Plane, coord: ZYX) -> NDArray[Any] | None:
        """A tile of scale 0 that is stored, or stands for one where the volume has nothing to show."""
        stored = self.stored_tile(view, plane, 0, coord)
        if stored is not None:
            return pictures.pixels_of(stored, self.record.settings["Format"])
        level = self.levels()[0]
        if not self.record.settings["Placeholder"] or (volume is not None and volume.shows(plane, level, coord)):
            return None
        return drawn(plane, level, 0, coord)


def _background(
    volume: Volume | None, plane: Plane, size: tuple[int, int], offset: ZYX, blank: NDArray[Any]
) -> NDArray[Any]:
    """The image of ``size`` (columns, rows) at ``offset`` without tiles; of a volume, which has uint8 alone, gray."""
    width, height = size
    if volume is None:
        return np.zeros((height, width, *blank.shape[2:]), blank.dtype)
    stop = ZYX(*(o + n for o, n in zip(offset, plane.size(width, height), strict=True)))
    image: NDArray[np.uint8] = plane.image(volume.read(offset, stop))
    return image


class _Piece:
    """What a tile covers of a stretch of pixels along one axis."""

    __slots__ = ("index", "inside", "place")

    def __init__(self, index: int, start: int, length: int, side: int) -> None:
        self.index = index
        low, high = max(start, index * side), min(start + length, (index + 1) * side)
        self.inside = slice(low - index * side, high - index * side)
        """In the tile."""
        self.place = slice(low - start, high - start)
        """In the stretch."""


def _pieces(start: int, length: int, side: int) -> Iterator[_Piece]:
    first, last = start // side, (start + length - 1) // side
    if last - first >= MAX_TILES:
        raise BadRequest(f"size: the image is {last - first + 1} tiles long, at most {MAX_TILES} are allowed")
    return (_Piece(index, start, length, side) for index in range(first, last + 1))


def _check_pixels(width: int, height: int, blank: NDArray[Any]) -> None:
    if (total := math.prod((width, height, blank.nbytes))) > MAX_IMAGE:
        raise BadRequest(f"size: the image would have {total} bytes of pixels, at most {MAX_IMAGE} are allowed")
