"""LMDB through py-lmdb: several processes may have one store open, and values are read without being copied.

A snapshot is a read transaction, and its values are memoryviews into the mapped file: they must not be touched after the
snapshot is closed. LMDB wants calls within one transaction one after the other, so each snapshot has a lock. Open the
store after a fork, not before. LMDB has no keys longer than 511 bytes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, ClassVar, Self, TypeVar

import lmdb

from dvidcore import errors
from dvidcore.storage.engine import Batch, Engine, Key, Row, Snapshot, Value, guard_failed, option
from dvidcore.storage.folder import Folder

MB = 1 << 20
MAX_KEY_BYTES = 511
_T = TypeVar("_T")
# Rows that a scan takes while it holds the snapshot's lock: few at first, for scans that end soon.
_FIRST_ROWS, _MOST_ROWS = 8, 256


def _failure(error: Exception) -> errors.StoreError:
    if isinstance(error, lmdb.MapFullError):
        return errors.StoreError("LMDB: the store has reached its mapsize; open it with a larger one")
    return errors.StoreError(f"LMDB: {error}")


class LMDBSnapshot(Snapshot):
    __slots__ = ("_cursor", "_lock", "_transaction")

    def __init__(self, transaction: Any) -> None:
        self._transaction = transaction
        self._lock = threading.Lock()
        self._cursor: Any = None

    def get(self, key: Key) -> Value | None:
        if not 0 < len(key) <= MAX_KEY_BYTES:
            return None
        try:
            with self._lock:
                value: Value | None = self._transaction.get(key)
        except lmdb.Error as error:
            raise _failure(error) from error
        return value

    def get_many(self, keys: Iterable[Key]) -> list[Value | None]:
        try:
            with self._lock:
                get = self._transaction.get
                return [get(key) if 0 < len(key) <= MAX_KEY_BYTES else None for key in keys]
        except lmdb.Error as error:
            raise _failure(error) from error

    def floor(self, start: Key, last: Key) -> Row | None:
        try:
            with self._lock:
                if self._cursor is None:
                    self._cursor = self._transaction.cursor()
                cursor = self._cursor
                if not _seek_back(cursor, last, included=True):
                    return None
                key = bytes(cursor.key())
                return (key, cursor.value()) if key >= start else None
        except lmdb.Error as error:
            raise _failure(error) from error

    def rows(self, start: Key, stop: Key, reverse: bool) -> Iterator[Row]:
        for rows in self._chunks(start, stop, reverse, lambda cursor: cursor.iterprev if reverse else cursor.iternext):
            for raw, value in rows:
                key = bytes(raw)
                if key < start if reverse else key >= stop:
                    return
                yield key, value

    def keys(self, start: Key, stop: Key, reverse: bool) -> Iterator[Key]:
        def iterator(cursor: Any) -> Any:
            iterate = cursor.iterprev if reverse else cursor.iternext
            return lambda: iterate(keys=True, values=False)

        for chunk in self._chunks(start, stop, reverse, iterator):
            for raw in chunk:
                key = bytes(raw)
                if key < start if reverse else key >= stop:
                    return
                yield key

    def _chunks(
        self, start: Key, stop: Key, reverse: bool, iterator: Callable[[Any], Callable[[], Iterator[_T]]]
    ) -> Iterator[list[_T]]:
        """What a cursor's iterator gives from the first row in the range on, beyond its end, in lists."""
        size = _FIRST_ROWS
        try:
            with self._lock:
                cursor = self._transaction.cursor()
                if not (_seek_back(cursor, stop, included=False) if reverse else _seek(cursor, start)):
                    return
                rows = iterator(cursor)()
                chunk = list(islice(rows, size))
            while chunk:
                yield chunk
                size = min(4 * size, _MOST_ROWS)
                with self._lock:
                    chunk = list(islice(rows, size))
        except lmdb.Error as error:
            raise _failure(error) from error

    def close(self) -> None:
        with self._lock:
            self._cursor = None
            self._transaction.abort()


def _seek(cursor: Any, start: Key) -> bool:
    """Goes to the first key from ``start`` on; answers whether there is one."""
    if not start:
        return bool(cursor.first())
    found = cursor.set_range(start[:MAX_KEY_BYTES])
    # Only the shortened start itself can be found and lie before the start.
    return bool(found and (len(start) <= MAX_KEY_BYTES or bytes(cursor.key()) >= start or cursor.next()))


def _seek_back(cursor: Any, last: Key, included: bool) -> bool:
    """Goes to the last key up to ``last``, or below it where it is not ``included``; answers whether there is one."""
    if not last:
        return False
    if not cursor.set_range(last[:MAX_KEY_BYTES]):
        return bool(cursor.last())
    key = bytes(cursor.key())
    return True if key < last or (included and key == last) else bool(cursor.prev())


class LMDB(Engine):
    """An LMDB store in a folder. Options, with what they cost:

    - ``mapsize`` (1048576, MB): the most that the store may hold. It takes address space, not disk or memory; all
      processes that open the store should name the same.
    """

    name: ClassVar[str] = "lmdb"
    shared: ClassVar[bool] = True
    max_key_bytes: ClassVar[int] = MAX_KEY_BYTES
    """What the datatypes ask for where clients choose keys."""

    def __init__(self, path: str, environment: Any, folder: Folder) -> None:
        self.path = path
        self._folder = folder
        self._environment = environment

    @classmethod
    def open(cls, path: str, **options: Any) -> Self:
        map_size = option(options, "mapsize", 1 << 20, 1) * MB
        where = f"store {cls.name} @ {path}"
        folder = Folder(path, "data.mdb", where)
        try:
            # Without metasync a commit stays whole after a power cut, though the last may be lost; a write with sync
            # makes up for that. Nothing cheaper would keep the file consistent.
            environment = lmdb.open(path, map_size=map_size, max_readers=1024, metasync=False)
            environment.reader_check()
        except (lmdb.Error, OSError, OverflowError, MemoryError) as error:
            folder.release()
            raise errors.StoreError(f"{where} cannot be opened: {error}") from error
        return cls(path, environment, folder)

    def snapshot(self) -> LMDBSnapshot:
        try:
            return LMDBSnapshot(self._environment.begin(buffers=True))
        except lmdb.Error as error:
            raise _failure(error) from error

    def write(self, batch: Batch, *, sync: bool = True, guard: Mapping[Key, bytes | None] | None = None) -> None:
        for key, value in batch.operations:
            if not 0 < len(key) <= MAX_KEY_BYTES and value is not None:
                raise errors.BadRequest(f"key of {len(key)} bytes: an lmdb store takes keys of 1 to {MAX_KEY_BYTES}")
        try:
            with self._environment.begin(write=True) as transaction:
                for key, expected in (guard or {}).items():
                    found = transaction.get(key) if 0 < len(key) <= MAX_KEY_BYTES else None
                    if found != expected:
                        raise guard_failed(key)
                put, delete = transaction.put, transaction.delete
                for key, value in batch.operations:
                    if value is not None:
                        put(key, value)
                    elif 0 < len(key) <= MAX_KEY_BYTES:
                        delete(key)
            if sync:
                self._environment.sync(True)
        except lmdb.Error as error:
            raise _failure(error) from error

    def size(self, start: Key, stop: Key) -> int:
        """The bytes of the rows' keys and values, by going through all of them."""
        with self.snapshot() as snapshot:
            return sum(len(key) + len(value) for key, value in snapshot.scan(start, stop))

    def close(self) -> None:
        self._environment.close()
        self._folder.release()
