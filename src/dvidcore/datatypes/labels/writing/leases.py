"""Labels that mutations under way have taken, so that long ones need neither wait for each other nor start again.

A lease is of this process alone. The counters in the store, which the mutation's own batch raises, are what gives labels
out; where another process has changed them, the leases from before that are void.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple


class Lease(NamedTuple):
    """Some consecutive labels."""

    labels: range
    base: int
    """The next label that was set when it was taken, 0 for none."""
    reserve: bool
    """Whether they may be labels that exist: an administrator has said so."""
    epoch: int


class Leases:
    """Those of one instance. ``observe`` and ``wrote`` are called by one writer at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: list[Lease] = []
        self._counters: bytes | None = None
        self.epoch = 0
        """Counts the times that the counters were found changed by another process."""

    def take(self, choose: Callable[[list[range]], tuple[range, int]], reserve: bool) -> Lease:
        """A lease of the labels that ``choose`` chooses, given those that others hold, with their base."""
        with self._lock:
            lease = Lease(*choose([held.labels for held in self._held]), reserve, self.epoch)
            self._held.append(lease)
            return lease

    def release(self, leases: list[Lease]) -> None:
        """Ends leases: the labels were given out in the store, or never will be."""
        if leases:
            with self._lock:
                for lease in leases:
                    self._held.remove(lease)

    def observe(self, counters: bytes | memoryview | None) -> None:
        """Takes notice of the counters as they are stored, before a commit."""
        with self._lock:
            if counters != self._counters:
                self._counters = None if counters is None else bytes(counters)
                self.epoch += 1

    def wrote(self, counters: bytes) -> None:
        """Takes notice of the counters as this process has just stored them."""
        with self._lock:
            self._counters = counters
