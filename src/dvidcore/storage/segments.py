"""Large values in append-only files beside LevelDB, which then sorts and compacts pointers only.

The idea is that of WiscKey (L. Lu et al., "WiscKey: Separating Keys from Values in SSD-conscious Storage", FAST 2016).
A segment is a file ``segments/00000001.seg`` …: a header of 16 bytes, then values, back to back as batches brought them.
A value's place, length and checksum are in the row that points to it. Only the newest segment is appended to, and no
byte of a segment is ever written twice, so whoever holds a pointer can read without a lock.

What makes this safe:

- A value is on the disk before a pointer to it is written (whatever ``sync`` says: else a power cut could keep the
  pointer and lose the value). What a crash leaves without a pointer is garbage, never an error.
- A new file and its name are on the disk before anything in it is pointed to.
- After a failed sync nobody knows what reached the disk, and the next sync may not tell: the segment takes no more
  values, and what was not synced before is not acknowledged.
- A segment with values whose pointers are still to be written is *pinned*: ``reclaim`` leaves it alone.
- A value is checked when it is read, and again unless that was lately (``verified``).
"""

from __future__ import annotations

import os
import re
import struct
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

from dvidcore import errors
from dvidcore.storage._checksum import crc32c_each
from dvidcore.storage.engine import Batch, Value
from dvidcore.storage.pointers import MAX_LENGTH, POINTER_BYTES, Pointer
from dvidcore.storage.verified import Map, Verified

FOLDER = "segments"
MERGE_BYTES = 1 << 20
"""The most that one read takes, but for a single larger value."""
_MERGE_GAP = 8 << 10  # reading on over so many bytes is cheaper than another read
_NAME = re.compile(r"(\d{8,})\.seg")
_header = struct.Struct(">8sII")
_MAGIC = b"dvidseg1"
_MOST_VECTORS = os.sysconf("SC_IOV_MAX") if hasattr(os, "sysconf") else 16
_MOST_FILES = 64  # kept open for reading
_sync_file = getattr(os, "fdatasync", os.fsync)


class Epoch:
    """A time in the life of the segments. A snapshot holds on to the epoch in which it was made.

    A segment that is no longer pointed to is removed once nobody holds an epoch from before.
    """

    __slots__ = ("__weakref__",)


class _File:
    """A segment opened for reading; closed when nobody uses it any more."""

    __slots__ = ("_close", "fd", "map")

    def __init__(self, path: str) -> None:
        self._close = os.close
        self.map = Map()
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        fd = getattr(self, "fd", None)
        if fd is not None:
            self._close(fd)


class _Active:
    """The segment that is appended to. ``end`` and ``pins`` are guarded by the lock of the segments."""

    def __init__(self, number: int, path: str, fd: int, end: int) -> None:
        self.number = number
        self.path = path
        self.fd = fd
        self.end = end
        self.pins = 0
        self.failed = False
        self.sealed = False
        self._syncing = threading.Lock()
        self._counting = threading.Lock()
        self._written = 0
        self._synced = 0

    def sync(self) -> None:
        """Puts what this thread has written on the disk; those who wait meanwhile share the next sync."""
        with self._counting:
            self._written += 1
            ticket = self._written
        with self._syncing:
            if self._synced >= ticket:
                return
            if self.failed:
                raise errors.StoreError(f"segment file {self.path}: an earlier sync failed")
            written = self._written
            try:
                _sync_file(self.fd)
            except OSError:
                self.failed = True
                raise
            self._synced = written


class Segments:
    """The segment files of a store. Safe to use from several threads."""

    def __init__(self, store: str, limit: int, threshold: int, least: int) -> None:
        """``store``: the store's folder. ``limit``: bytes at which a new file is started. The others: see ``large``.

        Nothing is made before the first value is appended. Raises ``OSError``.
        """
        self.folder = os.path.join(store, FOLDER)
        self.epoch = Epoch()
        self._store = store
        self._limit = limit
        self.threshold = max(threshold, POINTER_BYTES + 1) if threshold else sys.maxsize
        self._least = least
        self._lock = threading.Lock()
        self._files: dict[int, _File] = {}
        self._verified = Verified()
        self._active: _Active | None = None
        self._sealed: dict[int, _Active] = {}  # pinned, or not to be touched before the next start
        self._closed = False
        self._retired: dict[int, list[weakref.ref[Epoch]]] = {}
        self._past: list[weakref.ref[Epoch]] = []
        self.last = max(self.numbers(), default=0)
        """The number of the newest segment, 0 where there is none yet. It is never removed, so none comes twice."""
        self._resumable = self.last > 0
        self.appended = 0
        """Bytes appended since the opening."""

    # --- files -----------------------------------------------------------------------------------------------------

    def numbers(self) -> list[int]:
        """The numbers of the segments that exist, ascending."""
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        return sorted(int(match[1]) for match in map(_NAME.fullmatch, names) if match)

    def path(self, number: int) -> str:
        return os.path.join(self.folder, f"{number:08}.seg")

    def bytes_of(self, number: int) -> int:
        """The size of a segment file, 0 where there is none."""
        try:
            return os.stat(self.path(number)).st_size
        except FileNotFoundError:
            return 0

    def _file(self, number: int) -> _File:
        file = self._files.get(number)
        if file is None:
            path = self.path(number)
            try:
                file = _File(path)
                header = os.pread(file.fd, _header.size, 0)
            except FileNotFoundError:
                raise errors.StoreError(f"segment file {path} is missing") from None
            except OSError as error:
                raise errors.StoreError(f"segment file {path} cannot be read: {error}") from error
            if header != _header.pack(_MAGIC, number, 0):
                raise errors.StoreError(f"segment file {path} does not begin as segment {number} does")
            with self._lock:
                while len(self._files) >= _MOST_FILES:
                    del self._files[next(iter(self._files))]
                self._files[number] = file
        return file

    def _open_active(self) -> _Active:
        """The newest segment if it has room, else a new one. Under the lock."""
        active = self._active
        if active is not None:
            if active.end < self._limit and not active.failed:
                return active
            self._seal()
        elif self._resumable:
            self._active = self._resume(self.last)
        self._resumable = False
        if self._active is None:
            self._active = self._create(self.last + 1)
        return self._active

    def _seal(self) -> None:
        active = self._active
        if active is not None:
            active.sealed = True
            self._active = None
            self._sealed[active.number] = active
            self._settle(active)

    def _settle(self, segment: _Active) -> None:
        """Closes a segment that takes no more values once nobody uses it for writing."""
        if segment.sealed and not segment.pins and segment.number in self._sealed:
            del self._sealed[segment.number]
            os.close(segment.fd)

    def _resume(self, number: int) -> _Active | None:
        """The segment, to append behind all that was ever written to it; ``None`` where a new one is to be made."""
        path = self.path(number)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        end = os.fstat(fd).st_size
        if end < self._limit and os.pread(fd, _header.size, 0) == _header.pack(_MAGIC, number, 0):
            return _Active(number, path, fd, end)
        os.close(fd)
        return None

    def _create(self, number: int) -> _Active:
        if not os.path.isdir(self.folder):
            os.mkdir(self.folder)
        _sync_folder(self._store)
        path = self.path(number)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self.last = number
        try:
            _write_all(fd, [_header.pack(_MAGIC, number, 0)], 0)
            os.fsync(fd)
            _sync_folder(self.folder)
        except OSError:
            os.close(fd)
            with suppress(OSError):
                os.unlink(path)
            raise
        return _Active(number, path, fd, _header.size)

    # --- removing --------------------------------------------------------------------------------------------------

    def settled(self) -> list[int]:
        """The segments that take no more values and to which no more rows will point than do now."""
        numbers = self.numbers()
        with self._lock:
            kept = {self.last, *self._sealed, *self._retired}
        return [number for number in numbers if number not in kept]

    def rotate(self) -> None:
        """Starts a new segment. Raises ``StoreError``."""
        try:
            with self._lock:
                if self._closed:
                    raise errors.StoreError("the store is closed")
                self._seal()
                self._resumable = False
                self._active = self._create(self.last + 1)
        except OSError as error:
            raise errors.StoreError(f"segment files in {self.folder}: {error}") from error

    def retire(self, numbers: Iterable[int]) -> None:
        """Has segments removed to which no row points, and none will after a power cut, once no snapshot needs them."""
        with self._lock:
            self._past = [past for past in self._past if past() is not None]
            self._past.append(weakref.ref(self.epoch))
            self.epoch = Epoch()
            for number in numbers:
                self._retired[number] = list(self._past)

    @property
    def retired(self) -> bool:
        """Whether files wait for their removal."""
        return bool(self._retired)

    def sweep(self, everything: bool = False) -> None:
        """Removes the files of retired segments that no snapshot needs; all of them with ``everything``."""
        with self._lock:
            for number, epochs in list(self._retired.items()):
                if everything or all(epoch() is None for epoch in epochs):
                    self._files.pop(number, None)
                    with suppress(OSError):  # then the next count finds it again
                        os.unlink(self.path(number))
                    del self._retired[number]

    # --- writing ---------------------------------------------------------------------------------------------------

    def large(self, batch: Batch) -> list[Value]:
        """The values of a batch to be stored here, in order: all of ``threshold`` bytes and more, 0 meaning none.

        None either where they have less than ``least`` bytes together: not worth a sync of their own.
        """
        if batch.nbytes < self._least:
            return []
        threshold = self.threshold
        found = [value for _, value in batch.operations if value is not None and len(value) >= threshold]
        return found if sum(map(len, found)) >= self._least else []

    @contextmanager
    def storing(self, values: Sequence[Value]) -> Iterator[list[bytes]]:
        """:meth:`append` for rows that are written inside the context.

        After an error of the store inside it their segment stays pinned until the next start: the rows may yet turn up,
        as a failed write may have reached LevelDB's log. ``GuardFailed`` says that they were not written.
        """
        rows, unpin = self.append(values)
        try:
            yield rows
        except errors.GuardFailed:
            unpin()
            raise
        unpin()

    def append(self, values: Sequence[Value]) -> tuple[list[bytes], Callable[[], None]]:
        """Appends ``values`` and puts them on the disk.

        Answers the rows to write instead of them, and what unpins their segment once that is done or will never be.
        Raises ``StoreError``, with nothing stored, where the disk fails or is full.
        """
        total = 0
        for value in values:
            if len(value) > MAX_LENGTH:
                raise errors.StoreError(f"a value of {len(value)} bytes: at most {MAX_LENGTH} can be stored")
            total += len(value)
        checksums = crc32c_each(list(values))
        try:
            with self._lock:
                if self._closed:
                    raise errors.StoreError("the store is closed")
                segment = self._open_active()
                start = segment.end
                segment.end += total
                segment.pins += 1
                self.appended += total
        except OSError as error:
            raise errors.StoreError(f"segment files in {self.folder}: {error}") from error
        try:
            try:
                _write_all(segment.fd, values, start)
                segment.sync()
            except OSError as error:
                self._give_back(segment, start, total)
                raise errors.StoreError(f"segment file {segment.path}: {error}") from error
        except BaseException:
            self._unpin(segment)
            raise
        rows = []
        for value, crc in zip(values, checksums, strict=True):
            rows.append(Pointer(segment.number, start, len(value), crc).encode())
            start += len(value)
        return rows, partial(self._unpin, segment)

    def _give_back(self, segment: _Active, start: int, total: int) -> None:
        """Frees the space of values that could not be stored, unless others came behind them. Their place stays unused."""
        with self._lock:
            if segment.end == start + total:
                with suppress(OSError):
                    os.ftruncate(segment.fd, start)

    def _unpin(self, segment: _Active) -> None:
        with self._lock:
            segment.pins -= 1
            self._settle(segment)

    # --- reading ---------------------------------------------------------------------------------------------------

    def read(self, pointer: Pointer) -> bytes:
        """The value, checked. Raises ``StoreError`` naming the file where it is missing, ends too early or is damaged."""
        value = self._read(pointer.segment, pointer.offset, pointer.length)
        if crc32c_each([value])[0] != pointer.crc:
            raise self._damaged(pointer)
        return value

    def read_many(self, pointers: Sequence[Pointer]) -> list[Value]:
        """The values, in the order of ``pointers``, checked unless that was done lately.

        What lies together is read at once, and shared by memoryviews. Raises ``StoreError`` as ``read``.
        """
        values = self._verified.again(pointers, self._mapped)
        order = sorted((k for k, value in enumerate(values) if value is None), key=pointers.__getitem__)
        at = 0
        while at < len(order):
            first = pointers[order[at]]
            start, end = first.offset, first.offset + first.length
            stop = at + 1
            while stop < len(order):
                segment, offset, length, _ = pointers[order[stop]]
                if segment != first.segment or offset > end + _MERGE_GAP or offset + length > start + MERGE_BYTES:
                    break
                end = max(end, offset + length)
                stop += 1
            data = self._read(first.segment, start, end - start)
            found = [pointers[place] for place in order[at:stop]]
            if len(found) == 1:
                pieces: list[Value] = [data]
            else:
                view = memoryview(data)
                pieces = [view[offset - start : offset - start + length] for _, offset, length, _ in found]
            for place, piece, crc in zip(order[at:stop], pieces, crc32c_each(pieces), strict=True):
                if crc != pointers[place].crc:
                    raise self._damaged(pointers[place])
                values[place] = piece
            self._verified.add(found)
            at = stop
        return values  # type: ignore[return-value]  # none is missing now

    def _mapped(self, number: int, end: int) -> memoryview:
        file = self._file(number)
        return file.map.upto(end, file.fd)

    def _read(self, number: int, offset: int, length: int) -> bytes:
        file = self._file(number)
        try:
            data = os.pread(file.fd, length, offset)
            while len(data) < length:  # the system reads at most 2 GB at once
                more = os.pread(file.fd, length - len(data), offset + len(data))
                if not more:
                    raise errors.StoreError(
                        f"segment file {self.path(number)} ends within the value at {offset} of {length} bytes"
                    )
                data += more
        except (OSError, OverflowError) as error:
            raise errors.StoreError(f"segment file {self.path(number)} cannot be read: {error}") from error
        return data

    def _damaged(self, pointer: Pointer) -> errors.StoreError:
        path = self.path(pointer.segment)
        return errors.StoreError(
            f"segment file {path}: the value at {pointer.offset} of {pointer.length} bytes is damaged"
        )

    def close(self) -> None:
        """Lets the files go. Appending raises ``StoreError`` from now on."""
        with self._lock:
            self._closed = True
            for segment in [*self._sealed.values(), *([self._active] if self._active else [])]:
                os.close(segment.fd)
            self._sealed.clear()
            self._active = None
            self._files.clear()


def _write_all(fd: int, values: Sequence[Value], offset: int) -> None:
    rest: list[Value] = [value for value in values if len(value)]
    at = 0
    while at < len(rest):
        vectors = rest[at : at + _MOST_VECTORS]
        written = os.pwritev(fd, vectors, offset)
        if not written:
            raise OSError("nothing could be written")
        offset += written
        for value in vectors:
            if written < len(value):
                break
            written -= len(value)
            at += 1
        if written:
            rest[at] = memoryview(rest[at])[written:]


def _sync_folder(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
