"""Which values of segment files were read and found right lately, so that they need not be checked at every reading.

Reading such a value again costs neither a copy nor a pass over its bytes: it is given as a part of a map of its file,
of which the system reads what is looked at. A slice through a volume takes a thirty-second part of each block, and the
next slice another part of the same blocks.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Callable, Iterable, Sequence

from dvidcore.storage.engine import Value
from dvidcore.storage.pointers import Pointer

MOST = 1 << 15
"""Pointers of one generation; two are kept, which is some 13 MB."""


class Verified:
    """Pointers to values that were found right, those of late. Safe to use from several threads.

    A pointer holds the value's checksum, and a segment's bytes are written once, so a value is right as long as the disk
    keeps it. What rots later is found when the pointer is forgotten, at the next start at the latest, and by checks.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._generations: tuple[set[Pointer], set[Pointer]] = (set(), set())
        self._lock = threading.Lock()

    def add(self, pointers: Iterable[Pointer]) -> None:
        """Remembers that these values are right; the oldest are forgotten for them."""
        with self._lock:
            young = self._generations[0]
            young.update(pointers)
            if len(young) >= self._most:
                self._generations = (set(), young)

    def again(self, pointers: Sequence[Pointer], mapped: Callable[[int, int], memoryview]) -> list[Value | None]:
        """The values that are remembered as right, in their places; None for the others.

        ``mapped`` gives a segment's bytes by its number and the end of what is wanted of it, see ``Map.upto``.
        """
        young, old = self._generations
        maps: dict[int, memoryview] = {}
        values: list[Value | None] = [None] * len(pointers)
        for k, pointer in enumerate(pointers):
            if pointer in young or pointer in old:
                number, start, length, _ = pointer
                end = start + length
                file = maps.get(number)
                if file is None or len(file) < end:
                    file = maps[number] = mapped(number, end)
                if end <= len(file):
                    values[k] = file[start:end]
        return values


class Map:
    """A growing file as memory. What it gives stays as long as somebody holds on to it, whatever becomes of the file."""

    __slots__ = ("_whole",)

    def __init__(self) -> None:
        self._whole = memoryview(b"")

    def upto(self, end: int, fd: int) -> memoryview:
        """The present bytes of the file open as ``fd``; less than ``end`` where it is shorter or cannot be mapped."""
        try:
            size = os.fstat(fd).st_size
            if len(self._whole) < end <= size:
                self._whole = memoryview(mmap.mmap(fd, size, access=mmap.ACCESS_READ))
        except (OSError, ValueError):
            return memoryview(b"")
        return self._whole[:size]
