"""LevelDB through plyvel: the default engine. One process at a time opens a store.

plyvel lets go of the GIL in every call. Its iterators are not safe for two threads at once, so a snapshot keeps a few
for :meth:`LevelDBSnapshot.floor` and hands each to one caller at a time: seeking a used one costs a third of making one.

Large values are not LevelDB's: they go to segment files, see ``segments``, and LevelDB holds pointers to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar, Self, TypeVar

import plyvel

from dvidcore import errors
from dvidcore.storage.engine import Ahead, Batch, Engine, Key, Row, Snapshot, Value, guard_failed, option
from dvidcore.storage.estimate import stored_bytes
from dvidcore.storage.folder import Folder
from dvidcore.storage.journal import Journal
from dvidcore.storage.pointers import INLINE, MARK, MARK_BYTES, Pointer, Standing, decode, is_pointer
from dvidcore.storage.reclaim import Reclaimed, Reclaimer
from dvidcore.storage.segments import MERGE_BYTES, Epoch, Segments
from dvidcore.storage.writers import Writers

MB = 1 << 20
_K = TypeVar("_K")
# Rows that a scan takes ahead: few at first, as it may end soon, and where they hold large values themselves.
_FIRST_ROWS, _MOST_ROWS = 4, 256
# plyvel raises RuntimeError for what is closed; the journal OSError.
_FAILURES = (plyvel.Error, RuntimeError, OSError)


def _text(error: Exception) -> str:
    text = error.args[0] if error.args else b""
    return text.decode(errors="replace") if isinstance(text, bytes) else str(error)


def _failure(error: Exception) -> errors.StoreError:
    return errors.StoreError(f"LevelDB: {_text(error)}")


class LevelDBSnapshot(Snapshot):
    __slots__ = ("_epoch", "_iterators", "_segments", "_snapshot")

    def __init__(self, snapshot: Any, segments: Segments, epoch: Epoch) -> None:
        """``epoch`` must be from before the snapshot was made."""
        self._snapshot = snapshot
        self._segments = segments
        self._epoch: Epoch | None = epoch
        self._iterators: list[Any] = []

    def get(self, key: Key) -> Value | None:
        try:
            stored: bytes | None = self._snapshot.get(key)
        except _FAILURES as error:
            raise _failure(error) from error
        return self.load(stored) if stored else stored

    def get_many(self, keys: Iterable[Key]) -> list[Value | None]:
        get = self._snapshot.get
        try:
            stored: list[Value | None] = [get(key) for key in keys]
        except _FAILURES as error:
            raise _failure(error) from error
        return self.load_many(stored)

    def floor(self, start: Key, last: Key) -> Row | None:
        row = self.floor_stub(start, last)
        return None if row is None else (row[0], self.load(row[1]))

    def rows(self, start: Key, stop: Key, reverse: bool) -> Iterator[Row]:
        return self.load_rows(self._stored(start, stop, reverse))

    def keys(self, start: Key, stop: Key, reverse: bool) -> Iterator[Key]:
        try:
            yield from self._snapshot.iterator(start=start, stop=stop, reverse=reverse, include_value=False)
        except _FAILURES as error:
            raise _failure(error) from error

    def floor_stub(self, start: Key, last: Key) -> Row | None:
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

    def stubs(self, start: Key, stop: Key) -> Iterator[Row]:
        return self._stored(start, stop, False) if start < stop else iter(())

    def _stored(self, start: Key, stop: Key, reverse: bool) -> Iterator[Row]:
        try:
            yield from self._snapshot.iterator(start=start, stop=stop, reverse=reverse)
        except _FAILURES as error:
            raise _failure(error) from error

    def load(self, stub: Value) -> Value:
        return _load(self._segments, stub) if stub[:MARK_BYTES] == MARK else stub

    def load_many(self, stubs: Sequence[Value | None]) -> list[Value | None]:
        values = list(stubs)
        pointers: list[Pointer] = []
        places: list[int] = []
        for place, stub in enumerate(stubs):
            if stub and stub[:MARK_BYTES] == MARK:
                if is_pointer(stub):
                    pointers.append(decode(stub))
                    places.append(place)
                else:
                    values[place] = self.load(stub)
        if pointers:
            for place, value in zip(places, self._segments.read_many(pointers), strict=True):
                values[place] = value
        return values

    def load_rows(self, rows: Iterator[tuple[_K, Value]]) -> Iterator[tuple[_K, Value]]:
        epoch = self._epoch  # in use until the end, even if the snapshot is closed
        most = _FIRST_ROWS
        failure = None
        while failure is None:
            chunk: list[tuple[_K, Value]] = []
            try:
                chunk.extend(islice(rows, most))
            except errors.DvidError as error:  # what came before it is still to be answered
                failure = error
            if MARK in [row[1][:MARK_BYTES] for row in chunk]:
                yield from self._loaded(chunk)
            else:
                yield from chunk
            if len(chunk) < most:
                break
            small = sum([len(row[1]) for row in chunk]) < MERGE_BYTES // 4
            most = min(4 * most, _MOST_ROWS) if small else _FIRST_ROWS
        del epoch
        if failure is not None:
            raise failure

    def _loaded(self, rows: list[tuple[_K, Value]]) -> Iterator[tuple[_K, Value]]:
        waiting: list[tuple[_K, Value | Pointer]] = []
        nbytes = 0
        for key, stub in rows:
            if is_pointer(stub):
                pointer = decode(stub)
                if nbytes + pointer.length > MERGE_BYTES:
                    ready, waiting, nbytes = waiting, [], 0
                    yield from self._read(ready)
                waiting.append((key, pointer))
                nbytes += pointer.length
            else:
                waiting.append((key, self.load(stub)))
        yield from self._read(waiting)

    def _read(self, rows: list[tuple[_K, Value | Pointer]]) -> Iterator[tuple[_K, Value]]:
        values = iter(self._segments.read_many([value for _, value in rows if isinstance(value, Pointer)]))
        for key, value in rows:
            yield key, next(values) if isinstance(value, Pointer) else value

    def close(self) -> None:
        while self._iterators:
            self._iterators.pop().close()
        self._snapshot.close()
        self._epoch = None


def _load(segments: Segments, stored: Value) -> Value:
    """The value of a row that begins with the mark."""
    return segments.read_many([decode(stored)])[0] if is_pointer(stored) else stored[len(INLINE) :]


class LevelDB(Engine):
    """A LevelDB store in a folder, with large values in segment files beside it.

    Values are not compressed here, since the datatypes store them compressed. Options, with what they cost:

    - ``cachesize`` (64, MB): uncompressed blocks kept in memory.
    - ``writebuffersize`` (32, MB): what is gathered in memory before a file is written; up to twice this is held. More
      makes bulk ingestion faster and a start after a crash slower.
    - ``bloomfilterbitsperkey`` (10): bits kept per key to know without reading that a file lacks a key.
    - ``maxopenfiles`` (1000): of the operating system's limit.
    - ``blocksize`` (4096, bytes): what is read at least from the disk for one row.
    - ``segmentthreshold`` (4096, bytes): values from this size on go to segment files; 0: none does. Stored values stay
      where they are and readable, whatever it says.
    - ``segmentbatch`` (65536, bytes): but only where a batch has so much of them, since it is one more sync; below, they
      stay in LevelDB, which copies them a few times.
    - ``segmentsize`` (256, MB): a new segment file is started at this size. Larger ones take longer to clean up.
    """

    name: ClassVar[str] = "leveldb"

    def __init__(self, path: str, db: Any, folder: Folder, segments: Segments) -> None:
        self.path = path
        self._db = db
        self._folder = folder
        self._writers = Writers()
        self._segments = segments
        self._journal = Journal(db, path)
        self._reclaimer = Reclaimer(db, segments, self._writers, self._journal)

    @classmethod
    def open(cls, path: str, **options: Any) -> Self:
        settings = {
            "lru_cache_size": option(options, "cachesize", 64) * MB,
            "write_buffer_size": option(options, "writebuffersize", 32, 1) * MB,
            "bloom_filter_bits": option(options, "bloomfilterbitsperkey", 10),
            "max_open_files": option(options, "maxopenfiles", 1000, 64),
            "block_size": option(options, "blocksize", 4096, 1024),
        }
        segment_bytes = option(options, "segmentsize", 256, 1) * MB
        threshold = option(options, "segmentthreshold", 4096)
        least = option(options, "segmentbatch", 64 << 10)
        where = f"store {cls.name} @ {path}"
        folder = Folder(path, "CURRENT", where)
        db = None
        try:
            db = plyvel.DB(path, create_if_missing=True, compression=None, **settings)
            segments = Segments(path, segment_bytes, threshold, least)
        except (plyvel.Error, OSError, OverflowError, MemoryError) as error:
            if db is not None:
                db.close()
            folder.release()
            text = _text(error)
            if "/LOCK: " in text and "temporarily unavailable" in text:
                raise errors.StoreError(f"{where} is in use by another process") from error
            raise errors.StoreError(f"{where} cannot be opened: {text}") from error
        return cls(path, db, folder, segments)

    def snapshot(self) -> LevelDBSnapshot:
        epoch = self._segments.epoch
        try:
            return LevelDBSnapshot(self._db.snapshot(), self._segments, epoch)
        except _FAILURES as error:
            raise _failure(error) from error

    def write(self, batch: Batch, *, sync: bool = True, guard: Mapping[Key, bytes | None] | None = None) -> None:
        try:
            self._journal.ready()
            large = self._segments.large(batch)
            if large:
                self._check(guard)  # for nothing to be stored if it fails already
                with self._segments.storing(large) as rows:
                    self._write(batch, iter(rows), sync, guard)
                self._reclaimer.written(deleted=False)
            elif self._write(batch, None, sync, guard):
                self._reclaimer.written(deleted=True)
        except _FAILURES as error:
            raise _failure(error) from error

    def _write(
        self, batch: Batch, pointers: Iterator[bytes] | None, sync: bool, guard: Mapping[Key, bytes | None] | None
    ) -> bool:
        """Answers whether the batch does nothing but delete."""
        threshold = self._segments.threshold
        writes = self._db.write_batch(sync=sync)
        put, delete = writes.put, writes.delete
        deletes = 0
        for key, value in batch.operations:
            if value is None:
                delete(key)
                deletes += 1
            elif pointers is not None and len(value) >= threshold:
                put(key, next(pointers))
            elif value[:MARK_BYTES] == MARK:
                put(key, value if type(value) is Standing else INLINE + value)
            else:
                put(key, value)
        with self._writers.admit(batch, guard):
            self._check(guard)
            self._journal.write(writes)
        return 0 < deletes == len(batch)

    def ahead(self, batch: Batch) -> Ahead | None:
        large = self._segments.large(batch)
        if 2 * sum(map(len, large)) < batch.nbytes:
            return None
        rows, release = self._segments.append(large)
        self._reclaimer.written(deleted=False)
        threshold, standing = self._segments.threshold, map(Standing, rows)
        smaller = Batch()
        for key, value in batch.operations:
            if value is None:
                smaller.delete(key)
            else:
                smaller.put(key, next(standing) if len(value) >= threshold else value)
        return Ahead(smaller, release)

    def reclaim(self) -> Reclaimed:
        """Gives back the space of large values that were deleted or overwritten, now; else it happens in time.

        Goes through all rows. Raises ``StoreError`` where the disk fails; nothing is lost then.
        """
        try:
            return self._reclaimer.run()
        except _FAILURES as error:
            raise _failure(error) from error

    def _check(self, guard: Mapping[Key, bytes | None] | None) -> None:
        if guard:
            epoch = self._segments.epoch
            for key, expected in guard.items():
                stored = self._db.get(key)
                if stored and stored[:MARK_BYTES] == MARK:
                    stored = _load(self._segments, stored)
                if stored != expected:
                    raise guard_failed(key)
            del epoch

    def size(self, start: Key, stop: Key) -> int:
        try:
            return stored_bytes(self._db, start, stop)
        except _FAILURES as error:
            raise _failure(error) from error

    def close(self) -> None:
        if not self._db.closed:
            self._reclaimer.close()
        self._db.close()
        self._segments.close()
        self._folder.release()
