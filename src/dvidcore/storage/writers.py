"""Guarded writes side by side, for an engine that has batches but no transactions."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

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

    @contextmanager
    def admit(self, batch: Batch, guard: Mapping[Key, bytes | None] | None) -> Iterator[None]:
        """Check the guard and write the batch inside this context."""
        write = _Write(batch, guard or _NO_GUARD)
        with self._ended:
            while any(self._meet(write, other) for other in self._active):
                self._ended.wait()
            self._active.append(write)
        try:
            yield
        finally:
            with self._ended:
                self._active.remove(write)
                self._ended.notify_all()

    @staticmethod
    def _meet(one: _Write, other: _Write) -> bool:
        return bool(
            (one.guard and other.changes_any(one.guard)) or (other.guard and one.changes_any(other.guard)),
        )
