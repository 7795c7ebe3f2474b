"""All annotations of a version as columns in memory: a field is an array of codes, which stand for its distinct values.

So a condition is put to each distinct value once, however many bodies have it, and an annotation is kept in a byte or
a few for each of its fields. The rows of a table are the bodies in ascending order. A table never changes; the next one
is made from it and shares the columns in which nothing was changed. The dictionaries of values only grow, so older
tables can go on using them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from dvidcore.datatypes.call import Buffer
from dvidcore.datatypes.neuronjson import _members
from dvidcore.datatypes.neuronjson.annotation import BODYID_TEXT, MAIN, TIMES, USERS, Fields, Selection, span

Value = bytes | None
"""The JSON text of a value, as orjson writes it, so that equal texts are equal values of equal type; None: absent."""
Codes = NDArray[np.unsignedinteger[Any]]
Rows = NDArray[np.intp]

ABSENT = 0
"""The code of a field that an annotation does not have."""

_PIECE = 2000
"""Annotations that are written together."""
_KEPT_TEXTS = 20_000
"""Texts of values of one field that are kept while an answer is made."""
_NUMBERS = frozenset(bytes((digit,)) for digit in b"-0123456789")
"""How a number begins."""


def _listed(value: bytes) -> tuple[Any, ...]:
    """The members of a list of numbers or of texts; nothing for other lists."""
    members = orjson.loads(value)
    kinds = set(map(type, members))
    return tuple(members) if kinds <= {int, float} or kinds == {str} else ()


_growing = threading.Lock()  # the tables of several versions share dictionaries


class Dictionary:
    """The distinct values of one field and their codes. It only grows, and codes stay."""

    __slots__ = ("_floats", "_lists", "_owners", "_read", "_seen", "_texts", "by_code", "codes")

    def __init__(self, codes: dict[Value, int] | None = None, by_code: list[Value] | None = None) -> None:
        self.codes: dict[Value, int] = {None: ABSENT} if codes is None else codes
        self.by_code: list[Value] = [None] if by_code is None else by_code
        self._lists: list[tuple[int, tuple[Any, ...]]] = []
        self._floats: dict[float, list[int]] = {}
        self._seen = 1  # how many values were looked at
        self._owners: list[int] = []
        self._texts: list[bytes] = []
        self._read = 1  # how many were looked at for texts

    @property
    def lists(self) -> list[tuple[int, tuple[Any, ...]]]:
        """(code, members) of the values that are lists of numbers or of texts."""
        self._look()
        return self._lists

    @property
    def floats(self) -> Mapping[float, list[int]]:
        """The codes of the values that are numbers and not written as integers: one number may have several texts."""
        self._look()
        return self._floats

    @property
    def texts(self) -> tuple[list[int], list[bytes]]:
        """The UTF-8 of the values that are texts and of the members of those that are lists of texts, behind their codes.

        Both lists only grow, the codes first.
        """
        with _growing:
            for code in range(self._read, len(self.by_code)):
                value = self.by_code[code] or b""
                if value[:1] == b'"':
                    self._owners.append(code)
                    self._texts.append(value[1:-1] if b"\\" not in value else orjson.loads(value).encode())
                elif value[:1] == b"[":
                    for member in _listed(value):
                        if type(member) is str:
                            self._owners.append(code)
                            self._texts.append(member.encode())
            self._read = len(self.by_code)
        return self._owners, self._texts

    def _look(self) -> None:
        """Finds out what the values are that came since; when that is asked for, since it often never is."""
        with _growing:
            for code in range(self._seen, len(self.by_code)):
                value = self.by_code[code] or b""
                if value[:1] == b"[":
                    if members := _listed(value):
                        self._lists.append((code, members))
                elif value[:1] in _NUMBERS and not value.lstrip(b"-").isdigit():
                    self._floats.setdefault(float(value), []).append(code)
            self._seen = len(self.by_code)

    def encode(self, values: Sequence[Value]) -> Codes:
        """The codes of values, of which new ones are added."""
        codes = self.codes
        found = list(map(codes.get, values))
        if None in found:
            self._add({value for value, code in zip(values, found, strict=True) if code is None})
            found = list(map(codes.get, values))
        return np.array(found, smallest(len(self.by_code)))

    def _add(self, values: set[Value]) -> None:
        codes, by_code = self.codes, self.by_code
        with _growing:
            for value in values:
                if value not in codes:
                    by_code.append(value)
                    codes[value] = len(by_code) - 1

    def used(self, codes: Codes) -> Rows:
        """The codes that occur in an array, ascending, without that of absence."""
        seen = np.zeros(len(self.by_code), np.bool_)
        seen[codes] = True
        seen[ABSENT] = False
        return np.flatnonzero(seen)


def smallest(count: int) -> type[np.unsignedinteger[Any]]:
    """The type of the codes of ``count`` values."""
    return np.uint8 if count <= 1 << 8 else np.uint16 if count <= 1 << 16 else np.uint32


@dataclass(frozen=True, slots=True)
class Column:
    """One field: the code of each row's value."""

    dictionary: Dictionary
    codes: Codes

    @property
    def nbytes(self) -> int:
        """About how much memory it takes."""
        return self.codes.nbytes + 200 * len(self.dictionary.by_code)

    def replaced(self, where: Rows, codes: Codes) -> Column:
        """With other codes in some rows."""
        if np.array_equal(self.codes[where], codes):
            return self
        changed = self.codes.astype(np.promote_types(self.codes.dtype, codes.dtype))
        changed[where] = codes
        return Column(self.dictionary, changed).compacted()

    def compacted(self) -> Column:
        """With a dictionary of its own without the values that no row has any more, where these are too many."""
        values = self.dictionary.by_code
        if len(values) < 2 * len(self.codes) + 1000:
            return self
        used = self.dictionary.used(self.codes)
        dictionary = Dictionary()
        place = np.zeros(len(values), np.uint32)
        place[used] = dictionary.encode([values[code] for code in used.tolist()])
        return Column(dictionary, place[self.codes].astype(smallest(len(used) + 1)))


@dataclass(frozen=True, slots=True)
class Table:
    """The annotations of one version, of the sections that were asked for so far."""

    bodies: NDArray[np.uint64]
    """Ascending."""
    sections: Mapping[int, Mapping[str, Column]]
    """Section → field → column."""

    @property
    def nbytes(self) -> int:
        """About how much memory it takes."""
        return self.bodies.nbytes + sum(
            column.nbytes for columns in self.sections.values() for column in columns.values()
        )

    def column(self, section: int, name: str) -> Column | None:
        """The column of a field in a section; ``None`` where no annotation ever had it."""
        return self.sections[section].get(name)

    def shown(self, selection: Selection) -> list[tuple[str, Column]]:
        """The fields that are shown and their columns, in the order of a stored annotation."""
        return [
            (name, self.sections[section][name])
            for section in (MAIN, USERS, TIMES)
            if section in selection.sections
            for name in sorted(self.sections[section])
            if selection.shows(name)
        ]

    def texts(self, rows: Rows, shown: list[tuple[str, Column]]) -> Iterator[bytes]:
        """The annotations of some rows as JSON, with commas between them, in pieces of some thousand."""
        fragments = [_Fragments(name, column.dictionary) for name, column in shown]
        for start in range(0, len(rows), _PIECE):
            some = rows[start : start + _PIECE]
            parts: list[Iterable[bytes]] = [[b',{"bodyid":%d' % body for body in self.bodies[some].tolist()]]
            for (_, column), texts in zip(shown, fragments, strict=True):
                codes = column.codes[some]
                if codes.any():
                    parts.append(texts.of(codes))
            parts.append([b"}"] * len(some))
            yield b"".join(chain.from_iterable(zip(*parts, strict=True)))[1:]

    def with_any(self, shown: list[tuple[str, Column]]) -> NDArray[np.bool_]:
        """Which rows have one of some columns."""
        found = np.zeros(len(self.bodies), np.bool_)
        for _, column in shown:
            found |= column.codes != ABSENT
        return found

    def changed(self, bodies: NDArray[np.uint64], fields: Mapping[int, list[Fields | None]]) -> Table:
        """The table in which some bodies (ascending) have other annotations, or none: for each section their fields."""
        present = np.array([found is not None for found in next(iter(fields.values()))], np.bool_)
        where = np.searchsorted(self.bodies, bodies)
        inside = np.zeros(len(bodies), np.bool_)
        inside[where < len(self.bodies)] = True
        inside[inside] = self.bodies[where[inside]] == bodies[inside]
        order: Rows | None = None
        old = self.bodies
        if (inside & ~present).any() or (present & ~inside).any():
            # The rows that stay, then those that are new, in the order of their bodies. A new row is taken from the
            # place behind the last, where all columns are absent.
            stay = np.ones(len(old), np.bool_)
            stay[where[inside & ~present]] = False
            added = bodies[present & ~inside]
            joined = np.concatenate([old[stay], added])
            sources = np.concatenate([np.flatnonzero(stay), np.full(len(added), len(old))])
            sort = np.argsort(joined, kind="stable")
            old, order = joined[sort], sources[sort]
        at = np.searchsorted(old, bodies[present])
        sections: dict[int, dict[str, Column]] = {}
        for section, columns in self.sections.items():
            found = [fields_ for fields_ in fields[section] if fields_ is not None]
            names = set().union(*found)
            next_: dict[str, Column] = {}
            for name in columns.keys() | names:
                column = columns.get(name) or Column(Dictionary(), np.zeros(len(self.bodies), np.uint8))
                if order is not None:
                    column = Column(column.dictionary, np.append(column.codes, column.codes.dtype.type(ABSENT))[order])
                next_[name] = column.replaced(at, column.dictionary.encode([f.get(name) for f in found]))
            sections[section] = next_
        return Table(old, sections)


class _Fragments:
    """The members of JSON objects for the codes of one field, with a comma before each; nothing where it is absent."""

    def __init__(self, name: str, dictionary: Dictionary) -> None:
        self._by_code = dictionary.by_code
        self._name = b",%b:" % orjson.dumps(name)
        self._made: dict[int, bytes] = {ABSENT: b""}

    def of(self, codes: Codes) -> list[bytes]:
        """The members for an array of codes."""
        listed = codes.tolist()
        if len(self._made) > _KEPT_TEXTS:
            self._made = {ABSENT: b""}
        made, name, by_code = self._made, self._name, self._by_code
        for code in set(listed).difference(made):
            made[code] = name + (by_code[code] or b"")
        return list(map(made.__getitem__, listed))


class Builder:
    """Makes the columns of one section from the annotations in the order of their bodies."""

    def __init__(self, section: int) -> None:
        self._section = section
        self._builder = _members.Builder(BODYID_TEXT)

    def add(self, payload: Buffer) -> None:
        """The next annotation, as it is stored."""
        self._builder.add(payload, *span(payload, self._section))

    def columns(self) -> dict[str, Column]:
        """The columns of all that was added."""
        return {
            orjson.loads(name): Column(Dictionary(codes, by_code), rows.astype(smallest(len(by_code))))
            for name, (codes, by_code, rows) in self._builder.columns().items()
        }
