"""A set of blocks as spans along X, and the index that answers which blocks are in it.

All spans are mapped to one line of integers, row of blocks after row of blocks, on which the spans that overlap or
touch are joined. A block is then found by two binary searches, whatever the number of spans.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dvidcore.errors import StoreError
from dvidcore.geometry import INT32_MAX, INT32_MIN, BlockBox

_BIAS = 1 << 31
_ROW = 1 << 33
"""What a row of blocks takes on the line: more than its 2³² blocks, so that spans of different rows never touch."""

Int64s = NDArray[np.int64]


class Spans:
    """An immutable set of spans ``z, y, x0, x1``, both ends included. Safe to use from several threads."""

    def __init__(self, rows: NDArray[np.int32]) -> None:
        """``rows``: int32 (n, 4), sorted and without duplicates, as ``sorted_spans`` makes them."""
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def nbytes(self) -> int:
        """About the bytes of the spans and their index."""
        return 80 * len(self.rows) + 1024

    @property
    def z_range(self) -> tuple[int, int]:
        """The least and the greatest z; int32's greatest and least where there are no spans."""
        if not len(self.rows):
            return INT32_MAX, INT32_MIN
        return int(self.rows[0, 0]), int(self.rows[-1, 0])

    # -- as stored ------------------------------------------------------------------------------------------------

    def pack(self) -> bytes:
        """All z, all y, all x0, all x1 (int32 little-endian): columns compress better than rows."""
        return self.rows.T.astype("<i4").tobytes()

    @classmethod
    def unpack(cls, packed: bytes | memoryview) -> Spans:
        """What ``pack`` gave; StoreError where it cannot be that."""
        if len(packed) % 16:
            raise StoreError(f"the stored spans of an ROI are damaged: {len(packed)} bytes are no multiple of 16")
        columns = np.frombuffer(packed, "<i4").reshape(4, -1)
        return cls(np.array(columns.T, np.int32, order="C"))

    # -- the index ------------------------------------------------------------------------------------------------

    @cached_property
    def _index(self) -> tuple[Int64s, Int64s, Int64s]:
        """(row keys, starts, stops): the rows that have spans; where on the line the joined spans start and stop."""
        z, y, x0, x1 = self.rows.T.astype(np.int64)
        if not len(z):
            return z, z, z
        key = _row_key(z, y)
        first = np.concatenate(([True], key[1:] != key[:-1]))
        line = (np.cumsum(first) - 1) * _ROW + _BIAS
        begin = line + x0
        reach = np.maximum.accumulate(line + x1 + 1)
        fresh = np.concatenate(([True], begin[1:] > reach[:-1]))
        last = np.concatenate((fresh[1:], [True]))
        return key[first], begin[fresh], reach[last]

    @cached_property
    def joined(self) -> Int64s:
        """The set as the fewest spans: int64 (n, 4), sorted; overlapping and touching ones are one."""
        keys, starts, stops = self._index
        row = starts // _ROW
        z, y = keys[row] >> 32, (keys[row] & 0xFFFFFFFF) - _BIAS
        return np.stack((z, y, starts - row * _ROW - _BIAS, stops - row * _ROW - _BIAS - 1), axis=1)

    def contains(self, blocks: Int64s) -> NDArray[np.bool_]:
        """Whether each block is in the set; ``blocks`` is int64 (n, 3), columns z, y, x. O(n log spans)."""
        keys, starts, stops = self._index
        if not len(keys):
            return np.zeros(len(blocks), bool)
        wanted = _row_key(blocks[:, 0], blocks[:, 1])
        row = np.searchsorted(keys, wanted)
        known = keys[np.minimum(row, len(keys) - 1)] == wanted
        at = row * _ROW + _BIAS + blocks[:, 2]
        span = np.maximum(np.searchsorted(starts, at, side="right") - 1, 0)
        inside: NDArray[np.bool_] = known & (starts[span] <= at) & (at < stops[span])
        return inside

    def inside(self, box: BlockBox) -> NDArray[np.bool_]:
        """Which blocks of a box are in the set: bool of the box's shape, (z, y, x).

        O(blocks of the box + spans in its range of z).
        """
        low, high = box
        keys, starts, stops = self._index
        change = np.zeros((box.shape.z, box.shape.y, box.shape.x + 1), np.int8)
        first = np.searchsorted(keys, _row_key(low.z, INT32_MIN))
        last = np.searchsorted(keys, _row_key(high.z, INT32_MAX), side="right")
        here = slice(np.searchsorted(starts, first * _ROW), np.searchsorted(starts, last * _ROW))
        starts, stops = starts[here], stops[here]
        row = starts // _ROW
        y = (keys[row] & 0xFFFFFFFF) - _BIAS
        x0, x1 = starts - row * _ROW - _BIAS, stops - row * _ROW - _BIAS
        met = (low.y <= y) & (y <= high.y) & (x0 <= high.x) & (x1 > low.x)
        at = ((keys[row[met]] >> 32) - low.z, y[met] - low.y)
        # No two spans of a row start, or stop, at the same block, also after clipping: each is one assignment.
        change[*at, np.maximum(x0[met], low.x) - low.x] = 1
        change[*at, np.minimum(x1[met], high.x + 1) - low.x] = -1
        return np.cumsum(change[:, :, :-1], axis=2, dtype=np.int8).view(np.bool_)


def _row_key(z: Int64s | int, y: Int64s | int) -> Int64s:
    """A row of blocks as one int64 that sorts by z, then y."""
    key: Int64s = np.asarray(z, np.int64) * (1 << 32) + np.asarray(y, np.int64) + _BIAS
    return key


def sorted_spans(rows: Int64s) -> Spans:
    """Spans in any order, int64 (n, 4), as a set: sorted by z, y, x0, x1, and each once."""
    order = np.lexsort(rows.T[::-1])
    ordered = rows[order].astype(np.int32)
    keep = np.ones(len(ordered), bool)
    keep[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return Spans(np.ascontiguousarray(ordered[keep]))
