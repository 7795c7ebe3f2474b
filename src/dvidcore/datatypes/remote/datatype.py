"""``remotevolume``: a volume in an object store or on a web server, read as an image or a label instance is."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvidcore import images
from dvidcore.datatypes.arguments import choice, integer, text
from dvidcore.datatypes.call import JSON, OCTETS, Call, Reply
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.imageblk import oblique, pictures, planes
from dvidcore.datatypes.imageblk.planes import Plane
from dvidcore.datatypes.imageblk.volumes import MAX_IMAGE
from dvidcore.datatypes.labels.reading import inputs, slices, volume
from dvidcore.datatypes.labels.reading.volume import Voxels
from dvidcore.datatypes.remote import tiles
from dvidcore.datatypes.remote.blocks import SCALE, RemoteBlocks
from dvidcore.datatypes.remote.part import Part
from dvidcore.datatypes.roi import region
from dvidcore.errors import BadRequest, NotFound
from dvidcore.geometry import INT32_MAX, ZYX, check_box

ROI = text("roi", None, "the name of an roi instance: voxels outside of it, at this version, are 0; scale 0 only")
CHANNEL = integer("channel", None, "one channel of several, from 0; all of them, interleaved, by default", 0, INT32_MAX)
COMPRESSION = choice("compression", "", "of a volume; without effect on a slice", volume.COMPRESSIONS)
# What a volume needs is checked where it is known to be one.
RAW = [SCALE, CHANNEL, ROI, replace(COMPRESSION, parse=lambda value, _: value)]


class RemoteVolume(RemoteBlocks):
    """A read-only instance whose voxels another service holds; every version shows the same."""

    typename = "remotevolume"
    typeversion = "0.1"
    url = "dvidcore/datatypes/remote"

    # -- volumes and slices -------------------------------------------------------------------------------------------

    @endpoint("GET", "raw/{dims:text}/{size:text}/{offset:point}", query=RAW, answers=OCTETS, throttle=True)
    @endpoint(
        "GET", "raw/{dims:text}/{size:text}/{offset:point}/{format:any}", query=RAW, answers=OCTETS, throttle=True
    )
    def get_raw(self, call: Call, *, dims: str, size: str, offset: ZYX, format: str = "", **given: Any) -> Reply:
        """The voxels of any box, or a slice along the axes as an image; 0 outside of the volume.

        ``dims`` is ``0_1_2`` for a box of ``dx_dy_dz`` voxels: little-endian, ZYX order (X runs fastest), channels
        interleaved; ``compression`` is lz4 (one LZ4 block), gzip, google (neuroglancer's compressed_segmentation) or
        googlegzip; the format ``jpg`` is one image of dx columns and dy·dz rows. ``xy``, ``xz`` or ``yz`` is a slice of
        ``width_height``: png (default), jpg, jpg:QUALITY, tif or bmp.
        """
        plane = planes.parse_dims(dims)
        if plane is None:
            return self._volume(call, planes.parse_volume(size, offset), offset, format, **given)
        kind = images.parse_format(format)
        return self._image(self._slice(call, plane, planes.parse_image(size), offset, **given), *kind)

    @endpoint("GET", "isotropic/{dims:text}/{size:text}/{offset:point}", query=RAW, answers=OCTETS, throttle=True)
    @endpoint(
        "GET", "isotropic/{dims:text}/{size:text}/{offset:point}/{format:any}", query=RAW, answers=OCTETS, throttle=True
    )
    def get_isotropic(self, call: Call, *, dims: str, size: str, offset: ZYX, format: str = "", **given: Any) -> Reply:
        """As ``raw``, but slices have square pixels where the voxel size differs along their axes.

        Intensities are averaged, of labels the nearest voxel is shown.
        """
        plane = planes.parse_dims(dims)
        if plane is None:
            return self._volume(call, planes.parse_volume(size, offset), offset, format, **given)
        width, height = planes.parse_image(size)
        if width * height > oblique.MAX_PIXELS:
            raise BadRequest(
                f"size: the image would have {width * height} pixels, at most {oblique.MAX_PIXELS} are allowed"
            )
        kind = images.parse_format(format)
        voxel = self._voxel_size(given["scale"])
        if self._intensities():
            have = planes.source_size(width, height, voxel[2 - plane.columns], voxel[2 - plane.rows])
            return self._image(planes.resample(self._slice(call, plane, have, offset, **given), width, height), *kind)
        self._check_labels("isotropic")
        source = self._source(call, given["scale"], None, given["roi"])
        shape = slices.parse_shape(dims, size)
        return self._image(slices.isotropic(source, offset, shape, voxel), *kind)

    @endpoint(
        "GET",
        "arb/{top_left:text}/{top_right:text}/{bottom_left:text}/{res:text}",
        answers="image/png",
        throttle=True,
    )
    @endpoint(
        "GET",
        "arb/{top_left:text}/{top_right:text}/{bottom_left:text}/{res:text}/{format:text}",
        answers="image/png",
        throttle=True,
    )
    def get_arb(
        self, call: Call, *, top_left: str, top_right: str, bottom_left: str, res: str, format: str = ""
    ) -> Reply:
        """A slice in any plane, interpolated, as an image.

        The corners are ``x_y_z`` in world units (voxel times VoxelSize), ``res`` is the world units of a pixel.
        """
        if self.dtype != np.uint8 or self.channels != 1:
            raise BadRequest(f"arb: only grayscale of 8 bits can be interpolated, not {self.dtype.name}")
        kind = images.parse_format(format)
        plane = oblique.parse(top_left, top_right, bottom_left, res)
        x, y, z = self.record.settings["VoxelSize"]
        source, most = self.scale(0), self.database.options.max_data_request
        # One band at a time: the threads of the pool are not for waiting.
        return self._image(oblique.cut(lambda at: source.points(at, most)[:, None], plane, (z, y, x), 1), *kind)

    @endpoint("GET", "pseudocolor/{dims:text}/{size:text}/{offset:point}", query=[SCALE, ROI], throttle=True)
    @endpoint(
        "GET", "pseudocolor/{dims:text}/{size:text}/{offset:point}/{format:any}", query=[SCALE, ROI], throttle=True
    )
    def get_pseudocolor(
        self, call: Call, *, dims: str, size: str, offset: ZYX, scale: int, roi: str | None, format: str = ""
    ) -> Reply:
        """A slice as an RGB image that shows each label in a colour of its own (three bytes of the label's hash)."""
        self._check_labels("pseudocolor")
        kind = images.parse_format(format)
        plane = planes.plane_of(dims)
        labels = self._slice(call, plane, planes.parse_image(size), offset, scale=scale, channel=None, roi=roi)
        return slices.pseudocolor_image(labels.astype(np.uint64), *kind)

    @endpoint("GET", "tile/{dims:text}/{scale:int}/{coord:point}", query=[*tiles.QUERY, CHANNEL], answers="image/png")
    @endpoint(
        "GET",
        "tile/{dims:text}/{scale:int}/{coord:point}/{format:any}",
        query=[*tiles.QUERY, CHANNEL],
        answers="image/png",
    )
    def get_tile(
        self,
        call: Call,
        *,
        dims: str,
        scale: int,
        coord: ZYX,
        tilesize: int | None,
        noblanks: bool,
        channel: int | None,
        format: str = "",
    ) -> Reply:
        """A square of a slice: in its plane ``coord`` counts tiles, across it voxels, both of the scale.

        Black outside of the volume. Formats are those of slices.
        """
        kind = images.parse_format(format)
        plane = planes.plane_of(dims)
        self._check_scale(scale)
        offset, size = tiles.tile_box(plane, coord, tilesize or tiles.DEFAULT_SIDE)
        low, high = self.bounds(scale)
        if noblanks and any(
            o + n <= a or o > b for o, n, a, b in zip(offset.xyz(), size.xyz(), low, high, strict=True)
        ):
            raise NotFound(f"tile {coord.xyz()} of scale {scale} lies outside of the volume")
        source = self._source(call, scale, channel, None)
        self._checked(source, scale, offset, size)
        return self._image(plane.image(source.box(offset, size)), *kind)

    def _volume(
        self,
        call: Call,
        size: ZYX,
        offset: ZYX,
        format: str,
        *,
        scale: int,
        channel: int | None,
        roi: str | None,
        compression: str,
    ) -> Reply:
        how = COMPRESSION.parse(compression, "compression")
        if how.startswith("google"):
            self._check_labels(f"compression={how}")
        source = self._source(call, scale, channel, roi)
        self._checked(source, scale, offset, size)
        if format in ("jpg", "jpeg"):
            if size.y * size.z > pictures.JPEG_SIDE or size.x > pictures.JPEG_SIDE:
                raise BadRequest(f"format: a JPEG has at most {pictures.JPEG_SIDE} rows (dy·dz) and columns (dx)")
            whole = source.box(offset, size)
            return self._image(whole.reshape(size.z * size.y, size.x, *whole.shape[3:]), "jpg", images.DEFAULT_QUALITY)
        return volume.answer(source, offset, size, how)

    def _slice(
        self,
        call: Call,
        plane: Plane,
        image: tuple[int, int],
        offset: ZYX,
        *,
        scale: int,
        channel: int | None,
        roi: str | None,
        **_: Any,
    ) -> NDArray[Any]:
        size = plane.size(*image)
        check_box(offset, size)
        source = self._source(call, scale, channel, roi)
        total = math.prod(image) * source.nbytes
        if total > MAX_IMAGE:
            raise BadRequest(f"size: the image would have {total} bytes of voxels, at most {MAX_IMAGE} are allowed")
        self._checked(source, scale, offset, size)
        return plane.image(source.box(offset, size))

    def _image(self, image: NDArray[Any], kind: str, quality: int) -> Reply:
        if image.ndim == 3 and (self.dtype != np.uint8 or self.channels not in (3, 4)):
            raise BadRequest(f"channel: an image cannot show {self.channels} channels of {self.dtype.name}; choose one")
        if image.dtype.kind != "u":
            image = image.view(f"u{image.dtype.itemsize}")
        return pictures.answer(image, kind, quality, intensities=self._intensities(), typename=self.dtype.name)

    def _intensities(self) -> bool:
        """Whether the values may be averaged, and shown in a format that loses some of them."""
        return self.record.settings["Kind"] == "image" and self.dtype.name in ("uint8", "uint16")

    # -- what answers are made from -----------------------------------------------------------------------------------

    def _voxel_size(self, scale: int) -> list[float]:
        """Of a scale, X, Y, Z: by the ratio to scale 0, whose voxel size the instance may have been given."""
        self._check_scale(scale)
        first, here, given = (
            self.scales[0]["VoxelSize"],
            self.scales[scale]["VoxelSize"],
            self.record.settings["VoxelSize"],
        )
        return [g * h / f for g, h, f in zip(given, here, first, strict=True)]

    def _check_labels(self, what: str) -> None:
        if self.dtype.kind != "u" or self.channels != 1:
            raise BadRequest(f"{what}: the voxels must be labels, unsigned integers; these are {self.dtype.name}")

    def _source(self, call: Call, scale: int, channel: int | None, roi: str | None) -> Voxels:
        """The voxels of a scale as the arguments limit them."""
        self._check_scale(scale)
        if channel is not None and channel >= self.channels:
            raise BadRequest(f"channel: {channel} is above the volume's last, {self.channels - 1}")
        if roi is not None and scale:
            raise BadRequest(f"roi: it is in voxels of scale 0, not of scale {scale}")
        limit = None if roi is None else region.named(self, call, roi)
        found: Voxels = self.scale(scale)
        if channel is not None and self.channels > 1:
            found = Part(found, channel, None)
        return found if limit is None else Part(found, None, limit)

    # -- points -------------------------------------------------------------------------------------------------------

    @endpoint("GET", "label/{point:point}", query=[SCALE], answers=JSON)
    def get_label(self, call: Call, point: ZYX, scale: int) -> dict[str, int]:
        """The label of a voxel: ``{"Label": 23}``; 0 outside of the volume."""
        return {"Label": self._labels(np.array([point], np.int64), scale)[0]}

    @endpoint(
        "GET", "labels", query=[SCALE, text("hash", "", "MD5 of the body in lower-case hex, checked")], answers=JSON
    )
    def get_labels(self, call: Call, scale: int, hash: str) -> list[int]:
        """The labels of the voxels listed in the body, ``[[x, y, z], …]``, in their order."""
        return self._labels(inputs.points(call.body, hash), scale)

    def _labels(self, points: NDArray[np.int64], scale: int) -> list[int]:
        self._check_labels("label")
        self._check_scale(scale)
        found: list[int] = self.scale(scale).points(points, self.database.options.max_data_request).tolist()
        return found
