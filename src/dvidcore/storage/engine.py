"""What an engine is: an ordered store of byte strings, with atomic guarded writes and snapshots.

Everything above this module works on any engine. An engine orders keys as unsigned bytes, keeps what it acknowledged,
applies a batch whole or not at all, and lets a reader look at one moment for as long as it likes. Engines are found by
name (``dvidcore.storage.open_engine``); another package adds one with an entry point in the group ``dvidcore.engines``
that names a subclass of :class:`Engine`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, ClassVar, Literal, NamedTuple, Self, TypeVar, overload

from dvidcore import errors

Key = bytes
Value = bytes | memoryview
Row = tuple[bytes, Value]
_T = TypeVar("_T")

# Deleting a range holds at most this many keys in memory and in one batch.
DELETE_CHUNK = 10_000


class Batch:
    """Operations that are written together. They apply in their order: the last one on a key wins.

    A batch belongs to no engine and to one thread. Values are kept as they were given, not copied, and must not change
    until the batch is written. An empty value is a value here; what it means is the versioned view's business.
    """

    __slots__ = ("nbytes", "operations")

    def __init__(self) -> None:
        self.operations: list[tuple[Key, Value | None]] = []  # None deletes
        self.nbytes = 0  # bytes of all keys and values

    def put(self, key: Key, value: Value) -> None:
        """Stores ``value`` (bytes, or a contiguous memoryview of bytes) under ``key``."""
        self.operations.append((key, value))
        self.nbytes += len(key) + len(value)

    def delete(self, key: Key) -> None:
        """Removes ``key``; no error where it does not exist."""
        self.operations.append((key, None))
        self.nbytes += len(key)

    def extend(self, other: Batch) -> None:
        """Appends the operations of ``other``."""
        self.operations.extend(other.operations)
        self.nbytes += other.nbytes

    def __len__(self) -> int:
        return len(self.operations)


class Ahead(NamedTuple):
    """What :meth:`Engine.ahead` answers."""

    batch: Batch
    """The operations, with something small in place of large values. For this engine alone."""
    release: Callable[[], None]
    """To be called once they are written, or never will be."""


class Reader(ABC):
    """Reading one state of the store; the newest for an engine, a fixed one for a snapshot."""

    @abstractmethod
    def get(self, key: Key) -> Value | None:
        """The value under ``key``, ``None`` where there is none."""

    @abstractmethod
    def get_many(self, keys: Iterable[Key]) -> list[Value | None]:
        """The values under ``keys``, in their order, all from the same state."""

    @abstractmethod
    def rows(self, start: Key, stop: Key, reverse: bool) -> Iterator[Row]:
        """What :meth:`scan` answers without ``keys_only``; ``start < stop``."""

    @abstractmethod
    def keys(self, start: Key, stop: Key, reverse: bool) -> Iterator[Key]:
        """What :meth:`scan` answers with ``keys_only``; ``start < stop``."""

    @overload
    def scan(
        self, start: Key, stop: Key, *, reverse: bool = False, keys_only: Literal[False] = False
    ) -> Iterator[Row]: ...

    @overload
    def scan(self, start: Key, stop: Key, *, reverse: bool = False, keys_only: Literal[True]) -> Iterator[Key]: ...

    def scan(
        self, start: Key, stop: Key, *, reverse: bool = False, keys_only: bool = False
    ) -> Iterator[Row] | Iterator[Key]:
        """The rows with ``start <= key < stop`` in the order of their keys, or backwards with ``reverse``.

        Answers (key, value) pairs, or the keys alone with ``keys_only``. All rows are of the state at the call.
        """
        if start >= stop:
            return iter(())
        return self.keys(start, stop, reverse) if keys_only else self.rows(start, stop, reverse)


class Snapshot(Reader):
    """The store at one moment. Several threads may read one snapshot; each scan belongs to one of them.

    Values may be memoryviews into the engine's memory (lmdb): they are valid until the snapshot is closed. An open
    snapshot keeps the engine from reclaiming space, so close it: ``with engine.snapshot() as snapshot: …``.
    """

    def get_many(self, keys: Iterable[Key]) -> list[Value | None]:
        get = self.get
        return [get(key) for key in keys]

    @abstractmethod
    def floor(self, start: Key, last: Key) -> Row | None:
        """The row with the greatest key in ``start <= key <= last``, both included; ``None`` where there is none."""

    # A stub stands for a value that is not read yet: it is empty where the value is, and else only the functions below
    # understand it. An engine that keeps large values apart answers stubs faster than values, and reads many at once.
    # To the others a value is its own stub.

    def floor_stub(self, start: Key, last: Key) -> Row | None:
        """:meth:`floor` with a stub in place of the value."""
        return self.floor(start, last)

    def stubs(self, start: Key, stop: Key) -> Iterator[Row]:
        """:meth:`scan` with stubs in place of the values."""
        return self.scan(start, stop)

    def load(self, stub: Value) -> Value:
        """The value that a stub of this snapshot stands for."""
        return stub

    def load_many(self, stubs: Sequence[Value | None]) -> list[Value | None]:
        """The values of many stubs, in their order; ``None`` stays."""
        return list(stubs)

    def load_rows(self, rows: Iterator[tuple[_T, Value]]) -> Iterator[tuple[_T, Value]]:
        """``rows`` with values in place of stubs. It takes rows before it answers them, a bounded amount of values ahead.

        Where ``rows`` raises a ``DvidError``, that comes after the rows before it.
        """
        return rows

    @abstractmethod
    def close(self) -> None:
        """Lets the state go; a second call does nothing, any other use afterwards raises ``StoreError``."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Engine(Reader):
    """An opened store. Safe to use from several threads.

    Reading from the engine itself answers from the newest state and gives values as ``bytes``.
    """

    name: ClassVar[str]
    """The engine's name in a configuration, such as ``leveldb``."""
    shared: ClassVar[bool] = False
    """Whether several processes may have the store open at the same time."""
    path: str

    @classmethod
    @abstractmethod
    def open(cls, path: str, **options: Any) -> Self:
        """Opens the store in the folder ``path``, which is made where it does not exist.

        ``options`` are those of the configuration, in lower case; an engine ignores the ones it does not know.
        Raises ``StoreError`` where the store is in use, corrupt or cannot be opened.
        """

    @abstractmethod
    def snapshot(self) -> Snapshot:
        """The store as it is now."""

    @abstractmethod
    def write(self, batch: Batch, *, sync: bool = True, guard: Mapping[Key, bytes | None] | None = None) -> None:
        """Applies ``batch`` whole or not at all; once this returns every new snapshot shows it.

        With ``sync`` it is on the disk on return; without, it survives the death of the process but perhaps not that
        of the machine. With ``guard`` it is applied only if each of the guard's keys has the value that the guard
        names (``None``: is absent), else raises ``GuardFailed`` and changes nothing; no other write comes between the
        check and the batch. Raises ``StoreError`` where the disk fails, is full or the engine is closed.
        """

    def ahead(self, batch: Batch) -> Ahead | None:
        """Puts the large values of ``batch`` on the disk already, where no reader sees them, for a write that still grows.

        The batch that it answers becomes part of that write. If the process dies before, the values never were; while
        it lives their space is kept until ``release``, which must not be called where :meth:`write` raised
        ``StoreError``, since the rows may yet turn up. ``None``, with nothing done, where the engine keeps no values
        apart or the batch would not be less than half of what it was. Raises ``StoreError`` as ``write``.
        """
        return None

    @abstractmethod
    def size(self, start: Key, stop: Key) -> int:
        """About how many bytes the rows with ``start <= key < stop`` take on disk; recent writes may be missing."""

    @abstractmethod
    def close(self) -> None:
        """Closes the store. It waits for nobody: no other thread may be using it. Later use raises ``StoreError``."""

    def get(self, key: Key) -> bytes | None:
        with self.snapshot() as snapshot:
            value = snapshot.get(key)
            return value if value is None else bytes(value)

    def get_many(self, keys: Iterable[Key]) -> list[Value | None]:
        with self.snapshot() as snapshot:
            return [value if value is None else bytes(value) for value in snapshot.get_many(keys)]

    def rows(self, start: Key, stop: Key, reverse: bool) -> Iterator[Row]:
        return self._rows_of(self.snapshot(), start, stop, reverse)

    def keys(self, start: Key, stop: Key, reverse: bool) -> Iterator[Key]:
        return self._keys_of(self.snapshot(), start, stop, reverse)

    # Generators of their own, so that the snapshot is of the moment of the call and not of the first row.
    @staticmethod
    def _rows_of(snapshot: Snapshot, start: Key, stop: Key, reverse: bool) -> Iterator[Row]:
        with snapshot:
            for key, value in snapshot.rows(start, stop, reverse):
                yield key, bytes(value)

    @staticmethod
    def _keys_of(snapshot: Snapshot, start: Key, stop: Key, reverse: bool) -> Iterator[Key]:
        with snapshot:
            yield from snapshot.keys(start, stop, reverse)

    def delete_range(self, start: Key, stop: Key) -> None:
        """Removes the rows with ``start <= key < stop`` and no other.

        Not atomic: it works in batches of bounded size, so that a range of any length can go, and syncs the last one.
        Rows that are written into the range meanwhile may stay.
        """
        batch = Batch()
        for key in self.scan(start, stop, keys_only=True):
            if len(batch) == DELETE_CHUNK:
                self.write(batch, sync=False)
                batch = Batch()
            batch.delete(key)
        if batch:
            self.write(batch)

    def description(self) -> str:
        """The engine and where its data is, for people: ``leveldb @ /data/db``."""
        return f"{self.name} @ {self.path}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def guard_failed(key: Key) -> errors.GuardFailed:
    """The error of a guard whose expectation for ``key`` does not hold."""
    return errors.GuardFailed(f"the value under key {key.hex()} has changed in the meantime")


def option(options: Mapping[str, Any], name: str, default: int, least: int = 0) -> int:
    """The whole number under ``name`` in an engine's options, ``default`` where it is absent.

    Raises ``StoreError`` naming the option where it is no whole number or below ``least``.
    """
    value = options.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise errors.StoreError(f"store option {name}={value!r}: must be a whole number of at least {least}")
    return value
