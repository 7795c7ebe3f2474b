"""The arguments that endpoints take: parts of a path and query parameters, each parsed and checked in one place.

A *kind* turns the text of one path part into a value (``"64_64_8"`` into a ``ZYX``). A *query parameter* has a name,
a default, a parser and one line of help. Both raise ``BadRequest`` that names the argument and says what is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dvidcore.errors import BadRequest
from dvidcore.geometry import UINT64_MAX, parse_int, parse_point, parse_size

Parser = Callable[[str, str], Any]


def _text(value: str, name: str) -> str:
    if not value:
        raise BadRequest(f"{name} is empty")
    return value


def parse_uint64(value: str, name: str, least: int = 0) -> int:
    """A decimal uint64 without a sign, at least ``least``; else BadRequest naming the argument."""
    if value.startswith("+"):
        raise BadRequest(f'{name}: "{value[:40]}" has a sign, a uint64 has none')
    return parse_int(value, name, least, UINT64_MAX)


def _label(value: str, name: str) -> int:
    return parse_uint64(value, name, 1)


@dataclass(frozen=True, slots=True)
class Kind:
    """What a part of a path may be: ``parse(text, name)`` and a word for the help."""

    name: str
    parse: Parser
    help: str


KINDS: Mapping[str, Kind] = {
    k.name: k
    for k in (
        Kind("text", _text, "text, percent-encoded"),
        Kind("any", lambda value, name: value, "anything, may be empty"),
        Kind("int", parse_int, "an int32"),
        Kind("uint64", parse_uint64, "a uint64"),
        Kind("label", _label, "a uint64 label, not 0"),
        Kind("point", parse_point, "x_y_z, three int32"),
        Kind("size", parse_size, "dx_dy_dz, three int32, each at least 1"),
    )
}


@dataclass(frozen=True, slots=True)
class Query:
    """A query parameter: absent means ``default``, else ``parse(text, name)``."""

    name: str
    default: Any
    help: str
    parse: Parser
    kind: str
    empty: bool = False
    """Whether an empty value is parsed, so that it can be refused. Else it counts as absent."""


def flag(name: str, help: str, true: Sequence[str] = ("true",)) -> Query:
    """True for exactly the words in ``true``; anything else is False."""
    words = frozenset(true)
    return Query(name, False, help, lambda value, _: value in words, "|".join(true))


def switch(name: str, default: bool, help: str) -> Query:
    """``true|on|1`` or ``false|off|0`` in any case, else 400."""

    def parse(value: str, name: str) -> bool:
        word = value.lower()
        if word in ("true", "on", "1"):
            return True
        if word in ("false", "off", "0"):
            return False
        raise BadRequest(f'{name}: "{value[:40]}" is not one of true, on, 1, false, off, 0')

    return Query(name, default, help, parse, "true|false")


def integer(name: str, default: int | None, help: str, low: int = -(2**31), high: int = 2**31 - 1) -> Query:
    """An integer within ``low`` … ``high``."""
    return Query(name, default, help, lambda value, name: parse_int(value, name, low, high), "integer")


def choice(name: str, default: str | None, help: str, words: Sequence[str]) -> Query:
    """One of some words."""

    def parse(value: str, name: str) -> str:
        if value not in words:
            raise BadRequest(f'{name}: "{value[:40]}" is not one of {", ".join(w or "(empty)" for w in words)}')
        return value

    return Query(name, default, help, parse, "|".join(w for w in words if w))


def text(name: str, default: str | None, help: str) -> Query:
    """Any text."""
    return Query(name, default, help, lambda value, _: value, "text")
