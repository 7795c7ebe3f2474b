"""The tables of an instance in memory: made from the store when a version is first asked, then caught up with it.

The store is the only truth. A table knows the generation that it shows; where a snapshot shows a newer one, the bodies
that were changed since are read again, or everything where that is no longer remembered. The table of a version without
one is made from that of another version where there is one, by reading again what may differ.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from dvidcore import codecs
from dvidcore.datatypes.call import Buffer, Call
from dvidcore.datatypes.neuronjson.annotation import MAIN, Fields, fields_of
from dvidcore.datatypes.neuronjson.columns import Builder, Table
from dvidcore.datatypes.neuronjson.rows import REMEMBERED, Changed, Rows, body_of, unpack_u64
from dvidcore.storage.engine import Snapshot
from dvidcore.storage.keys import VERSION_BYTES, version_bytes
from dvidcore.storage.versioned import Ancestry, KeyConflict, View

KEPT = 512 << 20
"""Bytes of tables that are kept for an instance; the one that was asked last is always kept."""

FEW, MANY = 2000, 0.2
"""A table is changed for so many annotations and this share of all; of more a new one is made."""


class _Entry:
    """The table of one version. ``lock`` is held while it is changed."""

    __slots__ = ("ancestry", "generation", "lock", "table")

    def __init__(self, ancestry: Ancestry) -> None:
        self.ancestry = ancestry
        self.lock = threading.Lock()
        self.table: Table | None = None
        self.generation = -1


class Tables:
    """The tables of one instance."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._lock = threading.Lock()
        self._entries: OrderedDict[int, _Entry] = OrderedDict()

    def at(self, call: Call, sections: Iterable[int]) -> Table:
        """The annotations that the call's version sees, at least as new as its snapshot, with the given sections.

        Raises ``KeyConflict`` where versions that were merged disagree on one.
        """
        wanted = frozenset(sections) | {MAIN}
        entry = self._entry(call.ancestry)
        with entry.lock:
            if entry.generation > unpack_u64(call.snapshot.get(self._rows.generation)):
                call.renew()
            table = self._current(entry, call.snapshot, wanted)
        self._evict()
        return table

    def _entry(self, ancestry: Ancestry) -> _Entry:
        with self._lock:
            entry = self._entries.get(ancestry.version)
            if entry is None or (entry.ancestry is not ancestry and entry.ancestry.order != ancestry.order):
                entry = self._entries[ancestry.version] = _Entry(ancestry)
            self._entries.move_to_end(ancestry.version)
            return entry

    def _evict(self) -> None:
        with self._lock:
            sizes = {version: entry.table.nbytes for version, entry in self._entries.items() if entry.table is not None}
            left = sum(sizes.values())
            for version, size in list(sizes.items())[:-1]:
                if left <= KEPT:
                    break
                left -= size
                del self._entries[version]

    def _current(self, entry: _Entry, snapshot: Snapshot, wanted: frozenset[int]) -> Table:
        """The entry's table as the snapshot has it, whose generation is not less; the entry's lock is held."""
        generation = unpack_u64(snapshot.get(self._rows.generation))
        view = View(snapshot, entry.ancestry)
        table = entry.table
        if table is not None and entry.generation < generation:
            changed = self._changed_since(entry, snapshot, generation)
            table = None if changed is None else self._caught_up(table, view, changed)
        if table is None:
            table = self._derived(entry, snapshot) or self._read(view, entry.table.sections if entry.table else wanted)
        missing = wanted - table.sections.keys()
        if missing:
            read = self._read(view, missing)
            if np.array_equal(read.bodies, table.bodies):
                table = Table(table.bodies, {**table.sections, **read.sections})
            else:  # a write too large for one batch is under way, whose generation is yet to come
                table = self._read(view, {*table.sections, *missing})
        entry.table, entry.generation = table, generation
        return table

    # -- from the store ------------------------------------------------------------------------------------------------

    def _read(self, view: View, sections: Iterable[int]) -> Table:
        """A table of some sections from all rows. O(bytes of the annotations)."""
        bodies: list[int] = []
        builders = {section: Builder(section) for section in sections}
        for prefix_key, stored in view.scan(*self._rows.annotations):
            bodies.append(body_of(prefix_key))
            payload = codecs.unpack(stored)
            for builder in builders.values():
                builder.add(payload)
        columns = {section: builder.columns() for section, builder in builders.items()}
        return Table(np.array(bodies, np.uint64), columns)

    def _derived(self, entry: _Entry, snapshot: Snapshot) -> Table | None:
        """The table made from that of another version, the one of the fewest versions between; ``None`` without any."""
        mine = frozenset(entry.ancestry.rank)
        with self._lock:
            others = [other for other in self._entries.values() if other is not entry and other.table is not None]
        if not others:
            return None
        other = min(others, key=lambda other: len(mine ^ other.ancestry.rank.keys()))
        if not other.lock.acquire(blocking=False):  # waiting for it, it might wait for this one
            return None
        try:
            if other.generation > unpack_u64(snapshot.get(self._rows.generation)):
                return None
            table = self._current(other, snapshot, frozenset())
        except KeyConflict:  # there, and perhaps not here
            return None
        finally:
            other.lock.release()
        # Two versions can only differ in what one of them, or an ancestor that is not the other's, has written.
        apart = {version_bytes(version) for version in mine ^ other.ancestry.rank.keys()}
        keys = snapshot.scan(*self._rows.annotations, keys_only=True)
        bodies = _unique(body_of(key) for key in keys if key[-VERSION_BYTES:] in apart)
        return self._caught_up(table, View(snapshot, entry.ancestry), bodies)

    def _changed_since(self, entry: _Entry, snapshot: Snapshot, generation: int) -> NDArray[np.uint64] | None:
        """The bodies, ascending, that were changed since the entry's generation; ``None`` where that is not known."""
        if generation - entry.generation > REMEMBERED:
            return None
        found: list[NDArray[np.uint64]] = []
        for number in range(entry.generation + 1, generation + 1):
            stored = snapshot.get(self._rows.changed(number))
            if stored is None:
                return None
            changed = Changed.decode(stored)
            if changed.generation != number:
                return None
            if changed.version in entry.ancestry.rank:
                if changed.bodies is None:
                    return None
                found.append(changed.bodies)
        return np.unique(np.concatenate(found)) if found else np.empty(0, np.uint64)

    def _caught_up(self, table: Table, view: View, bodies: NDArray[np.uint64]) -> Table | None:
        """The table with the annotations of some bodies read again; ``None`` where a new one is sooner made."""
        if not len(bodies):
            return table
        if len(bodies) > FEW + MANY * len(table.bodies):
            return None
        stored = view.get_many(map(self._rows.annotation, bodies.tolist()))
        payloads = [None if value is None else codecs.unpack(value) for value in stored]
        return table.changed(bodies, {section: _fields(payloads, section) for section in table.sections})


def _fields(payloads: Sequence[Buffer | None], section: int) -> list[Fields | None]:
    return [None if payload is None else fields_of(payload, section) for payload in payloads]


def _unique(bodies: Iterator[int]) -> NDArray[np.uint64]:
    return np.unique(np.fromiter(bodies, np.uint64))
