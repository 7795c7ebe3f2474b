"""What all requests together may hold in large buffers, so that memory is bounded however many ask.

A large answer that is one buffer leaves the server without a copy; in pieces it costs several, but no memory. So it is
one buffer while the budget of answers lasts, and pieces beyond. What has to be in memory whole while it is worked on
waits for its share of the budget of work.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Budget:
    """Bytes that buffers may take together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used = 0
        self._changed = threading.Condition(threading.RLock())  # a finalizer may run while its thread holds it

    @property
    def used(self) -> int:
        return self._used

    def take(self, size: int) -> bool:
        """Takes ``size`` bytes, unless that is more than are left; answers whether it did."""
        with self._changed:
            if self._used + size > self.limit:
                return False
            self._used += size
        return True

    def give_back(self, size: int) -> None:
        """Returns what ``take`` took."""
        with self._changed:
            self._used -= size
            self._changed.notify_all()

    def lend(self, buffer: Any, size: int) -> None:
        """Returns what ``take`` took as soon as nobody refers to ``buffer`` any more, an array or another object."""
        weakref.finalize(buffer, self.give_back, size).atexit = False

    @contextmanager
    def borrow(self, size: int) -> Iterator[None]:
        """Waits for ``size`` bytes and takes them meanwhile; more than the limit are had when nobody else has any.

        Who has borrowed must not wait for another who borrows, nor for a client.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._used == 0 or self._used + size <= self.limit)
            self._used += size
        try:
            yield
        finally:
            self.give_back(size)


answers = Budget(192 << 20)
"""For the buffers of large answers: one of 256^3 labels at a time, since no request may make the process grow by more
than some 300 MB."""
work = Budget(192 << 20)
"""For volumes that are compressed as a whole."""
