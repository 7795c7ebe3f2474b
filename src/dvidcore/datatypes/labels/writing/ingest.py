"""Writing voxels: raw volumes and block streams become stored blocks, index rows, counters and coarser scales.

A request is prepared first, in parallel and without any lock: inflated, checked, encoded, counted. Whatever is wrong
with it is found here, before anything is stored. Then ``_Write`` takes the tiles that it touches, votes the coarser
scales, and commits all of it in one transaction. If another writer got there first, what depends on the store is
computed again.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from isal import igzip
from numpy.typing import NDArray

from dvidcore import blocks, codecs
from dvidcore.datatypes.bands import bands, too_wide
from dvidcore.datatypes.call import Body, Call
from dvidcore.datatypes.labels import stored
from dvidcore.datatypes.labels.writing import counters
from dvidcore.datatypes.labels.writing.downres import coarser
from dvidcore.datatypes.labels.writing.generations import tiles_of
from dvidcore.datatypes.labels.writing.indexing import index_changes
from dvidcore.datatypes.labels.writing.transaction import Transaction, write
from dvidcore.datatypes.roi.region import Region
from dvidcore.errors import BadRequest
from dvidcore.geometry import ZYX, check_aligned, check_box
from dvidcore.pool import ordered_map
from dvidcore.storage.engine import Batch

if TYPE_CHECKING:
    from dvidcore.datatypes.labels.engine import LabelEngine

_RECORD = struct.Struct("<3iI")
_PIECE = 1 << 20


@dataclass(slots=True)
class Prepared:
    """A checked block, ready to be stored. ``labels`` and ``voxels`` are its counts, ascending by label."""

    at: ZYX
    value: bytes
    labels: NDArray[np.uint64]
    voxels: NDArray[np.uint64]


_NONE = np.empty(0, np.uint64)


# -- bodies of requests ------------------------------------------------------------------------------------------------


def records(body: Body) -> Iterator[tuple[ZYX, bytes]]:
    """The (block coordinate, payload) records of a block stream, one at a time; BadRequest where one is cut short."""
    while head := body.read(_RECORD.size):
        if len(head) < _RECORD.size:
            raise BadRequest(f"the block stream ends within a record's header, {len(head)} of {_RECORD.size} bytes")
        x, y, z, n = _RECORD.unpack(head)
        if n == 0:
            raise BadRequest(f"block {x},{y},{z}: its record announces 0 bytes")
        payload = body.read(n) if n <= body.length else b""
        if len(payload) < n:
            raise BadRequest(f"block {x},{y},{z}: its record announces {n} bytes, the body has fewer")
        yield ZYX(z, y, x), payload


def layers(body: Body, size: ZYX, block: ZYX, compression: str) -> Iterator[tuple[int, int, NDArray[np.uint64]]]:
    """A raw volume (z, y, x) of whole blocks as (z, y, labels) of its layers of blocks, or bands of them.

    z and y count voxels from the start of the volume. A layer is good until the next is asked for, which may be written
    over it. Raises BadRequest unless the body has exactly such a volume.
    """
    whole, depth = 8 * math.prod(size), block.z
    if compression == "lz4":
        try:
            data = codecs.lz4_block_decompress(body.read(), whole)
        except ValueError as e:
            raise BadRequest(f"the body is not the lz4 block of a volume of {whole} bytes: {e}") from None
        volume = np.frombuffer(data, "<u8").reshape(size)
        yield from ((z, 0, volume[z : z + depth]) for z in range(0, size.z, depth))
        return
    if compression == "" and body.length != whole:
        raise BadRequest(f"the body has {body.length} bytes, a volume of {size.xyz()} labels has {whole}")
    source = body if compression == "" else igzip.IGzipFile(fileobj=_Readable(body), mode="rb")  # type: ignore[no-untyped-call]
    if source is body and depth == size.z and not too_wide(size, block, 8):
        yield 0, 0, np.frombuffer(body.read(whole), "<u8").reshape(size)
        return
    try:
        if too_wide(size, block, 8):
            for z, y, part, voxels in bands(source.read, size, block, 8):
                yield z, y, np.frombuffer(voxels, "<u8").reshape(part)
        else:
            layer = np.empty((depth, size.y, size.x), "<u8")
            for z in range(0, size.z, depth):
                if not _fill(layer.data.cast("B"), source.read):
                    raise BadRequest(f"the body ends early: a volume of {size.xyz()} labels has {whole} bytes")
                yield z, 0, layer
        if source.read(1):
            raise BadRequest(f"the body is too long: a volume of {size.xyz()} labels has {whole} bytes")
    except (OSError, EOFError, codecs.DeflateError) as e:
        raise BadRequest(f"the body is not valid gzip: {e}") from None


def _fill(buffer: memoryview, read: Callable[[int], bytes]) -> bool:
    """Reads the whole buffer, piece by piece: read at once it would be in memory twice. False where too little comes."""
    at = 0
    while at < len(buffer) and (data := read(min(_PIECE, len(buffer) - at))):
        buffer[at : at + len(data)] = data
        at += len(data)
    return at == len(buffer)


class _Readable(io.RawIOBase):
    """A request's body as the file that the gzip reader wants."""

    def __init__(self, body: Body) -> None:
        self._body = body

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._body.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


# -- preparing ---------------------------------------------------------------------------------------------------------


def _from_payload(label: LabelEngine, at: ZYX, payload: bytes, count: bool) -> Prepared:
    """A block of a stream: gzip of a coded block of the instance's size."""
    try:
        block = codecs.gunzip(payload, _largest_coded(label.block))
        blocks.check(block, label.block)
    except ValueError as e:
        raise BadRequest(f"block {at.x},{at.y},{at.z}: {e}") from None
    return _prepared(at, block, count)


def _prepared(at: ZYX, block: bytes, count: bool) -> Prepared:
    found, voxels = blocks.counts(block) if count else (_NONE, _NONE)
    return Prepared(at, stored.store(block), found, voxels)


def _largest_coded(shape: ZYX) -> int:
    """No coded block of a shape can be longer: every voxel a label of its own, and each sub-block's list full.

    A label list may also hold entries that nothing uses, so there is room for as many again.
    """
    voxels = math.prod(shape)
    return 16 + 2 * 8 * voxels + 2 * (voxels // 512) + 4 * voxels + 9 * voxels // 8


def _read_stream(label: LabelEngine, body: Body, count: bool) -> list[Prepared]:
    """All blocks of a stream, each coordinate once: the last wins."""
    made = ordered_map(lambda record: _from_payload(label, *record, count), records(body))
    return list({p.at: p for p in made}.values())


def _read_raw(
    label: LabelEngine, body: Body, offset: ZYX, size: ZYX, compression: str, *, limit: Region | None
) -> list[Prepared]:
    count = label.counted
    inside = None if limit is None else limit.blocks(offset, size, label.block)
    bz, by, bx = label.block
    oz, oy, ox = (o // b for o, b in zip(offset, label.block, strict=True))

    def boxes(z: int, y: int, layer: NDArray[np.uint64]) -> Iterator[tuple[ZYX, NDArray[np.uint64]]]:
        k = z // bz
        for j in range(y // by, (y + layer.shape[1]) // by):
            for i in range(size.x // bx):
                if inside is None or inside[k, j, i]:
                    top = j * by - y
                    yield ZYX(oz + k, oy + j, ox + i), layer[:, top : top + by, i * bx : (i + 1) * bx]

    made: list[Prepared] = []
    for layer in layers(body, size, label.block, compression):
        made += ordered_map(lambda box: _prepared(box[0], blocks.encode(box[1]), count), boxes(*layer))
    return made


# -- requests ----------------------------------------------------------------------------------------------------------


def post_raw(
    label: LabelEngine, call: Call, offset: ZYX, size: ZYX, compression: str, *, limit: Region | None = None
) -> None:
    """Stores a block-aligned raw volume of supervoxels with its index and all coarser scales, in one write.

    Blocks outside of ``limit`` are left as they are; the extents grow by the whole volume.
    Raises BadRequest, with nothing stored, unless the body is exactly such a volume under ``compression``
    (``""``, ``"lz4"`` or ``"gzip"``).
    """
    check_aligned(offset, size, label.block)
    check_box(offset, size)
    made = _read_raw(label, call.body, offset, size, compression, limit=limit)
    end = ZYX(*(o + s - 1 for o, s in zip(offset, size, strict=True)))
    _Write(label, call, made, downres=True, indexing=label.indexed, extents=(offset, end)).commit()


def post_blocks(label: LabelEngine, call: Call, scale: int, downres: bool, indexing: bool) -> None:
    """Stores a block stream of supervoxels; at scale 0 with index and extents, with ``downres`` all coarser scales."""
    if scale > label.scales:
        raise BadRequest(f"scale: {scale} is above the instance's MaxDownresLevel, {label.scales}")
    if downres and scale:
        raise BadRequest(f"downres: coarser scales are made from scale 0, not from {scale}")
    made = _read_stream(label, call.body, count=scale == 0 and label.counted)
    _Write(label, call, made, scale=scale, downres=downres, indexing=indexing and label.indexed).commit()


def ingest_supervoxels(label: LabelEngine, call: Call, scale: int) -> None:
    """Stores the voxels of a block stream at a scale and nothing else."""
    if scale > label.scales:
        raise BadRequest(f"scale: {scale} is above the instance's MaxDownresLevel, {label.scales}")
    made = _read_stream(label, call.body, count=False)
    write = _Write(label, call, made, scale=scale, voxels_only=True)
    if label.indexed and made:
        write.ingested = max(int(stored.labels(p.value).max()) for p in made)
    write.commit()


# -- the write ---------------------------------------------------------------------------------------------------------


class _Write:
    """One request's blocks of one scale on their way into the store."""

    def __init__(
        self,
        label: LabelEngine,
        call: Call,
        made: list[Prepared],
        *,
        scale: int = 0,
        downres: bool = False,
        indexing: bool = False,
        voxels_only: bool = False,
        extents: counters.Box | None = None,
    ) -> None:
        """``extents``: the voxels that the request was about; without, those of its blocks."""
        self.label = label
        self.call = call
        self.made = made
        self.scale = scale
        self.downres = downres
        self.indexing = indexing
        self.blocks_alone = voxels_only or scale > 0
        self.extents = extents
        self.ingested = 0
        """A label that is not given out, nor a smaller one, though no maximum counts it."""

    def commit(self) -> None:
        """Stores everything or, where it raises, nothing."""
        if not self.made and self.extents is None:
            return
        tiles = tiles_of(self.label, (p.at for p in self.made), self.scale)
        now = counters.counters(self.label, self.call.snapshot)
        known = self.ingested <= max(now.maximum, now.ingested)
        write(self.label, self.call, self._change, tiles=tiles, blocks_alone=self.blocks_alone and known)

    def _change(self, change: Transaction) -> None:
        fresh: dict[ZYX, bytes | memoryview] = {p.at: p.value for p in self.made}
        change.touch(fresh, self.scale)
        for at, value in fresh.items():
            change.put_block(self.scale, at, value)
        if self.downres:
            for scale, level in coarser(self.label, change.view, fresh):
                for at, value in level.items():
                    change.put_block(scale, at, value)
        if self.blocks_alone:
            change.at_commit(lambda call, b: counters.raise_ingested(self.label, call.view, b.batch, self.ingested))
            return
        change.raise_maximum(max((int(p.labels[-1]) for p in self.made if len(p.labels)), default=0))
        change.at_commit(lambda call, batch: self._put_totals(change, call, batch.batch))
        if self.made and self.label.has_followers():
            change.tell("mutate-block", blocks=np.array(list(fresh), np.int64), fresh=fresh)

    def _put_totals(self, change: Transaction, call: Call, batch: Batch) -> None:
        label = self.label
        if self.indexing and self.made:
            index_changes(label, call, [(p.at, p.labels, p.voxels) for p in self.made], change.mutation, batch)
        counters.grow_extents(label, call.view, batch, self.extents or self._box())

    def _box(self) -> counters.Box:
        """The lowest and the highest voxel of the blocks."""
        ends = np.array([p.at for p in self.made], np.int64)
        low, high = ends.min(axis=0) * self.label.block, (ends.max(axis=0) + 1) * self.label.block - 1
        return tuple(low.tolist()), tuple(high.tolist())
