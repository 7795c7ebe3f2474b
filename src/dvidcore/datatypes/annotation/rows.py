"""The rows of an annotation instance: their keys, and the values that are not lists of elements.

Versioned rows, read through a ``View`` (an empty value is a tombstone). All but the key's first part end with a block,
so what two versions changed in different blocks never meets:

======  =======================  ===============================================================================
kind    type key                 value
======  =======================  ===============================================================================
BLOCK   z, y, x                  the elements of a block with relationships (``lists``, packed): the truth
BODIES  z, y, x                  where the elements of a block are indexed: place (12 bytes), body (8) of each
BODY    body (8 bytes), z, y, x  a body's elements in a block, without relationships (``lists``, packed)
TAG     text, NUL, z, y, x       the elements of a block that have a tag, without relationships (``lists``, packed)
======  =======================  ===============================================================================

Rows under version 0, which no version has: the block size (SIZE: three int32, z, y, x), fixed by the first write, and
a generation that counts the writes (GENERATION). Whoever changes a row guards on it, so changes apply one after the
other. RELOAD rows tell what reloads are under way, one for a version.

Keys are big-endian with the sign of coordinates flipped (``storage.keys``); values are little-endian.
"""

from __future__ import annotations

import struct

from dvidcore.geometry import ZYX
from dvidcore.storage.keys import TYPE_KEY_OFFSET, data_prefix, text_key, u64_key, version_bytes, zyx_of

BLOCK, BODIES, BODY, TAG = range(0x10, 0x14)
SIZE, GENERATION, RELOAD = range(0x20, 0x23)

INSTANCE_WIDE = version_bytes(0)
ZYX_BYTES = 12

_SIZE = struct.Struct("<3i")
_U64 = struct.Struct("<Q")

Zyx = bytes
"""A block as 12 bytes, as ``keys.zyx_key`` makes them."""


class Rows:
    """Makes the prefix keys (without version) of one instance."""

    __slots__ = ("block", "bodies", "body", "generation", "instance", "reload", "size", "tag")

    def __init__(self, instance: int) -> None:
        self.instance = data_prefix(instance, 0)[:-1]
        """What all keys of the instance start with."""
        self.block = data_prefix(instance, BLOCK)
        """What the keys of a kind start with; so ``bodies``, ``body``, ``tag`` and ``reload``."""
        self.bodies = data_prefix(instance, BODIES)
        self.body = data_prefix(instance, BODY)
        self.tag = data_prefix(instance, TAG)
        self.reload = data_prefix(instance, RELOAD)
        self.size = data_prefix(instance, SIZE) + INSTANCE_WIDE
        """The whole key, since it is no version's; so is ``generation``."""
        self.generation = data_prefix(instance, GENERATION) + INSTANCE_WIDE

    def of_body(self, body: int) -> bytes:
        """What the keys of a body's rows start with; a block completes one."""
        return self.body + u64_key(body)

    def of_tag(self, tag: str) -> bytes:
        """What the keys of a tag's rows start with; a block completes one. BadRequest for a tag with a NUL in it."""
        return self.tag + text_key(tag)

    def name(self, prefix_key: bytes) -> str:
        """What a row holds, for people."""
        kind, type_key = prefix_key[TYPE_KEY_OFFSET - 1], prefix_key[TYPE_KEY_OFFSET:]
        z, y, x = zyx_of(type_key[-ZYX_BYTES:], 0)
        block = f"block {x},{y},{z}"
        if kind == BODY:
            return f"the elements on body {int.from_bytes(type_key[:8], 'big')} in {block}"
        if kind == TAG:
            return f'the elements with the tag "{type_key[:-13].decode()[:60]}" in {block}'
        return f"the elements of {block}" if kind == BLOCK else f"the bodies of the elements of {block}"


def block_of(prefix_key: bytes) -> Zyx:
    """The block of a row."""
    return prefix_key[-ZYX_BYTES:]


def body_of(prefix_key: bytes) -> int:
    """The body of a BODY row."""
    return int.from_bytes(prefix_key[TYPE_KEY_OFFSET : TYPE_KEY_OFFSET + 8], "big")


def tag_of(prefix_key: bytes) -> str:
    """The tag of a TAG row."""
    return prefix_key[TYPE_KEY_OFFSET : -ZYX_BYTES - 1].decode()


def pack_size(size: ZYX) -> bytes:
    return _SIZE.pack(*size)


def unpack_size(value: bytes | memoryview) -> ZYX:
    return ZYX(*_SIZE.unpack(value))


def pack_u64(value: int) -> bytes:
    return _U64.pack(value)


def unpack_u64(value: bytes | memoryview | None) -> int:
    """The number, 0 where there is no row."""
    return 0 if value is None else int(_U64.unpack(value)[0])


class Pairs:
    """The places of a block's elements and the bodies that they are indexed under, to be changed.

    A place is there once, unless the index was posted as it is. As long as places are only added it stays as it is
    stored; once a place in it is looked for, or many were, it is a dict.
    """

    __slots__ = ("_bodies", "_lookups", "_raw", "changed")

    def __init__(self, value: bytes | memoryview | None = None) -> None:
        self._raw = bytearray(value or b"")
        self._bodies: dict[bytes, tuple[int, ...]] | None = None
        self._lookups = 0
        self.changed = False

    def __len__(self) -> int:
        return len(self.items())

    def packed(self) -> bytes:
        if self._bodies is None:
            return bytes(self._raw)
        return b"".join([_pair.pack(*pair) for pair in self.items()])

    def items(self) -> list[tuple[bytes, int]]:
        """(place, body) of all."""
        if self._bodies is None:
            return list(_pair.iter_unpack(self._raw))
        return [(place, body) for place, bodies in self._bodies.items() for body in bodies]

    def bodies(self) -> set[int]:
        return {body for _, body in self.items()}

    def of(self, place: bytes) -> tuple[int, ...]:
        """The bodies that a place is indexed under."""
        if self._bodies is None:
            self._lookups += 1
            if self._lookups <= _LOOKUPS and place not in self._raw:
                return ()
        return self._dict().get(place, ())

    def add(self, place: bytes, body: int) -> None:
        before = self.of(place)
        if body in before:
            return
        if self._bodies is None:
            self._raw += _pair.pack(place, body)
        else:
            self._bodies[place] = (*before, body)
        self.changed = True

    def remove(self, place: bytes, body: int) -> None:
        before, known = self.of(place), self._dict()
        if body in before:
            known[place] = tuple(other for other in before if other != body)
            if not known[place]:
                del known[place]
            self.changed = True

    def replace(self, old: int, new: int) -> None:
        """Has all that is indexed under one body be so under another."""
        known = self._dict()
        for place, bodies in known.items():
            if old in bodies:
                known[place] = tuple(dict.fromkeys(new if body == old else body for body in bodies))
                self.changed = True

    def _dict(self) -> dict[bytes, tuple[int, ...]]:
        if self._bodies is None:
            self._bodies = {}
            for place, body in _pair.iter_unpack(self._raw):
                self._bodies[place] = (*self._bodies.get(place, ()), body)
        return self._bodies


_pair = struct.Struct("<12sQ")
_LOOKUPS = 16
"""After so many it is made a dict."""
