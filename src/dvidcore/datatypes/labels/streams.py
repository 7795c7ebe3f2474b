"""Block streams: ``GET blocks`` and ``GET specificblocks``.

A record is int32 x, y, z (block coordinates), uint32 n and n bytes of payload. The ``blocks`` payload is put together
from what is stored, without compressing anything; the others hold the block's voxels.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

import lz4.block

from dvidcore import blocks, codecs
from dvidcore.datatypes.base import Buffer, Reply
from dvidcore.datatypes.labels import stored
from dvidcore.datatypes.labels.reader import BlockReader, Stored
from dvidcore.geometry import BlockBox
from dvidcore.pool import ordered_map

COMPRESSIONS = ("blocks", "lz4", "gzip", "uncompressed")
WHOLE = 32 << 20
"""Answers up to this many bytes leave as one buffer, larger ones record by record."""
_PIECE = 1 << 20
_BATCH = 256
"""Blocks of a list that are read at once."""
_WINDOW = 8
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


def _answer(reader: BlockReader, found: Iterable[Record], compression: str) -> Reply:
    """The first ``WHOLE`` bytes are made before the answer starts, so that most errors show as such."""
    records = _members(reader, found) if compression == "blocks" else _volumes(reader, found, compression)
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


def _volumes(reader: BlockReader, found: Iterable[Record], compression: str) -> Iterator[list[Buffer]]:
    compress = _COMPRESS[compression]

    def record(item: Record) -> list[Buffer]:
        (z, y, x), value = item
        volume = compress(blocks.decode(reader.coded((z, y, x), value)).data.cast("B"))
        return [_RECORD.pack(x, y, z, len(volume)), volume]

    return ordered_map(record, found, _WINDOW)


_COMPRESS: dict[str, Callable[[memoryview], Buffer]] = {
    "lz4": lambda volume: bytes(lz4.block.compress(volume, store_size=False)),
    "gzip": lambda volume: codecs.gzip(volume, _GZIP_LEVEL),
    "uncompressed": lambda volume: volume,
}
