"""A store in memory, for tests and for trying things out. Nothing survives ``close``."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

from dvidcore import errors
from dvidcore.storage.engine import Batch, Engine, Key, Row, Snapshot, guard_failed


class _State:
    """Keys in order and what is under them. Never changed once a snapshot shares it."""

    __slots__ = ("keys", "shared", "values")

    def __init__(self, keys: list[bytes], values: dict[bytes, bytes]) -> None:
        self.keys = keys
        self.values = values
        self.shared = False

    def copy(self) -> _State:
        return _State(self.keys.copy(), self.values.copy())


class MemorySnapshot(Snapshot):
    __slots__ = ("_state",)

    def __init__(self, state: _State) -> None:
        self._state: _State | None = state

    def _opened(self) -> _State:
        if self._state is None:
            raise errors.StoreError("the snapshot is closed")
        return self._state

    def get(self, key: Key) -> bytes | None:
        return self._opened().values.get(key)

    def floor(self, start: Key, last: Key) -> Row | None:
        state = self._opened()
        at = bisect_right(state.keys, last)
        if not at or state.keys[at - 1] < start:
            return None
        key = state.keys[at - 1]
        return key, state.values[key]

    def rows(self, start: Key, stop: Key, reverse: bool) -> Iterator[Row]:
        values = self._opened().values
        return ((key, values[key]) for key in self.keys(start, stop, reverse))

    def keys(self, start: Key, stop: Key, reverse: bool) -> Iterator[Key]:
        ordered = self._opened().keys
        found = ordered[bisect_left(ordered, start) : bisect_left(ordered, stop)]
        return reversed(found) if reverse else iter(found)

    def close(self) -> None:
        self._state = None


class Memory(Engine):
    """An engine over a sorted list and a dict; a write after a snapshot copies both, which is fine for small stores."""

    name: ClassVar[str] = "memory"

    def __init__(self, path: str = "") -> None:
        self.path = path
        self._state: _State | None = _State([], {})
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: str = "", **options: Any) -> Self:
        return cls(path)

    def _opened(self) -> _State:
        if self._state is None:
            raise errors.StoreError(f"store {self.description()} is closed")
        return self._state

    def snapshot(self) -> MemorySnapshot:
        with self._lock:
            state = self._opened()
            state.shared = True
            return MemorySnapshot(state)

    def write(self, batch: Batch, *, sync: bool = True, guard: Mapping[Key, bytes | None] | None = None) -> None:
        with self._lock:
            state = self._opened()
            for key, expected in (guard or {}).items():
                if state.values.get(key) != expected:
                    raise guard_failed(key)
            if state.shared:
                state = state.copy()
            for key, value in batch.operations:
                if value is None:
                    if state.values.pop(key, None) is not None:
                        del state.keys[bisect_left(state.keys, key)]
                else:
                    if key not in state.values:
                        insort(state.keys, key)
                    state.values[key] = bytes(value)
            self._state = state

    def size(self, start: Key, stop: Key) -> int:
        with self.snapshot() as snapshot:
            return sum(len(key) + len(value) for key, value in snapshot.scan(start, stop))

    def close(self) -> None:
        self._state = None

    def description(self) -> str:
        return f"{self.name} @ {self.path}" if self.path else self.name
