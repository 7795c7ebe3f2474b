"""The blocks of one scale as a version sees them, holding bodies or supervoxels: what all reads of voxels start from.

A stored block holds supervoxels. To read bodies its label list is mapped, never its voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from dvidcore import blocks
from dvidcore.datatypes.labels import stored
from dvidcore.datatypes.labels.mapping import Mapped
from dvidcore.datatypes.labels.reading.coded_cache import Place, coded_blocks
from dvidcore.geometry import ZYX, BlockBox
from dvidcore.pool import ordered_map
from dvidcore.storage.keys import TYPE_KEY_OFFSET, prefix_end, zyx_key, zyx_of

if TYPE_CHECKING:
    from dvidcore.datatypes.call import Call
    from dvidcore.datatypes.labels.engine import LabelEngine
    from dvidcore.datatypes.roi.region import Region

Stored = bytes | memoryview
T = TypeVar("T")

_ZYX_AT = TYPE_KEY_OFFSET + 1
_WINDOW = 8
_TOGETHER = 8
"""Blocks that one task decodes; so few are not worth a second processor."""
_KEPT = 64
"""Up to this many blocks of a box stay inflated; those of larger boxes would only drive out others."""


class BlockReader:
    """Reads the blocks of a scale. Above the last scale, as where nothing was written, there are none."""

    __slots__ = ("_limit", "_mapped", "_prefix", "_present", "shape", "view")

    nbytes = 8
    """Of a label."""

    def __init__(
        self,
        data: LabelEngine,
        call: Call,
        scale: int = 0,
        supervoxels: bool = False,
        limit: Region | None = None,
    ) -> None:
        """With ``limit`` the voxels outside of that region read as 0 in ``fill`` and ``box``."""
        mapped = None if supervoxels else data.mapping.at(call)
        self._mapped: Mapped | None = None if mapped is None or mapped.identity else mapped
        self._limit = limit
        self._present = scale <= data.scales
        self._prefix = data.rows.scale(scale) if self._present else b""
        self.view = call.view
        self.shape = data.block
        """Of a block, (z, y, x) voxels."""

    def palette(self, value: Stored) -> NDArray[np.uint64] | None:
        """The bodies of a stored block's label list; None where the list is right as it is stored."""
        return None if self._mapped is None else self._mapped.bodies(stored.labels(value))

    def coded(self, coord: Sequence[int], value: Stored, keep: bool = False) -> bytes:
        """The stored block at a block coordinate as a coded block that holds what is asked for.

        With ``keep`` it is inflated once for all reads that follow, as long as there is room.
        """
        block = self._kept(coord, value, keep)
        palette = self.palette(value)
        if block is None:
            return stored.coded(value, palette)
        return block if palette is None else blocks.with_palette(block, palette)

    def supervoxels(self, coord: Sequence[int], value: Stored, keep: bool = False) -> bytes:
        """As ``coded``, but always with supervoxels."""
        return self._kept(coord, value, keep) or stored.coded(value)

    def supervoxels_of_all(self, found: Sequence[tuple[Sequence[int], Stored]]) -> list[bytes]:
        """``supervoxels`` of many blocks, kept; those that must be inflated are, on all processors."""
        out = [coded_blocks.find(self._place(coord), value) for coord, value in found]
        missing = [k for k, block in enumerate(out) if block is None]

        def inflate(some: Sequence[int]) -> None:
            for k in some:
                out[k] = self.supervoxels(*found[k], keep=True)

        spread(inflate, missing, _TOGETHER)
        return [block for block in out if block is not None]

    def _place(self, coord: Sequence[int]) -> Place:
        return self._prefix, coord[0], coord[1], coord[2]

    def _kept(self, coord: Sequence[int], value: Stored, keep: bool) -> bytes | None:
        place = self._place(coord)
        block = coded_blocks.find(place, value)
        if block is None and keep:
            block = stored.coded(value)
            coded_blocks.keep(place, value, block)
        return block

    def bodies(self, supervoxels: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """What is asked for, of labels that were read as they are stored."""
        return supervoxels if self._mapped is None else self._mapped.bodies(supervoxels)

    def get(self, coords: Sequence[Sequence[int]]) -> list[Stored | None]:
        """The stored blocks at block coordinates (z, y, x), None where there is none."""
        if not self._present:
            return [None] * len(coords)
        prefix = self._prefix
        return self.view.get_many([prefix + zyx_key(*c) for c in coords])

    def scan(self, box: BlockBox) -> Iterator[tuple[ZYX, Stored]]:
        """The stored blocks of a box of block coordinates, in Z, Y, X order.

        From a block outside of the box it goes on to the next place inside, so it costs no more than the rows of blocks
        that are stored there, however large the box is.
        """
        return self.view.snapshot.load_rows(self._stubs(box))

    def _stubs(self, box: BlockBox) -> Iterator[tuple[ZYX, Stored]]:
        """What ``scan`` answers before the values are read, so that no block outside of the box is."""
        if not self._present:
            return
        prefix, (low, high) = self._prefix, box
        stop = prefix_end(prefix + zyx_key(*high))
        at: ZYX | None = low
        while at is not None:
            start, at = prefix + zyx_key(*at), None
            for key, stub in self.view.stubs(start, stop):
                z, y, x = zyx_of(key, _ZYX_AT)
                if not (low.y <= y <= high.y and low.x <= x <= high.x):
                    at = box.next_inside(z, y, x)
                    break
                yield ZYX(z, y, x), stub

    def fill(self, offset: ZYX, out: NDArray[np.uint64]) -> None:
        """Writes the voxels of the box at ``offset`` into ``out``, uint64 (z, y, x) with contiguous rows; missing ones 0.

        Only the sub-blocks that the box touches are decoded, several blocks at a time.
        """
        self._decode(offset, out)
        if self._limit is not None:
            self._limit.blank(offset, out)

    def _decode(self, offset: ZYX, out: NDArray[np.uint64]) -> None:
        box = BlockBox.covering(offset, out.shape, self.shape)
        found = list(self.scan(box))
        if len(found) < len(box):
            self._clear_missing(offset, out, box, {c for c, _ in found})
        keep = len(found) <= _KEPT

        def decode(items: Sequence[tuple[ZYX, Stored]]) -> None:
            for coord, value in items:
                start, stop, part = self._overlap(coord, offset, out)
                blocks.decode_box(self.coded(coord, value, keep), start, stop, part)

        spread(decode, found, _TOGETHER)

    def box(self, offset: ZYX, size: Sequence[int]) -> NDArray[np.uint64]:
        """The voxels of a box, uint64 (z, y, x)."""
        out = self.empty(size)
        self.fill(offset, out)
        return out

    def empty(self, size: Sequence[int]) -> NDArray[np.uint64]:
        """A new array for a box."""
        return np.empty(tuple(size), np.uint64)

    def _overlap(
        self, coord: ZYX, offset: ZYX, out: NDArray[np.uint64]
    ) -> tuple[tuple[int, ...], tuple[int, ...], NDArray[np.uint64]]:
        """Where a block and a box meet: (start, stop) in voxels of the block, and that part of the box."""
        start, stop, part = [], [], []
        for c, b, o, n in zip(coord, self.shape, offset, out.shape, strict=True):
            first = c * b - o  # of the block, in the box
            low, high = max(0, first), min(n, first + b)
            start.append(low - first)
            stop.append(high - first)
            part.append(slice(low, high))
        return tuple(start), tuple(stop), out[tuple(part)]

    def _clear_missing(self, offset: ZYX, out: NDArray[np.uint64], box: BlockBox, found: set[ZYX]) -> None:
        if 2 * len(found) < len(box):
            out[...] = 0
            return
        for coord in box.coords():
            if coord not in found:
                self._overlap(coord, offset, out)[2][...] = 0


def spread(function: Callable[[Sequence[T]], None], items: Sequence[T], together: int) -> None:
    """Calls ``function`` with ``together`` items at a time, on all processors where that is more than one call."""
    if len(items) <= together:
        if items:
            function(items)
        return
    batches = (items[at : at + together] for at in range(0, len(items), together))
    for _ in ordered_map(function, batches, _WINDOW):
        pass
