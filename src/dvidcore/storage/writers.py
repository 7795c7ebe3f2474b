"""Guarded writes side by side, for an engine that has batches but no transactions."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping

from dvidcore.storage.engine import Batch, Key

_NO_GUARD: Mapping[Key, bytes | None] = {}


class _Write:
    __slots__ = ("_changed", "batch", "guard")

    def __init__(self, batch: Batch, guard: Mapping[Key, bytes | None]) -> None:
        self.batch = batch
        self.guard = guard
        self._changed: set[Key] | None = None

    def changes_any(self, keys: Collection[Key]) -> bool:
        if self._changed is None:
            self._changed = {key for key, _ in self.batch.operations}
        return not self._changed.isdisjoint(keys)


class Writers:
    """Keeps a write from changing what another one's guard is about, between that one's check and its end.

    Only such writes wait for each other. All others run at the same time, so that the engine can put many on the disk
    with one sync.
    """

    def __init__(self) -> None:
        self._ended = threading.Condition()
        self._active: list[_Write] = []

    def admit(self, batch: Batch, guard: Mapping[Key, bytes | None] | None) -> _Admission:
        """Check the guard and write the batch inside this context."""
        return _Admission(self, _Write(batch, guard or _NO_GUARD))

    def begin(self, write: _Write) -> None:
        with self._ended:
            while any(_meet(write, other) for other in self._active):
                self._ended.wait()
            self._active.append(write)

    def end(self, write: _Write) -> None:
        with self._ended:
            self._active.remove(write)
            self._ended.notify_all()


class _Admission:
    """A class of its own, since a generator's context costs several times as much, at every write."""

    __slots__ = ("_write", "_writers")

    def __init__(self, writers: Writers, write: _Write) -> None:
        self._writers = writers
        self._write = write

    def __enter__(self) -> None:
        self._writers.begin(self._write)

    def __exit__(self, *error: object) -> None:
        self._writers.end(self._write)


def _meet(one: _Write, other: _Write) -> bool:
    return bool((one.guard and other.changes_any(one.guard)) or (other.guard and one.changes_any(other.guard)))
