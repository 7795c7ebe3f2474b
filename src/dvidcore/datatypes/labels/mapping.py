"""Which body a supervoxel belongs to, at any version: a native table over the MAPPING rows.

The table is a cache, filled from the rows at first use, and runs ahead of the snapshots of requests that began earlier.
So beside it stands which supervoxels the last generations of the mapping changed. What a request asks of these, if its
snapshot is of another generation than the table, is read from the rows that its snapshot shows; so every answer is
exactly that of the snapshot. What another process wrote is taken over generation by generation (``remapped``) or, where
that is not possible, by reading all rows again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvidcore import labels
from dvidcore.datatypes.labels import remapped
from dvidcore.datatypes.labels.rows import BODY_OFFSET, Rows, unpack_u64
from dvidcore.errors import StoreError
from dvidcore.storage.engine import Row, Snapshot, Value
from dvidcore.storage.keys import prefix_end
from dvidcore.storage.versioned import Ancestry, KeyConflict, View

if TYPE_CHECKING:
    from dvidcore.datatypes.call import Call

Labels = NDArray[np.uint64]

_CHUNK = 100_000  # rows that are in memory at once while the table is filled
_GENERATIONS = 1000
_REMEMBERED = 2_000_000  # supervoxels of all generations that are remembered
_NONE = np.empty(0, np.uint64)


class _Generation(NamedTuple):
    """What one generation of the mapping changed."""

    number: int
    supervoxels: Labels
    """Ascending, each once."""


class Mapped:
    """The mapping as one version sees it in a table."""

    __slots__ = ("_rank", "identity", "table")

    def __init__(self, table: labels.Mapping, ancestry: Ancestry, rank: NDArray[np.uint32] | None = None) -> None:
        """``rank``: that of ``rank_of``, where it is known."""
        self.table = table
        self._rank = rank_of(ancestry) if rank is None else rank
        self.identity = len(table) == 0
        """No supervoxel is mapped at all."""

    def bodies(self, supervoxels: Labels) -> Labels:
        """The body of each supervoxel, uint64 of the same shape: itself where it is not mapped, 0 where split away."""
        return supervoxels if self.identity else self.table.lookup(supervoxels, self._rank)

    def body(self, supervoxel: int) -> int:
        """The body of one supervoxel."""
        return int(self.bodies(np.array([supervoxel], np.uint64))[0])

    def has_entry(self, supervoxels: Labels) -> NDArray[np.bool_]:
        """Of each supervoxel whether it is mapped, be it to itself, which ``bodies`` does not tell."""
        if self.identity:
            return np.zeros(supervoxels.shape, np.bool_)
        return self.table.mapped(supervoxels, self._rank)

    def items(self) -> tuple[Labels, Labels]:
        """All visible (supervoxels, bodies) that are not mapped to themselves, ascending by supervoxel."""
        return (_NONE, _NONE) if self.identity else self.table.items(self._rank)


class _Exact(Mapped):
    """The same in one snapshot, though the table may have run ahead of it."""

    __slots__ = ("_asked", "_cache", "_changed", "_generation", "_rows", "_since", "_view", "disputed")

    def __init__(self, cache: MappingCache, view: View, generation: int, asked: list[Labels | None] | None) -> None:
        super().__init__(cache.table, view.ancestry, cache.rank(view.ancestry))
        self.identity = cache.empty()
        self._cache = cache
        self._rows = cache.rows
        self._view = view
        self._generation = generation
        self._since = (0, 0)
        self._changed = _NONE
        self._asked = asked
        self.disputed = _NONE if view.ancestry.linear or self.identity else cache.disputed(view)
        """Supervoxels, ascending, that merged versions map differently: asking for their bodies is a KeyConflict."""

    def bodies(self, supervoxels: Labels) -> Labels:
        if self._asked is not None:
            self._asked.append(supervoxels)
        low = min(self._generation, self._cache.generation)  # before the table is asked
        found = super().bodies(supervoxels)
        unsure = self._unsure(supervoxels, low)
        if unsure is not None:
            found[unsure] = self._stored(supervoxels[unsure])[0]
        if len(self.disputed) and (hit := among(self.disputed, supervoxels)).any():
            raise self._conflict(int(supervoxels[hit][0]))
        return found

    def has_entry(self, supervoxels: Labels) -> NDArray[np.bool_]:
        if self._asked is not None:
            self._asked.append(supervoxels)
        low = min(self._generation, self._cache.generation)
        found = super().has_entry(supervoxels)
        unsure = self._unsure(supervoxels, low)
        if unsure is not None:
            found[unsure] = self._stored(supervoxels[unsure])[1]
        return found

    def items(self) -> tuple[Labels, Labels]:
        if self._asked is not None:
            self._asked.append(None)
        low = min(self._generation, self._cache.generation)
        supervoxels, bodies = super().items()
        if self.identity:
            return supervoxels, bodies
        changed = self._changed_since(low)
        if changed is None:
            table = labels.Mapping()
            fill(table, self._view.snapshot, self._rows)
            return table.items(self._rank)
        if not len(changed):
            return supervoxels, bodies
        kept = ~among(changed, supervoxels)
        found, _ = self._stored(changed)
        other = found != changed
        supervoxels = np.concatenate((supervoxels[kept], changed[other]))
        bodies = np.concatenate((bodies[kept], found[other]))
        order = np.argsort(supervoxels)
        return supervoxels[order], bodies[order]

    def _unsure(self, supervoxels: Labels, low: int) -> NDArray[np.bool_] | None:
        """Where the table may have known another generation than the snapshot's; None for nowhere.

        ``low`` is what the table had for certain before it was asked; this is called after it.
        """
        if self.identity:
            return None
        changed = self._changed_since(low)
        if changed is None:
            return np.ones(supervoxels.shape, np.bool_)
        if not len(changed):
            return None
        hit = among(changed, supervoxels)
        return hit if hit.any() else None

    def _changed_since(self, low: int) -> Labels | None:
        """The supervoxels that generations above ``low`` changed, ascending; None where they are not known."""
        recent = self._cache.recent
        if not recent or recent[-1].number <= low:
            return _NONE if low >= self._cache.known_from else None
        if self._since != (low, recent[-1].number):
            changed = self._cache.changed_since(low)
            if changed is None:
                return None
            self._since, self._changed = (low, recent[-1].number), changed
        return self._changed

    def _stored(self, supervoxels: Labels) -> tuple[Labels, NDArray[np.bool_]]:
        """(the bodies of supervoxels, whether each has an entry) by the rows of the snapshot."""
        some, back = np.unique(supervoxels, return_inverse=True)
        found, there = some.copy(), np.zeros(len(some), np.bool_)
        for k, value in enumerate(self._values(self._rows.mapping_keys(some))):
            if value is not None:
                found[k], there[k] = unpack_u64(value), True
        return found[back], there[back]

    def _values(self, keys: list[bytes]) -> Iterable[Value | None]:
        if self._view.ancestry.linear:
            return self._view.get_many(keys)
        # As in the table, the nearest wins; where merged versions disagree, that is in ``disputed``.
        rank = self._view.ancestry.rank
        entries = ([(rank[v], body) for _, v, body in self._view.scan_entries(k, k + b"\xff" * 4)] for k in keys)
        return (max(found)[1] if found else None for found in entries)

    def _conflict(self, supervoxel: int) -> KeyConflict:
        key = self._rows.mapping(supervoxel)
        writers = [version for _, version, _ in self._view.scan_entries(key, prefix_end(key))]
        return KeyConflict(key, self._view.ancestry.frontier(writers))


def among(known: Labels, supervoxels: Labels) -> NDArray[np.bool_]:
    """Whether each supervoxel is in ``known``, which ascends: bool of the shape of ``supervoxels``.

    O(n log k), whatever the size k of ``known``, which ``np.isin`` would sort each time.
    """
    if not len(known):
        return np.zeros(supervoxels.shape, np.bool_)
    found: NDArray[np.bool_] = known[np.minimum(np.searchsorted(known, supervoxels), len(known) - 1)] == supervoxels
    return found


def rank_of(ancestry: Ancestry) -> NDArray[np.uint32]:
    """For the native table: by version id, 0 where the version is not visible, else larger is nearer."""
    rank = np.zeros(max(ancestry.rank) + 1, np.uint32)
    for version, place in ancestry.rank.items():
        rank[version] = place + 1
    return rank


class MappingCache:
    """The native table of an instance, filled on first use.

    Writers of this process call ``begin`` before they write and ``wrote`` or ``failed`` after it, one at a time.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self._lock = threading.Lock()
        self._ranks: dict[int, tuple[Ancestry, NDArray[np.uint32]]] = {}
        self._disputed: dict[int, tuple[Ancestry, int, Labels]] = {}
        self.table = labels.Mapping()
        self.generation = -1
        """The table has all of this generation, and perhaps some of those in ``recent``."""
        self.known_from = 0
        """Which supervoxels the generations above this one changed is in ``recent``."""
        self.recent: tuple[_Generation, ...] = ()
        self._held = 0

    def at(self, call: Call, asked: list[Labels | None] | None = None) -> Mapped:
        """The mapping at the call's version, in the state of the call's snapshot.

        What is asked of it is added to ``asked``, if given: supervoxels, or None for all.
        """
        return self.seen(call.view, asked)

    def seen(self, view: View, asked: list[Labels | None] | None = None) -> Mapped:
        """The mapping as a view sees it."""
        generation = known = unpack_u64(view.snapshot.get(self.rows.mapped))
        if generation > self.generation:
            recent = self.recent
            if self.generation < 0 or not recent or recent[-1].number < generation:
                self._catch_up(view.snapshot, generation)
            else:
                known = -1  # just written: by this process, which is about to say so, or by another
        return _Exact(self, view, known, asked)

    def empty(self) -> bool:
        """Whether nothing is mapped, nor about to be."""
        return len(self.table) == 0 and not self.recent

    def changed_since(self, generation: int) -> Labels | None:
        """The supervoxels that later generations changed, or that are about to be, ascending; None if not known."""
        recent = self.recent
        if generation < self.known_from:
            return None
        changed = [g.supervoxels for g in recent if g.number > generation]
        return changed[0] if len(changed) == 1 else np.unique(np.concatenate([_NONE, *changed]))

    def rank(self, ancestry: Ancestry) -> NDArray[np.uint32]:
        """``rank_of``, kept."""
        kept = self._ranks.get(ancestry.version)
        if kept is None or kept[0] is not ancestry:
            kept = self._ranks[ancestry.version] = (ancestry, rank_of(ancestry))
        return kept[1]

    def disputed(self, view: View) -> Labels:
        """What versions that were merged above a view, or there, map differently and no version since has mapped."""
        rows, ancestry = self.rows, view.ancestry
        generation = unpack_u64(view.snapshot.get(rows.mapped))
        kept = self._disputed.get(ancestry.version)
        if kept is not None and kept[0] is ancestry and kept[1] == generation:
            return kept[2]
        open_ = set()
        for _, merge, value in view.scan_entries(rows.disputed, prefix_end(rows.disputed)):
            for supervoxel in np.frombuffer(value, "<u8").tolist():
                key = rows.mapping(supervoxel)
                writers = (version for _, version, _ in view.scan_entries(key, prefix_end(key)))
                if not any(writer == merge or ancestry.is_ancestor(merge, writer) for writer in writers):
                    open_.add(supervoxel)
        found = np.array(sorted(open_), np.uint64)
        self._disputed[ancestry.version] = (ancestry, generation, found)
        return found

    # -- writing -------------------------------------------------------------------------------------------------------

    def begin(self, generation: int, supervoxels: Labels) -> None:
        """Says which supervoxels (ascending, each once) the next generation changes, before it is written."""
        with self._lock:
            if generation == self.generation + 1:  # else the table will catch up anyway
                self._remember(generation, supervoxels)

    def wrote(self, version: int, supervoxels: Labels, bodies: Labels, generation: int) -> None:
        """Takes over what was written, so that nothing needs to be read again."""
        with self._lock:
            if generation == self.generation + 1 and self.recent and self.recent[-1].number == generation:
                self.table.update(version, supervoxels, bodies)
                self.generation = generation

    def failed(self, generation: int) -> None:
        """Takes back what ``begin`` said: nothing was written."""
        with self._lock:
            if self.recent and self.recent[-1].number == generation > self.generation:
                self._forget_last()

    def _forget_last(self) -> None:
        self._held -= len(self.recent[-1].supervoxels)
        self.recent = self.recent[:-1]

    def _remember(self, generation: int, supervoxels: Labels) -> None:
        recent = (*self.recent, _Generation(generation, supervoxels))
        self._held += len(supervoxels)
        while len(recent) > _GENERATIONS or (self._held > _REMEMBERED and len(recent) > 1):
            self._held -= len(recent[0].supervoxels)
            self.known_from, recent = recent[0].number, recent[1:]
        self.recent = recent

    def _catch_up(self, snapshot: Snapshot, generation: int) -> None:
        """Takes over what is new. Rows are only added or replaced, so older entries of the table never need to go."""
        with self._lock:
            if generation <= self.generation:
                return
            known = self.generation
            missed = remapped.between(snapshot, self.rows, known, generation) if known >= 0 else None
            if missed is not None:
                # What a writer of this process has begun is in ``missed`` if it was written.
                if self.recent and self.recent[-1].number > known:
                    self._forget_last()
                for number, version, supervoxels, bodies in missed:
                    self._remember(number, supervoxels)
                    self.table.update(version, supervoxels, bodies)
                    self.generation = number
                return
            self.known_from = generation  # before the first row: who knows an older snapshot looks there
            self.recent, self._held = (), 0
            fill(self.table, snapshot, self.rows)
            self.generation = generation


def fill(table: labels.Mapping, snapshot: Snapshot, rows: Rows) -> None:
    """Puts all mapping rows of an instance into a table. Raises StoreError where one is malformed."""
    found = snapshot.stubs(*rows.mappings())

    def load(chunk: list[Row]) -> None:
        try:
            stubs = table.load(chunk, BODY_OFFSET)
            if stubs and table.load([(key, snapshot.load(stub)) for key, stub in stubs], BODY_OFFSET):
                raise ValueError("a value that is no body")
        except ValueError as e:
            raise StoreError(f"a mapping row is corrupt: {e}") from None

    with ThreadPoolExecutor(1) as worker:  # which fills the table, mostly without the GIL, while rows are read
        ahead: list[Future[None]] = []
        for chunk in iter(lambda: list(islice(found, _CHUNK)), []):
            for last in ahead:
                last.result()
            ahead = [worker.submit(load, chunk)]
        for last in ahead:
            last.result()
