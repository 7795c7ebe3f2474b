"""The stored blocks of an image instance: a box of them as one array, and a volume cut into them.

A block is one row: its voxels in Z, Y, X order in the envelope of ``dvidcore.codecs``. What does not compress, as most
electron microscopy, is stored plain and goes from the store into the answer in a single copy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvidcore import blocks, codecs, images
from dvidcore.datatypes.imageblk.elements import Element
from dvidcore.errors import StoreError
from dvidcore.geometry import ZYX, BlockBox
from dvidcore.pool import ordered_map, processors
from dvidcore.storage.engine import Value
from dvidcore.storage.keys import prefix_end, version_bytes, zyx_array, zyx_key, zyx_of
from dvidcore.storage.versioned import View

ZYX_BYTES = 12
"""Of the block coordinates at the end of a prefix key."""
PART = 4 << 20
"""Bytes of blocks that one task of the pool reads or writes."""
HELD = 1 << 19
"""Bytes of blocks that one task has in memory: few, so that they stay in the processor's cache."""
SLAB = 16 << 20
"""Bytes of voxels that a streamed answer produces at a time."""
WIDE_SLAB = 24 << 20
"""The same of a volume so wide that pieces would end within blocks, which are then read again for the next."""

Keys = list[bytes]
Values = list[Value]
Mask = Callable[[ZYX, NDArray[Any]], None]
"""Changes those voxels of a box, given by its offset and its array, that a region of interest leaves out."""


class StoredBlocks:
    """How the blocks of one instance are laid out and packed. Immutable, shared by all requests."""

    __slots__ = ("background", "block", "block_bytes", "checksum", "compression", "element", "prefix")

    def __init__(
        self, prefix: bytes, element: Element, block: ZYX, *, background: int, compression: str, checksum: str
    ) -> None:
        self.prefix = prefix
        """What the keys of the rows start with: ``keys.data_prefix``, and what tells apart several sets of blocks."""
        self.element = element
        self.block = block
        self.block_bytes = math.prod(block) * element.nbytes
        self.background = background
        self.compression, self.checksum = compression, checksum

    # -- reading --------------------------------------------------------------------------------------------------

    def rows(self, view: View, box: BlockBox) -> Iterator[tuple[bytes, Value]]:
        """(prefix key, stored value) of the blocks of a box that are stored, in Z, Y, X order."""
        low, high = box
        if high.x - low.x <= 1:  # seeking each is cheaper than opening a scan for each
            get, prefix = view.get, self.prefix
            for z, y, x in box.coords():
                key = prefix + zyx_key(z, y, x)
                value = get(key)
                if value is not None:
                    yield key, value
            return
        spans = (
            view.stubs(self.prefix + zyx_key(z, y, low.x), prefix_end(self.prefix + zyx_key(z, y, high.x)))
            for z, y in box.rows()
        )
        yield from view.snapshot.load_rows(chain.from_iterable(spans))

    def value(self, view: View, at: ZYX) -> Value | None:
        """The stored value of one block; None where it is not stored."""
        return view.get(self.prefix + zyx_key(*at))

    def values(self, view: View, coords: Sequence[ZYX]) -> list[Value | None]:
        """The stored values of blocks, in the order of their coordinates."""
        return view.get_many([self.prefix + zyx_key(*at) for at in coords])

    def voxels(self, value: Value) -> bytes | memoryview:
        """The voxels of a stored block. Raises StoreError where the row is damaged."""
        data = codecs.unpack(value)
        if len(data) != self.block_bytes:
            raise StoreError(f"a stored block is damaged: it holds {len(data)} bytes, not {self.block_bytes}")
        return data

    def empty_block(self) -> bytes:
        """The voxels of a block that is not stored."""
        return self._filled(self.block).tobytes()

    def _filled(self, size: tuple[int, ...]) -> NDArray[Any]:
        return np.full(self.element.shape(size), self.background, self.element.dtype)

    def read(self, view: View, offset: ZYX, size: ZYX, mask: Mask | None = None) -> NDArray[Any]:
        """The voxels of a box: shape ``size``, for several channels these behind; the background where none are stored.

        ``mask`` is applied to them. Work is shared with the pool. Raises StoreError for a damaged block, Conflict for
        one that two merged versions changed.
        """
        out = self.element.empty(size)
        parts = list(self._parts(offset, size))

        def fill(part: tuple[ZYX, ZYX]) -> None:
            low, high = (ZYX(*(p - o for p, o in zip(point, offset, strict=True))) for point in part)
            piece = out[low.z : high.z, low.y : high.y]
            self._fill(view, piece, part[0])
            if mask is not None:
                mask(part[0], piece)

        if len(parts) == 1:
            fill(parts[0])
            return out
        for _ in ordered_map(fill, parts, 2 * processors()):
            pass
        return out

    def _parts(self, offset: ZYX, size: ZYX) -> Iterator[tuple[ZYX, ZYX]]:
        """A box in pieces along Z and Y, (start, stop) each, cut at blocks, of about PART bytes of blocks."""
        box = BlockBox.covering(offset, size, self.block)
        end = ZYX(*(o + s for o, s in zip(offset, size, strict=True)))
        rows = max(1, PART // (box.shape.x * self.block_bytes))
        layers, rows = (rows // box.shape.y, box.shape.y) if rows >= box.shape.y else (1, rows)
        for z in range(box.low.z, box.high.z + 1, layers):
            z0, z1 = max(offset.z, z * self.block.z), min(end.z, (z + layers) * self.block.z)
            for y in range(box.low.y, box.high.y + 1, rows):
                y0, y1 = max(offset.y, y * self.block.y), min(end.y, (y + rows) * self.block.y)
                yield ZYX(z0, y0, offset.x), ZYX(z1, y1, end.x)

    def _fill(self, view: View, out: NDArray[Any], offset: ZYX) -> None:
        """Reads the box of ``out`` at ``offset`` into it."""
        box = BlockBox.covering(offset, out.shape[:3], self.block)
        most = max(1, HELD // self.block_bytes)
        found: Keys = []
        keys: Keys = []
        values: Values = []
        for key, value in self.rows(view, box):
            keys.append(key)
            values.append(value)
            if len(values) == most:
                self._gather(out, offset, keys, values)
                found += keys
                keys, values = [], []
        self._gather(out, offset, keys, values)
        found += keys
        if len(found) < len(box):
            self._blank(out, offset, box, found)

    def _blank(self, out: NDArray[Any], offset: ZYX, box: BlockBox, found: Keys) -> None:
        """Fills what lies in blocks of the box that are not stored with the background."""
        if not found:
            out.fill(self.background)
            return
        absent = np.ones(box.shape, np.bool_)
        z, y, x = (zyx_array(found, len(self.prefix)) - box.low).T
        absent[z, y, x] = False
        start = [low * b - o for low, b, o in zip(box.low, self.block, offset, strict=True)]
        for at in np.argwhere(absent).tolist():
            low = [s + a * b for s, a, b in zip(start, at, self.block, strict=True)]
            out[tuple(slice(max(0, a), a + b) for a, b in zip(low, self.block, strict=True))] = self.background

    def _gather(self, out: NDArray[Any], offset: ZYX, keys: Keys, values: Values) -> None:
        if values:
            blocks.gather(out, offset, self.block, zyx_array(keys, len(self.prefix)), [self.voxels(v) for v in values])

    def stream(self, view: View, offset: ZYX, size: ZYX, mask: Mask | None = None) -> Iterator[memoryview]:
        """The voxels of a box in their order, in pieces of about SLAB bytes; the next is read while one is sent."""

        def piece(part: tuple[ZYX, ZYX]) -> memoryview:
            return self.read(view, *part, mask).reshape(-1).view(np.uint8).data

        return ordered_map(piece, self._slabs(offset, size), 2)

    def _slabs(self, offset: ZYX, size: ZYX) -> Iterator[tuple[ZYX, ZYX]]:
        """(offset, size) of consecutive pieces of a box whose voxels are consecutive too.

        They are cut between blocks where they can: a piece that ends within blocks has them read twice.
        """
        plane = size.y * size.x * self.element.nbytes
        z, end = offset.z, offset.z + size.z
        piece = SLAB if plane * self.block.z <= SLAB else WIDE_SLAB
        if plane <= piece:
            step = piece // plane
            while z < end:
                stop = min(z + step, end)
                if stop < end:
                    aligned = stop // self.block.z * self.block.z
                    stop = aligned if aligned > z else stop
                yield ZYX(z, offset.y, offset.x), ZYX(stop - z, size.y, size.x)
                z = stop
            return
        step = max(1, piece // (size.x * self.element.nbytes))
        for z in range(offset.z, end):
            for y in range(offset.y, offset.y + size.y, step):
                yield ZYX(z, y, offset.x), ZYX(1, min(step, offset.y + size.y - y), size.x)

    def span(self, view: View, start: ZYX, count: int) -> bytearray:
        """The voxels of ``count`` blocks along X from ``start``, one block after the other."""
        n = self.block_bytes
        out = bytearray(count * n)
        absent = set(range(count))
        for key, value in self.rows(view, BlockBox(start, ZYX(start.z, start.y, start.x + count - 1))):
            k = coordinates(key)[2] - start.x
            out[k * n : (k + 1) * n] = self.voxels(value)
            absent.discard(k)
        if absent and self.background:
            empty = self.empty_block()
            for k in absent:
                out[k * n : (k + 1) * n] = empty
        return out

    # -- writing --------------------------------------------------------------------------------------------------

    def key(self, z: int, y: int, x: int, version: int) -> bytes:
        """The whole key of a block's row."""
        return self.prefix + zyx_key(z, y, x) + version_bytes(version)

    def pack(self, voxels: bytes | memoryview) -> bytes:
        """The stored form of a block."""
        kind, _, quality = self.compression.partition(":")
        if kind == "jpeg":
            block = np.frombuffer(voxels, np.uint8).reshape(self.block)
            return images.pack_jpeg(block, int(quality) if quality else images.DEFAULT_QUALITY, self.checksum)
        return codecs.pack(voxels, self.compression, self.checksum)

    def cut(
        self, volume: NDArray[Any], origin: ZYX, version: int, inside: NDArray[np.bool_] | None = None
    ) -> Iterator[list[tuple[bytes, bytes]]]:
        """(key, value) of each block of a volume that starts at the voxel ``origin`` and consists of whole blocks.

        ``inside``, a bool for each block (z, y, x), leaves out those where it is False. The work is shared with the
        pool; a list is a part of it.
        """
        first = BlockBox.covering(origin, volume.shape[:3], self.block).low

        def part(bounds: tuple[ZYX, ZYX]) -> list[tuple[bytes, bytes]]:
            low, high = bounds
            size = ZYX(*(b - a for a, b in zip(low, high, strict=True)))
            out = []
            for z, y, x in BlockBox.covering(low, size, self.block).coords():
                if inside is not None and not inside[z - first.z, y - first.y, x - first.x]:
                    continue
                voxels = blocks.scatter(volume, origin, self.block, (z, y, x))
                out.append((self.key(z, y, x, version), self.pack(voxels)))
            return out

        return ordered_map(part, self._parts(origin, ZYX(*volume.shape[:3])), 2 * processors())


def coordinates(key: bytes) -> tuple[int, int, int]:
    """(z, y, x) of the block under a prefix key."""
    return zyx_of(key, len(key) - ZYX_BYTES)
