"""What a check writes: index rows, records, counters and extents, in batches that are whole by themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dvidcore.datatypes.call import Call
from dvidcore.datatypes.labels.rows import BodyRecord
from dvidcore.datatypes.labels.writing import transaction
from dvidcore.datatypes.labels.writing.indexing import Pair, put_rows
from dvidcore.storage.versioned import VersionedBatch

if TYPE_CHECKING:
    from dvidcore.datatypes.checks import Examination
    from dvidcore.datatypes.labels.engine import LabelEngine
    from dvidcore.datatypes.labels.writing.transaction import Transaction

_MOST = 5000
"""Rows of a batch."""


class Repairs:
    """Gathers what is to be written at each version; nothing at all unless the examination is to repair."""

    def __init__(self, data: LabelEngine, exam: Examination) -> None:
        self._data = data
        self._exam = exam
        self._rows: dict[int, dict[Pair, bytes]] = {}
        self._records: dict[int, dict[int, BodyRecord | None]] = {}
        self._gathered = 0
        self.writes = 0
        """How often something was written."""

    def row(self, version: int, pair: Pair, row: bytes) -> None:
        """Makes ``row`` the index row of a body and a block, empty for none, and the body's totals follow."""
        self._rows.setdefault(version, {})[pair] = row
        self._count()

    def total(self, version: int, body: int, record: BodyRecord | None, voxels: int, blocks: int) -> None:
        """Replaces the totals of a body; ``record`` is what there was."""
        new = (record or BodyRecord(0, 0, 0))._replace(voxels=voxels, blocks=blocks) if blocks else None
        self._records.setdefault(version, {})[body] = new
        self._count()

    def write(self, version: int, change: Callable[[Transaction], None]) -> None:
        """Writes something else at a version, at once."""
        if not self._exam.repair:
            return
        data = self._data
        node = data.repo.dag.nodes[version]
        call = Call(data.engine, node, data.database.ancestry_for(data.repo, node, data.record), app="dvidcore check")
        self.writes += 1
        try:
            transaction.write(data, call, change)
        finally:
            call.close()

    def finish(self) -> None:
        """Writes what was gathered, ancestors first."""
        for version in sorted({*self._rows, *self._records}):
            rows, records = self._rows.get(version, {}), self._records.get(version, {})
            self.write(version, lambda tx, rows=rows, records=records: self._put(tx, rows, records))  # type: ignore[misc]
        self._rows, self._records, self._gathered = {}, {}, 0

    def _count(self) -> None:
        self._gathered += 1
        if self._gathered >= _MOST:
            self.finish()

    def _put(self, tx: Transaction, rows: dict[Pair, bytes], records: dict[int, BodyRecord | None]) -> None:
        mutation = tx.mutation

        def step(now: Call, batch: VersionedBatch) -> None:
            for body, record in records.items():
                if record is None:
                    batch.delete(self._data.rows.body(body))
                else:
                    batch.put(self._data.rows.body(body), record._replace(change=mutation).pack())
            if rows:
                put_rows(self._data, now, rows, mutation, batch.batch)

        tx.at_commit(step)
