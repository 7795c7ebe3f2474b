"""The datatype multichan16: its settings and its endpoints."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dvidcore import images
from dvidcore.datatypes.base import DataType
from dvidcore.datatypes.call import JSON, Call, Reply
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.imageblk import planes
from dvidcore.datatypes.imageblk.extents import Extents
from dvidcore.datatypes.imageblk.pictures import answer
from dvidcore.datatypes.imageblk.planes import Plane
from dvidcore.datatypes.imageblk.properties import described
from dvidcore.datatypes.imageblk.settings import SETTINGS
from dvidcore.datatypes.imageblk.stored import StoredBlocks, coordinates
from dvidcore.datatypes.multichan16.stack import Stack, read_header, unpack
from dvidcore.datatypes.turns import Turns
from dvidcore.datatypes.voxel_settings import check_first_extents
from dvidcore.errors import BadRequest
from dvidcore.geometry import ZYX, check_box
from dvidcore.storage.engine import Batch
from dvidcore.storage.keys import TYPE_KEY_OFFSET, data_prefix, version_bytes
from dvidcore.storage.staged import StagedWrite
from dvidcore.storage.versioned import View

if TYPE_CHECKING:
    from dvidcore.repos import Database, InstanceRecord, Repo

BLOCKS, STACK = 1, 2
"""Kinds of rows: a block under its channel (2 bytes, from 0) and coordinates; what the stack is, one row."""
MAX_LAYER = 1 << 30
"""Bytes of as many layers as a block has, which are in memory together."""
MAX_PIXELS = 1 << 26


class MultiChannel(DataType):
    """A fluorescence stack of several channels, 8 or 16 bits each, and their composite in colour.

    A number behind the instance's name chooses the channel, from 1; without one, or with 0, it is the composite.
    """

    typename: ClassVar[str] = "multichan16"
    typeversion: ClassVar[str] = "0.1"
    url: ClassVar[str] = "github.com/janelia-flyem/dvid/datatype/multichan16"
    settings = SETTINGS
    numbered = True

    def __init__(self, database: Database, repo: Repo, record: InstanceRecord) -> None:
        super().__init__(database, repo, record)
        self._stack_key = data_prefix(record.id, STACK)
        self._turns = Turns()

    @classmethod
    def check_settings(cls, settings: dict[str, Any]) -> None:
        check_first_extents(settings)

    def _stack(self, view: View) -> Stack | None:
        value = view.get(self._stack_key)
        return None if value is None else unpack(value)

    def _blocks(self, stack: Stack, channel: int) -> StoredBlocks:
        """The blocks of a channel, counted from 0."""
        record = self.record
        x, y, z = record.settings["BlockSize"]
        return StoredBlocks(
            data_prefix(record.id, BLOCKS) + channel.to_bytes(2, "big"),
            stack.element,
            ZYX(z, y, x),
            background=record.settings["Background"],
            compression=record.compression,
            checksum=record.checksum,
        )

    def row_name(self, prefix_key: bytes) -> str:
        if prefix_key == self._stack_key:
            return "the stack"
        z, y, x = coordinates(prefix_key)
        channel = int.from_bytes(prefix_key[TYPE_KEY_OFFSET : TYPE_KEY_OFFSET + 2], "big")
        return f"block {x},{y},{z} of channel {channel + 1}"

    # -- what info shows --------------------------------------------------------------------------------------------

    def extended(self, view: View) -> dict[str, Any]:
        stack, settings = self._stack(view), self.record.settings
        if stack is None:
            low, high = settings["MinPoint"], settings["MaxPoint"]
            extents = None if low is None else Extents.from_xyz(low, high)
            return {**described(settings, None, extents), "NumChannels": 0}
        extents = Extents.of_box(ZYX(0, 0, 0), stack.size)
        return {**described(settings, stack.describe(), extents), "NumChannels": len(stack.ranges)}

    @endpoint("POST", "info", answers=JSON)
    def post_info(self, call: Call) -> dict[str, Any]:
        """The same as GET answers."""
        return self.info(call.view)

    # -- slices -------------------------------------------------------------------------------------------------------

    @endpoint("GET", "{dims:text}/{size:text}/{offset:point}", answers="image/png")
    @endpoint("GET", "{dims:text}/{size:text}/{offset:point}/{format:text}", answers="image/png")
    def get_slice(self, call: Call, dims: str, size: str, offset: ZYX, format: str = "") -> Reply:
        """A slice of a channel, or of the composite, as an image: png (default), jpg, jpg:QUALITY, tif or bmp.

        ``dims`` is xy, xz or yz, ``size`` width_height. In the composite the first three channels are red, green and
        blue, each with its least … greatest value in the whole volume as 0 … 255, and alpha is 255; outside of the
        volume all is 0.
        """
        plane = planes.plane_of(dims)
        kind, quality = images.parse_format(format)
        width, height = planes.parse_image(size)
        box = plane.size(width, height)
        check_box(offset, box)
        if math.prod(box) > MAX_PIXELS:
            raise BadRequest(f"size: the image would have {math.prod(box)} pixels, at most {MAX_PIXELS} are allowed")
        stack = self._stack(call.view)
        if stack is None:
            raise BadRequest(f'nothing has been loaded into "{self.record.name}" yet')
        number = call.number or 0
        if number > len(stack.ranges):
            raise BadRequest(f"there is no channel {number}; the stack has {len(stack.ranges)}, counted from 1")
        image = self._image(call.view, stack, number, plane, Extents.of_box(offset, box))
        return answer(image, kind, quality, intensities=True, typename=self.typename)

    def _image(self, view: View, stack: Stack, number: int, plane: Plane, box: Extents) -> NDArray[Any]:
        """The pixels of a channel, counted from 1, or with 0 of the composite."""
        size = ZYX(*(b - a + 1 for a, b in zip(*box, strict=True)))
        low = ZYX(*(max(0, a) for a in box.low))
        stop = ZYX(*(min(n, b + 1) for n, b in zip(stack.size, box.high, strict=True)))
        inner = ZYX(*(b - a for a, b in zip(low, stop, strict=True)))
        where = tuple(slice(a - o, a - o + n) for a, o, n in zip(low, box.low, inner, strict=True))
        if number:
            out = np.full(size, self.record.settings["Background"], stack.element.dtype)
            if min(inner) > 0:
                out[where] = self._blocks(stack, number - 1).read(view, low, inner)
            return plane.image(out)
        out = np.zeros((*size, 4), np.uint8)
        if min(inner) > 0:
            for channel in range(min(3, len(stack.ranges))):
                out[where][..., channel] = stack.shade(channel, self._blocks(stack, channel).read(view, low, inner))
            out[where][..., 3] = 255
        return plane.image(out)

    # -- loading --------------------------------------------------------------------------------------------------------

    @endpoint("POST", "load")
    def post_load(self, call: Call) -> None:
        """Replaces the stack of this version by the body, a V3D raw file (.v3draw, .raw), all or nothing.

        The file has 1 or 2 bytes per voxel, little-endian, any size and any number of channels up to 1024.
        """
        if call.number is not None:
            raise BadRequest("a file is loaded into the instance, not into one of its channels")
        stack, channels = read_header(call.body)
        z = self.record.settings["BlockSize"][2]
        if min(z, stack.size.z) * stack.size.y * stack.size.x * stack.depth > MAX_LAYER:
            raise BadRequest(
                f"the stack is too wide: as many layers as a block has, {z}, take more than {MAX_LAYER} bytes"
            )
        self.repo.next_mutation_id()
        with StagedWrite(self.engine) as staged:
            ranges = []
            for channel in range(channels):
                blocks = self._blocks(stack, channel)
                low, high = 1 << 16, 0
                for at, voxels in _pieces(call, stack, blocks.block):
                    low, high = min(low, int(voxels.min())), max(high, int(voxels.max()))
                    for rows in blocks.cut(_padded(voxels, blocks.block), at, call.version):
                        for key, value in rows:
                            staged.put(key, value)
                ranges.append((low, high))
            final = Batch()
            loaded = Stack(stack.size, stack.depth, tuple(ranges))
            final.put(self._stack_key + version_bytes(call.version), loaded.pack())
            with self._turns.alone() if staged.staged else self._turns.shared():
                staged.commit(final, sync=self.database.options.sync)


def _pieces(call: Call, stack: Stack, block: ZYX) -> Iterator[tuple[ZYX, NDArray[Any]]]:
    """(offset, voxels) of boxes that together are the channel that comes next in the body: a row of blocks each."""
    depth, height, width = stack.size
    for z in range(0, depth, block.z):
        count = min(block.z, depth - z)
        layer = np.frombuffer(call.body.read(count * height * width * stack.depth), stack.element.dtype)
        layer = layer.reshape(count, height, width)
        for y in range(0, height, block.y):
            yield ZYX(z, y, 0), layer[:, y : y + block.y]


def _padded(voxels: NDArray[Any], block: ZYX) -> NDArray[Any]:
    """The voxels with zeros behind them, so that they are whole blocks."""
    out = np.zeros([-(-n // b) * b for n, b in zip(voxels.shape, block, strict=True)], voxels.dtype)
    out[tuple(slice(n) for n in voxels.shape)] = voxels
    return out
