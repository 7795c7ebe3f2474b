"""Checking (``dvidcore check``): what is found, and what a datatype gets to look at its rows with.

``DataType.check`` is the hook: it goes through all rows of an instance, of all versions at once, and reports each
disagreement. ``Examination`` reads rows past damage and knows which version sees which entry of a key (``Lineage``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from dvidcore.errors import StoreError
from dvidcore.storage.keys import VERSION_BYTES

if TYPE_CHECKING:
    from dvidcore.datatypes.base import DataType
    from dvidcore.storage.engine import Key, Snapshot, Value
    from dvidcore.versions import DAG

_AT_ONCE = 512  # rows whose values are loaded together
_KEPT = 2_000_000  # versions of patterns

Pattern = tuple[int, ...]
"""The versions that have an entry under a key, ascending; negative where the entry is a tombstone."""
CONFLICT = -1


@dataclass(frozen=True, slots=True)
class Finding:
    """One disagreement: where it is, what is stored, what it should be."""

    repo: str
    """UUID of the root; empty for what belongs to no repo."""
    version: str
    """UUID; empty for what belongs to no version."""
    instance: str
    kind: str
    """What kind of thing disagrees, one word: ``index``, ``body``, ``block`` …"""
    what: str
    stored: str
    expected: str
    serious: bool = True
    """False for what clients may have meant, which makes no store wrong."""
    repaired: bool = False

    def __str__(self) -> str:
        where = " ".join(part for part in (self.repo and f"repo {self.repo}", self.version, self.instance) if part)
        note = "" if self.serious else "note: "
        done = " (repaired)" if self.repaired else ""
        return f"{note}{where or 'store'}: {self.kind}: {self.what}: is {self.stored}, should be {self.expected}{done}"


class Change(NamedTuple):
    """A version that sees another entry of a key than its first parent does; None for no value."""

    version: int
    now: int | None
    before: int | None
    """Places in the pattern."""


class Lineage:
    """Which entry of a key each version sees, by the rules of ``storage.versioned``, found once for each pattern."""

    def __init__(self, dag: DAG, versions: Sequence[int] | None = None) -> None:
        """``versions``: those that count, with all their ancestors; all by default. An unversioned instance: the root."""
        self.versions = sorted(dag.nodes if versions is None else versions)
        self.parents = {version: list(dict.fromkeys(dag.nodes[version].parents)) for version in self.versions}
        self.uuids = {version: dag.nodes[version].uuid for version in self.versions}
        self._dag = dag
        self._kept: dict[Pattern, tuple[dict[int, int], list[Change]]] = {}

    def first_parent(self, version: int) -> int | None:
        parents = self.parents[version]
        return parents[0] if parents else None

    def seen(self, pattern: Pattern) -> Mapping[int, int]:
        """By version the place in the pattern of the entry that it sees, or CONFLICT; absent where it sees none."""
        return self._of(pattern)[0]

    def changes(self, pattern: Pattern, hidden: frozenset[int] = frozenset()) -> list[Change]:
        """The versions that see something else than their first parent, ascending.

        Conflicts are no value, and neither is what the ``hidden`` versions see.
        """
        seen, changes = self._of(pattern)
        return self._compared(seen, hidden) if hidden else changes

    def conflicts(self, pattern: Pattern) -> frozenset[int]:
        """The versions that see a conflict."""
        if len(pattern) < 2:
            return frozenset()
        return frozenset(version for version, place in self.seen(pattern).items() if place == CONFLICT)

    def last(self, pattern: Pattern, version: int) -> int | None:
        """The nearest of the versions in a pattern on the way up from ``version`` through first parents."""
        at: int | None = version
        while at is not None and at not in pattern:
            at = self.first_parent(at)
        return at

    def _of(self, pattern: Pattern) -> tuple[dict[int, int], list[Change]]:
        known = self._kept.get(pattern)
        if known is None:
            seen = self._resolved(pattern)
            known = seen, self._compared(seen, frozenset())
            if len(self._kept) >= max(_KEPT // len(self.versions), 1):
                self._kept.clear()
            self._kept[pattern] = known
        return known

    def _resolved(self, pattern: Pattern) -> dict[int, int]:
        place = {abs(version): k for k, version in enumerate(pattern)}
        frontier: dict[int, tuple[int, ...]] = {}
        seen: dict[int, int] = {}
        for version in self.versions:
            if version in place:
                writers: tuple[int, ...] = (version,)
            else:
                writers = self._frontier(frontier, self.parents[version])
            if not writers:
                continue
            frontier[version] = writers
            live = [place[w] for w in writers if pattern[place[w]] > 0]
            if live:
                seen[version] = live[0] if len(live) == 1 else CONFLICT
        return seen

    def _frontier(self, frontier: Mapping[int, tuple[int, ...]], parents: Sequence[int]) -> tuple[int, ...]:
        if len(parents) == 1:
            return frontier.get(parents[0], ())
        both = sorted({writer for parent in parents for writer in frontier.get(parent, ())})
        return tuple(a for a in both if not any(self._dag.is_ancestor(a, b) for b in both if b > a))

    def _compared(self, seen: Mapping[int, int], hidden: frozenset[int]) -> list[Change]:
        def value(version: int | None) -> int | None:
            place = CONFLICT if version is None or version in hidden else seen.get(version, CONFLICT)
            return None if place == CONFLICT else place

        out = []
        for version in self.versions:
            now, before = value(version), value(self.first_parent(version))
            if now != before:
                out.append(Change(version, now, before))
        return out


Report = Callable[[Finding], None]
Progress = Callable[[str, int], None]
"""What is looked at, and how many rows more."""


class Examination:
    """One look at the rows of an instance, in one snapshot."""

    def __init__(
        self,
        data: DataType,
        snapshot: Snapshot,
        report: Report,
        *,
        progress: Progress = lambda what, rows: None,
        strict: bool = False,
        repair: bool = False,
    ) -> None:
        """``strict``: also what clients may have meant is serious. ``repair``: what can be recomputed is written."""
        self.data = data
        self.snapshot = snapshot
        self.strict = strict
        self.repair = repair
        dag = data.repo.dag
        self.lineage = Lineage(dag, None if data.record.versioned else [dag.root.id])
        self.repaired = 0
        """Repairs written in this look."""
        self._report = report
        self._progress = progress
        self._strange: set[int] = set()

    def found(
        self,
        kind: str,
        what: str,
        stored: object,
        expected: object,
        *,
        version: int | None = None,
        serious: bool = True,
        repairable: bool = False,
    ) -> None:
        """Reports a disagreement; ``repairable`` where the caller mends it if this is to repair."""
        repaired = repairable and self.repair
        self.repaired += repaired
        uuid = self.lineage.uuids.get(version, f"version {version}") if version is not None else ""
        self._report(
            Finding(
                self.data.repo.root,
                uuid,
                self.data.record.name,
                kind,
                what,
                str(stored),
                str(expected),
                serious=serious or self.strict,
                repaired=repaired,
            )
        )

    def rows(self, start: Key, stop: Key, what: str) -> Iterator[tuple[Key, Value]]:
        """The rows with ``start <= key < stop`` that can be read; those that cannot are reported.

        ``what`` is shown as progress.
        """
        at = start
        while True:
            done = 0
            try:
                for key, value in self.snapshot.load_rows(self.snapshot.stubs(at, stop)):
                    at = key + b"\x00"
                    done += 1
                    yield key, value
                    if done == _AT_ONCE:
                        self._progress(what, done)
                        done = 0
                self._progress(what, done)
                return
            except StoreError:
                chunk = list(islice(self.snapshot.stubs(at, stop), _AT_ONCE))
                if not chunk:
                    raise
                yield from self._one_by_one(chunk)
                at = chunk[-1][0] + b"\x00"
                self._progress(what, done + len(chunk))

    def _one_by_one(self, chunk: list[tuple[Key, Value]]) -> Iterator[tuple[Key, Value]]:
        for key, stub in chunk:
            try:
                value = self.snapshot.load(stub)
            except StoreError as e:
                name = self.data.row_name(key[:-VERSION_BYTES])
                version = int.from_bytes(key[-VERSION_BYTES:], "big")
                self.found("value", f"{name}, row {key.hex()}", e, "a value that can be read", version=version)
            else:
                yield key, value

    def grouped(self, start: Key, stop: Key, what: str) -> Iterator[tuple[Key, list[tuple[int, Value]]]]:
        """(prefix key, its (version, value) pairs, ascending) of the versioned rows between two prefix keys.

        Rows of versions that do not exist, which nobody sees, are left out and noted once.
        """
        known = self.lineage.parents
        current = b""
        entries: list[tuple[int, Value]] = []
        for key, value in self.rows(start, stop, what):
            version = int.from_bytes(key[-VERSION_BYTES:], "big")
            if version not in known:
                self._stranger(version, key)
                continue
            if key[:-VERSION_BYTES] != current:
                if entries:
                    yield current, entries
                current, entries = key[:-VERSION_BYTES], []
            entries.append((version, value))
        if entries:
            yield current, entries

    def _stranger(self, version: int, key: Key) -> None:
        if version and version not in self._strange:  # 0 stands for the instance as a whole
            self._strange.add(version)
            self.found("version", f"rows of version {version}, the first {key.hex()}", "there", "none", serious=False)


def pattern_of(entries: Sequence[tuple[int, Value]]) -> Pattern:
    """The pattern of a key's entries."""
    return tuple([version if len(value) else -version for version, value in entries])
