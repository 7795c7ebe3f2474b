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


class _Chunk:
    """Rows, and what versions gain and lose of them."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.values: list[Value] = []
        self.writers: list[int] = []
        self.seen_by: list[tuple[Pattern, int]] = []
        """Of each row its key's pattern and its place in it."""
        self.events: list[tuple[int, int, int]] = []
        """(version, row, 1 or -1)."""

    def __len__(self) -> int:
        return len(self.values)


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
        body = -1
        for key, entries in self.exam.grouped(*prefix_range(self.data.rows.all_indices), "index"):
            new = u64_of(key, BODY_OFFSET) != body
            if new and len(chunk) >= _ROWS:
                self._finish(chunk)
                chunk = _Chunk()
                self.totals.below(u64_of(key, BODY_OFFSET))
            elif len(chunk) >= _ROWS:
                self._finish(chunk)
                chunk = _Chunk()
            body = u64_of(key, BODY_OFFSET)
            self._add(chunk, key, entries)
        self._finish(chunk)
        self.totals.below(None)

    def _add(self, chunk: _Chunk, key: bytes, entries: Entries) -> None:
        pattern = pattern_of(entries)
        at: dict[int, int] = {}
        for place, (version, value) in enumerate(entries):
            if not len(value):
                continue
            if len(value) < _HEAD + _WIDTH or (len(value) - _HEAD) % _WIDTH:
                self.malformed.append((version, key))
                continue
            at[place] = len(chunk)
            chunk.keys.append(key)
            chunk.values.append(value)
            chunk.writers.append(version)
            chunk.seen_by.append((pattern, place))
        lineage = self.exam.lineage
        hidden = self.hidden.get(key[INDEX_ZYX_OFFSET:], frozenset()) if self.hidden else frozenset()
        if len(pattern) > 1:
            conflicts = lineage.conflicts(pattern)
            if conflicts:
                self.totals.unknown(u64_of(key, BODY_OFFSET), conflicts)
        for version, now, before in lineage.changes(pattern):
            if now in at:
                chunk.events.append((version, at[now], 1))
            if before in at:
                chunk.events.append((version, at[before], -1))
        if hidden:
            # The totals count these rows, the sums do not.
            self._take_back(chunk, key, pattern, at, hidden)

    def _take_back(
        self, chunk: _Chunk, key: bytes, pattern: Pattern, at: dict[int, int], hidden: frozenset[int]
    ) -> None:
        """Makes up in the sums for what is hidden of a row."""
        visible = {(c.version, p, s) for c in self.exam.lineage.changes(pattern, hidden) for p, s in _signed(c)}
        all_ = {(c.version, p, s) for c in self.exam.lineage.changes(pattern) for p, s in _signed(c)}
        for changed, sign in ((all_ - visible, 1), (visible - all_, -1)):
            for version, place, gained in changed:
                if place in at:
                    coords, supervoxels, counts, _ = labels.unpack_rows(
                        [key], [chunk.values[at[place]]], INDEX_ZYX_OFFSET
                    )
                    prints = fingerprints(coords, supervoxels, counts.astype(np.uint64))
                    self.sums.add(version, supervoxels, prints, negative=gained * sign < 0)

    # -- many rows at once ---------------------------------------------------------------------------------------------

    def _finish(self, chunk: _Chunk) -> None:
        if not len(chunk):
            return
        coords, supervoxels, counts, _ = labels.unpack_rows(chunk.keys, chunk.values, INDEX_ZYX_OFFSET)
        sizes = np.array([(len(value) - _HEAD) // _WIDTH for value in chunk.values], np.int64)
        starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
        bodies = np.array([u64_of(key, BODY_OFFSET) for key in chunk.keys], np.uint64)
        voxels = counts.astype(np.uint64)
        self.largest = max(self.largest, int(bodies.max()), int(supervoxels.max()))
        row = np.repeat(np.arange(len(sizes)), sizes)
        prints = fingerprints(coords, supervoxels, voxels)
        writers = np.array(chunk.writers, np.int64)
        events = np.array(chunk.events, np.int64).reshape(-1, 3)
        for version in np.unique(events[:, 0]).tolist():
            of_version = events[events[:, 0] == version]
            for sign in (1, -1):
                mine = np.zeros(len(sizes), np.bool_)
                mine[of_version[of_version[:, 2] == sign, 1]] = True
                if mine.any():
                    at = mine[row]
                    self.sums.add(version, supervoxels[at], prints[at], negative=sign > 0)
        self._check_order(chunk, supervoxels, counts, starts)
        self._check_members(chunk, writers, row, supervoxels, bodies)
        self.totals.add(events, bodies, np.add.reduceat(voxels, starts).astype(np.int64))

    def _check_order(
        self, chunk: _Chunk, supervoxels: U64s, counts: NDArray[np.uint32], starts: NDArray[np.int64]
    ) -> None:
        """Rows that list supervoxels twice, out of order, or without voxels are looked into."""
        wrong = counts == 0
        wrong |= supervoxels == 0
        unordered = np.zeros(len(supervoxels), np.bool_)
        unordered[1:] = supervoxels[1:] <= supervoxels[:-1]
        unordered[starts] = False
        wrong |= unordered
        for k in np.unique(np.searchsorted(starts, np.flatnonzero(wrong), side="right") - 1).tolist():
            self.sums.mark(chunk.writers[k], supervoxels[starts[k] : starts[k] + 1])

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
        combos: dict[tuple[Pattern, int], int] = {}
        combo = np.array([combos.setdefault(seen, len(combos)) for seen in chunk.seen_by], np.int64)
        for version, moved in remapped.items():
            sees = [self.exam.lineage.seen(pattern).get(version) == place for pattern, place in combos]
            rows = np.array(sees, np.bool_)[combo] & (writers != version)
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


def _signed(change: tuple[int, int | None, int | None]) -> Iterator[tuple[int, int]]:
    _, now, before = change
    if now is not None:
        yield now, 1
    if before is not None:
        yield before, -1
