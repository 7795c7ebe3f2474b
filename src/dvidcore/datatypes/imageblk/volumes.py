"""The endpoints of volumes and slices: raw, isotropic and arb."""

from __future__ import annotations

from typing import Any

from dvidcore import images
from dvidcore.datatypes.arguments import flag, text
from dvidcore.datatypes.base import OCTETS, Call, Reply, endpoint
from dvidcore.datatypes.imageblk import oblique, planes
from dvidcore.datatypes.imageblk.extents import Extents
from dvidcore.datatypes.imageblk.properties import ImageProperties
from dvidcore.datatypes.imageblk.stored import SLAB
from dvidcore.errors import BadRequest
from dvidcore.geometry import ZYX, check_aligned, check_box
from dvidcore.storage.staged import StagedWrite
from dvidcore.storage.versioned import View

MAX_BUFFER = 32 << 20
"""Bytes of the largest answer that is made before it is sent."""
MAX_PIXELS = 1 << 28
"""Of one slice: it is made and compressed in memory."""
JPEG_SIDE = 65_500
"""The most rows or columns of a JPEG."""

ROI = (
    text("roi", None, "the name of an roi instance: only blocks inside of it"),
    text("attenuation", None, "with roi: voxels outside are divided by 2 to this power, 1 to 7, instead of blanked"),
)
MUTATE = flag("mutate", "true: older content is replaced")


class ImageVolumes(ImageProperties):
    """Reading any box or slice of voxels, writing boxes of whole blocks."""

    @endpoint("GET", "raw/{dims:text}/{size:text}/{offset:point}", query=ROI, answers=OCTETS, throttle=True)
    @endpoint(
        "GET", "raw/{dims:text}/{size:text}/{offset:point}/{format:text}", query=ROI, answers=OCTETS, throttle=True
    )
    def get_raw(
        self,
        call: Call,
        *,
        dims: str,
        size: str,
        offset: ZYX,
        roi: str | None,
        attenuation: str | None,
        format: str = "",
    ) -> Reply:
        """The voxels of any box, or a slice along the axes as an image.

        ``dims`` is ``0_1_2`` for a box of ``dx_dy_dz`` voxels: octet-stream, little-endian, ZYX order (X runs
        fastest); with the format ``jpg`` one image of dx columns and dy·dz rows. ``xy``, ``xz`` or ``yz`` is a slice
        of ``width_height``: png (default), jpg, jpg:QUALITY, tif or bmp. Voxels that are not stored are the background.
        """
        self._check_roi(roi)
        plane = planes.parse_dims(dims)
        if plane is None:
            return self._volume(call.view, planes.parse_volume(size, offset), offset, format)
        kind, quality = images.parse_format(format)
        return self._image(self._slice(call.view, plane, *planes.parse_image(size), offset), kind, quality)

    @endpoint("GET", "isotropic/{dims:text}/{size:text}/{offset:point}", query=ROI, answers=OCTETS, throttle=True)
    @endpoint(
        "GET",
        "isotropic/{dims:text}/{size:text}/{offset:point}/{format:text}",
        query=ROI,
        answers=OCTETS,
        throttle=True,
    )
    def get_isotropic(
        self,
        call: Call,
        *,
        dims: str,
        size: str,
        offset: ZYX,
        roi: str | None,
        attenuation: str | None,
        format: str = "",
    ) -> Reply:
        """As ``raw``, but slices are stretched where the voxels are not square.

        ``width_height`` are pixels of the finer resolution of the plane.
        """
        self._check_roi(roi)
        plane = planes.parse_dims(dims)
        if plane is None:
            return self._volume(call.view, planes.parse_volume(size, offset), offset, format)
        if not self._is_picture():
            raise BadRequest(f"isotropic: slices of {self.typename} have no colours that could be averaged; use raw")
        kind, quality = images.parse_format(format)
        width, height = planes.parse_image(size)
        _check_pixels(width * height, oblique.MAX_PIXELS)
        resolution = self.record.settings["VoxelSize"][::-1]
        have = planes.source_size(width, height, resolution[plane.columns], resolution[plane.rows])
        image = self._slice(call.view, plane, *have, offset)
        return self._image(planes.resample(image, width, height), kind, quality)

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
        if self.element.name not in ("uint8", "rgba8"):
            raise BadRequest(f"arb: {self.typename} cannot be interpolated; only uint8blk and rgba8blk have arb")
        kind, quality = images.parse_format(format)
        plane = oblique.parse(top_left, top_right, bottom_left, res)
        x, y, z = self.record.settings["VoxelSize"]
        return self._image(oblique.cut(self.stored, call.view, plane, (z, y, x)), kind, quality)

    def _volume(self, view: View, size: ZYX, offset: ZYX, format: str) -> Reply:
        total = self._check_bytes(size.z * size.y * size.x)
        if format in ("jpg", "jpeg"):
            if size.y * size.z > JPEG_SIDE or size.x > JPEG_SIDE:
                raise BadRequest(f"format: a JPEG has at most {JPEG_SIDE} rows (dy·dz) and columns (dx)")
            volume = self.stored.read(view, offset, size)
            return self._image(volume.reshape(size.z * size.y, size.x, *volume.shape[3:]), "jpg")
        if total > MAX_BUFFER:
            return Reply(self.stored.stream(view, offset, size), length=total)
        return Reply(self.stored.read(view, offset, size).reshape(-1).view("u1").data)

    def _slice(self, view: View, plane: planes.Plane, width: int, height: int, offset: ZYX) -> Any:
        size = plane.size(width, height)
        check_box(offset, size)
        _check_pixels(width * height, MAX_PIXELS)
        return plane.image(self.stored.read(view, offset, size))

    def _is_picture(self) -> bool:
        """Whether the values are intensities, which can be averaged and shown in a lossy format."""
        return self.element.name in ("uint8", "uint16", "rgba8")

    def _image(self, image: Any, kind: str, quality: int = images.DEFAULT_QUALITY) -> Reply:
        if not self._is_picture() and kind not in ("png", "tiff"):
            raise BadRequest(f"format: {self.typename} has no {kind}, which would lose its values; use png")
        if kind == "jpg" and max(image.shape[:2]) > JPEG_SIDE:
            raise BadRequest(f"format: a JPEG has at most {JPEG_SIDE} rows and columns")
        return Reply(images.encode(images.pixels(image), kind, quality), images.CONTENT_TYPES[kind])

    def _check_roi(self, roi: str | None) -> None:
        if roi is not None:
            raise BadRequest(f'roi: there is no roi instance "{roi[:60]}" in this repo')

    @endpoint(
        "POST",
        "raw/{dims:text}/{size:text}/{offset:point}",
        query=(ROI[0], MUTATE),
        throttle=True,
    )
    def post_raw(self, call: Call, *, dims: str, size: str, offset: ZYX, roi: str | None, mutate: bool) -> None:
        """Stores the voxels of a box of whole blocks, all or nothing.

        ``dims`` is ``0_1_2``; offset and size are multiples of the block size. The body is exactly the voxels, in the
        form that GET answers. The version's extents grow to cover the box.
        """
        self._check_roi(roi)
        if planes.parse_dims(dims) is not None:
            raise BadRequest(f'dims: "{dims}" is a slice; only volumes, 0_1_2, can be written')
        box = planes.parse_volume(size, offset)
        check_aligned(offset, box, self.stored.block)
        self._check_body(call.body, box.z * box.y * box.x, f"a box of {box.xyz()} voxels")
        with StagedWrite(self.engine) as staged:
            self._stage(staged, call, offset, box)
            self._commit(call, staged, Extents.of_box(offset, box))

    def _stage(self, staged: StagedWrite, call: Call, offset: ZYX, size: ZYX) -> None:
        """Reads a box of whole blocks from the body, some layers of blocks at a time, and puts them."""
        stored = self.stored
        layer = stored.block.z * size.y * size.x * self.element.nbytes
        step = max(1, SLAB // layer) * stored.block.z
        for z in range(0, size.z, step):
            depth = min(step, size.z - z)
            slab = ZYX(depth, size.y, size.x)
            volume = self.element.array(call.body.read(depth * size.y * size.x * self.element.nbytes), slab)
            for rows in stored.cut(volume, ZYX(offset.z + z, offset.y, offset.x), call.version):
                for key, value in rows:
                    staged.put(key, value)


def _check_pixels(pixels: int, most: int) -> None:
    if pixels > most:
        raise BadRequest(f"size: the image would have {pixels} pixels, at most {most} are allowed")
