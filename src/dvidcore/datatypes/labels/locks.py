"""Locks on sets of tiles: writers of distant blocks work side by side, writers of the same tile one after the other.

They only save work. What makes concurrent writes right is the guard on the tiles' generations (``rows``), which holds
between processes too; with the locks a writer of this process rarely has to start again.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from dvidcore.geometry import ZYX


class TileLocks:
    """Any number of tiles are taken at once, so that no two writers can wait for each other."""

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._held: set[ZYX] = set()

    @contextmanager
    def holding(self, tiles: Collection[ZYX]) -> Iterator[None]:
        wanted = set(tiles)
        with self._free:
            self._free.wait_for(lambda: self._held.isdisjoint(wanted))
            self._held |= wanted
        try:
            yield
        finally:
            with self._free:
                self._held -= wanted
                self._free.notify_all()
