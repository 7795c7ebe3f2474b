"""Gives back the space of values in segment files that no row points to any more.

Overwriting and deleting leave values behind. What is left of a segment is found by going through all rows of LevelDB;
a segment without any is removed, and one with less than half has them moved to the newest segment first.

When that happens: some seconds after rows were removed in bulk (an instance was deleted), after as much was appended as
there was at the last count, but at least 256 MB, and after a start that follows a crash; never more often than every
twenty times the time that counting takes. It happens in a thread that works in small steps and rests in between. So
what overwriting leaves is at most about as much as what is in use, or 256 MB, and counting costs each appended byte a
bounded time.

What makes it safe:

- Only segments are touched that take no more values and were not pinned before the rows were gone through. Rows that
  point to those can only become fewer, so none is missed, however long that takes.
- A row is pointed elsewhere only if it still is what was read, while no other writer may change it.
- Before a file goes, all rows are on the disk as they are now, also those of writes without sync: else a power cut
  could bring back rows that point to it. A LevelDB log that was replaced by another need not be synced, hence the table
  is written that replaces both.
- A file stays while a snapshot from before is open.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import plyvel

from dvidcore import errors
from dvidcore.storage.engine import Batch
from dvidcore.storage.journal import Journal
from dvidcore.storage.pointers import Pointer, decode, is_pointer
from dvidcore.storage.segments import Segments
from dvidcore.storage.writers import Writers

log = logging.getLogger(__name__)

DELAY = 10.0
"""Seconds without a deletion in bulk before the rows are counted."""
APPENDED = 256 << 20
"""So many bytes are appended at least between two counts that no deletion caused."""
_REST = 20  # times the duration of the last count, from that to the next
_STEP_ROWS = 4096
_MOVE_BYTES = 4 << 20
_WORTH_ROTATING = 1 << 20  # garbage in the newest segment for which another is started
_ACCOUNT = "account.json"


class Reclaimed(NamedTuple):
    """What a call of :meth:`Reclaimer.run` did."""

    removed: int
    """Segments that no row points to any more. Their files go once the snapshots from before are closed."""
    bytes: int
    """Their bytes."""
    moved: int
    """Bytes of values that were moved to another segment."""


class Reclaimer:
    """Looks after the segments of one opened store."""

    def __init__(self, db: Any, segments: Segments, writers: Writers, journal: Journal) -> None:
        self._db = db
        self._segments = segments
        self._writers = writers
        self._journal = journal
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._running = threading.Lock()
        self._thread: threading.Thread | None = None
        self._counted_at = 0.0
        self._took = 0.0
        self._deleted = False  # in bulk since the last count
        self._live = 0  # bytes at the last count
        self._base = 0  # minus the bytes appended before the opening and after the last count
        self._last_deletion = time.monotonic()
        self._open_account()
        self.written(deleted=False)

    # --- when ------------------------------------------------------------------------------------------------------

    def written(self, deleted: bool) -> None:
        """To be called after each write that stored values or only deleted rows; ``deleted``: the latter."""
        if deleted:
            self._last_deletion = time.monotonic()
            self._deleted = True
        if self._due():
            with self._lock:
                if self._thread is None and not self._stop.is_set():
                    thread = threading.Thread(target=self._work, name="reclaim", daemon=True)
                    try:
                        thread.start()
                    except RuntimeError as error:  # the write is done, and the next one tries again
                        log.error("%s", error)
                    else:
                        self._thread = thread

    def _due(self) -> bool:
        if not self._segments.last:
            return False
        return self._deleted or self._segments.appended - self._base >= max(APPENDED, self._live)

    def _work(self) -> None:
        """Waits for the time to come, counts and reclaims; ends when there is nothing to do."""
        while True:
            now = time.monotonic()
            pause = max(self._last_deletion + DELAY, self._counted_at + max(_REST * self._took, DELAY)) - now
            if self._due() and pause <= 0:
                try:
                    self.run(rests=True)
                except errors.StoreError as error:
                    log.error("%s", error)
            elif not self._due():
                pause = DELAY
            self._segments.sweep()
            with self._lock:
                if self._stop.is_set() or not (self._due() or self._segments.retired):
                    self._thread = None
                    return
            self._stop.wait(max(pause, 0.1))

    def close(self) -> None:
        """Stops after the current step, and notes what the next start needs to know."""
        self._stop.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()
        self._segments.sweep(everything=True)
        self._close_account()

    def _open_account(self) -> None:
        path = os.path.join(self._segments.folder, _ACCOUNT)
        if not self._segments.last:
            return
        try:
            with open(path) as file:
                text = file.read()
            os.unlink(path)
            account = json.loads(text)
            self._live, self._base = int(account["live"]), -int(account["appended"])
            self._deleted = bool(account["deleted"])
        except (OSError, ValueError, KeyError, TypeError):  # after a crash: anything may be left
            self._deleted = True

    def _close_account(self) -> None:
        if not self._segments.last:
            return
        appended = self._segments.appended - self._base
        account = {"live": self._live, "appended": appended, "deleted": self._deleted}
        path = os.path.join(self._segments.folder, _ACCOUNT)
        try:
            with open(path, "w") as file:
                json.dump(account, file)
        except OSError as error:
            log.warning("%s could not be written: %s", path, error)

    # --- how -------------------------------------------------------------------------------------------------------

    def run(self, rests: bool = False) -> Reclaimed:
        """Counts, and gives back what can be. With ``rests`` two thirds of the time are left to others.

        Raises ``StoreError`` where the disk fails; nothing is lost then, and what was left is done the next time.
        """
        with self._running:
            try:
                done = self._reclaim(rests)
            except (plyvel.Error, OSError) as error:
                raise errors.StoreError(f"space could not be given back: {error}") from error
            self._segments.sweep()
            return done

    def _reclaim(self, rests: bool) -> Reclaimed:
        segments = self._segments
        self._deleted = False  # one from now on wants another count
        appended = segments.appended
        candidates = segments.settled()
        started = time.monotonic()
        live: dict[int, int] = {}
        complete = False
        try:
            for _, pointer in self._pointers(rests):
                live[pointer.segment] = live.get(pointer.segment, 0) + pointer.length
            complete = not self._stop.is_set()
        finally:
            self._counted_at = time.monotonic()
            self._took = self._counted_at - started
            self._deleted |= not complete
        if not complete:
            return Reclaimed(0, 0, 0)
        self._live, self._base = sum(live.values()), appended
        sizes = {number: segments.bytes_of(number) for number in segments.numbers()}
        empty = [number for number in candidates if number not in live]
        removed, freed = self._remove(empty, sizes)
        sparse = {number for number in candidates if 0 < 2 * live.get(number, 0) < sizes.get(number, 0)}
        last = segments.last
        in_last = live.get(last, 0)
        if 2 * in_last < sizes.get(last, 0) and sizes[last] - in_last >= _WORTH_ROTATING:
            segments.rotate()
            if last in segments.settled():
                sparse.add(last)
        if not sparse:
            return Reclaimed(removed, freed, 0)
        moved = self._move(sparse, rests)
        more, more_freed = self._remove(sorted(sparse), sizes) if not self._stop.is_set() else (0, 0)
        return Reclaimed(removed + more, freed + more_freed, moved)

    def _remove(self, numbers: list[int], sizes: dict[int, int]) -> tuple[int, int]:
        if numbers:
            self._journal.persist()
            self._segments.retire(numbers)
        return len(numbers), sum(sizes.get(number, 0) for number in numbers)

    def _pointers(self, rests: bool) -> Iterator[tuple[bytes, Pointer]]:
        """(key, pointer) of all rows that point to a segment. Ends early when the store is closed."""
        start = b""
        while not self._stop.is_set():
            began = time.monotonic()
            found = []
            rows = 0
            with self._db.iterator(start=start, fill_cache=False) as iterator:
                for key, stored in iterator:
                    if is_pointer(stored):
                        found.append((key, decode(stored)))
                    rows += 1
                    if rows == _STEP_ROWS:
                        break
            yield from found
            if rows < _STEP_ROWS:
                return
            start = key + b"\x00"
            if rests:
                self._stop.wait(2 * (time.monotonic() - began))

    def _move(self, numbers: set[int], rests: bool) -> int:
        """Moves what rows point to in these segments, and drops from ``numbers`` those that could not be read."""
        moved = 0
        waiting: list[tuple[bytes, Pointer]] = []
        nbytes = 0
        for key, pointer in self._pointers(rests):
            if pointer.segment in numbers:
                waiting.append((key, pointer))
                nbytes += pointer.length
                if nbytes >= _MOVE_BYTES or len(waiting) == _STEP_ROWS:
                    moved += self._move_some(waiting, numbers)
                    waiting, nbytes = [], 0
        return moved + self._move_some(waiting, numbers)

    def _move_some(self, rows: list[tuple[bytes, Pointer]], numbers: set[int]) -> int:
        sound = []
        values = []
        for key, pointer in rows:
            try:
                values.append(self._segments.read(pointer))
                sound.append((key, pointer))
            except errors.StoreError as error:
                log.error("%s; the segment stays as it is", error)
                numbers.discard(pointer.segment)
        if not sound:
            return 0
        with self._segments.storing(values) as stored:
            batch = Batch()
            for (key, _), row in zip(sound, stored, strict=True):
                batch.put(key, row)
            expected: dict[bytes, bytes | None] = {key: pointer.encode() for key, pointer in sound}
            writes = self._db.write_batch()
            with self._writers.admit(batch, expected):
                for (key, _), row in zip(sound, stored, strict=True):
                    if self._db.get(key) == expected[key]:
                        writes.put(key, row)
                self._journal.write(writes)
        return sum(map(len, values))
