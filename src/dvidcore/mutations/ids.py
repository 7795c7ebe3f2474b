"""Mutation ids: numbers that only grow, and that no restart or other process repeats."""

from __future__ import annotations

import threading

from dvidcore.errors import BadRequest, Forbidden, GuardFailed
from dvidcore.storage.engine import Batch, Engine

FIRST = 1_000_000_000
"""Where the counter of a repo starts: above the ids that older servers gave."""
STRIDE = 100
"""How many ids are reserved by one write."""


def encode_bound(bound: int) -> bytes:
    """The stored form of a bound: 8 bytes, big-endian."""
    return bound.to_bytes(8, "big")


class MutationIds:
    """The counter of one repo.

    The store keeps a bound below which every id may have been given. A process reserves a stride by raising the bound
    under a guard, so what it does not use before it dies is skipped, and processes over one store never share an id.
    Safe to use from several threads.
    """

    def __init__(
        self,
        engine: Engine,
        key: bytes,
        *,
        next_id: int,
        bound: int,
        first: int = FIRST,
        sync: bool = True,
        read_only: bool = False,
    ) -> None:
        """``key`` is the bound's row, which exists; ids from ``next_id`` up to ``bound`` are this process's own.

        No id below ``first`` is reserved; ``read_only`` reserves none.
        """
        self._engine = engine
        self._key = key
        self._first = first
        self._sync = sync
        self._read_only = read_only
        self._next = next_id
        self._bound = bound
        self._lock = threading.Lock()

    @property
    def next(self) -> int:
        """The id that :meth:`take` would give, unless another process reserves ids in between."""
        return self._next

    @property
    def bound(self) -> int:
        """The persisted bound, as far as this process knows."""
        return self._bound

    def take(self) -> int:
        """An id that was never given before. Raises ``BadRequest`` where the repo has been deleted."""
        with self._lock:
            if self._next >= self._bound:
                self._reserve()
            taken = self._next
            self._next = taken + 1
            return taken

    def _reserve(self) -> None:
        if self._read_only:
            raise Forbidden("the database is read-only")
        while True:
            stored = self._engine.get(self._key)
            if stored is None:
                raise BadRequest("the repo has been deleted")
            start = max(int.from_bytes(stored, "big"), self._first)
            batch = Batch()
            batch.put(self._key, encode_bound(start + STRIDE))
            try:
                self._engine.write(batch, sync=self._sync, guard={self._key: stored})
            except GuardFailed:  # another process was faster
                continue
            self._next, self._bound = start, start + STRIDE
            return
