"""LevelDB through plyvel: the default engine. One process at a time opens a store.

plyvel lets go of the GIL in every call. Its iterators are not safe for two threads at once, so a snapshot keeps a few
for :meth:`LevelDBSnapshot.floor` and hands each to one caller at a time: seeking a used one costs a third of making one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import plyvel

from dvidcore import errors
from dvidcore.storage.engine import Batch, Engine, Key, Row, Snapshot, guard_failed, option
from dvidcore.storage.folder import Folder
from dvidcore.storage.writers import Writers

MB = 1 << 20
# plyvel raises RuntimeError for what is closed.
_FAILURES = (plyvel.Error, RuntimeError)


def _text(error: Exception) -> str:
    text = error.args[0] if error.args else error
    return text.decode(errors="replace") if isinstance(text, bytes) else str(text)


def _failure(error: Exception) -> errors.StoreError:
    return errors.StoreError(f"LevelDB: {_text(error)}")


class LevelDBSnapshot(Snapshot):
    __slots__ = ("_iterators", "_snapshot")

    def __init__(self, snapshot: Any) -> None:
        self._snapshot = snapshot
        self._iterators: list[Any] = []

    def get(self, key: Key) -> bytes | None:
        try:
            value: bytes | None = self._snapshot.get(key)
        except _FAILURES as error:
            raise _failure(error) from error
        return value

    def floor(self, start: Key, last: Key) -> Row | None:
        iterators = self._iterators
        try:
            try:
                iterator = iterators.pop()
            except IndexError:
                iterator = self._snapshot.raw_iterator()
            iterator.seek(last)
            if iterator.valid():
                key = iterator.key()
                if key != last:
                    iterator.prev()
                    key = iterator.key() if iterator.valid() else b""
            else:
                iterator.seek_to_last()
                key = iterator.key() if iterator.valid() else b""
            row = (key, iterator.value()) if key >= start and key else None
        except _FAILURES as error:
            raise _failure(error) from error
        iterators.append(iterator)
        return row

    def rows(self, start: Key, stop: Key, reverse: bool) -> Iterator[Row]:
        try:
            yield from self._snapshot.iterator(start=start, stop=stop, reverse=reverse)
        except _FAILURES as error:
            raise _failure(error) from error

    def keys(self, start: Key, stop: Key, reverse: bool) -> Iterator[Key]:
        try:
            yield from self._snapshot.iterator(start=start, stop=stop, reverse=reverse, include_value=False)
        except _FAILURES as error:
            raise _failure(error) from error

    def close(self) -> None:
        while self._iterators:
            self._iterators.pop().close()
        self._snapshot.close()


class LevelDB(Engine):
    """A LevelDB store in a folder.

    Values are not compressed here, since the datatypes store them compressed. Options, with what they cost:

    - ``cachesize`` (64, MB): uncompressed blocks kept in memory.
    - ``writebuffersize`` (32, MB): what is gathered in memory before a file is written; up to twice this is held. More
      makes bulk ingestion faster and a start after a crash slower.
    - ``bloomfilterbitsperkey`` (10): bits kept per key to know without reading that a file lacks a key.
    - ``maxopenfiles`` (1000): of the operating system's limit.
    - ``blocksize`` (4096, bytes): what is read at least from the disk for one row.
    """

    name: ClassVar[str] = "leveldb"

    def __init__(self, path: str, db: Any, folder: Folder) -> None:
        self.path = path
        self._db = db
        self._folder = folder
        self._writers = Writers()

    @classmethod
    def open(cls, path: str, **options: Any) -> Self:
        settings = {
            "lru_cache_size": option(options, "cachesize", 64) * MB,
            "write_buffer_size": option(options, "writebuffersize", 32, 1) * MB,
            "bloom_filter_bits": option(options, "bloomfilterbitsperkey", 10),
            "max_open_files": option(options, "maxopenfiles", 1000, 64),
            "block_size": option(options, "blocksize", 4096, 1024),
        }
        where = f"store {cls.name} @ {path}"
        folder = Folder(path, "CURRENT", where)
        try:
            db = plyvel.DB(path, create_if_missing=True, compression=None, **settings)
        except (plyvel.Error, OSError) as error:
            folder.release()
            text = _text(error)
            if "/LOCK: " in text and "temporarily unavailable" in text:
                raise errors.StoreError(f"{where} is in use by another process") from error
            raise errors.StoreError(f"{where} cannot be opened: {text}") from error
        return cls(path, db, folder)

    def snapshot(self) -> LevelDBSnapshot:
        try:
            return LevelDBSnapshot(self._db.snapshot())
        except _FAILURES as error:
            raise _failure(error) from error

    def write(self, batch: Batch, *, sync: bool = True, guard: Mapping[Key, bytes | None] | None = None) -> None:
        try:
            writes = self._db.write_batch(sync=sync)
            put, delete = writes.put, writes.delete
            for key, value in batch.operations:
                if value is None:
                    delete(key)
                else:
                    put(key, value)
            with self._writers.admit(batch, guard):
                if guard:
                    get = self._db.get
                    for key, expected in guard.items():
                        if get(key) != expected:
                            raise guard_failed(key)
                writes.write()
        except _FAILURES as error:
            raise _failure(error) from error

    def size(self, start: Key, stop: Key) -> int:
        try:
            return int(self._db.approximate_size(start, stop))
        except _FAILURES as error:
            raise _failure(error) from error

    def close(self) -> None:
        self._db.close()
        self._folder.release()
