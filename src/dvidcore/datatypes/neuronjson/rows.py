"""The rows of a neuronjson instance, and the generation by which a table in memory knows what it lacks.

========== ============================== ======================================================
kind       type key                       value
========== ============================== ======================================================
ANNOTATION body (8 bytes)                 the annotation, packed (``annotation``)
SCHEMA     name of the schema as text     the schema as posted, packed
CLAIMED    none                           the number of writes that were begun (8 bytes)
GENERATION none                           the number of writes that are done (8 bytes)
CHANGED    place in a ring (8 bytes)      which bodies one of the latest writes changed (``Changed``)
========== ============================== ======================================================

The first two are versioned. The others stand under version 0, which no version has, and are written with each write: it
is guarded by CLAIMED, so a writer that was overtaken reads again, and one that finds the two different knows that a write
too large for one batch is under way. Numbers in values are little-endian.
"""

from __future__ import annotations

import struct
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from dvidcore.storage.engine import Value
from dvidcore.storage.keys import (
    TYPE_KEY_OFFSET,
    data_prefix,
    kind_range,
    text_key,
    text_of,
    u64_key,
    u64_of,
    version_bytes,
)

ANNOTATION, SCHEMA = 1, 2
CLAIMED, GENERATION, CHANGED = 0x20, 0x21, 0x22

REMEMBERED = 1024
"""Writes whose changes are remembered."""
MOST_BODIES = 65_536
"""Of more bodies that one write changed, only the fact is remembered."""

_INSTANCE_WIDE = version_bytes(0)
_CHANGED = struct.Struct("<QI?")
_U64 = struct.Struct("<Q")


class Rows:
    """Makes the keys of one instance."""

    __slots__ = ("_annotation", "_changed", "_schema", "annotations", "claimed", "generation")

    def __init__(self, instance: int) -> None:
        self._annotation = data_prefix(instance, ANNOTATION)
        self._schema = data_prefix(instance, SCHEMA)
        self._changed = data_prefix(instance, CHANGED)
        self.annotations = kind_range(instance, ANNOTATION)
        """(start, stop) of the prefix keys of all annotations."""
        self.claimed = data_prefix(instance, CLAIMED) + _INSTANCE_WIDE
        self.generation = data_prefix(instance, GENERATION) + _INSTANCE_WIDE

    def annotation(self, body: int) -> bytes:
        """The prefix key of a body's annotation."""
        return self._annotation + u64_key(body)

    def schema(self, name: str) -> bytes:
        """The prefix key of a schema."""
        return self._schema + text_key(name)

    def changed(self, generation: int) -> bytes:
        """The key under which the changes of a generation are remembered for a while."""
        return self._changed + u64_key(generation % REMEMBERED) + _INSTANCE_WIDE


def body_of(prefix_key: bytes) -> int:
    """The body of an annotation's key, with or without its version."""
    return u64_of(prefix_key)


def described(prefix_key: bytes) -> str:
    """What a row holds, in the words of clients."""
    kind = prefix_key[TYPE_KEY_OFFSET - 1]
    if kind == ANNOTATION:
        return f"the annotation of body {body_of(prefix_key)}"
    return f"the {text_of(prefix_key[TYPE_KEY_OFFSET:])}" if kind == SCHEMA else "what is remembered of writes"


def pack_u64(number: int) -> bytes:
    return _U64.pack(number)


def unpack_u64(value: Value | None) -> int:
    """The number in a row, 0 where there is none."""
    return 0 if value is None else int(_U64.unpack(value)[0])


class Changed(NamedTuple):
    """What one write changed."""

    generation: int
    version: int
    bodies: NDArray[np.uint64] | None
    """``None``: too many to be remembered."""

    def encode(self) -> bytes:
        known = self.bodies is not None and len(self.bodies) <= MOST_BODIES
        head = _CHANGED.pack(self.generation, self.version, known)
        return head + self.bodies.astype("<u8").tobytes() if known and self.bodies is not None else head

    @classmethod
    def decode(cls, value: Value) -> Self:
        generation, version, known = _CHANGED.unpack_from(value)
        bodies = np.frombuffer(value, "<u8", offset=_CHANGED.size).astype(np.uint64) if known else None
        return cls(generation, version, bodies)
