"""The image types: what ``properties`` and ``volumes`` give them, and the endpoints of whole blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from struct import Struct
from typing import Any

from dvidcore import codecs
from dvidcore.datatypes.arguments import choice, flag, text
from dvidcore.datatypes.base import DataType
from dvidcore.datatypes.call import OCTETS, Buffer, Call, Reply
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.imageblk.chain import Chain
from dvidcore.datatypes.imageblk.extents import Extents
from dvidcore.datatypes.imageblk.stored import PART, SLAB, coordinates
from dvidcore.datatypes.imageblk.volumes import MAX_BUFFER, MUTATE, SCALE, WRITTEN_SCALE
from dvidcore.errors import BadRequest
from dvidcore.geometry import INT32_MAX, INT32_MIN, ZYX, BlockBox, check_aligned, check_box, parse_int
from dvidcore.pool import ordered_map
from dvidcore.storage.engine import Value
from dvidcore.storage.staged import StagedWrite

_HEADER = Struct("<4i")

COMPRESSION = choice("compression", "", "how blocks are sent, as stored by default", ("", "jpeg", "uncompressed"))


class ImageBlock(Chain):
    """What all image types have in common; each says what a voxel is."""

    settings = tuple(
        replace(setting, parse=lambda text, _: text) if setting.key == "GridStore" else setting
        for setting in Chain.settings
    )

    @classmethod
    def variant(cls, settings: Mapping[str, Any]) -> type[DataType]:
        """With ``GridStore`` the voxels are those of a volume elsewhere."""
        if not settings.get("GridStore"):
            return cls
        from dvidcore.datatypes.remote.grid import shown_as

        return shown_as(cls.typename)

    @endpoint("GET", "blocks/{start:point}/{count:int}", query=[SCALE], answers=OCTETS)
    def get_blocks(self, call: Call, start: ZYX, count: int, scale: int = 0) -> Reply:
        """The voxels of ``count`` whole blocks along X from the block coordinate ``start``, one after the other.

        Each is in ZYX order. Blocks that are not stored are filled with the background.
        """
        if count < 0:
            raise BadRequest(f"count: {count} is negative")
        self._check_span(start, count)
        stored, view = self.stored_at(scale), call.view
        total = self._check_bytes(count * stored.block_bytes // self.element.nbytes)
        step = max(1, SLAB // stored.block_bytes)
        pieces = ((ZYX(start.z, start.y, start.x + k), min(step, count - k)) for k in range(0, count, step))
        if total <= MAX_BUFFER:
            return Reply(b"".join(stored.span(view, *p) for p in pieces))
        return Reply(ordered_map(lambda p: stored.span(view, *p), pieces, 2), length=total)

    @endpoint("POST", "blocks/{start:point}/{count:int}", query=[MUTATE, WRITTEN_SCALE])
    def post_blocks(self, call: Call, start: ZYX, count: int, mutate: bool, scale: int = 0) -> None:
        """Stores ``count`` whole blocks along X, in the form that GET answers. The extents do not change."""
        if count < 1:
            raise BadRequest(f"count: {count} is not at least 1")
        self._check_span(start, count)
        stored = self.stored
        n = stored.block_bytes
        self._check_body(call.body, count * n // self.element.nbytes, f"{count} blocks")
        block = stored.block
        offset = ZYX(*(c * b for c, b in zip(start, block, strict=True)))
        size = ZYX(block.z, block.y, count * block.x)
        coarser = self._coarser(offset, size)

        def bodies() -> Iterator[tuple[int, bytes]]:
            step = max(1, PART // n)
            for k in range(0, count, step):
                data = call.body.read(min(step, count - k) * n)
                if coarser is not None:
                    coarser.add_blocks(k, data)
                yield k, data

        def rows(piece: tuple[int, bytes]) -> list[tuple[bytes, bytes]]:
            first, data = piece
            view = memoryview(data)
            return [
                (
                    stored.key(start.z, start.y, start.x + first + k, call.version),
                    stored.pack(view[k * n : (k + 1) * n]),
                )
                for k in range(len(data) // n)
            ]

        with StagedWrite(self.engine) as staged:
            for packed in ordered_map(rows, bodies(), 4):
                for key, value in packed:
                    staged.put(key, value)
            self.commit(call, staged, Extents.of_box(offset, size), extents=None, coarser=coarser)

    def _check_span(self, start: ZYX, count: int) -> None:
        """BadRequest where blocks along X have voxels beyond int32."""
        block = self.stored.block
        for name, first, last, side in (
            ("x", start.x, start.x + max(count, 1) - 1, block.x),
            ("y", start.y, start.y, block.y),
            ("z", start.z, start.z, block.z),
        ):
            if first * side < INT32_MIN or (last + 1) * side - 1 > INT32_MAX:
                raise BadRequest(f"start: blocks {first} to {last} along {name} leave the range of int32 voxels")

    @endpoint(
        "GET",
        "subvolblocks/{size:size}/{offset:point}",
        query=[COMPRESSION, SCALE],
        answers=OCTETS,
        throttle=True,
    )
    def get_subvolblocks(self, call: Call, size: ZYX, offset: ZYX, compression: str, scale: int = 0) -> Reply:
        """The stored blocks of a box of whole blocks.

        For each: its block coordinates x, y, z and the number of bytes that follow (int32 each, little-endian), and
        the bytes: as stored (``none``: voxels; ``lz4``: a uint32 length and an LZ4 block; ``snappy``; ``gzip``;
        ``jpeg``: X columns by Y·Z rows), or the voxels with ``compression=uncompressed``. In ZYX order; blocks that
        are not stored are left out.
        """
        stored, view = self.stored_at(scale), call.view
        check_box(offset, size)
        check_aligned(offset, size, stored.block)
        total = self._check_bytes(size.z * size.y * size.x)
        payload = self._payload(compression)
        box = BlockBox.covering(offset, size, stored.block)

        def piece(part: BlockBox) -> list[Buffer]:
            return _framed(((coordinates(key), value) for key, value in stored.rows(view, part)), payload)

        pieces = ordered_map(piece, _rows_of(box, max(1, PART // (box.shape.x * stored.block_bytes))), 3)
        return _joined(pieces, total)

    @endpoint(
        "GET",
        "specificblocks",
        query=[
            text("blocks", "", "block coordinates: x,y,z,x,y,z,…"),
            COMPRESSION,
            SCALE,
            flag("prefetch", "true or on: the blocks will be asked for soon; answers nothing", ("true", "on")),
        ],
        answers=OCTETS,
    )
    def get_specificblocks(self, call: Call, blocks: str, compression: str, prefetch: bool, scale: int = 0) -> Reply:
        """The stored ones of a list of blocks, in the form of ``subvolblocks``."""
        payload, stored, view = self._payload(compression), self.stored_at(scale), call.view
        coords = _parse_blocks(blocks)
        if prefetch or not coords:
            return Reply(b"")
        total = self._check_bytes(len(coords) * stored.block_bytes // self.element.nbytes)
        step = max(1, PART // stored.block_bytes)

        def piece(part: list[ZYX]) -> list[Buffer]:
            found = zip(part, stored.values(view, part), strict=True)
            return _framed(((c, v) for c, v in found if v is not None), payload)

        pieces = ordered_map(piece, (coords[k : k + step] for k in range(0, len(coords), step)), 3)
        return _joined(pieces, total)

    def _payload(self, compression: str) -> Callable[[Value], Buffer]:
        """What turns a stored block into the form that a client asked for."""
        if compression == "uncompressed":
            return self.stored.voxels
        kept = self.record.compression
        jpeg = kept.startswith("jpeg")
        if compression == "jpeg" and not jpeg:
            raise BadRequest(f"compression: the blocks are stored as {kept}, not as jpeg")

        def as_kept(value: Value) -> Buffer:
            if jpeg and codecs.stored_form(value)[0] != "jpeg":
                raise BadRequest("compression: these blocks have more rows than a JPEG; ask for uncompressed ones")
            return codecs.transcode(value, kept)

        return as_kept


def _rows_of(box: BlockBox, rows: int) -> Iterator[BlockBox]:
    """A box of blocks in consecutive pieces of at most so many rows along X."""
    low, high = box
    layers = rows // box.shape.y
    if layers:
        for z in range(low.z, high.z + 1, layers):
            yield BlockBox(ZYX(z, low.y, low.x), ZYX(min(z + layers - 1, high.z), high.y, high.x))
        return
    for z in range(low.z, high.z + 1):
        for y in range(low.y, high.y + 1, rows):
            yield BlockBox(ZYX(z, y, low.x), ZYX(z, min(y + rows - 1, high.y), high.x))


def _joined(pieces: Iterator[list[Buffer]], total: int) -> Reply:
    """A stream of blocks with ``total`` bytes of voxels as an answer: a large one is sent while it is made."""
    if total <= MAX_BUFFER:
        return Reply(b"".join(chain.from_iterable(pieces)))
    return Reply(b"".join(piece) for piece in pieces)


def _framed(blocks: Iterable[tuple[tuple[int, int, int], Value]], payload: Callable[[Value], Buffer]) -> list[Buffer]:
    """Some blocks, each behind its coordinates and length."""
    out: list[Buffer] = []
    for (z, y, x), value in blocks:
        data = payload(value)
        out.append(_HEADER.pack(x, y, z, len(data)))
        out.append(data)
    return out


def _parse_blocks(text: str) -> list[ZYX]:
    if not text:
        return []
    numbers = [parse_int(part, "blocks") for part in text.split(",")]
    if len(numbers) % 3:
        raise BadRequest(f"blocks: {len(numbers)} numbers are not a multiple of three")
    it = iter(numbers)
    return [ZYX(z, y, x) for x, y, z in zip(it, it, it, strict=True)]
