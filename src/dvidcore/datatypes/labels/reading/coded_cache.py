"""Inflated blocks that were read lately: a point or a small box costs a look-up instead of inflating a block again.

An entry is used only where the stored block is byte for byte the one that it was made from, so it can't be stale,
whoever writes the store.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

CACHED_BYTES = 48 << 20
_OVERHEAD = 300  # of an entry, about
_SMALL = 64
"""Stored blocks up to this size have one label; there is nothing to inflate."""

Place = tuple[bytes, int, int, int]
"""What the key of a block starts with (its instance and scale) and its z, y, x."""


class CodedCache:
    """Coded blocks with their supervoxels, by place, up to a number of bytes; what was used last stays longest."""

    def __init__(self, limit: int = CACHED_BYTES) -> None:
        self._limit = limit
        self._bytes = 0
        self._kept: OrderedDict[Place, tuple[bytes, bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, place: Place, value: bytes | memoryview) -> bytes | None:
        """The coded block of the stored block ``value`` at a place, None where it is not kept."""
        with self._lock:
            found = self._kept.get(place)
            if found is None:
                return None
            self._kept.move_to_end(place)
        if not isinstance(value, bytes):
            value = bytes(value)
        return found[1] if found[0] == value else None

    def keep(self, place: Place, value: bytes | memoryview, block: bytes) -> None:
        """Keeps ``block``, made from the stored block ``value``."""
        if len(value) <= _SMALL:
            return
        entry = bytes(value), block
        with self._lock:
            before = self._kept.pop(place, None)
            if before is not None:
                self._bytes -= _size(before)
            self._kept[place] = entry
            self._bytes += _size(entry)
            while self._bytes > self._limit:
                self._bytes -= _size(self._kept.popitem(last=False)[1])


def _size(entry: tuple[bytes, bytes]) -> int:
    return len(entry[0]) + len(entry[1]) + _OVERHEAD


coded_blocks = CodedCache()
"""One for the process, since its memory is what is bounded."""
