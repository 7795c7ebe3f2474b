"""Transactions over properties: read, change, write, without holding anything in between.

Each vertex has a transaction id. Reading properties answers it, and a write is taken only with the present one, which it
replaces; so of two clients that read the same, one writes and the other is told to read again. Ids only grow and are kept
in the store, so neither a restart nor another process repeats one.

All numbers on the wire are uint64, little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from dvidcore.datatypes.labelgraph.changes import Change, Writer
from dvidcore.datatypes.labelgraph.graph import GraphView
from dvidcore.datatypes.labelgraph.rows import Owner, number_of, pack_u64
from dvidcore.errors import BadRequest

if TYPE_CHECKING:
    from dvidcore.datatypes.call import Call
    from dvidcore.storage.engine import Snapshot

MOST = 1000
"""Vertices of one transaction."""
_FIRST_ID = 1
_WORD = 8


class Locks(NamedTuple):
    """The first part of a request, and what it asks for or brings."""

    ids: dict[int, int]
    """Vertex → transaction id, in the order of the request."""
    properties: list[tuple[Owner, memoryview]]
    """Vertices or edges with the bytes to be written, which are empty in a request that reads."""


class _Words:
    """Reads a body from its start."""

    def __init__(self, body: bytes) -> None:
        self._body = memoryview(body)
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._body) - self._at

    def take(self, count: int, what: str) -> tuple[int, ...]:
        if self.left < count * _WORD:
            raise BadRequest(f"the body of {len(self._body)} bytes ends within {what}")
        found = struct.unpack_from(f"<{count}Q", self._body, self._at)
        self._at += count * _WORD
        return found

    def bytes(self, size: int, what: str) -> memoryview:
        if self.left < size:
            raise BadRequest(f"the body of {len(self._body)} bytes ends within {what}")
        piece = self._body[self._at : self._at + size]
        self._at += size
        return piece


def parse(body: bytes, ends: int, *, writes: bool) -> Locks:
    """A request over properties of vertices (``ends`` is 1) or edges (2). Raises BadRequest for what is none.

    It is n, n × (vertex, transaction id), m, m × (vertex[, vertex2]), where it ``writes`` each with size and bytes.
    """
    words = _Words(body)
    (count,) = words.take(1, "the number of vertices")
    if count > MOST:
        raise BadRequest(f"a transaction over {count} vertices, at most {MOST} are allowed")
    flat = words.take(2 * count, f"the list of {count} vertices")
    ids: dict[int, int] = {}
    for vertex, given in zip(flat[::2], flat[1::2], strict=True):
        if writes and ids.setdefault(vertex, given) != given:
            raise BadRequest(f"vertex {vertex} is listed with two transaction ids")
        ids[vertex] = given
    if 0 in ids:
        raise BadRequest("vertex 0 is none, ids are at least 1")
    (number,) = words.take(1, "the number of properties")
    if words.left // _WORD < number * (ends + writes):
        raise BadRequest(f"the body of {len(body)} bytes has no room for {number} properties")
    properties = []
    for place in range(number):
        where = f"property {place} of {number}"
        owner = words.take(ends, where)
        if ends == 2 and owner[0] == owner[1]:
            raise BadRequest(f"{where}: an edge joins two different vertices, not {owner[0]} twice")
        value = words.bytes(words.take(1, where)[0], where) if writes else memoryview(b"")
        properties.append((owner, value))
    if words.left:
        raise BadRequest(f"the body has {words.left} bytes more than its counts say")
    return Locks(ids, properties)


# -- reading -----------------------------------------------------------------------------------------------------------


def begin(writer: Writer, call: Call, locks: Locks, *, store: bool) -> dict[int, int]:
    """The present transaction id of each vertex; one that has none is given one, which is kept where ``store`` says so.

    The call's view is then of a state that the ids belong to: the guard of a change covers properties too.
    """
    vertices = list(locks.ids)
    ids = _present(writer, call.snapshot, vertices)
    if all(ids.values()):
        return ids

    def make(change: Change) -> dict[int, int]:
        now = _present(writer, change.before.view.snapshot, vertices)
        _give(change, now, [vertex for vertex, present in now.items() if not present])
        return now

    if store:
        return writer.change(call, make)
    following = _next(writer, call.snapshot)
    for vertex in [vertex for vertex, present in ids.items() if not present]:
        ids[vertex], following = following, following + 1
    return ids


def answer(graph: GraphView, ids: dict[int, int], locks: Locks, name: str) -> Iterator[bytes | memoryview]:
    """The answer to a request that reads: all vertices are granted, and each property whose vertices are.

    Properties come in the order of the request, the ends of an edge too.
    """
    yield _granted(ids, [])
    owners = [owner for owner, _ in locks.properties if all(end in ids for end in owner)]
    yield pack_u64(len(owners))
    for owner, value in zip(owners, graph.properties(owners, name), strict=True):
        yield struct.pack(f"<{len(owner) + 1}Q", *owner, len(value))
        yield value


# -- writing -----------------------------------------------------------------------------------------------------------


def commit(change: Change, writer: Writer, locks: Locks, name: str) -> bytes:
    """Takes a request that writes, and makes its answer.

    Vertices with the present id are granted and get a new one. Properties of others, or of what does not exist, are left
    out, and so are those of size 0.
    """
    present = _present(writer, change.before.view.snapshot, list(locks.ids))
    granted = {vertex: 0 for vertex, given in locks.ids.items() if given and present[vertex] == given}
    _give(change, granted, list(granted))
    brought = [(owner, value) for owner, value in locks.properties if value and all(end in granted for end in owner)]
    there = change.before.existing(owner for owner, _ in brought)
    for (owner, value), exists in zip(brought, there, strict=True):
        if exists:
            change.put_property(owner, name, value)
    return _granted(granted, [vertex for vertex in locks.ids if vertex not in granted])


def _granted(ids: dict[int, int], refused: list[int]) -> bytes:
    flat = [word for pair in ids.items() for word in pair]
    return struct.pack(f"<{2 + len(flat) + len(refused)}Q", len(ids), *flat, len(refused), *refused)


def _present(writer: Writer, snapshot: Snapshot, vertices: Sequence[int]) -> dict[int, int]:
    """The transaction id of each vertex, 0 where none was given yet."""
    values = snapshot.get_many([writer.rows.transaction(vertex) for vertex in vertices])
    return {vertex: number_of(value) for vertex, value in zip(vertices, values, strict=True)}


def _next(writer: Writer, snapshot: Snapshot) -> int:
    return number_of(snapshot.get(writer.rows.next), _FIRST_ID)


def _give(change: Change, ids: dict[int, int], vertices: list[int]) -> None:
    """Gives new ids to some vertices of ``ids``."""
    rows = change.rows
    following = number_of(change.before.view.snapshot.get(rows.next), _FIRST_ID)
    for vertex in vertices:
        ids[vertex] = following
        change.write.put(rows.transaction(vertex), pack_u64(following))
        following += 1
    change.write.put(rows.next, pack_u64(following))
