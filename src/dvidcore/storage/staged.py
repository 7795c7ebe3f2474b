"""Writes too large for memory or for one batch, that still happen whole or not at all.

Up to a limit a :class:`StagedWrite` is one batch. Beyond it, an engine that keeps large values apart puts them on the
disk ahead, and the write stays one batch, of what stands for them: it is as atomic as a small one, for readers too.

Where that does not help, operations go to rows of the class STAGE, where no reader looks. Committing writes one record,
atomically and under the guard; from then on the write will be carried out, by the process or by :func:`recover` at the
next start; before, it never happened. Carrying out moves the rows' operations to their place in batches of bounded
size, and the last batch, which is the caller's ``final`` one, removes the record.

While it is carried out, which is the only time, readers can see a part of a large write: the caller keeps other writers
of its process off its keys until ``commit`` returns, and puts what makes the write visible into the final batch. The
writers of other processes compute from a snapshot that is ``whole``.

Rows, under STAGE + id (8 random bytes) + sequence (4 bytes, big-endian):

- 0: the record. State ``I`` (intended) or ``C`` (committed), sequence of the first final row (4 bytes), owner (text).
- 1 …: operations in their order, each as length of key (4 bytes), length of value (4 bytes; ``ffffffff``: delete), key,
  value.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import NamedTuple, Self

from dvidcore import errors
from dvidcore.storage.engine import Batch, Engine, Key, Snapshot, Value
from dvidcore.storage.keys import STAGE, prefix_range

LIMIT = 48 << 20
ROW_BYTES = 4 << 20
"""About how much a row of operations holds; a single larger value makes a larger row."""

_AHEAD_BYTES = 16 << 20
"""About how much a write that has outgrown memory puts on the disk at once; each time is a sync."""
_PATIENCE = 300
"""Seconds that a writer waits for one large write of another process."""
_PAUSE = 0.01

_ID_BYTES = 8
_INTENDED, _COMMITTED = b"I", b"C"
_DELETE = 0xFFFFFFFF
_lengths = struct.Struct(">II")
_sequence = struct.Struct(">I")


class StagedWrite:
    """One write of any size, in bounded memory. For one thread and one commit.

    Leaving its ``with`` block without a commit undoes it.
    """

    def __init__(self, engine: Engine, limit: int = LIMIT) -> None:
        """``limit``: bytes of keys and values held in memory before values go ahead, and of a batch then."""
        self._engine = engine
        self._largest = self._limit = limit
        self._row_bytes = min(limit, ROW_BYTES)
        self._ahead = Batch()  # before those of the batch: large values are on the disk
        self._releases: list[Callable[[], None]] = []
        self._batch = Batch()
        self._id = os.urandom(_ID_BYTES)
        self._rows = 0
        self._committed = False

    def put(self, key: Key, value: Value) -> None:
        """As :meth:`Batch.put`."""
        self._batch.put(key, value)
        if self._batch.nbytes >= self._limit:
            self._shrink()

    def delete(self, key: Key) -> None:
        """As :meth:`Batch.delete`."""
        self._batch.delete(key)
        if self._batch.nbytes >= self._limit:
            self._shrink()

    @property
    def staged(self) -> bool:
        """Whether the write has outgrown one batch."""
        return self._rows > 0

    def commit(
        self, final: Batch | None = None, *, sync: bool = True, guard: Mapping[Key, bytes | None] | None = None
    ) -> None:
        """Carries out everything put and deleted, then ``final``.

        If nothing was staged, this is one atomic write. Else the operations of ``final`` on keys of the guard take
        effect together with the guard's check, so that no other writer passes the same guard; the rest of ``final``
        takes effect at once, after everything else.

        Raises ``GuardFailed`` with nothing done: commit again with another guard, or abort. A ``StoreError`` while the
        write is carried out leaves it to the next start to finish.
        """
        final = final or Batch()
        if not self.staged:
            batch = Batch()
            batch.extend(self._ahead)
            batch.extend(self._batch)
            batch.extend(final)
            self._write(batch, sync, guard)
            self._ahead, self._batch = Batch(), Batch()
            return
        self._stage()
        guard = guard or {}
        record, rest = Batch(), Batch()
        record.extend(self._ahead)
        for operation in final.operations:
            target = record if operation[0] in guard else rest
            target.operations.append(operation)
        rows = list(_encode(rest, self._row_bytes))
        for place, row in enumerate(rows):
            record.put(self._key(self._rows + 1 + place), row)
        value = _Record(True, self._rows + 1, _owner()).encode()
        record.put(self._key(0), value)
        self._write(record, sync, guard)
        self._committed = True
        _carry_out(self._engine, self._id, _Record.decode(value), sync)
        self._rows = 0

    def abort(self) -> None:
        """Undoes what is not committed."""
        self._ahead, self._batch = Batch(), Batch()
        self._release()
        if self.staged and not self._committed:
            self._engine.delete_range(*prefix_range(STAGE + self._id))
            self._rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def _key(self, sequence: int) -> bytes:
        return STAGE + self._id + _sequence.pack(sequence)

    def _write(self, batch: Batch, sync: bool, guard: Mapping[Key, bytes | None] | None) -> None:
        """Writes what makes the values visible that went ahead."""
        try:
            self._engine.write(batch, sync=sync, guard=guard)
        except errors.GuardFailed:
            raise
        except BaseException:
            self._releases.clear()
            raise
        self._release()

    def _release(self) -> None:
        while self._releases:
            self._releases.pop()()

    def _shrink(self) -> None:
        """Has less in memory: large values go ahead, as long as one batch can hold what stands for them, or all to rows."""
        if not self.staged and self._ahead.nbytes < self._largest:
            ahead = self._engine.ahead(self._batch)
            if ahead is not None:
                self._ahead.extend(ahead.batch)
                self._releases.append(ahead.release)
                self._batch = Batch()
                self._limit = min(self._largest, _AHEAD_BYTES)
                return
        self._stage()

    def _stage(self) -> None:
        """Moves the batch into rows.

        Every write here is synced: LevelDB syncs the log that it writes to, and a row in an earlier log might be lost
        in a power cut though the record after it is not.
        """
        for row in _encode(self._batch, self._row_bytes):
            batch = Batch()
            if not self._rows:
                batch.put(self._key(0), _Record(False, 0, _owner()).encode())
                self._limit = self._row_bytes
            batch.put(self._key(self._rows + 1), row)
            self._rows += 1
            self._engine.write(batch)
        self._batch = Batch()


class _Record(NamedTuple):
    committed: bool
    first_final: int
    owner: str

    def encode(self) -> bytes:
        state = _COMMITTED if self.committed else _INTENDED
        return state + _sequence.pack(self.first_final) + self.owner.encode()

    @classmethod
    def decode(cls, value: bytes) -> Self:
        return cls(value[:1] == _COMMITTED, _sequence.unpack_from(value, 1)[0], value[5:].decode())


class Recovery(NamedTuple):
    """How many writes :func:`recover` found under way."""

    finished: int
    undone: int


def recover(engine: Engine) -> Recovery:
    """Finishes the committed writes that a dead process left, and removes the others. Call it on opening a store.

    In a store that several processes share, the writes of those that live are left alone.
    """
    finished = undone = 0
    start, stop = prefix_range(STAGE)
    while True:
        key = next(engine.scan(start, stop, keys_only=True), None)
        if key is None:
            return Recovery(finished, undone)
        identity = key[1 : 1 + _ID_BYTES]
        first, start = prefix_range(STAGE + identity)
        record_key = first + _sequence.pack(0)
        value = engine.get(record_key)
        record = _Record.decode(value) if value is not None else None
        if engine.shared and record is not None:
            if _lives(record.owner):
                continue
            taken = Batch()
            taken.put(record_key, record._replace(owner=_owner()).encode())
            try:
                engine.write(taken, guard={record_key: value})
            except errors.GuardFailed:  # another process recovers it
                continue
        if record is not None and record.committed:
            _carry_out(engine, identity, record, True)
            finished += 1
        else:
            engine.delete_range(first, start)
            undone += 1


def whole(engine: Engine) -> Snapshot:
    """A snapshot for a writer to compute from: it shows no large write of another process half carried out.

    Waits for those under way, and finishes what dead processes left. What commits later changes the guard that the
    writer reads from the snapshot. Raises ``StoreError`` where a write takes too long.
    """
    deadline = time.monotonic() + _PATIENCE
    while True:
        snapshot = engine.snapshot()
        owner = _under_way(snapshot) if engine.shared else None
        if owner is None:
            return snapshot
        snapshot.close()
        if not _lives(owner):
            recover(engine)
        elif time.monotonic() < deadline:
            time.sleep(_PAUSE)
        else:
            raise errors.StoreError(f"another process ({owner}) has been carrying out a large write for too long")


def _under_way(snapshot: Snapshot) -> str | None:
    """The owner of a write that is committed and not yet carried out, but for this process, which has locks for it."""
    start, stop = prefix_range(STAGE)
    while (key := next(snapshot.scan(start, stop, keys_only=True), None)) is not None:
        first, start = prefix_range(key[: 1 + _ID_BYTES])
        value = snapshot.get(first + _sequence.pack(0))
        record = None if value is None else _Record.decode(bytes(value))
        if record is not None and record.committed and record.owner != _owner():
            return record.owner
    return None


def _carry_out(engine: Engine, identity: bytes, record: _Record, sync: bool) -> None:
    """Applies the rows of a committed write and removes them: each but the final ones with its removal in one batch.

    What a crash leaves is the rows not yet applied, in their order. Each step is synced for the reason given above.
    """
    start, stop = prefix_range(STAGE + identity)
    first_row, first_final = start + _sequence.pack(1), start + _sequence.pack(record.first_final)
    for key in engine.scan(first_row, first_final, keys_only=True):
        batch = Batch()
        _apply(engine, key, batch)
        engine.write(batch, sync=sync)
    batch = Batch()
    for key in engine.scan(first_final, stop, keys_only=True):
        _apply(engine, key, batch)
    batch.delete(start + _sequence.pack(0))
    engine.write(batch, sync=sync)


def _apply(engine: Engine, row_key: bytes, batch: Batch) -> None:
    row = engine.get(row_key)
    if row is None:
        raise errors.StoreError(f"staged row {row_key.hex()} is missing")
    for key, value in _decode(row):
        if value is None:
            batch.delete(key)
        else:
            batch.put(key, value)
    batch.delete(row_key)


def _encode(batch: Batch, row_bytes: int) -> Iterator[bytes]:
    """The operations as rows of about ``row_bytes``; none for an empty batch."""
    row = bytearray()
    for key, value in batch.operations:
        if row and len(row) + len(key) + len(value or b"") > row_bytes:
            yield bytes(row)
            row.clear()
        row += _lengths.pack(len(key), _DELETE if value is None else len(value))
        row += key
        if value is not None:
            row += value
    if row:
        yield bytes(row)


def _decode(row: bytes) -> Iterator[tuple[bytes, Value | None]]:
    view = memoryview(row)
    at = 0
    while at < len(row):
        key_length, value_length = _lengths.unpack_from(row, at)
        at += _lengths.size
        key = row[at : at + key_length]
        at += key_length
        if value_length == _DELETE:
            yield key, None
        else:
            yield key, view[at : at + value_length]
            at += value_length


def _owner() -> str:
    """This process, distinct from every other on the machine, also after a restart: boot, process id, start time."""
    return _identify(os.getpid())


def _lives(owner: str) -> bool:
    try:
        process = int(owner.split("/")[1])
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _identify(process) == owner


def _identify(process: int) -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
        with open(f"/proc/{process}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        started = "" if fields[0] == b"Z" else fields[19].decode()  # a zombie is dead
    except OSError:  # no such files but on Linux: the process id must do
        boot = started = ""
    return f"{boot}/{process}/{started}"
