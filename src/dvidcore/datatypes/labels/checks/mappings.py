"""The mapping, as the check needs it: at any version, and what each version changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dvidcore import labels
from dvidcore.datatypes.checks import Examination
from dvidcore.datatypes.labels.mapping import Mapped
from dvidcore.datatypes.labels.rows import BODY_OFFSET
from dvidcore.storage.keys import VERSION_BYTES, u64_of

if TYPE_CHECKING:
    from dvidcore.datatypes.labels.engine import LabelEngine
    from dvidcore.storage.versioned import Ancestry

_CHUNK = 100_000
_BODY_BYTES = 8
U64s = NDArray[np.uint64]


class Mappings:
    """All rows of the mapping that are whole; the others are reported."""

    def __init__(self, data: LabelEngine, exam: Examination) -> None:
        self._data = data
        self._exam = exam
        self._table = labels.Mapping()
        self._known: dict[int, Mapped] = {}
        self._mapped_in: dict[int, list[U64s]] = {}
        self.largest = 0
        """The largest supervoxel or body of all entries."""
        self._read()
        self.remapped = self._remapped()
        """By version the supervoxels, ascending, whose body may be another than at a parent."""

    def at(self, version: int) -> Mapped:
        """The mapping that a version sees."""
        mapped = self._known.get(version)
        if mapped is None:
            mapped = self._known[version] = Mapped(self._table, self._ancestry(version))
        return mapped

    def _ancestry(self, version: int) -> Ancestry:
        data = self._data
        return data.database.ancestry_for(data.repo, data.repo.dag.nodes[version], data.record)

    def _read(self) -> None:
        chunk: dict[int, list[tuple[int, int]]] = {}
        n = 0
        known = self._exam.lineage.parents
        for key, value in self._exam.rows(*self._data.rows.mappings(), "mapping"):
            version = int.from_bytes(key[-VERSION_BYTES:], "big")
            if version not in known:
                continue
            if len(value) != _BODY_BYTES:
                name = self._data.rows.name(key[:-VERSION_BYTES])
                self._exam.found("mapping", name, f"{len(value)} bytes", "a body of 8 bytes", version=version)
                continue
            pair = u64_of(key, BODY_OFFSET), int.from_bytes(value, "little")
            if not pair[0]:
                self._exam.found("mapping", "supervoxel 0", f"mapped to {pair[1]}", "not mapped", version=version)
                continue
            chunk.setdefault(version, []).append(pair)
            n += 1
            if n == _CHUNK:
                self._take(chunk)
                chunk, n = {}, 0
        self._take(chunk)

    def _take(self, chunk: dict[int, list[tuple[int, int]]]) -> None:
        for version, pairs in chunk.items():
            columns = np.array(pairs, np.uint64)
            self.largest = max(self.largest, int(columns.max()))
            self._table.update(version, np.ascontiguousarray(columns[:, 0]), np.ascontiguousarray(columns[:, 1]))
            self._mapped_in.setdefault(version, []).append(columns[:, 0].copy())

    def _remapped(self) -> dict[int, U64s]:
        """Where versions were merged: what was mapped in any that not all of them come from."""
        lineage = self._exam.lineage
        out: dict[int, U64s] = {}
        for version in lineage.versions:
            writers = {version}
            parents = lineage.parents[version]
            if len(parents) > 1:
                above: list[set[int]] = [set(self._data.repo.dag.ancestry(parent).ids) for parent in parents]
                writers |= set[int]().union(*above) - above[0].intersection(*above)
            found = [part for writer in sorted(writers) for part in self._mapped_in.get(writer, ())]
            if found:
                out[version] = np.unique(np.concatenate(found))
        return out
