"""The endpoints of voxels that all label types with voxels share: volumes, slices, block streams, points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvidcore import images
from dvidcore.datatypes.arguments import Query, choice, flag, integer, text
from dvidcore.datatypes.call import JSON, OCTETS, Call, Reply
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.labels import properties
from dvidcore.datatypes.labels.engine import LabelEngine
from dvidcore.datatypes.labels.reading import inputs, points, slices, streams, volume
from dvidcore.datatypes.labels.reading.reader import BlockReader
from dvidcore.datatypes.labels.writing import ingest
from dvidcore.datatypes.roi import region
from dvidcore.datatypes.roi.region import Region
from dvidcore.errors import BadRequest
from dvidcore.geometry import INT32_MAX, ZYX, BlockBox, check_aligned, check_box

SCALE = integer("scale", 0, "0 is full resolution, each further one half of it", 0, INT32_MAX)
SUPERVOXELS = flag("supervoxels", "true: supervoxels instead of bodies")
THROTTLE = flag("throttle", "true or on: 503 where too many such requests are running", ("true", "on"))
ROI = text("roi", None, "the name of an roi instance: voxels outside of it, at this version, are 0")
WRITTEN = text("roi", None, "the name of an roi instance: only blocks inside of it, at this version, are written")
HASH = text("hash", "", "MD5 of the body in lower-case hex, checked")
COMPRESSION = choice("compression", "", "of a volume; without effect on a slice", volume.COMPRESSIONS)
# What a volume needs is checked where it is known to be one.
RAW = [SCALE, SUPERVOXELS, ROI, replace(COMPRESSION, parse=lambda value, _: value), THROTTLE]
PSEUDOCOLOR = [SCALE, ROI, THROTTLE]
POST_RAW = [
    choice("compression", "", "of the body", ("", "lz4", "gzip")),
    WRITTEN,
    integer("scale", 0, "only 0: the coarser scales are computed", 0, INT32_MAX),
    flag("mutate", "accepted: a POST always replaces what is there"),
    THROTTLE,
]


def blocks_query(default: str) -> list[Query]:
    """The parameters of a stream of blocks."""
    return [choice("compression", default, "of each block", streams.COMPRESSIONS), SCALE, SUPERVOXELS, THROTTLE]


class LabelVoxels(LabelEngine):
    """A label type whose voxels can be read and written."""

    # -- properties ----------------------------------------------------------------------------------------------------

    @endpoint("GET", "metadata", answers=properties.METADATA)
    def get_metadata(self, call: Call) -> dict[str, Any]:
        """The axes with their resolution, units and extents at this version."""
        return properties.metadata(self, call.view)

    @endpoint("POST", "resolution")
    def post_resolution(self, call: Call) -> None:
        """Replaces the voxel size, of all versions: ``[x, y, z]`` in the instance's units."""
        properties.post_resolution(self, call)

    # -- voxels --------------------------------------------------------------------------------------------------------

    def _limit(self, call: Call, roi: str | None, scale: int = 0) -> Region | None:
        """The region that a request names."""
        if roi is None:
            return None
        if scale:
            raise BadRequest(f"roi: it is in voxels of scale 0, not of scale {scale}")
        return region.named(self, call, roi)

    @endpoint("GET", "raw/{dims:text}/{size:text}/{offset:point}", query=RAW, answers=OCTETS, throttle=True)
    @endpoint("GET", "raw/{dims:text}/{size:text}/{offset:point}/{format:any}", query=RAW, throttle=True)
    def get_raw(self, call: Call, **given: Any) -> Reply:
        """Voxels of a box as uint64, x fastest, or a slice as an image; missing voxels are 0.

        ``dims`` is 0_1_2 for a box, xy, xz or yz for a slice. ``compression`` of a box: none, lz4 (one LZ4 block),
        gzip, google (neuroglancer's compressed_segmentation) or googlegzip. ``format`` of a slice: png (16-bit RGBA
        whose eight bytes are the label, little-endian), jpg, jpg:quality, tiff or bmp.
        """
        return self._read(call, slices.read, **given)

    @endpoint("GET", "isotropic/{dims:text}/{size:text}/{offset:point}", query=RAW, throttle=True)
    @endpoint("GET", "isotropic/{dims:text}/{size:text}/{offset:point}/{format:any}", query=RAW, throttle=True)
    def get_isotropic(self, call: Call, **given: Any) -> Reply:
        """As raw, but a slice has square pixels where the voxel size differs along its axes."""
        voxel = self.record.settings["VoxelSize"]
        return self._read(call, lambda reader, offset, shape: slices.isotropic(reader, offset, shape, voxel), **given)

    def _read(
        self,
        call: Call,
        read_slice: Callable[[BlockReader, ZYX, slices.Shape], NDArray[np.uint64]],
        *,
        dims: str,
        size: str,
        offset: ZYX,
        roi: str | None,
        compression: str,
        scale: int = 0,
        supervoxels: bool = False,
        format: str = "",
        **_: Any,
    ) -> Reply:
        limit = self._limit(call, roi, scale)
        shape = slices.parse_shape(dims, size)
        volume.check_volume(self, offset, shape.size)
        reader = BlockReader(self, call, scale, supervoxels, limit)
        if shape.plane is None:
            return volume.answer(reader, offset, shape.size, COMPRESSION.parse(compression, "compression"))
        kind = images.parse_format(format)
        return slices.labels_image(read_slice(reader, offset, shape), *kind)

    @endpoint("GET", "pseudocolor/{dims:text}/{size:text}/{offset:point}", query=PSEUDOCOLOR, throttle=True)
    @endpoint(
        "GET", "pseudocolor/{dims:text}/{size:text}/{offset:point}/{format:any}", query=PSEUDOCOLOR, throttle=True
    )
    def get_pseudocolor(
        self,
        call: Call,
        *,
        dims: str,
        size: str,
        offset: ZYX,
        roi: str | None,
        scale: int = 0,
        format: str = "",
        **_: Any,
    ) -> Reply:
        """A slice as an RGB image that shows each body in a colour of its own (three bytes of the label's hash)."""
        reader = BlockReader(self, call, scale, limit=self._limit(call, roi, scale))
        kind = images.parse_format(format)
        shape = slices.parse_shape(dims, size)
        volume.check_volume(self, offset, shape.size)
        labels = slices.read(reader, offset, shape)
        return slices.pseudocolor_image(labels, *kind)

    @endpoint("POST", "raw/{dims:text}/{size:text}/{offset:point}", query=POST_RAW, throttle=True)
    @endpoint("POST", "raw/{dims:text}/{size:text}/{offset:point}/{format:any}", query=POST_RAW, throttle=True)
    def post_raw(
        self,
        call: Call,
        *,
        dims: str,
        size: str,
        offset: ZYX,
        compression: str,
        roi: str | None,
        scale: int = 0,
        **_: Any,
    ) -> None:
        """Stores a block-aligned box of supervoxels (uint64, x fastest) with its index and all coarser scales.

        A format in the path changes nothing, so that the URL that is read can be written. The extents grow to cover the
        box, also what ``roi`` leaves out of it.
        """
        if scale:
            raise BadRequest(f"scale: a volume is posted at scale 0, not at {scale}; blocks are at any scale")
        limit = self._limit(call, roi)
        shape = slices.parse_shape(dims, size)
        if shape.plane is not None:
            raise BadRequest("dims: only volumes (0_1_2) can be posted")
        volume.check_volume(self, offset, shape.size)
        ingest.post_raw(self, call, offset, shape.size, compression, limit=limit)

    # -- blocks --------------------------------------------------------------------------------------------------------

    @endpoint("GET", "blocks/{size:size}/{offset:point}", query=blocks_query("lz4"), answers=OCTETS, throttle=True)
    def get_block_stream(
        self,
        call: Call,
        *,
        size: ZYX,
        offset: ZYX,
        compression: str,
        scale: int = 0,
        supervoxels: bool = False,
        **_: Any,
    ) -> Reply:
        """The stored blocks of a block-aligned box as a stream of records: int32 x, y, z, uint32 n, n bytes.

        ``compression``: blocks (gzip of the coded block), lz4 or gzip (of the voxels), uncompressed.
        """
        check_aligned(offset, size, self.block)
        check_box(offset, size)
        reader = BlockReader(self, call, scale, supervoxels)
        return streams.box_stream(reader, BlockBox.covering(offset, size, self.block), compression)

    # -- points --------------------------------------------------------------------------------------------------------

    @endpoint("GET", "label/{point:point}", query=[SCALE, SUPERVOXELS], answers=JSON)
    def get_label(self, call: Call, point: ZYX, scale: int = 0, supervoxels: bool = False) -> dict[str, int]:
        """The label of a voxel: ``{"Label": 23}``; 0 where nothing is stored."""
        return {"Label": points.label_at(BlockReader(self, call, scale, supervoxels), point)}

    @endpoint("GET", "labels", query=[SCALE, SUPERVOXELS, HASH], answers=JSON)
    def get_labels(self, call: Call, hash: str, scale: int = 0, supervoxels: bool = False) -> list[int]:
        """The labels of the voxels listed in the body, ``[[x, y, z], …]``, in their order."""
        asked = inputs.points(call.body, hash)
        found: list[int] = points.labels_at(BlockReader(self, call, scale, supervoxels), asked).tolist()
        return found
