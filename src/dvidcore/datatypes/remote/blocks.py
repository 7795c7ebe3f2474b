"""The endpoints of whole blocks, whose lattice starts at the origin whatever the chunks of the volume are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from struct import Struct
from typing import Any

import lz4.block
import numpy as np
from numpy.typing import NDArray

from dvidcore import codecs, images
from dvidcore.datatypes.arguments import choice, flag, integer, text
from dvidcore.datatypes.call import OCTETS, Buffer, Call, Reply
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.imageblk import pictures
from dvidcore.datatypes.imageblk.volumes import MAX_BUFFER
from dvidcore.datatypes.labels.reading import inputs
from dvidcore.datatypes.remote.coded import JpegChunks
from dvidcore.datatypes.remote.properties import RemoteProperties
from dvidcore.datatypes.remote.scale import PART, Scale
from dvidcore.errors import BadRequest
from dvidcore.geometry import INT32_MAX, INT32_MIN, ZYX, BlockBox, check_aligned, check_box

_HEADER = Struct("<4i")

SCALE = integer("scale", 0, "the volume's scale, 0 the finest; offset and size are in its voxels", 0, INT32_MAX)
BLOCKS = choice(
    "compression",
    "",
    "of each block; the instance's Compression by default",
    ("", "uncompressed", "lz4", "gzip", "jpeg"),
)


class RemoteBlocks(RemoteProperties):
    """Reading whole blocks."""

    @endpoint("GET", "blocks/{start:point}/{count:int}", query=[SCALE], answers=OCTETS)
    def get_blocks(self, call: Call, start: ZYX, count: int, scale: int) -> Reply:
        """The voxels of ``count`` whole blocks along X from the block coordinate ``start``, one after the other."""
        if count < 0:
            raise BadRequest(f"count: {count} is negative")
        if not count:
            return Reply(b"")
        block = self.block
        offset = self._first_voxel(start)
        self._first_voxel(ZYX(start.z, start.y, start.x + count - 1))
        source = self.scale(scale)
        self._checked(source, scale, offset, ZYX(block.z, block.y, block.x * count))
        places = (self._first_voxel(ZYX(start.z, start.y, start.x + k)) for k in range(count))
        pieces = (_bytes(voxels) for voxels in source.boxes(places, block))
        total = count * math.prod(block) * source.nbytes
        return Reply(b"".join(pieces)) if total <= MAX_BUFFER else Reply(pieces, length=total)

    @endpoint("GET", "subvolblocks/{size:size}/{offset:point}", query=[BLOCKS, SCALE], answers=OCTETS, throttle=True)
    def get_subvolblocks(self, call: Call, size: ZYX, offset: ZYX, compression: str, scale: int) -> Reply:
        """The blocks of a box of whole blocks that hold any of the volume, in ZYX order.

        For each: its block coordinates x, y, z and the number of bytes that follow (int32 each, little-endian), and
        the bytes: voxels, ``lz4`` (a uint32 length and an LZ4 block), ``gzip`` or ``jpeg`` (X columns by Y·Z rows).
        """
        check_box(offset, size)
        check_aligned(offset, size, self.block)
        source = self.scale(scale)
        self._checked(source, scale, offset, size)
        return self._stream(
            source, scale, BlockBox.covering(offset, size, self.block).coords(), compression, math.prod(size)
        )

    @endpoint(
        "GET",
        "specificblocks",
        query=[
            text("blocks", "", "block coordinates: x,y,z,x,y,z,…"),
            BLOCKS,
            SCALE,
            flag("prefetch", "true or on: the blocks will be asked for soon; answers nothing", ("true", "on")),
        ],
        answers=OCTETS,
        throttle=True,
    )
    def get_specificblocks(self, call: Call, blocks: str, compression: str, scale: int, prefetch: bool) -> Reply:
        """Those of a list of blocks that hold any of the volume, in the form of ``subvolblocks``."""
        coords = [ZYX(*coord) for coord in inputs.block_list(blocks, call.body)]
        self._check_scale(scale)
        if prefetch or not coords:
            return Reply(b"")
        source = self.scale(scale)
        voxels, most = len(coords) * math.prod(self.block), self.database.options.max_data_request
        if voxels * source.nbytes > most:
            raise BadRequest(
                f"blocks: {voxels * source.nbytes} bytes of voxels, at most {most} are allowed (maxDataRequest)"
            )
        return self._stream(source, scale, coords, compression, voxels)

    def _stream(self, source: Scale, scale: int, coords: Iterable[ZYX], compression: str, count: int) -> Reply:
        pack = self._packing(compression)
        coded = source.coded if self._form(compression) == "jpeg" else None
        if coded is not None and coded.chunk != self.block:
            coded = None
        low, high = (np.array(point[::-1]) // self.block for point in self.bounds(scale))

        inside = [coord for coord in coords if (low <= coord).all() and (coord <= high).all()]

        def pieces() -> Iterator[Buffer]:
            for some in _batches(inside, max(1, PART // (math.prod(self.block) * source.nbytes))):
                for coord, data in self._packed(source, coded, some, pack):
                    yield _HEADER.pack(*coord[::-1], len(data))
                    yield data

        return Reply(b"".join(pieces()) if count * source.nbytes <= MAX_BUFFER else pieces())

    def _packed(
        self, source: Scale, coded: JpegChunks | None, coords: Sequence[ZYX], pack: Callable[[NDArray[Any]], Buffer]
    ) -> Iterator[tuple[ZYX, Buffer]]:
        """Blocks in the form that is asked for: as they are stored, where they are stored so, else made here."""
        points = [self._first_voxel(coord) for coord in coords]
        whole = [point for point in points if coded is not None and coded.has(point)]
        stored = dict(zip(whole, coded.read(whole), strict=True)) if coded is not None and whole else {}
        made = source.boxes((point for point in points if stored.get(point, b"") == b""), self.block)
        for coord, point in zip(coords, points, strict=True):
            data = stored.get(point, b"")
            if data is not None:  # else the store has no such chunk
                yield coord, data or pack(next(made))

    def _form(self, compression: str) -> str:
        """How blocks are sent: as the request says, or the instance."""
        return compression or self.record.compression.partition(":")[0]

    def _packing(self, compression: str) -> Callable[[NDArray[Any]], Buffer]:
        """What brings the voxels of a block into the form that is asked for, or the instance's own."""
        kept, _, level = self.record.compression.partition(":")
        form = self._form(compression)
        if form == "jpeg":
            depth, height, width = self.block
            if self.dtype != np.uint8 or self.channels != 1:
                raise BadRequest(f"compression: jpeg is for grayscale of 8 bits, not for {self.dtype.name}")
            if depth * height > pictures.JPEG_SIDE:
                raise BadRequest("compression: these blocks have more rows than a JPEG; ask for uncompressed ones")
            quality = int(level) if level and kept == "jpeg" else images.DEFAULT_QUALITY
            return lambda voxels: images.encode_jpeg(voxels.reshape(depth * height, width), quality)
        if form == "lz4":
            return lambda voxels: bytes(lz4.block.compress(_bytes(voxels), store_size=True))
        if form == "gzip":
            return lambda voxels: codecs.gzip(_bytes(voxels), int(level) if level and kept == "gzip" else 1)
        return _bytes

    def _first_voxel(self, coord: ZYX) -> ZYX:
        """Of a block. BadRequest where the block leaves int32."""
        point = ZYX(*(c * b for c, b in zip(coord, self.block, strict=True)))
        if min(point) < INT32_MIN or any(p + b - 1 > INT32_MAX for p, b in zip(point, self.block, strict=True)):
            raise BadRequest(f"blocks: block {coord.xyz()} leaves the range of int32 voxels")
        return point


def _bytes(voxels: NDArray[Any]) -> memoryview:
    return voxels.data.cast("B")


def _batches(coords: Sequence[ZYX], count: int) -> Iterator[Sequence[ZYX]]:
    return (coords[at : at + count] for at in range(0, len(coords), count))
