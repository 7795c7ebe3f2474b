"""Which body a supervoxel belongs to, at any version: a native table over the MAPPING rows.

The table is a cache: it is filled from the rows at first use and knows the generation of the mapping that it holds. A
snapshot that shows a newer generation makes it read the rows again.
"""

from __future__ import annotations

import threading
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dvidcore import labels
from dvidcore.datatypes.labels.rows import BODY_OFFSET, Rows, unpack_u64
from dvidcore.storage.engine import Engine, Snapshot
from dvidcore.storage.versioned import Ancestry

if TYPE_CHECKING:
    from dvidcore.datatypes.base import Call

_CHUNK = 100_000  # rows that are in memory at once while the table is filled


class Mapped:
    """The mapping as one version sees it."""

    __slots__ = ("_rank", "_table", "identity")

    def __init__(self, table: labels.Mapping, ancestry: Ancestry) -> None:
        self._table = table
        self.identity = len(table) == 0
        """No supervoxel is mapped at all."""
        self._rank: NDArray[np.uint32] | None = None if self.identity else rank_of(ancestry)

    def bodies(self, supervoxels: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """The body of each supervoxel, uint64 of the same length: itself where it is not mapped, 0 where split away."""
        if self._rank is None:
            return supervoxels
        return self._table.lookup(supervoxels, self._rank)

    def body(self, supervoxel: int) -> int:
        """The body of one supervoxel."""
        return int(self.bodies(np.array([supervoxel], np.uint64))[0])

    def has_entry(self, supervoxels: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Of each supervoxel whether it is mapped, be it to itself, which ``bodies`` does not tell."""
        if self._rank is None:
            return np.zeros(len(supervoxels), np.bool_)
        return self._table.mapped(supervoxels, self._rank)

    def items(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """All visible (supervoxels, bodies) that are not mapped to themselves, ascending by supervoxel."""
        if self._rank is None:
            return np.empty(0, np.uint64), np.empty(0, np.uint64)
        return self._table.items(self._rank)


def rank_of(ancestry: Ancestry) -> NDArray[np.uint32]:
    """For the native table: by version id, 0 where the version is not visible, else larger is nearer."""
    rank = np.zeros(max(ancestry.rank) + 1, np.uint32)
    for version, place in ancestry.rank.items():
        rank[version] = place + 1
    return rank


class MappingCache:
    """The native table of an instance, filled on first use."""

    def __init__(self, engine: Engine, rows: Rows) -> None:
        self._engine = engine
        self._rows = rows
        self._table = labels.Mapping()
        self._generation = -1
        self._lock = threading.Lock()
        self._seen: dict[int, tuple[Ancestry, int, Mapped]] = {}

    def at(self, call: Call) -> Mapped:
        """The mapping at the call's version, at least as new as the call's snapshot."""
        generation = unpack_u64(call.snapshot.get(self._rows.mapped))
        if generation > self._generation:
            self._load(call.snapshot, generation)
        ancestry = call.ancestry
        kept = self._seen.get(ancestry.version)
        if kept is not None and kept[0] is ancestry and kept[1] == self._generation:
            return kept[2]
        mapped = Mapped(self._table, ancestry)
        self._seen[ancestry.version] = (ancestry, self._generation, mapped)
        return mapped

    def wrote(self, version: int, supervoxels: NDArray[np.uint64], bodies: NDArray[np.uint64], generation: int) -> None:
        """Takes over what this process has just written, so that nothing needs to be read again."""
        with self._lock:
            if generation == self._generation + 1:
                self._table.update(version, supervoxels, bodies)
                self._generation = generation

    def _load(self, snapshot: Snapshot, generation: int) -> None:
        """Reads all rows. Rows are only added or replaced, so older entries of the table never need to go."""
        with self._lock:
            if generation <= self._generation:
                return
            rows = snapshot.scan(*self._rows.mappings())
            while chunk := list(islice(rows, _CHUNK)):
                keys = np.frombuffer(b"".join([k for k, _ in chunk]), np.uint8).reshape(len(chunk), -1)
                supervoxels = (
                    np.ascontiguousarray(keys[:, BODY_OFFSET : BODY_OFFSET + 8]).view(">u8")[:, 0].astype(np.uint64)
                )
                versions = np.ascontiguousarray(keys[:, -4:]).view(">u4")[:, 0]
                bodies = np.frombuffer(b"".join([v for _, v in chunk]), "<u8")
                for version in np.unique(versions):
                    at = versions == version
                    self._table.update(int(version), supervoxels[at], bodies[at])
            self._generation = generation
