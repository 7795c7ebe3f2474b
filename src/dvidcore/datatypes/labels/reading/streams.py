"""Block streams: ``GET blocks`` and ``GET specificblocks``.

A record is int32 x, y, z (block coordinates), uint32 n and n bytes of payload. The ``blocks`` payload is put together
from what is stored, without compressing anything; the others hold the block's voxels.
"""

from __future__ import annotations

import math
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice

import lz4.block
import numpy as np
from numpy.typing import NDArray

from dvidcore import blocks, budget, codecs
from dvidcore.datatypes.call import Buffer, Reply
from dvidcore.datatypes.labels import stored
from dvidcore.datatypes.labels.reading.reader import BlockReader, Stored, spread
from dvidcore.geometry import BlockBox
from dvidcore.pool import ordered_map

COMPRESSIONS = ("blocks", "lz4", "gzip", "uncompressed")
WHOLE = 32 << 20
"""Answers up to this many bytes leave as one buffer, larger ones in pieces."""
_PIECE = 1 << 20
_BATCH = 256
"""Blocks of a list that are read at once."""
_WINDOW = 8
_TOGETHER = 8
_SCRATCH_BYTES = 4 << 20
_GZIP_LEVEL = 1
_RECORD = struct.Struct("<3iI")

Record = tuple[Sequence[int], Stored]


def box_stream(reader: BlockReader, box: BlockBox, compression: str) -> Reply:
    """The stream of the stored blocks of a box of block coordinates."""
    return _answer(reader, reader.scan(box), compression)


def list_stream(reader: BlockReader, coords: Sequence[Sequence[int]], compression: str) -> Reply:
    """The stream of the blocks at block coordinates (z, y, x), in their order; missing ones are left out."""

    def found() -> Iterator[Record]:
        for at in range(0, len(coords), _BATCH):
            batch = coords[at : at + _BATCH]
            for coord, value in zip(batch, reader.get(batch), strict=True):
                if value is not None:
                    yield coord, value

    return _answer(reader, found(), compression)


def _answer(reader: BlockReader, found: Iterator[Record], compression: str) -> Reply:
    if compression == "uncompressed":
        return _uncompressed(reader, found)
    records = _members(reader, found) if compression == "blocks" else _compressed(reader, found, compression)
    # The first bytes are made before the answer starts, so that most errors show as such.
    ready: list[Buffer] = []
    size = 0
    for record in records:
        ready += record
        size += sum(map(len, record))
        if size > WHOLE:
            return Reply(_in_pieces(chain((ready,), records)))
    return Reply(b"".join(ready))


def _in_pieces(records: Iterable[list[Buffer]]) -> Iterator[Buffer]:
    waiting: list[Buffer] = []
    size = 0
    for record in records:
        waiting += record
        size += sum(map(len, record))
        if size >= _PIECE:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


def _members(reader: BlockReader, found: Iterable[Record]) -> Iterator[list[Buffer]]:
    for (z, y, x), value in found:
        member = stored.gzip_member(value, reader.palette(value))
        yield [_RECORD.pack(x, y, z, sum(map(len, member))), *member]


def _compressed(reader: BlockReader, found: Iterable[Record], compression: str) -> Iterator[list[Buffer]]:
    compress = _COMPRESS[compression]

    def record(item: Record) -> list[Buffer]:
        (z, y, x), value = item
        volume = blocks.decode(reader.coded((z, y, x), value), _scratch(reader.shape))
        packed = compress(volume.data.cast("B"))
        return [_RECORD.pack(x, y, z, len(packed)), packed]

    return ordered_map(record, found, _WINDOW)


_COMPRESS: dict[str, Callable[[memoryview], bytes]] = {
    "lz4": lambda volume: bytes(lz4.block.compress(volume, store_size=False)),
    "gzip": lambda volume: codecs.gzip(volume, _GZIP_LEVEL),
}


class _Scratch(threading.local):
    volume: NDArray[np.uint64] | None = None


_own = _Scratch()


def _scratch(shape: Sequence[int]) -> NDArray[np.uint64]:
    """A block's voxels to write to, the same for each block of a thread: fresh memory takes longer than decoding."""
    volume = _own.volume
    if volume is None or volume.shape != tuple(shape):
        volume = np.empty(tuple(shape), np.uint64)
        _own.volume = volume if volume.nbytes <= _SCRATCH_BYTES else None
    return volume


def _uncompressed(reader: BlockReader, found: Iterator[Record]) -> Reply:
    """Records of one length, decoded where they are sent from."""
    length = _RECORD.size + 8 * math.prod(reader.shape)
    items = list(islice(found, max(budget.answers.limit // length, 1)))
    if not items:
        return Reply(b"")
    total = length * len(items)
    rest = next(found, None)
    if rest is None and (total <= WHOLE or budget.answers.take(total)):
        buffer = np.empty((len(items), length // 8), np.uint64)
        if total > WHOLE:
            budget.answers.lend(buffer, total)
        _decode_records(reader, items, buffer)
        return Reply(buffer.data.cast("B"))
    every = chain(items, () if rest is None else (rest,), found)
    return Reply(_uncompressed_pieces(reader, every, max(WHOLE // length, 1)), length=None if rest else total)


def _uncompressed_pieces(reader: BlockReader, found: Iterator[Record], together: int) -> Iterator[Buffer]:
    while items := list(islice(found, together)):
        buffer = np.empty((len(items), _RECORD.size // 8 + math.prod(reader.shape)), np.uint64)
        _decode_records(reader, items, buffer)
        view = buffer.data.cast("B")
        yield from (view[at : at + _PIECE] for at in range(0, len(view), _PIECE))


def _decode_records(reader: BlockReader, items: Sequence[Record], buffer: NDArray[np.uint64]) -> None:
    """Writes a record for each block, a row of ``buffer`` each."""
    head = _RECORD.size // 8
    numbers = [(x, y, z, 8 * (buffer.shape[1] - head)) for (z, y, x), _ in items]
    buffer[:, :head] = np.array(numbers, "<i4").view(np.uint64)

    def decode(rows: Sequence[int]) -> None:
        for k in rows:
            coord, value = items[k]
            blocks.decode(reader.coded(coord, value), buffer[k, head:].reshape(reader.shape))

    spread(decode, range(len(items)), _TOGETHER)
