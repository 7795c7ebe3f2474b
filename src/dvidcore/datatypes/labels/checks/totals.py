"""The records of the bodies: voxels and blocks, compared with the rows of the index at each version."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dvidcore.datatypes.checks import CONFLICT, Examination, pattern_of
from dvidcore.datatypes.labels.checks.repairs import Repairs
from dvidcore.datatypes.labels.rows import BODY_OFFSET, BodyRecord
from dvidcore.errors import StoreError
from dvidcore.storage.keys import u64_of

if TYPE_CHECKING:
    from dvidcore.datatypes.labels.checks.blocks import Entries
    from dvidcore.datatypes.labels.engine import LabelEngine

Sum = tuple[int, int]
"""Voxels and blocks."""
_NONE: Sum = (0, 0)


class Totals:
    """Adds rows up, and compares a body with its records once all of its rows were added."""

    def __init__(self, data: LabelEngine, exam: Examination) -> None:
        self._data = data
        self._exam = exam
        self._repairs = Repairs(data, exam)
        self._sums: dict[int, dict[int, Sum]] = {}
        """Of each body what versions change."""
        self._unknown: dict[int, set[int]] = {}
        self._records = self._read_records()
        self._next = next(self._records, None)
        self.largest: dict[int, int] = {}
        """By version the largest body of whose records it wrote one that is no tombstone."""

    def unknown(self, body: int, versions: Collection[int]) -> None:
        """Says that rows of a body are in conflict at versions, so nothing is known of its totals."""
        self._unknown.setdefault(body, set()).update(versions)

    def add(self, events: NDArray[np.int64], bodies: NDArray[np.uint64], voxels: NDArray[np.int64]) -> None:
        """Adds rows: ``events`` (n, 3) are version, row, 1 or -1; the others are of each row."""
        body = bodies[events[:, 1]]
        order = np.lexsort((events[:, 0], body))
        body, events = body[order], events[order]
        new = np.concatenate(([True], (body[1:] != body[:-1]) | (events[1:, 0] != events[:-1, 0])))
        starts = np.flatnonzero(new)
        blocks = np.add.reduceat(events[:, 2], starts)
        summed = np.add.reduceat(voxels[events[:, 1]] * events[:, 2], starts)
        columns = (body[starts].tolist(), events[starts, 0].tolist(), summed.tolist(), blocks.tolist())
        for label, version, more, count in zip(*columns, strict=True):
            of_body = self._sums.setdefault(label, {})
            old = of_body.get(version, _NONE)
            of_body[version] = (old[0] + more, old[1] + count)

    def below(self, stop: int | None) -> None:
        """Compares all bodies below ``stop``, all that there are for None."""
        for body in sorted(body for body in self._sums if stop is None or body < stop):
            while self._next is not None and self._next[0] < body:
                self._compare(*self._next, {})
                self._next = next(self._records, None)
            entries: Entries = []
            if self._next is not None and self._next[0] == body:
                entries = self._next[1]
                self._next = next(self._records, None)
            self._compare(body, entries, self._sums.pop(body))
        while self._next is not None and (stop is None or self._next[0] < stop):
            self._compare(*self._next, {})
            self._next = next(self._records, None)
        if stop is None:
            self._repairs.finish()

    def _read_records(self) -> Iterator[tuple[int, Entries]]:
        bounds = self._data.rows.bodies(0, 2**64 - 1)
        for key, entries in self._exam.grouped(*bounds, "body records"):
            yield u64_of(key, BODY_OFFSET), entries

    def _compare(self, body: int, entries: Entries, changes: dict[int, Sum]) -> None:
        records: list[BodyRecord | None] = []
        damaged: set[int] = set()
        for place, (version, value) in enumerate(entries):
            try:
                records.append(BodyRecord.unpack(value) if len(value) else None)
            except StoreError as e:
                self._exam.found("body", f"body {body}", e, "a record", version=version, repairable=True)
                records.append(None)
                damaged.add(place)
            else:
                if not len(value):
                    continue
                self.largest[version] = max(self.largest.get(version, 0), body)
        if len(entries) == 1 == len(changes):  # nearly all
            (version, _), record = entries[0], records[0]
            if record is not None and changes.get(version) == (record.voxels, record.blocks):
                return
        lineage = self._exam.lineage
        pattern = pattern_of(entries)
        seen = lineage.seen(pattern)
        unknown = self._unknown.pop(body, ())
        sums: dict[int, Sum] = {}
        interesting = {*changes, *(version for version, _, _ in lineage.changes(pattern))}
        for version in sorted(interesting):
            above = lineage.first_parent(version)
            while above is not None and above not in sums:
                above = lineage.first_parent(above)
            before, more = _NONE if above is None else sums[above], changes.get(version, _NONE)
            total = sums[version] = (before[0] + more[0], before[1] + more[1])
            seen_at = seen.get(version)
            if version in unknown or seen_at == CONFLICT:
                continue
            if seen_at in damaged:
                self._repairs.total(version, body, None, *total)
                continue
            record = None if seen_at is None else records[seen_at]
            if total != (_NONE if record is None else (record.voxels, record.blocks)) or (record and not total[1]):
                self._differs(body, version, record, total)

    def _differs(self, body: int, version: int, record: BodyRecord | None, total: Sum) -> None:
        stored = "no record" if record is None else f"{record.voxels} voxels in {record.blocks} blocks"
        expected = f"{total[0]} voxels in {total[1]} blocks" if total[1] else "no record"
        self._exam.found("body", f"body {body}", stored, expected, version=version, repairable=True)
        self._repairs.total(version, body, record, *total)
