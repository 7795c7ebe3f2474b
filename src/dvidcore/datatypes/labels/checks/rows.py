"""The second pass: every index row, beside the records of the bodies' totals, in the order of bodies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dvidcore import labels
from dvidcore.datatypes.checks import Examination, Pattern, pattern_of
from dvidcore.datatypes.labels.checks.blocks import Entries
from dvidcore.datatypes.labels.checks.fingerprints import Sums, fingerprints
from dvidcore.datatypes.labels.checks.totals import Totals
from dvidcore.datatypes.labels.rows import BODY_OFFSET, INDEX_ZYX_OFFSET
from dvidcore.storage.keys import prefix_range, u64_of

if TYPE_CHECKING:
    from dvidcore.datatypes.labels.checks.mappings import Mappings
    from dvidcore.datatypes.labels.engine import LabelEngine
    from dvidcore.storage.engine import Value

_ROWS = 20_000  # that are looked at together
U64s = NDArray[np.uint64]
_HEAD, _WIDTH = 8, 12
_BODY = slice(BODY_OFFSET, BODY_OFFSET + 8)


Place = tuple[Pattern, int]
"""The pattern of a key, and which of its entries."""


class _Chunk:
    """Rows, each with the number of its place."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.values: list[Value] = []
        self.places: list[int] = []
        self.numbers: dict[Place, int] = {}

    def __len__(self) -> int:
        return len(self.values)

    def add(self, key: bytes, value: Value, place: Place) -> None:
        self.keys.append(key)
        self.values.append(value)
        self.places.append(self.numbers.setdefault(place, len(self.numbers)))


class RowPass:
    """Compares the rows with the mapping, takes them off the sums, and adds them up to totals."""

    def __init__(
        self,
        data: LabelEngine,
        exam: Examination,
        mappings: Mappings,
        hidden: Mapping[bytes, frozenset[int]],
        sums: Sums,
    ) -> None:
        self.data = data
        self.exam = exam
        self.mappings = mappings
        self.hidden = hidden
        self.sums = sums
        self.totals = Totals(data, exam)
        self.largest = 0
        """The largest body or supervoxel of all rows."""
        self.malformed: list[tuple[int, bytes]] = []
        """(version, key) of rows that are none."""

    def run(self) -> None:
        chunk = _Chunk()
        body = b""
        for key, entries in self.exam.grouped(*prefix_range(self.data.rows.all_indices), "index"):
            if len(chunk) >= _ROWS:
                self._finish(chunk)
                chunk = _Chunk()
                if key[_BODY] != body:
                    self.totals.below(u64_of(key, BODY_OFFSET))
            body = key[_BODY]
            self._add(chunk, key, entries)
        self._finish(chunk)
        self.totals.below(None)

    def _add(self, chunk: _Chunk, key: bytes, entries: Entries) -> None:
        hidden = self.hidden.get(key[INDEX_ZYX_OFFSET:]) if self.hidden else None
        pattern = pattern_of(entries)
        for place, (version, value) in enumerate(entries):
            if not len(value):
                continue
            if len(value) < _HEAD + _WIDTH or (len(value) - _HEAD) % _WIDTH:
                self.malformed.append((version, key))
                continue
            chunk.add(key, value, (pattern, place))
            if hidden:
                self._take_back(key, value, (pattern, place), hidden)
        if len(pattern) > 1 and (conflicts := self.exam.lineage.conflicts(pattern)):
            self.totals.unknown(u64_of(key, BODY_OFFSET), conflicts)

    def _take_back(self, key: bytes, value: Value, place: Place, hidden: frozenset[int]) -> None:
        """Makes up in the sums, from which each row is taken, for what is hidden of one; the totals count all of it."""
        coords, supervoxels, counts, _ = labels.unpack_rows([key], [value], INDEX_ZYX_OFFSET)
        prints = fingerprints(coords, supervoxels, counts.astype(np.uint64))
        for version, gains in self._events(place):
            self.sums.add(version, supervoxels, prints, negative=not gains)
        for version, gains in self._events(place, hidden):
            self.sums.add(version, supervoxels, prints, negative=gains)

    def _events(self, place: Place, hidden: frozenset[int] = frozenset()) -> Iterator[tuple[int, bool]]:
        """(version, whether it gains the entry or loses it)."""
        pattern, k = place
        for version, now, before in self.exam.lineage.changes(pattern, hidden):
            if now == k:
                yield version, True
            if before == k:
                yield version, False

    # -- many rows at once ---------------------------------------------------------------------------------------------

    def _finish(self, chunk: _Chunk) -> None:
        if not len(chunk):
            return
        coords, supervoxels, counts, _ = labels.unpack_rows(chunk.keys, chunk.values, INDEX_ZYX_OFFSET)
        sizes = (np.fromiter(map(len, chunk.values), np.int64, len(chunk)) - _HEAD) // _WIDTH
        starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
        raw = np.frombuffer(b"".join([key[_BODY] for key in chunk.keys]), ">u8")
        bodies, voxels = raw.astype(np.uint64), counts.astype(np.uint64)
        self.largest = max(self.largest, int(bodies.max()), int(supervoxels.max()))
        row = np.repeat(np.arange(len(sizes)), sizes)
        prints = fingerprints(coords, supervoxels, voxels)
        places = np.array(chunk.places, np.int64)
        events: list[NDArray[np.int64]] = []
        for place, number in chunk.numbers.items():
            mine = places == number
            rows, at = np.flatnonzero(mine), mine[row]
            for version, gains in self._events(place):
                self.sums.add(version, supervoxels[at], prints[at], negative=gains)
                sign = np.full_like(rows, 1 if gains else -1)
                events.append(np.stack((np.full_like(rows, version), rows, sign), axis=1))
        writers = np.array([pattern[k] for pattern, k in chunk.numbers], np.int64)[places]
        self._check_order(writers, supervoxels, counts, starts)
        self._check_members(chunk, writers, row, supervoxels, bodies)
        self.totals.add(np.concatenate(events), bodies, np.add.reduceat(voxels, starts).astype(np.int64))

    def _check_order(
        self, writers: NDArray[np.int64], supervoxels: U64s, counts: NDArray[np.uint32], starts: NDArray[np.int64]
    ) -> None:
        """Rows that list supervoxels twice, out of order, or without voxels are looked into."""
        wrong = counts == 0
        wrong |= supervoxels == 0
        unordered = np.zeros(len(supervoxels), np.bool_)
        unordered[1:] = supervoxels[1:] <= supervoxels[:-1]
        unordered[starts] = False
        wrong |= unordered
        for k in np.unique(np.searchsorted(starts, np.flatnonzero(wrong), side="right") - 1).tolist():
            self.sums.mark(int(writers[k]), supervoxels[starts[k] : starts[k] + 1])

    def _check_members(
        self, chunk: _Chunk, writers: NDArray[np.int64], row: NDArray[np.int64], supervoxels: U64s, bodies: U64s
    ) -> None:
        """Each supervoxel must map to the body in whose row it is, at the row's version and where a mapping changes."""
        for version in np.unique(writers).tolist():
            at = (writers == version)[row]
            found = supervoxels[at]
            wrong = self.mappings.at(version).bodies(found) != bodies[row[at]]
            if wrong.any():
                self.sums.mark(version, found[wrong])
        remapped = self.mappings.remapped
        if not remapped:
            return
        places = np.array(chunk.places, np.int64)
        for version, moved in remapped.items():
            sees = [self.exam.lineage.seen(pattern).get(version) == place for pattern, place in chunk.numbers]
            rows = np.array(sees, np.bool_)[places] & (writers != version)
            if not rows.any():
                continue
            at = rows[row]
            found, body = supervoxels[at], bodies[row[at]]
            place = np.minimum(np.searchsorted(moved, found), len(moved) - 1)
            mapped = moved[place] == found
            found, body = found[mapped], body[mapped]
            wrong = self.mappings.at(version).bodies(found) != body
            if wrong.any():
                self.sums.mark(version, found[wrong])
