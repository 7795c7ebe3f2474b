"""The voxels of a box: ``GET raw`` in three dimensions, in every compression. Labels here, any voxels elsewhere.

Large answers are made slab by slab, so that memory is bounded, wherever the format and speed let them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import lz4.block
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from dvidcore import blocks, budget, codecs
from dvidcore.datatypes.call import Buffer, Reply
from dvidcore.errors import BadRequest
from dvidcore.geometry import ZYX, check_box

if TYPE_CHECKING:
    from dvidcore.datatypes.labels.engine import LabelEngine

COMPRESSIONS = ("", "lz4", "gzip", "google", "googlegzip")
STREAMED = 32 << 20
"""Volumes beyond this many bytes are made in slabs, but for plain ones while the budget of large answers lasts."""
_GZIP_LEVEL = 1
_PIECE = 1 << 20
_TABLE_LIMIT = 1 << 24
"""Offsets of compressed_segmentation tables have 24 bits."""


class Voxels(Protocol):
    """Where the voxels of an answer come from: boxes of one scale of a volume."""

    shape: ZYX
    """Of a block, which is best read only once."""
    nbytes: int
    """Of a voxel, all its channels."""

    def empty(self, size: tuple[int, ...]) -> NDArray[Any]:
        """A new array for a box of ``size`` (z, y, x); channels, where there are several, are a last axis."""

    def fill(self, offset: ZYX, out: NDArray[Any]) -> None:
        """Writes the voxels of the box at ``offset`` into an array as of ``empty``."""

    def box(self, offset: ZYX, size: tuple[int, ...]) -> NDArray[Any]:
        """The voxels of a box, contiguous, in an array as of ``empty``."""


def check_volume(data: LabelEngine, offset: ZYX, size: ZYX) -> None:
    """BadRequest for a box that leaves int32, or whose voxels are more bytes than an answer may have."""
    check_box(offset, size)
    total, most = 8 * math.prod(size), data.database.options.max_data_request
    if total > most:
        raise BadRequest(f"size: {size.xyz()} labels are {total} bytes, at most {most} are allowed (maxDataRequest)")


def answer(reader: Voxels, offset: ZYX, size: ZYX, compression: str) -> Reply:
    """The voxels of a box in a compression, one of ``COMPRESSIONS``."""
    if compression in ("google", "googlegzip"):
        return _segmentation(reader, offset, size, zipped=compression == "googlegzip")
    total = reader.nbytes * math.prod(size)
    if compression == "lz4":
        with budget.work.borrow(total):
            return Reply(_lz4(reader.box(offset, size)))
    if compression == "gzip":
        if total > STREAMED:
            return Reply(_gzipped(_slabs(reader, offset, size)))
        return Reply(codecs.gzip(_bytes(reader.box(offset, size)), _GZIP_LEVEL))
    if total <= STREAMED:
        return Reply(_bytes(reader.box(offset, size)))
    if not budget.answers.take(total):
        return Reply(_pieces(_slabs(reader, offset, size)), length=total)
    volume = reader.empty(size)
    budget.answers.lend(volume, total)
    reader.fill(offset, volume)
    return Reply(_bytes(volume))


def _bytes(volume: NDArray[Any]) -> memoryview:
    return volume.data.cast("B")


def _pieces(slabs: Iterator[NDArray[Any]]) -> Iterator[memoryview]:
    """The bytes of slabs in pieces, since the server copies what it is given while the client is slow."""
    for slab in slabs:
        view = _bytes(slab)
        yield from (view[at : at + _PIECE] for at in range(0, len(view), _PIECE))


def _slabs(reader: Voxels, offset: ZYX, size: ZYX, eighths: bool = False) -> Iterator[NDArray[Any]]:
    """The box in slabs of about ``STREAMED`` bytes along z.

    A slab ends where blocks end, so that each is read once, or where sub-blocks or single layers do where the volume is
    so wide that it would be larger; with ``eighths`` each slab but for the last is a multiple of 8 thick.
    """
    plane = reader.nbytes * size.y * size.x
    grid, origin = (8, offset.z) if eighths else (reader.shape.z, 0)
    if not eighths and plane * grid > STREAMED:
        grid = 8 if plane * 8 <= STREAMED else 1
    thick = max(1, STREAMED // (plane * grid)) * grid
    z, end = offset.z, offset.z + size.z
    while z < end:
        stop = min(end, (z - origin) // grid * grid + origin + thick)
        yield reader.box(ZYX(z, offset.y, offset.x), (stop - z, size.y, size.x))
        z = stop


def _lz4(volume: NDArray[Any]) -> bytes:
    try:
        return bytes(lz4.block.compress(_bytes(volume), store_size=False))
    except (OverflowError, ValueError):
        raise BadRequest(f"compression: lz4 cannot hold {volume.nbytes} bytes, ask for a smaller size") from None


def _gzipped(slabs: Iterator[NDArray[Any]]) -> Iterator[Buffer]:
    packer = isal_zlib.compressobj(_GZIP_LEVEL, isal_zlib.DEFLATED, 31)
    for slab in slabs:
        if piece := packer.compress(_bytes(slab)):
            yield piece
    yield packer.flush()


def _segmentation(reader: Voxels, offset: ZYX, size: ZYX, zipped: bool) -> Reply:
    """The volume as neuroglancer's compressed_segmentation."""
    for axis, n in zip("xyz", size.xyz(), strict=True):
        if n % 8:
            raise BadRequest(f"size: {n} along {axis} is not a multiple of 8, which compression=google needs")
    try:
        if 8 * math.prod(size) > STREAMED:
            data = _segmentation_in_slabs(_slabs(reader, offset, size, eighths=True))
        else:
            data = blocks.compressed_segmentation(_labels(reader.box(offset, size)))
    except ValueError as e:
        raise BadRequest(f"compression: {e}") from None
    if zipped:
        return Reply(codecs.gzip(data, _GZIP_LEVEL), headers={"Content-Encoding": "gzip"})
    return Reply(data)


def _labels(volume: NDArray[Any]) -> NDArray[np.uint64]:
    return volume.astype(np.uint64, copy=False)


def _segmentation_in_slabs(slabs: Iterator[NDArray[Any]]) -> bytes:
    """Slabs along z, each encoded by itself and then joined: all headers first, with their offsets moved.

    Memory is bounded by the encoding, which its 24-bit offsets hold to 64 MiB and a slab.
    """
    heads, rests, words = [], [], 0
    for slab in slabs:
        channel = np.frombuffer(blocks.compressed_segmentation(_labels(slab)), "<u4")[1:]
        ends = 2 * (slab.size // 512)
        heads.append(channel[:ends].reshape(-1, 2))
        rests.append(channel[ends:])
        if words >= _TABLE_LIMIT:
            break
        words += channel.size
    base = sum(head.size for head in heads)
    for k, (head, rest) in enumerate(zip(heads, rests, strict=True)):
        shift = base - head.size
        tables = (head[:, 0] & np.uint32(_TABLE_LIMIT - 1)).astype(np.int64) + shift
        if tables.max() >= _TABLE_LIMIT:
            raise ValueError("a table lies beyond the 24 bits of its offset, ask for a smaller size")
        bits = head[:, 0] & np.uint32(0xFF000000)
        heads[k] = np.stack((bits | tables.astype(np.uint32), head[:, 1] + np.uint32(shift)), axis=1)
        base += rest.size
    return b"".join(part.tobytes() for part in (np.array([1], "<u4"), *heads, *rests))
