"""Locks on sets of tiles or bodies: writers of different ones work side by side, of the same one after the other.

They only save work. What makes concurrent writes right is the guard on generations (``rows``), which holds between
processes too; with the locks a writer of this process rarely has to start again.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Locks(Generic[T]):
    """Any number are taken at once, so that no two writers can wait for each other."""

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._held: set[T] = set()

    @contextmanager
    def holding(self, names: Collection[T]) -> Iterator[None]:
        wanted = set(names)
        with self._free:
            self._free.wait_for(lambda: self._held.isdisjoint(wanted))
            self._held |= wanted
        try:
            yield
        finally:
            with self._free:
                self._held -= wanted
                self._free.notify_all()
