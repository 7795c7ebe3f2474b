"""A list of elements as a row holds it: a table of where they are, and their JSON as it will be answered.

A value is the number of elements (uint32), a record for each (place, kind, length of its text, length of its ``Rels``),
and the texts separated by commas: what follows the table is the list's JSON but for the brackets. Elements are in no
order, so adding one appends to both parts; finding one is a search for its place in the table.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvidcore.datatypes.annotation.elements import Item, Place
from dvidcore.errors import StoreError

RECORD = np.dtype([("z", ">u4"), ("y", ">u4"), ("x", ">u4"), ("kind", "u1"), ("length", "<u4"), ("rels", "<u4")])
_SIZE = RECORD.itemsize
_COUNT = struct.Struct("<I")
_record = struct.Struct("<12sBII")
_BIAS = 0x80000000

Buffer = bytes | memoryview


def cut(value: Buffer) -> tuple[Buffer, Buffer]:
    """(table, texts) of an unpacked value; StoreError where it is damaged."""
    if len(value) < 4:
        raise StoreError("a stored list of elements is damaged")
    start = 4 + _SIZE * _COUNT.unpack_from(value)[0]
    if start > len(value):
        raise StoreError("a stored list of elements is damaged")
    return value[4:start], value[start:]


def texts(value: Buffer) -> Buffer:
    """The JSON of an unpacked value's elements, without the brackets around it."""
    return value[4 + _SIZE * _COUNT.unpack_from(value)[0] :]


class ElementList:
    """The elements of a row, to be changed."""

    __slots__ = ("_places", "_table", "_texts", "changed")

    def __init__(self, value: Buffer | None = None) -> None:
        """``value``: as ``packed`` made it; None for no elements."""
        self._table = bytearray()
        self._texts: list[Buffer] = []
        self.changed = False
        if value is not None:
            table, text = cut(value)
            self._table += table
            self._texts.append(text)

    def __len__(self) -> int:
        return len(self._table) // _SIZE

    def __contains__(self, place: Place) -> bool:
        return self._find(place) >= 0

    def packed(self) -> bytes:
        """The value of the row; there must be elements."""
        return b"".join((_COUNT.pack(len(self)), self._table, b",".join(self._texts)))

    def _find(self, place: Place) -> int:
        at = self._table.find(place)
        while at > 0 and at % _SIZE:
            at = self._table.find(place, at + 1)
        return at // _SIZE if at >= 0 else -1

    def put(self, item: Item) -> None:
        """Adds an element, in place of one at its position."""
        at = self._find(item.place)
        if at >= 0:
            if self._at(at) == item:
                return
            self._remove(at)
        self.append(item)

    def append(self, item: Item) -> None:
        """Adds an element at a position where there is none."""
        place, kind, text, rels = item
        self._table += _record.pack(place, kind, len(text), rels)
        self._texts.append(text)
        self.changed = True

    def get(self, place: Place) -> Item | None:
        """The element at a position."""
        at = self._find(place)
        return None if at < 0 else self._at(at)

    def pop(self, place: Place) -> Item | None:
        """Takes out the element at a position."""
        at = self._find(place)
        if at < 0:
            return None
        item = self._at(at)
        self._remove(at)
        return item

    def extend(self, other: ElementList) -> None:
        """Adds all elements of a list that has none of the same positions."""
        if len(other):
            self._table += other._table
            self._texts += other._texts
            self.changed = True

    def clear(self) -> None:
        self.changed |= len(self) > 0
        self._table.clear()
        self._texts.clear()

    def disjoint(self, other: ElementList) -> bool:
        """Whether no position is in both."""
        return all(place not in self for place in other.places())

    def places(self) -> list[Place]:
        table = bytes(self._table)
        return [table[at : at + 12] for at in range(0, len(table), _SIZE)]

    def kinds(self) -> bytes:
        return bytes(self._table[12::_SIZE])

    def whole_text(self) -> Buffer:
        """The JSON of all elements, without the brackets."""
        if len(self._texts) > 1:
            self._texts = [b",".join(self._texts)]
        return self._texts[0] if self._texts else b""

    def __iter__(self) -> Iterator[Item]:
        text = bytes(self.whole_text())
        start = 0
        for place, kind, length, rels in _record.iter_unpack(bytes(self._table)):
            yield Item(place, kind, text[start : start + length], rels)
            start += length + 1

    def _at(self, index: int) -> Item:
        start = self._start(index)
        place, kind, length, rels = _record.unpack_from(self._table, index * _SIZE)
        return Item(place, kind, bytes(self.whole_text()[start : start + length]), rels)

    def _start(self, index: int) -> int:
        """Where the text of an element starts."""
        records = np.frombuffer(bytes(self._table), RECORD, index)
        return int(records["length"].sum(dtype=np.int64)) + index

    def _remove(self, index: int) -> None:
        start, text = self._start(index), self.whole_text()
        stop = start + int(_record.unpack_from(self._table, index * _SIZE)[2])
        parts = [part for part in (text[: max(start - 1, 0)], text[stop + 1 :]) if len(part)]
        self._texts = parts
        del self._table[index * _SIZE : (index + 1) * _SIZE]
        self.changed = True


def points(places: Sequence[Place]) -> NDArray[np.int64]:
    """Places as voxels, int64 (n, 3) z, y, x."""
    if not places:
        return np.empty((0, 3), np.int64)
    return np.frombuffer(b"".join(places), ">u4").reshape(-1, 3).astype(np.int64) - _BIAS


def inside(values: Sequence[Buffer], low: Sequence[int], high: Sequence[int]) -> list[Buffer]:
    """The JSON of the elements of unpacked values with ``low <= position <= high`` (z, y, x), in pieces.

    Pieces are to be joined with commas; elements that follow each other are one piece.
    """
    cuts = [cut(value) for value in values]
    records = np.frombuffer(b"".join([table for table, _ in cuts]), RECORD)
    if not len(records):
        return []
    text = memoryview(b",".join([text for _, text in cuts]))
    mask = np.ones(len(records), bool)
    for axis, first, last in zip("zyx", low, high, strict=True):
        column = records[axis]
        mask &= (column >= np.uint32(first + _BIAS)) & (column <= np.uint32(last + _BIAS))
    ends = np.cumsum(records["length"].astype(np.int64) + 1)
    step: NDArray[Any] = np.diff(mask.view(np.int8), prepend=0, append=0)
    first_of = np.flatnonzero(step == 1)
    last_of = np.flatnonzero(step == -1) - 1
    begins = np.where(first_of > 0, ends[first_of - 1], 0)
    return [text[a:b] for a, b in zip(begins.tolist(), (ends[last_of] - 1).tolist(), strict=True)]
