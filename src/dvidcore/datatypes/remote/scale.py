"""One scale of a volume elsewhere as boxes of voxels: what answers of every kind are made from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvidcore.datatypes.remote.coded import JpegChunks
from dvidcore.datatypes.remote.waiting import Together
from dvidcore.errors import BadRequest
from dvidcore.geometry import INT32_MAX, INT32_MIN, ZYX

PART = 32 << 20
"""Bytes of chunks that are asked for at a time, so that neither memory nor the time-out depends on the whole box."""


class Scale:
    """The voxels of a scale; those outside of the volume are 0."""

    def __init__(
        self, store: Any, dtype: np.dtype[Any], chunk: Sequence[int], wait: Callable[[Callable[[], Any]], Any]
    ) -> None:
        """``store`` is a tensorstore (z, y, x) or (z, y, x, channel), ``chunk`` the shape of its chunks.

        ``wait`` answers the result of the future that a function starts, or raises what its failure is called.
        """
        self._store, self._wait = store, wait
        self.coded: JpegChunks | None = None
        """The chunks as they are stored, where they are JPEG."""
        self.dtype = dtype
        origin, size = store.domain.origin[:3], store.domain.shape[:3]
        if (
            min(size) < 1
            or min(origin) < INT32_MIN
            or any(o + n - 1 > INT32_MAX for o, n in zip(origin, size, strict=True))
        ):
            raise BadRequest(
                f"URL: the volume at {list(origin[::-1])} of {list(size[::-1])} voxels is not within int32"
            )
        self.origin, self.size = ZYX(*origin), ZYX(*size)
        """Of the volume: its first voxel, and how many there are."""
        self.channels: tuple[int, ...] = tuple(store.domain.shape[3:])
        self.shape = ZYX(*(min(c, n) for c, n in zip(chunk, size, strict=False)))
        """Of a chunk, (z, y, x)."""
        self.nbytes = dtype.itemsize * math.prod(self.channels)
        """Of a voxel."""

    def check(self, offset: Sequence[int], size: Sequence[int], most: int) -> None:
        """BadRequest where a box touches chunks of more than ``most`` bytes, however little of each it asks for."""
        total = self._bytes_of_chunks(*self._inside(offset, size))
        if total > most:
            raise BadRequest(
                f"size: the box touches chunks of {total} bytes, at most {most} are allowed (maxDataRequest)"
            )

    def empty(self, size: Sequence[int]) -> NDArray[Any]:
        """A new array for a box of ``size`` (z, y, x)."""
        return np.empty((*size, *self.channels), self.dtype)

    def box(self, offset: ZYX, size: Sequence[int]) -> NDArray[Any]:
        """The voxels of a box, (z, y, x) or (z, y, x, channel), contiguous."""
        out = self.empty(size)
        self.fill(offset, out)
        return out

    def fill(self, offset: ZYX, out: NDArray[Any]) -> None:
        """Writes the voxels of the box at ``offset`` into an array as of ``empty``.

        Raises BadGateway, GatewayTimeout or Unavailable where the service fails.
        """
        low, high = self._inside(offset, out.shape[:3])
        if any(b - a < n for a, b, n in zip(low, high, out.shape, strict=False)):
            out[...] = 0
        for start, stop in self._parts(low, high):
            source = self._store[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
            part = tuple(slice(a - o, b - o) for a, b, o in zip(start, stop, offset, strict=True))
            out[part] = self._wait(partial(source.read, order="C"))

    def boxes(self, offsets: Iterable[ZYX], size: Sequence[int]) -> Iterator[NDArray[Any]]:
        """The voxels of boxes of one size, in order; several are read at a time."""
        for some in self._groups(offsets, size):
            asked = [self._request(offset, size) for offset in some]
            read = self._wait(partial(_started, [source for _, source in asked if source is not None]))
            found = iter(read)
            for place, source in asked:
                out = np.zeros((*size, *self.channels), self.dtype)
                if source is not None:
                    out[place] = next(found)
                yield out

    def _groups(self, offsets: Iterable[ZYX], size: Sequence[int]) -> Iterator[list[ZYX]]:
        """Boxes of one size, as many together as have voxels of a fourth of PART and touch chunks of PART bytes."""
        most = max(1, PART // (4 * math.prod(size) * self.nbytes))
        some: list[ZYX] = []
        known: set[tuple[int, ...]] = set()
        total = 0
        for offset in offsets:
            low, high = self._inside(offset, size)
            ends = (*self._chunk_of(low), *self._chunk_of(ZYX(*(b - 1 for b in high))))
            chunks = self._bytes_of_chunks(low, high)
            more = 0 if ends in known else chunks
            if some and (len(some) == most or total + more > PART):
                yield some
                some, known, total, more = [], set(), 0, chunks
            some.append(offset)
            known.add(ends)
            total += more
        if some:
            yield some

    def _request(self, offset: ZYX, size: Sequence[int]) -> tuple[tuple[slice, ...], Any]:
        """The part of a box that is in the volume: where it is in the box, and what reads it, None if there is none."""
        low, high = self._inside(offset, size)
        if min(b - a for a, b in zip(low, high, strict=True)) < 1:
            return (), None
        place = tuple(slice(a - o, b - o) for a, b, o in zip(low, high, offset, strict=True))
        return place, self._store[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]

    def points(self, points: NDArray[np.int64], most: int) -> NDArray[Any]:
        """The values of voxels (n, 3), z, y, x, of a volume without channels, chunk by chunk; (n,).

        BadRequest where they touch chunks of more than ``most`` bytes; and as ``fill``.
        """
        out = np.zeros(len(points), self.dtype)
        low = np.array(self.origin, np.int64)
        inside = np.flatnonzero(((points >= low) & (points < low + np.array(self.size, np.int64))).all(axis=1))
        if not len(inside):
            return out
        shape = np.array(self.shape)
        grid = tuple(-(-n // c) for n, c in zip(self.size, self.shape, strict=True))
        numbers = np.ravel_multi_index(tuple(((points[inside] - low) // shape).T), grid)
        chunks, which = np.unique(numbers, return_inverse=True)
        each = math.prod(self.shape) * self.nbytes
        if len(chunks) * each > most:
            raise BadRequest(
                f"the points lie in {len(chunks)} chunks of {each} bytes, at most {most} bytes may be read"
            )
        order = np.argsort(which, kind="stable")
        inside, ranked = inside[order], which[order]
        step = max(1, PART // each)
        for first in range(0, len(chunks), step):
            some = inside[np.searchsorted(ranked, first) : np.searchsorted(ranked, first + step)]
            z, y, x = points[some].T
            source = self._store.vindex[z, y, x]
            out[some] = self._wait(source.read)
        return out

    def _inside(self, offset: Sequence[int], size: Sequence[int]) -> tuple[ZYX, ZYX]:
        """The part of a box that is in the volume, as its first voxel and the one behind its last."""
        low = ZYX(*(max(a, o) for a, o in zip(offset, self.origin, strict=True)))
        ends = (min(a + n, o + s) for a, n, o, s in zip(offset, size, self.origin, self.size, strict=True))
        return low, ZYX(*map(max, low, ends))

    def _chunk_of(self, voxel: ZYX) -> tuple[int, ...]:
        return tuple((p - o) // c for p, o, c in zip(voxel, self.origin, self.shape, strict=True))

    def _bytes_of_chunks(self, low: ZYX, high: ZYX) -> int:
        """Of all chunks that a part of the volume touches."""
        chunks = math.prod(
            (b - 1 - o) // c - (a - o) // c + 1 if b > a else 0
            for a, b, o, c in zip(low, high, self.origin, self.shape, strict=True)
        )
        return chunks * math.prod(self.shape) * self.nbytes

    def _parts(self, low: ZYX, high: ZYX) -> Iterator[tuple[ZYX, ZYX]]:
        """A box in parts that end where chunks end, of chunks of at most about PART bytes."""
        if min(b - a for a, b in zip(low, high, strict=True)) < 1:
            return
        left = max(1, PART // max(1, math.prod(self.shape) * self.nbytes))
        steps = [1, 1, 1]
        for axis in (2, 1, 0):  # whole rows first, then whole planes
            o, c = self.origin[axis], self.shape[axis]
            here = (high[axis] - 1 - o) // c - (low[axis] - o) // c + 1
            steps[axis] = min(here, left)
            left = max(1, left // here)
        cuts = [self._cuts(low[k], high[k], self.origin[k], self.shape[k] * steps[k]) for k in range(3)]
        for z in cuts[0]:
            for y in cuts[1]:
                for x in cuts[2]:
                    yield ZYX(z[0], y[0], x[0]), ZYX(z[1], y[1], x[1])

    @staticmethod
    def _cuts(low: int, high: int, origin: int, step: int) -> list[tuple[int, int]]:
        ends = range(origin + ((low - origin) // step + 1) * step, high, step)
        edges = [low, *ends, high]
        return list(pairwise(edges))


def _started(sources: Sequence[Any]) -> Together:
    return Together([source.read(order="C") for source in sources])
