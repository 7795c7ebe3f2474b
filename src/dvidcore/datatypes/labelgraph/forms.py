"""Graphs as they cross the wire: the JSON of requests, checked whole, and the pieces of JSON of answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import islice
from math import isfinite
from typing import Any, NamedTuple

from dvidcore.errors import BadRequest
from dvidcore.geometry import UINT64_MAX

Vertex = tuple[int, float]
"""Id and weight."""
Edge = tuple[int, int, float]
"""Both ids and the weight."""

_SOME = 2000
"""Entries that are made into text together."""


class Graph(NamedTuple):
    """A graph of a request, in its order. Edges have the smaller id first."""

    vertices: list[Vertex]
    edges: list[Edge]

    def ids(self) -> set[int]:
        """All vertices that are named, be it by an edge."""
        return {v for v, _ in self.vertices} | {end for *ends, _ in self.edges for end in ends}


def parse(value: Any, *, unsafe: bool = False) -> Graph:
    """The graph of parsed JSON, ``{"Vertices": [{"Id", "Weight"}], "Edges": [{"Id1", "Id2", "Weight"}]}``.

    Ids are integers from 1 to 2^64 - 1, weights finite numbers, 0 where there is none. With ``unsafe`` a missing list
    is empty and entries may be repeated. Raises BadRequest that names what is wrong.
    """
    if not isinstance(value, dict):
        raise BadRequest(f'the body must be a JSON object with "Vertices" and "Edges", not {type(value).__name__}')
    vertices = [
        (_id(entry, "Id", "Vertices", k), _weight(entry, "Vertices", k))
        for k, entry in enumerate(_entries(value, "Vertices", unsafe))
    ]
    edges = [
        (_id(entry, "Id1", "Edges", k), _id(entry, "Id2", "Edges", k), _weight(entry, "Edges", k))
        for k, entry in enumerate(_entries(value, "Edges", unsafe))
    ]
    for k, (one, other, _) in enumerate(edges):
        if one == other:
            raise BadRequest(f"Edges[{k}]: Id1 and Id2 are both {one}, an edge joins two different vertices")
    if not unsafe:
        _check_unique("Vertices", vertices)
        _check_unique("Edges", edges)
    return Graph(vertices, [(a, b, w) if a < b else (b, a, w) for a, b, w in edges])


def _entries(value: dict[str, Any], name: str, unsafe: bool) -> list[Any]:
    entries = value.get(name)
    if entries is None and unsafe:
        return []
    if not isinstance(entries, list):
        raise BadRequest(f'"{name}" must be a list; a graph has both "Vertices" and "Edges"')
    return entries


def _id(entry: Any, name: str, where: str, place: int) -> int:
    if not isinstance(entry, dict):
        raise BadRequest(f"{where}[{place}] must be a JSON object")
    found = entry.get(name)
    if type(found) is not int or not 1 <= found <= UINT64_MAX:
        raise BadRequest(f'{where}[{place}]: "{name}" must be a whole number from 1 to {UINT64_MAX}')
    return found


def _weight(entry: dict[str, Any], where: str, place: int) -> float:
    found = entry.get("Weight", 0)
    if type(found) not in (int, float) or not isfinite(found):
        raise BadRequest(f'{where}[{place}]: "Weight" must be a finite number')
    return float(found)


def _check_unique(name: str, entries: list[Any]) -> None:
    if len(set(entries)) == len(entries):
        return
    seen = set()
    for place, entry in enumerate(entries):
        if entry in seen:
            raise BadRequest(f"{name}[{place}] repeats an earlier entry")
        seen.add(entry)


# -- answers -----------------------------------------------------------------------------------------------------------


def pieces(vertices: Iterable[Vertex], edges: Iterable[Edge]) -> Iterator[bytes]:
    """The JSON of a graph; neither of its lists is held in memory."""
    yield b'{"Transactions":[],"Vertices":['
    yield from _joined(f'{{"Id":{v},"Weight":{number(weight)}}}' for v, weight in vertices)
    yield b'],"Edges":['
    yield from _joined(f'{{"Id1":{a},"Id2":{b},"Weight":{number(weight)}}}' for a, b, weight in edges)
    yield b"]}"


def _joined(entries: Iterator[str]) -> Iterator[bytes]:
    before = b""
    while some := list(islice(entries, _SOME)):
        yield before + ",".join(some).encode()
        before = b","


def number(value: float) -> str:
    """A finite number in the shortest form that reads back the same: ``10``, ``2.3``, ``1e+21``."""
    text = repr(value)
    if "e" not in text:
        return text.removesuffix(".0")
    if 1e-6 <= abs(value) < 1e21:
        return f"{Decimal(text):f}"
    digits, _, exponent = text.partition("e")
    return f"{digits}e{int(exponent):+d}"
