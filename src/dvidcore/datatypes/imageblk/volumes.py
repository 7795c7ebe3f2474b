"""The endpoints of volumes and slices: raw, isotropic and arb."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvidcore import images
from dvidcore.datatypes.arguments import flag, integer, text
from dvidcore.datatypes.bands import bands, too_wide
from dvidcore.datatypes.call import OCTETS, Body, Call, Reply
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.imageblk import oblique, pictures, planes
from dvidcore.datatypes.imageblk.extents import Extents
from dvidcore.datatypes.imageblk.pictures import JPEG_SIDE
from dvidcore.datatypes.imageblk.properties import ImageProperties
from dvidcore.datatypes.imageblk.scales import Coarser
from dvidcore.datatypes.imageblk.stored import SLAB, Mask, StoredBlocks
from dvidcore.datatypes.roi import region
from dvidcore.datatypes.roi.region import Region
from dvidcore.errors import BadRequest
from dvidcore.geometry import ZYX, check_aligned, check_box
from dvidcore.storage.staged import StagedWrite
from dvidcore.storage.versioned import View

MAX_BUFFER = 32 << 20
"""Bytes of the largest answer that is made before it is sent."""
MAX_IMAGE = 1 << 28
"""Bytes of the voxels of one slice: it is made and compressed in memory."""

SCALE = integer("scale", 0, "the scale that is read, 0 to MaxDownresLevel; coordinates are those of its voxels", 0)
ARB_SCALE = integer("scale", 0, "the scale whose voxels are interpolated, 0 to MaxDownresLevel", 0)
WRITTEN_SCALE = integer("scale", 0, "only 0: coarser scales are made by the server", 0, 0)
ROI = (
    text("roi", None, "the name of an roi instance: voxels outside of it, at this version, are the background"),
    integer("attenuation", None, "with roi, uint8: voxels outside are divided by 2 to this power instead", 1, 7),
    SCALE,
)
WRITTEN = text("roi", None, "the name of an roi instance: only blocks inside of it, at this version, are written")
MUTATE = flag("mutate", "true: older content is replaced")
WRITE = (WRITTEN, MUTATE, WRITTEN_SCALE)


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
        attenuation: int | None,
        scale: int = 0,
        format: str = "",
    ) -> Reply:
        """The voxels of any box, or a slice along the axes as an image.

        ``dims`` is ``0_1_2`` for a box of ``dx_dy_dz`` voxels: octet-stream, little-endian, ZYX order (X runs
        fastest); with the format ``jpg`` one image of dx columns and dy·dz rows. ``xy``, ``xz`` or ``yz`` is a slice
        of ``width_height``: png (default), jpg, jpg:QUALITY, tif or bmp. Voxels that are not stored are the background.
        """
        stored, mask = self.stored_at(scale), self._mask(call, roi, attenuation, scale)
        plane = planes.parse_dims(dims)
        if plane is None:
            return self._volume(stored, call.view, planes.parse_volume(size, offset), offset, format=format, mask=mask)
        kind, quality = images.parse_format(format)
        return self._image(
            self._slice(stored, call.view, plane, planes.parse_image(size), offset=offset, mask=mask), kind, quality
        )

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
        attenuation: int | None,
        scale: int = 0,
        format: str = "",
    ) -> Reply:
        """As ``raw``, but slices are stretched where the voxels are not square.

        ``width_height`` are pixels of the finer resolution of the plane.
        """
        stored, mask = self.stored_at(scale), self._mask(call, roi, attenuation, scale)
        plane = planes.parse_dims(dims)
        if plane is None:
            return self._volume(stored, call.view, planes.parse_volume(size, offset), offset, format=format, mask=mask)
        if not self._is_picture():
            raise BadRequest(f"isotropic: slices of {self.typename} have no colours that could be averaged; use raw")
        kind, quality = images.parse_format(format)
        width, height = planes.parse_image(size)
        if width * height > oblique.MAX_PIXELS:
            raise BadRequest(
                f"size: the image would have {width * height} pixels, at most {oblique.MAX_PIXELS} are allowed"
            )
        resolution = self.record.settings["VoxelSize"][::-1]
        have = planes.source_size(width, height, resolution[plane.columns], resolution[plane.rows])
        image = self._slice(stored, call.view, plane, have, offset=offset, mask=mask)
        return self._image(planes.resample(image, width, height), kind, quality)

    @endpoint(
        "GET",
        "arb/{top_left:text}/{top_right:text}/{bottom_left:text}/{res:text}",
        query=[ARB_SCALE],
        answers="image/png",
        throttle=True,
    )
    @endpoint(
        "GET",
        "arb/{top_left:text}/{top_right:text}/{bottom_left:text}/{res:text}/{format:text}",
        query=[ARB_SCALE],
        answers="image/png",
        throttle=True,
    )
    def get_arb(
        self, call: Call, *, top_left: str, top_right: str, bottom_left: str, res: str, scale: int = 0, format: str = ""
    ) -> Reply:
        """A slice in any plane, interpolated, as an image.

        The corners are ``x_y_z`` in world units (voxel times VoxelSize), ``res`` is the world units of a pixel. Voxels of
        a coarser scale are twice as long at each.
        """
        if self.element.name not in ("uint8", "rgba8"):
            raise BadRequest(f"arb: {self.typename} cannot be interpolated; only uint8blk and rgba8blk have arb")
        kind, quality = images.parse_format(format)
        plane = oblique.parse(top_left, top_right, bottom_left, res)
        lookup = partial(oblique.stored_voxels, self.stored_at(scale), call.view)
        x, y, z = (side * 2**scale for side in self.record.settings["VoxelSize"])
        return self._image(oblique.cut(lookup, plane, (z, y, x)), kind, quality)

    def _volume(
        self, stored: StoredBlocks, view: View, size: ZYX, offset: ZYX, *, format: str, mask: Mask | None
    ) -> Reply:
        total = self._check_bytes(size.z * size.y * size.x)
        if format in ("jpg", "jpeg"):
            if size.y * size.z > JPEG_SIDE or size.x > JPEG_SIDE:
                raise BadRequest(f"format: a JPEG has at most {JPEG_SIDE} rows (dy·dz) and columns (dx)")
            volume = stored.read(view, offset, size, mask)
            return self._image(volume.reshape(size.z * size.y, size.x, *volume.shape[3:]), "jpg")
        if total > MAX_BUFFER:
            return Reply(stored.stream(view, offset, size, mask), length=total)
        return Reply(stored.read(view, offset, size, mask).reshape(-1).view("u1").data)

    def _slice(
        self,
        stored: StoredBlocks,
        view: View,
        plane: planes.Plane,
        image: tuple[int, int],
        *,
        offset: ZYX,
        mask: Mask | None,
    ) -> Any:
        size = plane.size(*image)
        check_box(offset, size)
        total = math.prod(image) * self.element.nbytes
        if total > MAX_IMAGE:
            raise BadRequest(f"size: the image would have {total} bytes of voxels, at most {MAX_IMAGE} are allowed")
        return plane.image(stored.read(view, offset, size, mask))

    def _is_picture(self) -> bool:
        """Whether the values are intensities, which can be averaged and shown in a lossy format."""
        return self.element.name in ("uint8", "uint16", "rgba8")

    def _image(self, image: Any, kind: str, quality: int = images.DEFAULT_QUALITY) -> Reply:
        return pictures.answer(image, kind, quality, intensities=self._is_picture(), typename=self.typename)

    def _mask(self, call: Call, roi: str | None, attenuation: int | None, scale: int) -> Mask | None:
        """What the arguments do to the voxels that are read."""
        if roi is None:
            if attenuation is not None:
                raise BadRequest("attenuation: it needs roi, which says what is attenuated")
            return None
        found = region.named(self, call, roi).at_scale(scale)
        if attenuation is None:
            return partial(found.blank, value=self.stored.background)
        if self.element.name != "uint8":
            raise BadRequest(f"attenuation: voxels of {self.typename} cannot be attenuated, only those of uint8blk")
        return partial(_attenuate, found, attenuation)

    @endpoint("POST", "raw/{dims:text}/{size:text}/{offset:point}", query=WRITE, throttle=True)
    @endpoint("POST", "raw/{dims:text}/{size:text}/{offset:point}/{format:text}", query=WRITE, throttle=True)
    def post_raw(
        self,
        call: Call,
        *,
        dims: str,
        size: str,
        offset: ZYX,
        roi: str | None,
        mutate: bool,
        scale: int = 0,
        format: str = "",
    ) -> None:
        """Stores the voxels of a box of whole blocks, all or nothing.

        ``dims`` is ``0_1_2``; offset and size are multiples of the block size. The body is exactly the voxels, in the
        form that GET answers; a format in the path changes nothing, so that the URL that is read can be written. The
        version's extents grow to cover the box, also what ``roi`` leaves out of it.
        """
        limit = None if roi is None else region.named(self, call, roi)
        if planes.parse_dims(dims) is not None:
            raise BadRequest(f'dims: "{dims}" is a slice; only volumes, 0_1_2, can be written')
        box = planes.parse_volume(size, offset)
        check_aligned(offset, box, self.stored.block)
        self._check_body(call.body, box.z * box.y * box.x, f"a box of {box.xyz()} voxels")
        coarser = self._coarser(offset, box)
        with StagedWrite(self.engine) as staged:
            self._stage(staged, call, offset, box, limit=limit, coarser=coarser)
            written = Extents.of_box(offset, box)
            self.commit(call, staged, written, extents=written, coarser=coarser)

    def _stage(
        self,
        staged: StagedWrite,
        call: Call,
        offset: ZYX,
        size: ZYX,
        *,
        limit: Region | None,
        coarser: Coarser | None,
    ) -> None:
        """Reads a box of whole blocks from the body, some layers of blocks at a time, and puts those in the limit."""
        stored = self.stored
        for z, y, part, voxels in self._parts(call.body, size):
            volume = self.element.array(voxels, part)
            at = ZYX(offset.z + z, offset.y + y, offset.x)
            inside = None if limit is None else limit.blocks(at, part, stored.block)
            if coarser is not None:
                coarser.add(z, y, volume, inside)
            for rows in stored.cut(volume, at, call.version, inside):
                for key, value in rows:
                    staged.put(key, value)

    def _parts(self, body: Body, size: ZYX) -> Iterator[tuple[int, int, ZYX, bytes | bytearray]]:
        """(z, y, size, voxels) of layers of blocks, or of bands of a layer, z and y from the start of the box."""
        block, plane = self.stored.block, size.y * size.x * self.element.nbytes
        if too_wide(size, block, self.element.nbytes):
            yield from bands(body.read, size, block, self.element.nbytes)
            return
        step = max(1, SLAB // (block.z * plane)) * block.z
        for z in range(0, size.z, step):
            depth = min(step, size.z - z)
            yield z, 0, ZYX(depth, size.y, size.x), body.read(depth * plane)


def _attenuate(found: Region, power: int, offset: ZYX, voxels: NDArray[np.uint8]) -> None:
    for layer, outside in found.outside(offset, voxels):
        np.right_shift(layer, power, out=layer, where=outside)
