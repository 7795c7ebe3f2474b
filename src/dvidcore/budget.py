"""What all requests together may hold in large buffers.

A large answer that is one buffer leaves the server without a copy; in pieces it costs several, but no memory. So it is
one buffer while the budget lasts, and pieces beyond: memory stays bounded however many ask.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any


class Budget:
    """Bytes that buffers may take together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used = 0
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        return self._used

    def take(self, size: int) -> bool:
        """Takes ``size`` bytes, unless that is more than are left; answers whether it did."""
        with self._lock:
            if self._used + size > self.limit:
                return False
            self._used += size
        return True

    def give_back(self, size: int) -> None:
        """Returns what ``take`` took."""
        with self._lock:
            self._used -= size

    def lend(self, buffer: Any, size: int) -> None:
        """Returns what ``take`` took as soon as nobody refers to ``buffer`` any more, an array or another object."""
        weakref.finalize(buffer, self.give_back, size).atexit = False


answers = Budget(384 << 20)
"""For the buffers of large answers."""
