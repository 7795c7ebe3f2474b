"""A labelgraph as one version sees it.

Writers keep both ends of every edge in being, so in one line of versions an edge has its vertices. Versions that were
merged may have removed a vertex in the one and joined it in the other: below a merge, edges whose ends are not both
there, and what belongs to them, do not exist.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dvidcore import codecs
from dvidcore.datatypes.labelgraph.forms import Edge, Vertex
from dvidcore.datatypes.labelgraph.rows import Owner, Rows, ascending, first_of, second_of, weight_of
from dvidcore.storage.keys import prefix_end
from dvidcore.storage.versioned import View

_SOME = 2000
"""Rows that are looked up together."""

T = TypeVar("T")


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    source = iter(items)
    while some := list(islice(source, _SOME)):
        yield some


class GraphView:
    """Reads the graph of one view. What meets a weight or property that merged versions disagree on raises KeyConflict."""

    def __init__(self, rows: Rows, view: View) -> None:
        self.rows = rows
        self.view = view
        self.certain = view.ancestry.linear
        """Whether all edges have their vertices."""

    # -- what there is -------------------------------------------------------------------------------------------------

    def exists(self, owner: Owner) -> bool:
        """Whether a vertex, or an edge with both its ends, exists, be it in conflict."""
        rows = [owner] if self.certain or len(owner) == 1 else [owner, *((end,) for end in owner)]
        return all(self._has(self.rows.owner(row)) for row in rows)

    def _has(self, prefix_key: bytes) -> bool:
        # Keys of a kind are of one length or end with a NUL, so no other key lies in this range.
        return next(self.view.keys(prefix_key, prefix_end(prefix_key)), None) is not None

    def existing(self, owners: Iterable[Owner]) -> Iterator[bool]:
        """``exists`` of several vertices or edges, in their order."""
        if not self.certain:
            yield from map(self.exists, owners)
            return
        for some in _chunks(owners):
            values = self.view.get_many([self.rows.owner(owner) for owner in some])
            yield from (value is not None for value in values)

    def missing(self, vertices: Collection[int]) -> int | None:
        """The first of some vertices that does not exist."""
        there = self.existing((vertex,) for vertex in vertices)
        return next((vertex for vertex, exists in zip(vertices, there, strict=True) if not exists), None)

    # -- weights -------------------------------------------------------------------------------------------------------

    def weights(self, vertices: Iterable[int]) -> Iterator[Vertex]:
        """Those of some vertices that exist, with their weights, in the order given."""
        for some in _chunks(vertices):
            values = self.view.get_many([self.rows.vertex(v) for v in some])
            yield from ((v, weight_of(value)) for v, value in zip(some, values, strict=True) if value is not None)

    def weight(self, owner: Owner) -> float | None:
        """The weight of a vertex or an edge, None where it does not exist."""
        if not self.certain and not self.exists(owner):
            return None
        value = self.view.get(self.rows.owner(owner))
        return None if value is None else weight_of(value)

    def neighbours(self, vertex: int) -> Iterator[Vertex]:
        """The other ends of a vertex's edges, ascending, each with the weight of the edge."""
        found = ((second_of(key), weight_of(value)) for key, value in self.view.scan(*self.rows.edges(vertex)))
        return found if self.certain else (n for n in found if self.exists((n[0],)))

    # -- answers -------------------------------------------------------------------------------------------------------

    def all_vertices(self) -> Iterator[Vertex]:
        """All vertices, by id."""
        return ((first_of(key), weight_of(value)) for key, value in self.view.scan(*self.rows.vertices()))

    def all_edges(self) -> Iterator[Edge]:
        """All edges, by their ids."""
        edges = (
            (first_of(key), second_of(key), weight_of(value))
            for key, value in self.view.scan(*self.rows.edges())
            if ascending(key)
        )
        return edges if self.certain else self._with_ends(edges)

    def _with_ends(self, edges: Iterator[Edge]) -> Iterator[Edge]:
        keys = self.view.keys(*self.rows.vertices())
        vertices = np.fromiter((first_of(key) for key in keys), np.uint64)
        for some in _chunks(edges):
            ends = np.array([edge[:2] for edge in some], np.uint64)
            there = _among(ends, vertices)
            yield from (edge for edge, (one, other) in zip(some, there.tolist(), strict=True) if one and other)

    def edges_of(self, vertices: Sequence[int]) -> Iterator[Edge]:
        """The edges that touch at least one of some vertices, each once."""
        asked = set(vertices)
        for vertex in vertices:
            for other, weight in self.neighbours(vertex):
                if vertex < other:
                    yield vertex, other, weight
                elif other not in asked:
                    yield other, vertex, weight

    # -- properties ----------------------------------------------------------------------------------------------------

    def property_exists(self, owner: Owner, name: str) -> bool:
        """Whether there is a row of a property, be it in conflict."""
        return self._has(self.rows.property(owner, name))

    def property(self, owner: Owner, name: str) -> bytes | memoryview:
        """A property's bytes, none where there is none."""
        return next(self.properties([owner], name))

    def properties(self, owners: Iterable[Owner], name: str) -> Iterator[bytes | memoryview]:
        """The property of a name of several vertices or edges, in their order."""
        for some in _chunks(owners):
            # What belonged to a vertex or an edge that a merge left without ends is no longer its property.
            there = [True] * len(some) if self.certain else [self.exists(owner) for owner in some]
            for at in range(0, len(some), _AT_ONCE):
                keys = [self.rows.property(owner, name) for owner in some[at : at + _AT_ONCE]]
                for value, exists in zip(self.view.get_many(keys), there[at : at + _AT_ONCE], strict=True):
                    yield codecs.unpack(value) if value is not None and exists else b""


_AT_ONCE = 16
"""Properties that are in memory together."""


def _among(values: NDArray[np.uint64], ascending: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which of ``values``, of any shape, are among ascending ones."""
    if not len(ascending):
        return np.zeros(values.shape, np.bool_)
    place = np.searchsorted(ascending, values)
    place[place == len(ascending)] = 0
    found: NDArray[np.bool_] = ascending[place] == values
    return found
