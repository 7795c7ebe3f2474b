"""An ROI cut into boxes of about the same number of blocks along each axis, as workflows hand them to their workers.

Z is cut into layers, each layer into rows along Y, each row into boxes along X, always within the range of the spans
that are there. All boxes are computed at once: O(spans + boxes), however far apart the spans are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from dvidcore.datatypes.roi.region import Region
from dvidcore.errors import BadRequest

MOST = 1 << 22
"""Boxes of one answer, empty ones included."""
LONGEST = 10_000
"""Blocks along a side of a box; with this the blocks of all boxes fit 63 bits."""
_PIECE = 1 << 12

Int64s = NDArray[np.int64]
Pair = tuple[Int64s, Int64s]


class Cut(NamedTuple):
    """One axis, or many, cut into pieces of ``step`` blocks from ``start`` on; the first ``longer`` have one more.

    With ``late`` the longer ones are those after the first.
    """

    start: Int64s
    longer: Int64s
    step: int
    late: bool = False

    def piece(self, block: Int64s) -> Int64s:
        """Which piece each block is in, from 0 on."""
        at = block - self.start
        if self.late:
            return np.where(at < self.step, 0, 1 + self._regular(at - self.step))
        return self._regular(at)

    def _regular(self, at: Int64s) -> Int64s:
        ends = self.longer * (self.step + 1)
        piece: Int64s = np.where(at < ends, at // (self.step + 1), self.longer + (at - ends) // self.step)
        return piece

    def first(self, piece: Int64s) -> Int64s:
        """The first block of each piece."""
        before = np.maximum(piece - 1, 0) if self.late else piece
        first: Int64s = self.start + piece * self.step + np.minimum(before, self.longer)
        return first

    def of(self, some: Int64s) -> Cut:
        """The cuts at some places, where this is many."""
        return self._replace(start=self.start[some], longer=self.longer[some])


def _centred(low: Int64s, high: Int64s, step: int) -> tuple[Cut, Int64s]:
    """(the cut of each range with what a box is too long divided between its ends, the number of pieces)."""
    rest = (high - low + 1) % step
    return Cut(low - rest // 2, np.zeros_like(low), step), (high - low + rest) // step + 1


def _spread(low: Int64s, high: Int64s, step: int, late: bool = False) -> tuple[Cut, Int64s]:
    """(the cut of each range from its start with the rest given to the first pieces, the number of pieces)."""
    cut = Cut(low, (high - low + 1) % step, step, late)
    return cut, cut.piece(high) + 1


def _groups(*keys: Int64s) -> Int64s:
    """Where each run of equal keys starts, of several sorted together."""
    changes = np.zeros(len(keys[0]), bool)
    changes[:1] = True
    for key in keys:
        changes[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(changes)


class Boxes(NamedTuple):
    """The boxes that hold blocks of the ROI, in z, y, x order; points are block coordinates, columns x, y, z."""

    low: Int64s
    high: Int64s
    active: Int64s
    total: int
    """Blocks of all boxes, also of those that hold none."""


_NONE = np.empty((0, 3), np.int64)


def boxes(spans: Int64s, step: int, optimized: bool) -> Boxes:
    """The boxes of ``step`` blocks along each axis that cover spans, int64 (n, 4), sorted and apart.

    With ``optimized`` they start at the least block of each axis, and some are longer by one. BadRequest where there
    would be more than ``MOST``.
    """
    if not len(spans):
        return Boxes(_NONE, _NONE, _NONE[:, 0], 0)
    cut = _spread if optimized else _centred
    z, y, x0, x1 = spans.T
    in_z = _spread(z[0], z[-1], step, True)[0] if optimized else _centred(z[0], z[-1], step)[0]
    layer = in_z.piece(z)
    starts = _groups(layer)
    of_layer = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(z))))
    in_y = cut(np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts), step)[0].of(of_layer)
    row = in_y.piece(y)
    order = np.lexsort((row, layer))
    layer, row, x0, x1, in_y = layer[order], row[order], x0[order], x1[order], in_y.of(order)
    starts = _groups(layer, row)
    of_row = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(z))))
    in_x, counts = cut(np.minimum.reduceat(x0, starts), np.maximum.reduceat(x1, starts), step)
    if counts.sum() > MOST:
        raise BadRequest(f"batchsize: {step} makes {counts.sum()} subvolumes, at most {MOST} are allowed")
    # Boxes are numbered through all rows.
    base = np.cumsum(counts) - counts
    box_row = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(box_row)) - base[box_row]
    low_x = in_x.of(box_row).first(place)
    high_x = in_x.of(box_row).first(place + 1) - 1
    of_span = in_x.of(of_row)
    active = _active((x0, x1), (base[of_row] + of_span.piece(x0), base[of_row] + of_span.piece(x1)), (low_x, high_x))
    low_z, end_z = (in_z.first(layer[starts] + k) for k in (0, 1))
    rows_y = in_y.of(starts)
    low_y, end_y = (rows_y.first(row[starts] + k) for k in (0, 1))
    area = (end_z - low_z) * (end_y - low_y)
    length = in_x.first(counts) - in_x.start
    total = int((area * length).sum())
    some = np.flatnonzero(active)
    of_box = box_row[some]
    low = np.stack((low_x[some], low_y[of_box], low_z[of_box]), axis=1)
    high = np.stack((high_x[some], end_y[of_box] - 1, end_z[of_box] - 1), axis=1)
    return Boxes(low, high, active[some], total)


def _active(span: Pair, reach: Pair, box: Pair) -> Int64s:
    """How many blocks of the spans are in each box.

    Of each span its two ends and the numbers of the boxes that these are in, of each box its two ends.
    """
    (x0, x1), (first, last), (low_x, high_x) = span, reach, box
    active = np.zeros(len(low_x), np.int64)
    np.add.at(active, first, np.minimum(x1, high_x[first]) - x0 + 1)
    beyond = last > first
    first, last = first[beyond], last[beyond]
    np.add.at(active, last, x1[beyond] - low_x[last] + 1)
    # Boxes in between are filled along x by the span.
    filled = np.zeros(len(low_x) + 1, np.int64)
    np.add.at(filled, first + 1, 1)
    np.add.at(filled, last, -1)
    return active + np.cumsum(filled[:-1]) * (high_x - low_x + 1)


def answer(region: Region, step: int, optimized: bool) -> Iterator[bytes]:
    """The JSON of ``GET partition``, in pieces."""
    found = boxes(region.spans.joined, step, optimized)
    head = {
        "NumTotalBlocks": found.total,
        "NumActiveBlocks": int(found.active.sum()),
        "NumSubvolumes": len(found.active),
        "ROI": _extent(region.spans.joined),
    }
    return _json(head, found, np.array(region.block[::-1], np.int64))


def _extent(spans: Int64s) -> dict[str, list[int]]:
    """The range of an ROI in blocks, zeros where it is empty.

    Along x and y it reaches to 0 where the ROI does not: so DVID has it, and the answers that clients know.
    """
    if not len(spans):
        return {"MinChunk": [0, 0, 0], "MaxChunk": [0, 0, 0]}
    z, y, x0, x1 = spans.T
    return {
        "MinChunk": [min(0, int(x0.min())), min(0, int(y.min())), int(z[0])],
        "MaxChunk": [max(0, int(x1.max())), max(0, int(y.max())), int(z[-1])],
    }


def _json(head: dict[str, Any], found: Boxes, block: Int64s) -> Iterator[bytes]:
    yield orjson.dumps(head)[:-1] + b',"Subvolumes":['
    for k in range(0, len(found.active), _PIECE):
        low, high, active = (part[k : k + _PIECE] for part in found[:3])
        sides = (high - low + 1).tolist()
        parts = zip(
            (low * block).tolist(),
            ((high + 1) * block - 1).tolist(),
            low.tolist(),
            high.tolist(),
            (x * y * z for x, y, z in sides),
            active.tolist(),
            strict=True,
        )
        piece = orjson.dumps([dict(zip(_NAMES, part, strict=True)) for part in parts])[1:-1]
        yield b"," + piece if k else piece
    yield b"]}"


_NAMES = ("MinPoint", "MaxPoint", "MinChunk", "MaxChunk", "TotalBlocks", "ActiveBlocks")
