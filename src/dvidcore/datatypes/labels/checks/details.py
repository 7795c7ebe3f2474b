"""The third pass, where sums disagree: which rows are wrong, missing or too many, block by block.

Only supervoxels in suspicious buckets are looked at, and only at the versions where a disagreement begins.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dvidcore.datatypes.checks import CONFLICT, Examination, pattern_of
from dvidcore.datatypes.labels import stored
from dvidcore.datatypes.labels.checks.blocks import ZYX_OFFSET, Count, Entries, count
from dvidcore.datatypes.labels.checks.fingerprints import Sums
from dvidcore.datatypes.labels.checks.repairs import Repairs
from dvidcore.datatypes.labels.rows import BODY_OFFSET, INDEX_ZYX_OFFSET
from dvidcore.datatypes.labels.writing.indexing import Pair, rows_of
from dvidcore.errors import StoreError
from dvidcore.geometry import ZYX
from dvidcore.storage.keys import prefix_end, prefix_range, u64_of, zyx_of
from dvidcore.storage.versioned import KeyConflict, View

if TYPE_CHECKING:
    from dvidcore.datatypes.labels.checks.mappings import Mappings
    from dvidcore.datatypes.labels.engine import LabelEngine
    from dvidcore.storage.engine import Snapshot, Value
    from dvidcore.storage.versioned import Ancestry

_KEPT = 4096  # blocks whose rows are kept while index rows are gone through
_SURFACE = 8  # bytes of a row before what it counts
U64s = NDArray[np.uint64]
Bodies = dict[int, bytes]


class Details:
    """Reports and mends what the sums found."""

    def __init__(
        self,
        data: LabelEngine,
        exam: Examination,
        mappings: Mappings,
        hidden: Mapping[bytes, frozenset[int]],
        *,
        sums: Sums,
    ) -> None:
        self.data = data
        self.exam = exam
        self.mappings = mappings
        self.hidden = hidden
        self.sums = sums
        self.suspicious = sums.suspicious()
        self.repairs = Repairs(data, exam)
        self._kept: OrderedDict[tuple[int, bytes], Bodies | None] = OrderedDict()
        self._newest: tuple[int, Snapshot] | None = None
        self._gone: dict[tuple[int, int], int] = {}

    def run(self) -> None:
        try:
            self._run()
        finally:
            if self._newest is not None:
                self._newest[1].close()

    def _run(self) -> None:
        if self.suspicious:
            self._blocks()
            self._rows()
        for (version, supervoxel), n in sorted(self._gone.items()):
            stored_text = f"mapped to 0, though {n} blocks have it"
            self.exam.found(
                "mapping",
                f"supervoxel {supervoxel}",
                stored_text,
                "mapped to a body",
                version=version,
                serious=False,
            )
        self.repairs.finish()

    def malformed(self, version: int, key: bytes) -> None:
        """Reports and mends a row that is none."""
        body, zyx = u64_of(key, BODY_OFFSET), key[INDEX_ZYX_OFFSET:]
        expected = self._bodies_at(version, zyx)
        row = b"" if expected is None else expected.get(body, b"")
        self.exam.found(
            "index", _name(body, zyx), "damaged", _text(row), version=version, repairable=expected is not None
        )
        if expected is not None:
            self.repairs.write(version, lambda tx: tx.batch.delete(key))
            if row:
                self.repairs.row(version, (body, zyx), row)

    # -- rows that are wrong or missing: by blocks ----------------------------------------------------------------------

    def _blocks(self) -> None:
        prefix = self.data.rows.scale(0)
        for key, entries in self.exam.grouped(*prefix_range(prefix), "blocks that disagree"):
            zyx = key[ZYX_OFFSET:]
            counted: dict[int, Count | None] = {}
            for version, place in self._seen(entries):
                if version in self.hidden.get(zyx, ()):
                    continue
                value = entries[place][1]
                bad = self.suspicious[version]
                if not bad[self.sums.buckets(stored.labels(value))].any():
                    continue
                if place not in counted:
                    counted[place] = self._counted(value)
                found = counted[place]
                if found is not None:
                    self._block(version, zyx, found)

    def _seen(self, entries: Entries) -> list[tuple[int, int]]:
        """(version, place of the entry that it sees), of the suspicious versions."""
        seen = self.exam.lineage.seen(pattern_of(entries))
        return [(v, place) for v in self.suspicious if (place := seen.get(v, CONFLICT)) != CONFLICT]

    def _counted(self, value: Value) -> Count | None:
        try:
            return count(value, self.data.block)
        except (StoreError, ValueError):  # which was reported
            return None

    def _block(self, version: int, zyx: bytes, found: Count) -> None:
        wanted, gone = self._wanted(version, zyx, found)
        suspect = self.suspicious[version][self.sums.buckets(found.supervoxels)]
        supervoxels = found.supervoxels[suspect]
        for supervoxel in gone[np.isin(gone, supervoxels)].tolist():
            self._gone[version, supervoxel] = self._gone.get((version, supervoxel), 0) + 1
        for body in np.unique(self.mappings.at(version).bodies(supervoxels)).tolist():
            if body:
                self._compare(version, (body, zyx), wanted[body])

    def _wanted(self, version: int, zyx: bytes, found: Count) -> tuple[Bodies, U64s]:
        at = ZYX(*zyx_of(zyx, 0))
        rows, gone = rows_of(self.mappings.at(version), [(at, found.supervoxels, found.voxels)])
        return {body: row for (body, _), row in rows.items()}, gone

    def _compare(self, version: int, pair: Pair, row: bytes) -> None:
        try:
            there = self._row_view(version).get(self.data.rows.index(*pair))
        except KeyConflict as conflict:
            there = None
            writers = " and ".join(self.exam.lineage.uuids[writer] for writer in conflict.writers)
            stored_text = f"in conflict between versions {writers}"
            self.repairs.write(version, lambda tx: tx.batch.delete(self.data.rows.index(*pair)))
        else:
            stored_text = _text(b"" if there is None else bytes(there))
        old = b"" if there is None else bytes(there)
        if old[_SURFACE:] == row[_SURFACE:]:
            return
        self.exam.found("index", _name(*pair), stored_text, _text(row), version=version, repairable=True)
        self.repairs.row(version, pair, old[:_SURFACE] + row[_SURFACE:] if len(old) >= _SURFACE and row else row)

    # -- rows that are too many: by the index ----------------------------------------------------------------------------

    def _rows(self) -> None:
        prefix = self.data.rows.all_indices
        for key, entries in self.exam.grouped(prefix, prefix_end(prefix), "rows that disagree"):
            for version, place in self._seen(entries):
                value = entries[place][1]
                n = (len(value) - _SURFACE) // 12
                supervoxels = np.frombuffer(value, "<u8", n, _SURFACE)
                if self.suspicious[version][self.sums.buckets(supervoxels)].any():
                    self._superfluous(version, key, bytes(value))

    def _superfluous(self, version: int, key: bytes, row: bytes) -> None:
        body, zyx = u64_of(key, BODY_OFFSET), key[INDEX_ZYX_OFFSET:]
        there = self._bodies_at(version, zyx)
        if there is not None and body not in there:
            self.exam.found("index", _name(body, zyx), _text(row), _text(b""), version=version, repairable=True)
            self.repairs.row(version, (body, zyx), b"")

    def _bodies_at(self, version: int, zyx: bytes) -> Bodies | None:
        """The row of each body in a block, None where nothing can be said of the block."""
        name = version, zyx
        if name in self._kept:
            self._kept.move_to_end(name)
            return self._kept[name]
        found: Bodies | None = None
        if version not in self.hidden.get(zyx, ()):
            value = self._view(version).get(self.data.rows.scale(0) + zyx)
            counted = Count(np.empty(0, np.uint64), np.empty(0, np.uint64)) if value is None else self._counted(value)
            found = None if counted is None else self._wanted(version, zyx, counted)[0]
        self._kept[name] = found
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return found

    def _view(self, version: int) -> View:
        return View(self.exam.snapshot, self._ancestry(version))

    def _row_view(self, version: int) -> View:
        """A view that shows the rows written so far: where none was, an older one would seek past all of them."""
        if self._newest is None or self._newest[0] != self.repairs.writes:
            if self._newest is not None:
                self._newest[1].close()
            self._newest = self.repairs.writes, self.data.engine.snapshot()
        return View(self._newest[1], self._ancestry(version))

    def _ancestry(self, version: int) -> Ancestry:
        data = self.data
        return data.database.ancestry_for(data.repo, data.repo.dag.nodes[version], data.record)


def _name(body: int, zyx: bytes) -> str:
    z, y, x = zyx_of(zyx, 0)
    return f"body {body} in block {x},{y},{z}"


def _text(row: bytes) -> str:
    """The supervoxels of a row and their voxels."""
    if not row:
        return "no row"
    n = (len(row) - _SURFACE) // 12
    supervoxels, voxels = np.frombuffer(row, "<u8", n, _SURFACE), np.frombuffer(row, "<u4", n, _SURFACE + 8 * n)
    pairs = zip(supervoxels.tolist(), voxels.tolist(), strict=True)
    return ", ".join(f"{n} voxels of {supervoxel}" for supervoxel, n in pairs)
