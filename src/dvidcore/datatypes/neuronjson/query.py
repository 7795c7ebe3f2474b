"""The query language: JSON objects of conditions on fields, put to the distinct values of columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from dvidcore.datatypes.neuronjson.annotation import BODYID, section_of
from dvidcore.datatypes.neuronjson.columns import ABSENT, Column, Dictionary, Table
from dvidcore.errors import BadRequest
from dvidcore.geometry import UINT64_MAX

Mask = NDArray[np.bool_]
Number = int | float

_GROUP = 64
"""Texts that an expression is put to together, to find out which of them to look at."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What a field must be: any of these. ``exists`` alone asks whether the field is there."""

    numbers: frozenset[Number] = frozenset()
    texts: frozenset[str] = frozenset()
    flags: frozenset[bool] = frozenset()
    expressions: tuple[Expression, ...] = ()
    exists: bool | None = None


Query = dict[str, Condition]


def parsed(body: Any) -> list[Query]:
    """The queries of a body, an object or a list of them; BadRequest where it is neither, or an expression is wrong."""
    if isinstance(body, dict):
        body = [body]
    if not isinstance(body, list) or not body:
        raise BadRequest("the body must be a query, a JSON object, or a list of one query or more")
    for query in body:
        if not isinstance(query, dict):
            raise BadRequest(f"a query must be a JSON object, not {type(query).__name__}")
    return [{name: _condition(name, given) for name, given in query.items()} for query in body]


def _condition(name: str, given: Any) -> Condition:
    if isinstance(given, str) and given in ("exists/0", "exists/1"):
        return Condition(exists=given == "exists/1")
    wanted = given if isinstance(given, list) else [given]
    texts = [value for value in wanted if isinstance(value, str)]
    return Condition(
        numbers=frozenset(value for value in wanted if type(value) in (int, float)),
        texts=frozenset(text for text in texts if not text.startswith("re/")),
        flags=frozenset(value for value in wanted if type(value) is bool),
        expressions=tuple(_expression(name, text[3:]) for text in texts if text.startswith("re/")),
    )


def listed_bodies(queries: list[Query]) -> list[int] | None:
    """The bodies, ascending, where all queries ask for nothing but bodyid, by numbers; else ``None``."""
    found: set[int] = set()
    for query in queries:
        if query.keys() != {BODYID} or query[BODYID].exists is not None:
            return None
        found.update(_bodies(query[BODYID]))
    return sorted(found)


def _bodies(condition: Condition) -> Iterator[int]:
    for number in condition.numbers:
        if number == int(number) and 0 < number <= UINT64_MAX:
            yield int(number)


def sections_of(queries: Iterable[Query]) -> frozenset[int]:
    """The sections that the fields of queries belong to."""
    return frozenset(section_of(name) for query in queries for name in query if name != BODYID)


def matching(table: Table, queries: Iterable[Query]) -> Mask:
    """Which rows of a table any of the queries matches."""
    found = np.zeros(len(table.bodies), np.bool_)
    for query in queries:
        one = np.ones(len(table.bodies), np.bool_)
        for name, condition in query.items():
            if name == BODYID:
                one &= _bodies_matching(table, condition)
            else:
                one &= _column_matching(table, table.column(section_of(name), name), condition)
        found |= one
    return found


def _bodies_matching(table: Table, condition: Condition) -> Mask:
    if condition.exists is not None:
        return np.full(len(table.bodies), condition.exists)
    found = np.zeros(len(table.bodies), np.bool_)
    wanted = np.array(sorted(set(_bodies(condition))), np.uint64)
    at = np.searchsorted(table.bodies, wanted)
    at, wanted = at[at < len(found)], wanted[at < len(found)]
    found[at[table.bodies[at] == wanted]] = True
    return found


def _column_matching(table: Table, column: Column | None, condition: Condition) -> Mask:
    if condition.exists is not None:
        if column is None:
            return np.full(len(table.bodies), not condition.exists)
        found: Mask = (column.codes != ABSENT) == condition.exists
        return found
    if column is None:
        return np.zeros(len(table.bodies), np.bool_)
    dictionary = column.dictionary
    hits = np.zeros(len(dictionary.by_code), np.bool_)
    codes = list(_matching_codes(dictionary, condition, len(hits)))
    if not codes:
        return np.zeros(len(table.bodies), np.bool_)
    hits[codes] = True
    return hits[column.codes]


def _matching_codes(dictionary: Dictionary, condition: Condition, count: int) -> Iterator[int]:
    """The codes below ``count`` of the values that meet a condition."""
    wanted = [*map(orjson.dumps, condition.texts), *(b"true" if flag else b"false" for flag in condition.flags)]
    found = [dictionary.codes.get(key, ABSENT) for key in wanted]
    for number in condition.numbers:
        found += _codes_of_number(dictionary, number)
    yield from (code for code in found if ABSENT < code < count)
    members_wanted = condition.texts | condition.numbers
    if members_wanted:
        for code, members in dictionary.lists:
            if code < count and not members_wanted.isdisjoint(members):
                yield code
    for expression in condition.expressions:
        yield from _texts_matching(dictionary, expression, count)


def _codes_of_number(dictionary: Dictionary, number: Number) -> Iterator[int]:
    """The codes of the values that are a number, be they written as integers or not."""
    if number == int(number):
        yield dictionary.codes.get(b"%d" % int(number), ABSENT)
    try:
        rounded = float(number)
    except OverflowError:
        return
    if rounded == number:
        yield from dictionary.floats.get(rounded, ())


# -- regular expressions -----------------------------------------------------------------------------------------------


class Expression:
    """A regular expression in RE2's syntax, which takes time linear in the text."""

    def __init__(self, source: str) -> None:
        """Raises ``ValueError`` where it is none."""
        import re2

        options = re2.Options()
        options.log_errors = False
        try:
            self._one: Any = re2.compile(source, options)
            # What occurs in a text occurs in lines of which it is one, if an end of a line may be an end of the text.
            # It is not where the expression asks for the text's ends, or takes the flag away again.
            plain = (
                "\\A" not in source
                and "\\z" not in source
                and "(?" not in source.replace("(?:", "").replace("(?i)", "")
            )
            self._any: Any = re2.compile(f"(?m){source}", options) if plain else None
        except re2.error as e:
            detail = e.args[0] if e.args else ""
            raise ValueError(detail.decode() if isinstance(detail, bytes) else str(detail)) from None

    def occurs(self, texts: list[bytes]) -> Iterator[int]:
        """The places of the texts in which it occurs. O(bytes of the texts)."""
        one, several = self._one.search, self._any and self._any.search
        for start in range(0, len(texts), _GROUP):
            group = texts[start : start + _GROUP]
            if several is None or several(b"\n".join(group)):
                for place, text in enumerate(group, start):
                    if one(text):
                        yield place


@lru_cache(maxsize=256)
def _compiled(source: str) -> Expression:
    return Expression(source)


def _expression(name: str, source: str) -> Expression:
    try:
        return _compiled(source)
    except ValueError as e:
        raise BadRequest(f'field "{name[:60]}": "{source[:100]}" is not a regular expression: {e}') from None


def _texts_matching(dictionary: Dictionary, expression: Expression, count: int) -> Iterator[int]:
    owners, texts = dictionary.texts
    return (owners[place] for place in expression.occurs(texts) if owners[place] < count)
