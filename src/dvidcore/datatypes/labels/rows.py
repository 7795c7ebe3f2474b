"""The rows of a label instance: one place for their keys and the values that are not blocks.

Versioned rows, read through a ``View`` (an empty value is a tombstone):

========  ================================  =========================================================
kind      type key                          value
========  ================================  =========================================================
BLOCK     scale (1 byte), z, y, x           a stored block (``stored``)
INDEX     body (8 bytes), z, y, x           a body's supervoxels in a block and their voxel counts
BODY      body (8 bytes)                    ``BodyRecord``: the body's totals and its last mutation
MAPPING   supervoxel (8 bytes)              the body that it maps to (8 bytes); none: itself
EXTENTS   none                              lowest and highest voxel, six int64: z, y, x, z, y, x
MAXLABEL  none                              the largest label so far (8 bytes)
FORMER    body, mutation id (8 bytes each)  the body's index before the mutation, if that is kept: ``former``
DISPUTED  none                              supervoxels (8 bytes each) that versions merged here map differently
========  ================================  =========================================================

Rows of the instance as a whole stand under version 0, which no version has: the label counters (NEXT), the labels that
mappings were posted to (NAMED), since they may be bodies of which nothing else tells, and three kinds of generations,
which count the writes that they stand for: of all but blocks (INDEXED), of the mapping (MAPPED), and of each tile of
blocks (TILE). Where processes share the store, the last generations of the mapping have rows of their own (REMAPPED,
``remapped``). A writer reads them before it computes and writes the next ones under a guard, so a writer that computed
from what another has changed meanwhile fails and starts again, in this process or another.

Keys are big-endian with the sign of coordinates flipped (``storage.keys``); values are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvidcore.errors import StoreError
from dvidcore.storage.keys import (
    TYPE_KEY_OFFSET,
    data_prefix,
    prefix_end,
    prefix_range,
    u64_key,
    u64_keys,
    version_bytes,
    zyx_key,
    zyx_of,
)

BLOCK, INDEX, BODY, MAPPING, EXTENTS, MAXLABEL, FORMER, DISPUTED = range(0x10, 0x18)
NEXT, INDEXED, MAPPED, TILE, NAMED, REMAPPED = range(0x20, 0x26)

INSTANCE_WIDE = version_bytes(0)
"""The version part of keys that belong to no version."""

_U64 = struct.Struct("<Q")
_BODY = struct.Struct("<QIQQ")
_BOX = struct.Struct("<6q")
_NEXT = struct.Struct("<QQQQ")
_TEXT = struct.Struct("<H")

LONGEST_TEXT = 65535
"""Bytes of UTF-8 that a text in a record may have."""


class Rows:
    """Makes the prefix keys (without version) of one instance."""

    __slots__ = (
        "_block",
        "_body",
        "_former",
        "_index",
        "_mapping",
        "_named",
        "_remapped",
        "_tile",
        "disputed",
        "extents",
        "indexed",
        "instance",
        "mapped",
        "maxlabel",
        "next",
    )

    def __init__(self, instance: int) -> None:
        self.instance = instance
        self._block = data_prefix(instance, BLOCK)
        self._index = data_prefix(instance, INDEX)
        self._body = data_prefix(instance, BODY)
        self._mapping = data_prefix(instance, MAPPING)
        self._tile = data_prefix(instance, TILE)
        self._former = data_prefix(instance, FORMER)
        self._named = data_prefix(instance, NAMED)
        self._remapped = data_prefix(instance, REMAPPED)
        self.disputed = data_prefix(instance, DISPUTED)
        self.extents = data_prefix(instance, EXTENTS)
        self.maxlabel = data_prefix(instance, MAXLABEL)
        self.next = data_prefix(instance, NEXT) + INSTANCE_WIDE
        """The whole key, since it is no version's; so are ``indexed`` and ``mapped``."""
        self.indexed = data_prefix(instance, INDEXED) + INSTANCE_WIDE
        self.mapped = data_prefix(instance, MAPPED) + INSTANCE_WIDE

    def name(self, prefix_key: bytes) -> str:
        """What a row holds, for people; empty for the rows of a version or the instance as a whole."""
        kind, type_key = prefix_key[TYPE_KEY_OFFSET - 1], prefix_key[TYPE_KEY_OFFSET:]
        if kind == BLOCK:
            z, y, x = zyx_of(type_key, 1)
            return f"block {x},{y},{z} of scale {type_key[0]}"
        if kind in (INDEX, BODY, FORMER):
            return f"the index of body {int.from_bytes(type_key[:8], 'big')}"
        return f"the mapping of supervoxel {int.from_bytes(type_key, 'big')}" if kind == MAPPING else ""

    def scale(self, scale: int) -> bytes:
        """What the keys of all blocks of a scale start with; ``zyx_key`` completes it."""
        return self._block + bytes((scale,))

    def block(self, scale: int, z: int, y: int, x: int) -> bytes:
        return self._block + bytes((scale,)) + zyx_key(z, y, x)

    def index(self, body: int, zyx: bytes = b"") -> bytes:
        """A body's row of one block (``zyx`` as of ``zyx_key``), or what all its rows start with."""
        return self._index + u64_key(body) + zyx

    def body(self, body: int) -> bytes:
        return self._body + u64_key(body)

    @property
    def all_indices(self) -> bytes:
        """What the keys of all index rows start with."""
        return self._index

    def is_body(self, key: bytes) -> bool:
        """Whether a whole key is that of a body's record."""
        return key.startswith(self._body)

    def body_of(self, key: bytes) -> int:
        """The body of a key of ``body``."""
        return int.from_bytes(key[BODY_OFFSET : BODY_OFFSET + 8], "big")

    def bodies(self, first: int, last: int) -> tuple[bytes, bytes]:
        """(start, stop) of the records of the bodies from ``first`` up to and including ``last``."""
        return self._body + u64_key(first), prefix_end(self._body + u64_key(last))

    def mapping(self, supervoxel: int) -> bytes:
        return self._mapping + u64_key(supervoxel)

    def mapping_keys(self, supervoxels: NDArray[np.uint64]) -> list[bytes]:
        """``mapping`` of many."""
        return u64_keys(supervoxels, self._mapping)

    def mappings(self) -> tuple[bytes, bytes]:
        """(start, stop) of all mapping rows."""
        return prefix_range(self._mapping)

    def named(self, label: int) -> bytes:
        """What the key of a label that a mapping was posted to starts with."""
        return self._named + u64_key(label)

    def named_keys(self, labels: NDArray[np.uint64]) -> list[bytes]:
        """The whole keys of many."""
        return [key + INSTANCE_WIDE for key in u64_keys(labels, self._named)]

    def former(self, body: int, mutation: int | None = None) -> bytes:
        """A body's row of a mutation, or what all its rows start with."""
        return self._former + u64_key(body) + (b"" if mutation is None else u64_key(mutation))

    def remapped(self, generation: int) -> bytes:
        """The whole key of what a generation of the mapping changed."""
        return self._remapped + u64_key(generation) + INSTANCE_WIDE

    def tile(self, z: int, y: int, x: int) -> bytes:
        """The whole key of a tile's generation."""
        return self._tile + zyx_key(z, y, x) + INSTANCE_WIDE


INDEX_ZYX_OFFSET = 6 + 8
"""Where z, y, x start in the key of an INDEX row."""
SURFACE_BYTES = 8
"""An INDEX row starts with the id of the last mutation that changed the body's surface in the block."""
BODY_OFFSET = 6
"""Where the body starts in the key of an INDEX or BODY row, the supervoxel in that of a MAPPING row."""


class BodyRecord(NamedTuple):
    """A body's totals. ``change`` is the mutation id of the last write to any of its index rows."""

    voxels: int
    blocks: int
    change: int
    last_mutid: int = 0
    last_mod_time: str = ""
    last_mod_user: str = ""
    last_mod_app: str = ""

    def pack(self) -> bytes:
        texts = [_cut(t) for t in (self.last_mod_time, self.last_mod_user, self.last_mod_app)]
        head = _BODY.pack(self.voxels, self.blocks, self.change, self.last_mutid)
        return head + b"".join(_TEXT.pack(len(t)) + t for t in texts)

    @classmethod
    def unpack(cls, value: bytes | memoryview) -> BodyRecord:
        texts, at = [], _BODY.size
        try:
            if len(value) == at + 6 and not any(value[at:]):  # no text, as in every body that was never mutated
                return cls(*_BODY.unpack_from(value))
            for _ in range(3):
                (n,) = _TEXT.unpack_from(value, at)
                texts.append(bytes(value[at + 2 : at + 2 + n]).decode())
                at += 2 + n
            return cls(*_BODY.unpack_from(value), *texts)
        except (struct.error, UnicodeDecodeError) as e:
            raise StoreError(f"a body's record is corrupt: {e}") from None


def _cut(text: str) -> bytes:
    """As UTF-8, without what a record has no room for."""
    encoded = text.encode()
    return encoded if len(encoded) <= LONGEST_TEXT else encoded[:LONGEST_TEXT].decode(errors="ignore").encode()


class LabelCounters(NamedTuple):
    """Where new labels come from: the repo-wide maximum, and the next id and ceiling of ``set-nextlabel`` (0: unset).

    ``ingested`` is the largest label of voxels that were stored without index, which the maximum does not count.
    """

    maximum: int = 0
    next_label: int = 0
    ceiling: int = 0
    ingested: int = 0

    def pack(self) -> bytes:
        return _NEXT.pack(*self)

    @classmethod
    def unpack(cls, value: bytes | memoryview | None) -> LabelCounters:
        return cls() if value is None else cls(*_whole(_NEXT, value, "counters"))


def pack_u64(value: int) -> bytes:
    return _U64.pack(value)


def unpack_u64(value: bytes | memoryview | None) -> int:
    """The number, 0 where there is no row; StoreError for a damaged one, as of all that unpack rows."""
    return 0 if value is None else int(_whole(_U64, value, "a number")[0])


def pack_box(low: Sequence[int], high: Sequence[int]) -> bytes:
    """Extents, both ends included, Z, Y, X."""
    return _BOX.pack(*low, *high)


def unpack_box(value: bytes | memoryview) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    az, ay, ax, bz, by, bx = _whole(_BOX, value, "extents")
    return (az, ay, ax), (bz, by, bx)


def _whole(form: struct.Struct, value: bytes | memoryview, what: str) -> tuple[int, ...]:
    try:
        return form.unpack(value)
    except struct.error:
        raise StoreError(f"a row is corrupt: {what} of {len(value)} bytes instead of {form.size}") from None
