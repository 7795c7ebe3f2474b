"""How much a range of a LevelDB store takes, with what its rows point to, without going through all of it."""

from __future__ import annotations

import heapq
from typing import Any

from dvidcore.storage.pointers import decode, is_pointer

_COUNTED_ROWS = 2000  # a shorter range is counted
_PARTS = 32
_SAMPLE_ROWS = 64
_ROW_OVERHEAD = 8  # bytes in a table: the sequence number; lengths add to it, what keys share comes off


def stored_bytes(db: Any, start: bytes, stop: bytes) -> int:
    """About the bytes of keys and values in ``start <= key < stop``; exact for up to 2000 rows.

    A longer range is cut into parts of about the same size in LevelDB, which knows that from its tables; how much more
    there is in segments is measured at some rows of each. Rows that are not in a table yet hardly count. O(1).
    """
    _, whole, rows = _measure(db, start, stop, _COUNTED_ROWS)
    if rows < _COUNTED_ROWS:
        return whole
    total = 0.0
    for low, high, size in _parts(db, start, stop):
        plain, logical, sampled = _measure(db, low, high, _SAMPLE_ROWS)
        if plain:
            total += size * logical / (plain + sampled * _ROW_OVERHEAD)
    return max(whole, int(total))


def _measure(db: Any, start: bytes, stop: bytes, most: int) -> tuple[int, int, int]:
    """(bytes in LevelDB, bytes with those in segments, rows) of the first rows of a range, at most ``most``."""
    plain = whole = rows = 0
    with db.iterator(start=start, stop=stop, fill_cache=False) as iterator:
        for key, stored in iterator:
            plain += len(key) + len(stored)
            whole += len(key) + len(stored)
            if is_pointer(stored):
                whole += decode(stored).length
            rows += 1
            if rows == most:
                break
    return plain, whole, rows


def _parts(db: Any, start: bytes, stop: bytes) -> list[tuple[bytes, bytes, int]]:
    """(start, stop, bytes in LevelDB) of parts of a range that together are about all of it, none much larger."""
    parts: list[tuple[int, bytes, bytes]] = []

    def add(low: bytes, high: bytes) -> None:
        """Adds what lies in a range, from its first key to its last: between those, halving soon finds the middle."""
        with db.iterator(start=low, stop=high, include_value=False) as iterator:
            first = next(iterator, None)
        if first is not None:
            with db.iterator(start=low, stop=high, include_value=False, reverse=True) as iterator:
                end = next(iterator) + b"\x00"
            heapq.heappush(parts, (-int(db.approximate_size(first, end)), first, end))

    add(start, stop)
    whole = -parts[0][0] if parts else 0
    while parts and len(parts) < _PARTS and -parts[0][0] > whole // _PARTS:
        _, low, high = parts[0]
        middle = _middle(low, high)
        if not low < middle < high:
            break
        heapq.heappop(parts)
        add(low, middle)
        add(middle, high)
    return [(low, high, -size) for size, low, high in parts]


def _middle(low: bytes, high: bytes) -> bytes:
    """A key about halfway, as numbers."""
    length = max(len(low), len(high)) + 1
    numbers = (int.from_bytes(key.ljust(length, b"\x00"), "big") for key in (low, high))
    return (sum(numbers) // 2).to_bytes(length, "big")
