"""A list of elements as a row holds it: a table of where they are, and their JSON as it will be answered.

A value is the number of elements (uint32), a record for each (place, kind, length of its text, length of its ``Rels``),
and the texts separated by commas: what follows the table is the list's JSON but for the brackets. Elements are in no
order, so adding one appends to both parts; finding one is a search for its place in the table.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from dvidcore.datatypes.annotation import _select
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
    """The elements of a row, to be changed.

    As long as elements are only added, it stays as it is stored, and what is added is appended. Once one is replaced or
    removed, or many were looked for, it is a dict.
    """

    __slots__ = ("_items", "_lookups", "_table", "_texts", "changed")

    def __init__(self, value: Buffer | None = None) -> None:
        """``value``: as ``packed`` made it; None for no elements."""
        self._table = bytearray()
        self._texts: list[Buffer] = []
        self._items: dict[Place, Item] | None = None
        self._lookups = 0
        self.changed = False
        if value is not None:
            table, text = cut(value)
            self._table += table
            self._texts.append(text)

    def __len__(self) -> int:
        return len(self._table) // _SIZE if self._items is None else len(self._items)

    def __contains__(self, place: Place) -> bool:
        if self._items is None:
            self._searched()
        return self._find(place) >= 0 if self._items is None else place in self._items

    def packed(self) -> bytes:
        """The value of the row; there must be elements."""
        self._pack()
        return b"".join((_COUNT.pack(len(self)), self._table, b",".join(self._texts)))

    # -- changing ------------------------------------------------------------------------------------------------------

    def put(self, item: Item) -> None:
        """Adds an element, in place of one at its position."""
        old = self.get(item.place)
        if old is None:
            self.append(item)
        elif old != item:
            self._dict()[item.place] = item
            self.changed = True

    def append(self, item: Item) -> None:
        """Adds an element at a position where there is none."""
        if self._items is None:
            place, kind, text, rels = item
            self._table += _record.pack(place, kind, len(text), rels)
            self._texts.append(text)
        else:
            self._items[item.place] = item
        self.changed = True

    def pop(self, place: Place) -> Item | None:
        """Takes out the element at a position."""
        if place not in self:
            return None
        self.changed = True
        return self._dict().pop(place)

    def extend(self, other: ElementList) -> None:
        """Adds all elements of a list that has none of the same positions."""
        if not len(other):
            return
        self._pack()
        other._pack()
        self._table += other._table
        self._texts += other._texts
        self.changed = True

    def clear(self) -> None:
        self.changed |= len(self) > 0
        self._items = None
        self._table.clear()
        self._texts.clear()

    # -- reading -------------------------------------------------------------------------------------------------------

    def get(self, place: Place) -> Item | None:
        """The element at a position."""
        if self._items is None:
            self._searched()
        if self._items is not None:
            return self._items.get(place)
        at = self._find(place)
        if at < 0:
            return None
        start = int(np.frombuffer(bytes(self._table), RECORD, at)["length"].sum(dtype=np.int64)) + at
        place, kind, length, rels = _record.unpack_from(self._table, at * _SIZE)
        return Item(place, kind, bytes(self.whole_text()[start : start + length]), rels)

    def disjoint(self, other: ElementList) -> bool:
        """Whether no position is in both."""
        return all(place not in self for place in other.places())

    def places(self) -> list[Place]:
        if self._items is not None:
            return list(self._items)
        table = bytes(self._table)
        return [table[at : at + 12] for at in range(0, len(table), _SIZE)]

    def kinds(self) -> bytes:
        """The number of each element's kind, in the order of ``places``."""
        self._pack()
        return bytes(self._table[12::_SIZE])

    def whole_text(self) -> Buffer:
        """The JSON of all elements, without the brackets."""
        self._pack()
        if len(self._texts) > 1:
            self._texts = [b",".join(self._texts)]
        return self._texts[0] if self._texts else b""

    def __iter__(self) -> Iterator[Item]:
        return iter(list(self._items.values()) if self._items is not None else self._stored())

    def _stored(self) -> Iterator[Item]:
        text = bytes(self.whole_text())
        start = 0
        for place, kind, length, rels in _record.iter_unpack(bytes(self._table)):
            yield Item(place, kind, text[start : start + length], rels)
            start += length + 1

    # -- the two forms -------------------------------------------------------------------------------------------------

    def _find(self, place: Place) -> int:
        """Which element of the table is at a position, -1 for none."""
        at = self._table.find(place)
        while at > 0 and at % _SIZE:
            at = self._table.find(place, at + 1)
        return at // _SIZE if at >= 0 else -1

    def _searched(self) -> None:
        self._lookups += 1
        if self._lookups > _LOOKUPS and len(self._table) > _LARGE:
            self._dict()

    def _dict(self) -> dict[Place, Item]:
        if self._items is None:
            self._items = {item.place: item for item in self._stored()}
        return self._items

    def _pack(self) -> None:
        if self._items is not None:
            items = self._items.values()
            self._table = bytearray(b"".join([_record.pack(p, k, len(text), rels) for p, k, text, rels in items]))
            self._texts = [item.text for item in items]
            self._items = None


_LOOKUPS = 16
_LARGE = 64 * _SIZE
"""A list is made a dict when it is searched so often and its table is so long."""


def points(places: Sequence[Place]) -> NDArray[np.int64]:
    """Places as voxels, int64 (n, 3) z, y, x."""
    if not places:
        return np.empty((0, 3), np.int64)
    return np.frombuffer(b"".join(places), ">u4").reshape(-1, 3).astype(np.int64) - _BIAS


def inside(values: Sequence[Buffer], low: Sequence[int], high: Sequence[int]) -> bytes:
    """The JSON, without brackets, of the elements of unpacked values with ``low <= position <= high`` (z, y, x).

    Raises StoreError where a value is damaged.
    """
    try:
        return _select.inside(values, low, high)
    except ValueError as e:
        raise StoreError(f"a stored list is damaged: {e}") from e
