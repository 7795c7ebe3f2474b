"""Changes of a labelgraph: each is checked whole against one state, and written whole.

Where another process writes meanwhile, the change is computed again from the newest state.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from math import isfinite
from typing import TYPE_CHECKING, TypeVar

from dvidcore import codecs
from dvidcore.datatypes.labelgraph.forms import Graph
from dvidcore.datatypes.labelgraph.graph import GraphView
from dvidcore.datatypes.labelgraph.rows import (
    Owner,
    Rows,
    number_of,
    pack_u64,
    pack_weight,
    second_of,
)
from dvidcore.errors import BadRequest, GuardFailed
from dvidcore.storage.engine import Batch
from dvidcore.storage.keys import version_bytes
from dvidcore.storage.staged import StagedWrite

if TYPE_CHECKING:
    from dvidcore.datatypes.base import DataType
    from dvidcore.datatypes.call import Call

T = TypeVar("T")


class Change:
    """What a request is about to write, and the graph before it."""

    def __init__(self, before: GraphView, write: StagedWrite, compression: str, checksum: str) -> None:
        self.before = before
        self.rows = before.rows
        self.write = write
        ancestry = before.view.ancestry
        self._suffix = version_bytes(ancestry.version)
        self._alone = len(ancestry.rank) == 1
        self._compression, self._checksum = compression, checksum

    def _put(self, prefix_key: bytes, value: bytes) -> None:
        self.write.put(prefix_key + self._suffix, value)

    def _hide(self, prefix_key: bytes) -> None:
        if self._alone:  # a version without ancestors has nothing to hide
            self.write.delete(prefix_key + self._suffix)
        else:
            self.write.put(prefix_key + self._suffix, b"")

    def _hide_all(self, start: bytes, stop: bytes) -> None:
        for prefix_key in self.before.view.keys(start, stop):
            self._hide(prefix_key)

    def put_vertex(self, vertex: int, weight: float) -> None:
        if not self.before.certain and not self.before.exists((vertex,)):
            self.remove_vertex(vertex)  # what merged versions left of an earlier one is not to come back
        self._put(self.rows.vertex(vertex), pack_weight(weight))

    def put_edge(self, one: int, other: int, weight: float) -> None:
        if not self.before.certain and not self.before.exists((one, other)):
            self._hide_all(*self.rows.properties((one, other)))
        value = pack_weight(weight)
        for row in self.rows.both(one, other):
            self._put(row, value)

    def put_property(self, owner: Owner, name: str, value: bytes | memoryview) -> None:
        self._put(self.rows.property(owner, name), codecs.pack(value, self._compression, self._checksum))

    def remove_property(self, owner: Owner, name: str) -> None:
        if self.before.property_exists(owner, name):
            self._hide(self.rows.property(owner, name))

    def remove_vertex(self, vertex: int) -> None:
        """Removes a vertex with its edges and all their properties."""
        for prefix_key in self.before.view.keys(*self.rows.edges(vertex)):
            self.remove_edge(vertex, second_of(prefix_key))
        self._hide_all(*self.rows.properties((vertex,)))
        if self.before.exists((vertex,)):
            self._hide(self.rows.vertex(vertex))

    def remove_edge(self, one: int, other: int) -> None:
        """Removes an edge, which exists, with its properties."""
        for row in self.rows.both(one, other):
            self._hide(row)
        self._hide_all(*self.rows.properties((one, other)))

    def remove_everything(self) -> None:
        for bounds in self.rows.versioned:
            self._hide_all(*bounds)


class Writer:
    """Writes changes of one instance, one after the other."""

    def __init__(self, data: DataType) -> None:
        self._data = data
        self.rows = Rows(data.record.id)
        self._lock = threading.Lock()  # saves computing again; what keeps changes apart is the guard

    def change(self, call: Call, make: Callable[[Change], T]) -> T:
        """Carries out what ``make`` puts into a change of the newest state, and answers what it answers.

        ``make`` may be called again. An error that it raises leaves everything as it was.
        """
        record, engine = self._data.record, self._data.engine
        with self._lock:
            while True:
                view = call.renew()
                now = view.snapshot.get(self.rows.generation)
                guard = {self.rows.generation: None if now is None else bytes(now)}
                with StagedWrite(engine) as write:
                    change = Change(GraphView(self.rows, view), write, record.compression, record.checksum)
                    answer = make(change)
                    final = Batch()
                    final.put(self.rows.generation, pack_u64(number_of(now) + 1))
                    try:
                        write.commit(final, sync=self._data.database.options.sync, guard=guard)
                    except GuardFailed:
                        continue
                return answer


# -- what requests ask for ---------------------------------------------------------------------------------------------


def set_graph(change: Change, graph: Graph) -> None:
    """Adds vertices and edges; those that exist get the new weight. BadRequest for an edge without its ends."""
    vertices = dict(graph.vertices)
    _check_ends(change.before, graph.edges, vertices)
    for vertex, weight in vertices.items():
        change.put_vertex(vertex, weight)
    for one, other, weight in graph.edges:
        change.put_edge(one, other, weight)


def add_weights(change: Change, graph: Graph) -> None:
    """Adds to weights; what does not exist has none so far. BadRequest for an edge without its ends."""
    before = change.before
    listed = dict.fromkeys(vertex for vertex, _ in graph.vertices)
    vertices = dict(before.weights(listed))
    for vertex, weight in graph.vertices:
        vertices[vertex] = _sum(vertices.get(vertex, 0.0), weight, f"vertex {vertex}")
    edges: dict[tuple[int, int], float] = {}
    created = []
    for one, other, weight in graph.edges:
        now = edges.get((one, other))
        if now is None:
            now = before.weight((one, other))
            if now is None:
                created.append((one, other, weight))
        edges[one, other] = _sum(now or 0.0, weight, f"the edge of {one} and {other}")
    _check_ends(before, created, vertices)
    for vertex, weight in vertices.items():
        change.put_vertex(vertex, weight)
    for (one, other), weight in edges.items():
        change.put_edge(one, other, weight)


def remove(change: Change, graph: Graph) -> None:
    """Removes vertices with all that belongs to them, and edges with their properties; everything for an empty graph."""
    if not graph.vertices and not graph.edges:
        change.remove_everything()
    for vertex, _ in graph.vertices:
        change.remove_vertex(vertex)
    for one, other, _ in graph.edges:
        if change.before.exists((one, other)):
            change.remove_edge(one, other)


def merge(change: Change, graph: Graph) -> None:
    """Merges the vertices into the last one of them.

    Its weight is its own in the request, or where that is 0 the sum of all. Its edges to vertices outside have the sums
    of the weights, or those that the request has for them. The other vertices go, with their properties and those of
    their edges. Raises BadRequest for fewer than two vertices, for a repeated and for an unknown one.
    """
    before = change.before
    listed = [vertex for vertex, _ in graph.vertices]
    if len(listed) < 2 or len(set(listed)) < len(listed):
        raise BadRequest("Vertices: at least two are needed for a merge, each once; the last of them is kept")
    unknown = before.missing(listed)
    if unknown is not None:
        raise BadRequest(f"Vertices: there is no vertex {unknown}")
    kept, given = graph.vertices[-1]
    sums: dict[int, float] = {}
    for vertex in listed:
        for other, weight in before.neighbours(vertex):
            sums[other] = _sum(sums.get(other, 0.0), weight, f"the edge of {kept} and {other}")
    for vertex in listed:
        sums.pop(vertex, None)
    for one, other, weight in graph.edges:
        if kept in (one, other):
            outside = other if one == kept else one
            if outside in sums:
                sums[outside] = weight
    if given == 0:
        for _, weight in before.weights(listed):
            given = _sum(given, weight, f"vertex {kept}")
    for vertex in listed[:-1]:
        change.remove_vertex(vertex)
    change.put_vertex(kept, given)
    for other, weight in sums.items():
        change.put_edge(kept, other, weight)


def set_property(change: Change, owner: Owner, name: str, value: bytes) -> None:
    """Sets a property of a vertex or an edge; BadRequest where that does not exist."""
    if not change.before.exists(owner):
        what = f"no vertex {owner[0]}" if len(owner) == 1 else f"no edge of {owner[0]} and {owner[1]}"
        raise BadRequest(f"there is {what}, so it can have no properties")
    change.put_property(owner, name, value)


def _check_ends(before: GraphView, edges: Iterable[tuple[int, int, float]], created: dict[int, float]) -> None:
    """BadRequest where an end of an edge neither exists nor is created."""
    edges = list(edges)
    ends = dict.fromkeys(end for one, other, _ in edges for end in (one, other) if end not in created)
    unknown = before.missing(ends)
    if unknown is not None:
        one, other = next((a, b) for a, b, _ in edges if unknown in (a, b))
        raise BadRequest(f"the edge of {one} and {other} cannot be made: there is no vertex {unknown}")


def _sum(one: float, other: float, what: str) -> float:
    total = one + other
    if not isfinite(total):
        raise BadRequest(f"the weight of {what} would be beyond float64")
    return total
