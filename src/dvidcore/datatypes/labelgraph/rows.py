"""The rows of a labelgraph: one place for their keys and values.

Versioned rows, read through a ``View`` (an empty value is a tombstone):

===============  ======================================  ===============================
kind             type key                                value
===============  ======================================  ===============================
VERTEX           id (8 bytes)                            weight (float64)
EDGE             id, id of the other end (8 bytes each)  weight (float64)
VERTEX_PROPERTY  id, name as text                        the packed property
EDGE_PROPERTY    smaller id, greater id, name as text    the packed property
===============  ======================================  ===============================

An edge has two rows, one from each end, which are always written together: so all edges of a vertex are one range, and
merged versions agree or disagree on both rows alike.

Rows of the instance as a whole stand under version 0, which no version has: each vertex's transaction id (TRANSACTION),
the next one to be given (NEXT), and the number of writes so far (GENERATION). A writer reads the generation before it
computes and writes the next one under a guard, so a writer that computed from what another has changed meanwhile fails
and starts again, in this process or another.

Ids in keys are big-endian, numbers in values little-endian.
"""

from __future__ import annotations

import struct

from dvidcore.storage.keys import (
    TYPE_KEY_OFFSET,
    data_prefix,
    kind_range,
    prefix_end,
    text_key,
    text_of,
    u64_key,
    version_bytes,
)

VERTEX, EDGE, VERTEX_PROPERTY, EDGE_PROPERTY = range(1, 5)
TRANSACTION, NEXT, GENERATION = range(0x20, 0x23)

_INSTANCE_WIDE = version_bytes(0)
_ID = 8
_FIRST = slice(TYPE_KEY_OFFSET, TYPE_KEY_OFFSET + _ID)
_SECOND = slice(TYPE_KEY_OFFSET + _ID, TYPE_KEY_OFFSET + 2 * _ID)
_WEIGHT = struct.Struct("<d")
_U64 = struct.Struct("<Q")

Owner = tuple[int, ...]
"""What has a weight and properties: ``(vertex,)``, or an edge as its two ends in either order."""


class Rows:
    """Makes the prefix keys (without version) of one instance."""

    __slots__ = (
        "_edge",
        "_edge_property",
        "_transaction",
        "_vertex",
        "_vertex_property",
        "generation",
        "next",
        "versioned",
    )

    def __init__(self, instance: int) -> None:
        self.versioned = [kind_range(instance, kind) for kind in (VERTEX, EDGE, VERTEX_PROPERTY, EDGE_PROPERTY)]
        """(start, stop) of each kind of rows that versions have."""
        self._vertex = data_prefix(instance, VERTEX)
        self._edge = data_prefix(instance, EDGE)
        self._vertex_property = data_prefix(instance, VERTEX_PROPERTY)
        self._edge_property = data_prefix(instance, EDGE_PROPERTY)
        self._transaction = data_prefix(instance, TRANSACTION)
        self.next = data_prefix(instance, NEXT) + _INSTANCE_WIDE
        """The whole key, since it is no version's; so is ``generation``."""
        self.generation = data_prefix(instance, GENERATION) + _INSTANCE_WIDE

    def vertex(self, vertex: int) -> bytes:
        return self._vertex + u64_key(vertex)

    def edge(self, one: int, other: int) -> bytes:
        """The row of an edge from the end ``one``."""
        return self._edge + u64_key(one) + u64_key(other)

    def both(self, one: int, other: int) -> tuple[bytes, bytes]:
        """The two rows of an edge."""
        a, b = u64_key(one), u64_key(other)
        return self._edge + a + b, self._edge + b + a

    def owner(self, owner: Owner) -> bytes:
        """The row of a vertex or an edge."""
        return self.vertex(*owner) if len(owner) == 1 else self.edge(*owner)

    def vertices(self) -> tuple[bytes, bytes]:
        """(start, stop) of all vertices."""
        return self._vertex, prefix_end(self._vertex)

    def edges(self, vertex: int | None = None) -> tuple[bytes, bytes]:
        """(start, stop) of all edges, twice each, or of those from a vertex, by their other end."""
        start = self._edge if vertex is None else self._edge + u64_key(vertex)
        return start, prefix_end(start)

    def property(self, owner: Owner, name: str) -> bytes:
        """The row of a property. Raises BadRequest for a name with a NUL, or that is no Unicode."""
        return self._properties(owner) + text_key(name)

    def properties(self, owner: Owner) -> tuple[bytes, bytes]:
        """(start, stop) of the properties of a vertex or an edge."""
        start = self._properties(owner)
        return start, prefix_end(start)

    def _properties(self, owner: Owner) -> bytes:
        prefix = self._vertex_property if len(owner) == 1 else self._edge_property
        return prefix + b"".join([u64_key(end) for end in sorted(owner)])

    def transaction(self, vertex: int) -> bytes:
        """The whole key of a vertex's transaction id."""
        return self._transaction + u64_key(vertex) + _INSTANCE_WIDE


def describe(prefix_key: bytes) -> str:
    """What a row holds, for people."""
    kind = prefix_key[TYPE_KEY_OFFSET - 1]
    vertex = f"vertex {first_of(prefix_key)}"
    if kind == VERTEX:
        return vertex
    if kind == VERTEX_PROPERTY:
        return f'property "{text_of(prefix_key[_FIRST.stop :])[:200]}" of {vertex}'
    edge = f"the edge of {first_of(prefix_key)} and {second_of(prefix_key)}"
    return edge if kind == EDGE else f'property "{text_of(prefix_key[_SECOND.stop :])[:200]}" of {edge}'


def first_of(prefix_key: bytes) -> int:
    """The vertex in a key, or the end that the edge in it is seen from."""
    return int.from_bytes(prefix_key[_FIRST], "big")


def second_of(prefix_key: bytes) -> int:
    """The other end of the edge in a key."""
    return int.from_bytes(prefix_key[_SECOND], "big")


def ascending(prefix_key: bytes) -> bool:
    """Whether the edge in a key is seen from its smaller end, as one of its two rows is."""
    return prefix_key[_FIRST] < prefix_key[_SECOND]


pack_weight = _WEIGHT.pack
pack_u64 = _U64.pack


def weight_of(value: bytes | memoryview) -> float:
    weight: float = _WEIGHT.unpack(value)[0]
    return weight


def number_of(value: bytes | memoryview | None, default: int = 0) -> int:
    """A stored uint64, ``default`` where there is no row."""
    return default if value is None else int(_U64.unpack(value)[0])
