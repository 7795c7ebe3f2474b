"""The store as a version sees it.

Each versioned key has one entry for each version that wrote it; an empty value is a tombstone, written by a deletion.
What version V sees of a key: take the entries of V and its ancestors, leave out those of an ancestor of another writer
among them, then the tombstones. Nothing left: the key does not exist. One: its value. More: a conflict, which only a
merge can bring about and which an entry at or below the merge settles.

Without a merge among the ancestors that is "the entry of the nearest", and that case is what the code is fast for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from dvidcore import errors
from dvidcore.storage.engine import Batch, Snapshot, Value
from dvidcore.storage.keys import VERSION_BYTES, version_bytes


class KeyConflict(errors.Conflict):
    """Several versions that were merged changed a key. ``prefix_key`` is the key, ``writers`` are the versions."""

    def __init__(self, prefix_key: bytes, writers: Sequence[int]) -> None:
        named = " and ".join(map(str, writers))
        super().__init__(f"conflict: versions {named} were merged and each changed key {prefix_key.hex()}")
        self.prefix_key = prefix_key
        self.writers = tuple(writers)


@dataclass(frozen=True, slots=True)
class Ancestry:
    """A version and its ancestors, in the order in which they hide each other.

    Immutable, and the same for every key, so one is made for each version and kept.
    """

    version: int
    order: Sequence[int] = field(repr=False)
    """The version and its ancestors, parents before children."""
    rank: Mapping[int, int]
    """Each of them → its place in ``order``."""
    linear: bool
    """No merge among them: each hides all of smaller rank."""
    ordered: bool
    """Larger rank means larger version id (it does where versions were all created here)."""
    below: Sequence[int] = field(repr=False)
    """By rank: a bit for the rank of each of its ancestors. Empty where ``linear``."""
    ids: Sequence[int] = field(repr=False)
    """``order``, by ascending id."""

    @classmethod
    def from_parents(cls, version: int, parents: Mapping[int, Sequence[int]]) -> Self:
        """The ancestry of ``version``, where ``parents`` holds the parents of each version (roots: none, or absent).

        O(versions), with a merge O(versions²/64) bytes. Raises ``ValueError`` if a version is its own ancestor.
        """
        order, linear = _parents_first(version, parents)
        ids = tuple(sorted(order))
        ordered = all(parent < child for child in order for parent in parents.get(child, ()))
        if ordered:
            order = list(ids)
        rank = {member: place for place, member in enumerate(order)}
        below: list[int] = []
        if not linear:
            for member in order:
                mask = 0
                for parent in parents.get(member, ()):
                    mask |= below[rank[parent]] | 1 << rank[parent]
                below.append(mask)
        return cls(version, tuple(order), rank, linear, ordered, tuple(below), ids)

    def is_ancestor(self, ancestor: int, version: int) -> bool:
        """Whether ``ancestor`` lies above ``version``; both must be members. A version is not its own ancestor."""
        high, low = self.rank[version], self.rank[ancestor]
        return low < high if self.linear else bool(self.below[high] >> low & 1)

    def frontier(self, writers: Iterable[int]) -> list[int]:
        """Those of ``writers`` that are members and not ancestors of another, nearest first."""
        rank = self.rank
        ranked = sorted((place for writer in writers if (place := rank.get(writer)) is not None), reverse=True)
        if self.linear:
            del ranked[1:]
        hidden = 0
        places = []
        for place in ranked:
            if not hidden >> place & 1:
                places.append(place)
                if not self.linear:
                    hidden |= self.below[place] | 1 << place
        return [self.order[place] for place in places]


def _parents_first(version: int, parents: Mapping[int, Sequence[int]]) -> tuple[list[int], bool]:
    """(the version and its ancestors, parents before children; whether none has two parents)."""
    order: list[int] = []
    done: set[int] = set()
    open_: set[int] = set()
    linear = True
    stack = [version]
    while stack:
        member = stack[-1]
        if member in done:
            stack.pop()
            continue
        above = parents.get(member, ())
        linear &= len(above) <= 1
        waiting = [parent for parent in above if parent not in done]
        if not waiting:
            stack.pop()
            open_.discard(member)
            done.add(member)
            order.append(member)
            continue
        if member in open_:
            raise ValueError(f"version {member} is its own ancestor")
        open_.add(member)
        stack.extend(waiting)
    return order, linear


class VersionedBatch:
    """Writes at one version into a batch."""

    __slots__ = ("_suffix", "batch", "version")

    def __init__(self, batch: Batch, version: int) -> None:
        self.batch = batch
        self.version = version
        self._suffix = version_bytes(version)

    def put(self, prefix_key: bytes, value: Value) -> None:
        """Stores ``value``. Raises ``ValueError`` where it is empty, which would read as a deletion."""
        if not len(value):
            raise ValueError("a versioned value must not be empty")
        self.batch.put(prefix_key + self._suffix, value)

    def delete(self, prefix_key: bytes) -> None:
        """Hides what the ancestors have under the key, by a tombstone."""
        self.batch.put(prefix_key + self._suffix, b"")


class View:
    """What a version sees in a snapshot. Keys are prefix keys: DATA keys without their version.

    Values live as long as the snapshot. Safe to use from several threads, each scan from one.
    """

    __slots__ = ("_last", "_members", "_nearest_wins", "ancestry", "snapshot")

    def __init__(self, snapshot: Snapshot, ancestry: Ancestry) -> None:
        self.snapshot = snapshot
        self.ancestry = ancestry
        self._last = version_bytes(ancestry.ids[-1])
        self._members = ancestry.rank
        self._nearest_wins = ancestry.linear and ancestry.ordered

    def get(self, prefix_key: bytes) -> Value | None:
        """The value, ``None`` where the key does not exist here.

        One seek where the newest entry that is not newer than the version belongs to it or its ancestors, whatever the
        number of versions. Raises ``KeyConflict``.
        """
        stub = self._stub(prefix_key)
        return self.snapshot.load(stub) if stub else None

    def get_many(self, prefix_keys: Iterable[bytes]) -> list[Value | None]:
        """The values under the keys, in their order. Raises ``KeyConflict``."""
        stub = self._stub
        return self.snapshot.load_many([stub(prefix_key) for prefix_key in prefix_keys])

    def _stub(self, prefix_key: bytes) -> Value | None:
        row = self.snapshot.floor_stub(prefix_key, prefix_key + self._last)
        if row is None:
            return None
        writer = int.from_bytes(row[0][-VERSION_BYTES:], "big")
        if self._nearest_wins and writer in self._members:
            return row[1] or None
        entry = self._resolve(prefix_key, self._entries_from(prefix_key, writer, row[1]))
        return None if entry is None else entry[1]

    def writer(self, prefix_key: bytes) -> int | None:
        """The version whose value is seen; ``None`` where the key does not exist here. Raises ``KeyConflict``."""
        row = self.snapshot.floor_stub(prefix_key, prefix_key + self._last)
        if row is None:
            return None
        newest = int.from_bytes(row[0][-VERSION_BYTES:], "big")
        entry = self._resolve(prefix_key, self._entries_from(prefix_key, newest, row[1]))
        return None if entry is None else entry[0]

    def scan(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, Value]]:
        """(prefix key, value) of the keys with ``start <= prefix key < stop`` that exist here, in their order.

        ``start`` and ``stop`` are prefix keys or the beginnings of some (``keys.kind_range``, ``keys.prefix_end``).
        Raises ``KeyConflict`` on reaching a key in conflict.
        """
        return self.snapshot.load_rows(self.stubs(start, stop))

    def stubs(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, Value]]:
        """What :meth:`scan` answers with stubs in place of the values: for several scans whose values are loaded together.

        ``snapshot.load_rows`` turns an iterator of (anything, stub) into one of (anything, value).
        """
        return (self._scan_ordered if self._nearest_wins else self._scan_resolving)(start, stop)

    def keys(self, start: bytes, stop: bytes) -> Iterator[bytes]:
        """The prefix keys that :meth:`scan` answers, and those in conflict."""
        if self._nearest_wins:
            return (prefix_key for prefix_key, _ in self._scan_ordered(start, stop))
        return self._keys_resolving(start, stop)

    def scan_entries(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, int, Value]]:
        """(prefix key, version, value) of all entries of the version and its ancestors, tombstones (empty) included.

        In the order of the prefix keys, then of the version ids.
        """
        entries = (((prefix_key, version), stub) for prefix_key, version, stub in self._entry_stubs(start, stop))
        for (prefix_key, version), value in self.snapshot.load_rows(entries):
            yield prefix_key, version, value

    def conflicts(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, list[tuple[int, bool]]]]:
        """(prefix key, [(writer, whether it deleted the key)]) where reading raises ``KeyConflict``, nearest first."""
        if self.ancestry.linear:
            return
        for prefix_key, entries in self._grouped(start, stop):
            writers = self.ancestry.frontier(entries)
            if sum(1 for writer in writers if entries[writer]) > 1:
                yield prefix_key, [(writer, not entries[writer]) for writer in writers]

    def _entries_from(self, prefix_key: bytes, newest: int, value: Value) -> dict[int, Value]:
        """The members' entries for a key that can matter, where ``newest`` is the newest entry at all.

        Goes from newer to older and jumps over versions that are no ancestors and, where ids are in order, over what
        the entries found so far hide: a long side branch, or a long history, costs one seek.
        """
        ancestry = self.ancestry
        ids = ancestry.ids
        entries: dict[int, Value] = {}
        hidden = 0
        while True:
            place = ancestry.rank.get(newest)
            if place is not None:
                entries[newest] = value
                if ancestry.ordered:
                    if ancestry.linear:
                        break
                    hidden |= ancestry.below[place]
            older = bisect_left(ids, newest)  # so many members; where ids are in order, they are the lowest ranks
            if hidden:
                older = ((1 << older) - 1 & ~hidden).bit_length()
            if not older:
                break
            row = self.snapshot.floor_stub(prefix_key, prefix_key + version_bytes(ids[older - 1]))
            if row is None:
                break
            newest = int.from_bytes(row[0][-VERSION_BYTES:], "big")
            value = row[1]
        return entries

    def _resolve(self, prefix_key: bytes, entries: Mapping[int, Value]) -> tuple[int, Value] | None:
        if len(entries) == 1:
            writer, value = next(iter(entries.items()))
            return (writer, value) if value else None
        writers = [writer for writer in self.ancestry.frontier(entries) if entries[writer]]
        if len(writers) > 1:
            raise KeyConflict(prefix_key, sorted(writers))
        return (writers[0], entries[writers[0]]) if writers else None

    # From here on, values are stubs: only those that are answered are read.

    def _scan_ordered(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, Value]]:
        members = {version_bytes(version) for version in self.ancestry.ids}
        current = b""
        best: Value = b""
        for key, value in self.snapshot.stubs(start, stop):
            if key[-VERSION_BYTES:] in members:
                prefix_key = key[:-VERSION_BYTES]
                if prefix_key != current:
                    if best:
                        yield current, best
                    current = prefix_key
                best = value  # ids ascend, and with them nearness
        if best:
            yield current, best

    def _entry_stubs(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, int, Value]]:
        members = self._members
        for key, value in self.snapshot.stubs(start, stop):
            version = int.from_bytes(key[-VERSION_BYTES:], "big")
            if version in members:
                yield key[:-VERSION_BYTES], version, value

    def _grouped(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, dict[int, Value]]]:
        current = b""
        entries: dict[int, Value] = {}
        for prefix_key, version, value in self._entry_stubs(start, stop):
            if prefix_key != current:
                if entries:
                    yield current, entries
                current, entries = prefix_key, {}
            entries[version] = value
        if entries:
            yield current, entries

    def _scan_resolving(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, Value]]:
        for prefix_key, entries in self._grouped(start, stop):
            entry = self._resolve(prefix_key, entries)
            if entry is not None:
                yield prefix_key, entry[1]

    def _keys_resolving(self, start: bytes, stop: bytes) -> Iterator[bytes]:
        for prefix_key, entries in self._grouped(start, stop):
            if any(entries[writer] for writer in self.ancestry.frontier(entries)):
                yield prefix_key
