"""The layout of keys. No other module puts a key together or takes one apart.

The first byte is the class of a row. Rows of datatypes are

    DATA, instance id (4 bytes), row kind (1 byte), type key, version id (4 bytes)

with all integers big-endian, so that one scan yields the rows of a kind in the order of their type keys with the versions
of each side by side. That needs type keys of one kind to be of a fixed length or to end where no other continues: hence
the NUL after a text. The key without its version is called a *prefix key*.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvidcore import errors

META = b"\x00"
"""Repos, versions, instances, counters, and the store's own format."""
DATA = b"\x01"
"""Versioned rows of the datatypes."""
BLOB = b"\x02"
"""Blobs by their reference, unversioned."""
LOG = b"\x03"
"""Mutation logs: one row a mutation."""
STAGE = b"\x04"
"""Writes too large for one batch, while they are under way."""

VERSION_BYTES = 4
TYPE_KEY_OFFSET = 6
"""Where the type key starts in a DATA key."""

_BIAS = 0x80000000  # flips the sign bit, so that negative coordinates sort first
_pack_u32 = struct.Struct(">I").pack
_pack_u64 = struct.Struct(">Q").pack
_pack_zyx = struct.Struct(">III").pack
_unpack_zyx = struct.Struct(">III").unpack_from
_pack_data = struct.Struct(">cIB").pack
_pack_log = struct.Struct(">cIIQ").pack
_unpack_log = struct.Struct(">cIIQ").unpack


def prefix_end(prefix: bytes) -> bytes:
    """The smallest byte string above all that start with ``prefix``: the stop of a scan over them.

    Raises ``ValueError`` for a prefix of ``0xff`` alone, above which there is none.
    """
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        raise ValueError(f"nothing sorts after all keys that start with {prefix.hex() or 'nothing'}")
    return stripped[:-1] + bytes((stripped[-1] + 1,))


def prefix_range(prefix: bytes) -> tuple[bytes, bytes]:
    """(start, stop) of the keys that start with ``prefix``, exactly."""
    return prefix, prefix_end(prefix)


# --- rows of datatypes ---------------------------------------------------------------------------------------------


def data_prefix(instance: int, kind: int) -> bytes:
    """What comes before the type key: 6 bytes. Raises ``ValueError`` for ids that don't fit their bytes."""
    try:
        return _pack_data(DATA, instance, kind)
    except struct.error:
        raise ValueError(f"instance {instance} must fit 32 bits and row kind {kind} 8 bits") from None


def instance_range(instance: int) -> tuple[bytes, bytes]:
    """(start, stop) of all DATA rows of an instance, of all kinds and versions, and of no other instance."""
    return prefix_range(data_prefix(instance, 0)[:-1])


def kind_range(instance: int, kind: int) -> tuple[bytes, bytes]:
    """(start, stop) of the DATA rows of one kind, as keys and as prefix keys."""
    return prefix_range(data_prefix(instance, kind))


def version_bytes(version: int) -> bytes:
    """The end of a versioned key: 4 bytes."""
    return _pack_u32(version)


def version_of(key: bytes) -> int:
    """The version id at the end of a versioned key."""
    return int.from_bytes(key[-VERSION_BYTES:], "big")


def split(key: bytes) -> tuple[bytes, int]:
    """(type key, version id) of a DATA key."""
    return key[TYPE_KEY_OFFSET:-VERSION_BYTES], int.from_bytes(key[-VERSION_BYTES:], "big")


def type_key_of(prefix_key: bytes) -> bytes:
    """The type key of a prefix key, that is of a DATA key without its version."""
    return prefix_key[TYPE_KEY_OFFSET:]


# --- type keys -----------------------------------------------------------------------------------------------------


def zyx_key(z: int, y: int, x: int) -> bytes:
    """The type key of a block at the given block coordinates: 12 bytes that sort by z, y, x, negative ones first.

    Raises ``ValueError`` outside of -2**31 … 2**31 - 1.
    """
    try:
        return _pack_zyx(z + _BIAS, y + _BIAS, x + _BIAS)
    except struct.error:
        raise ValueError(f"block coordinates (z, y, x) = {(z, y, x)} must fit 32 bits with sign") from None


def zyx_of(key: bytes, offset: int = TYPE_KEY_OFFSET) -> tuple[int, int, int]:
    """(z, y, x) of the block whose 12 bytes start at ``offset`` in ``key``."""
    z, y, x = _unpack_zyx(key, offset)
    return z - _BIAS, y - _BIAS, x - _BIAS


def zyx_keys(coordinates: NDArray[Any], prefix: bytes = b"") -> list[bytes]:
    """``prefix + zyx_key(z, y, x)`` for each row of an integer array of shape (n, 3), columns z, y, x.

    Raises ``ValueError`` for another shape or for coordinates that don't fit 32 bits with sign.
    """
    if coordinates.ndim != 2 or coordinates.shape[1] != 3 or coordinates.dtype.kind not in "iu":
        raise ValueError(f"coordinates must be integers of shape (n, 3), not {coordinates.dtype}{coordinates.shape}")
    if coordinates.dtype != np.int32:
        if coordinates.size and (int(coordinates.min()) < -_BIAS or int(coordinates.max()) >= _BIAS):
            raise ValueError("block coordinates must fit 32 bits with sign")
        coordinates = coordinates.astype(np.int32)
    flipped = (coordinates ^ np.int32(-_BIAS)).astype(">i4")
    raw: list[bytes] = np.ascontiguousarray(flipped).view("V12").ravel().tolist()
    return [prefix + key for key in raw] if prefix else raw


def zyx_array(prefix_keys: list[bytes], offset: int = TYPE_KEY_OFFSET) -> NDArray[np.int32]:
    """The block coordinates in keys of one length, int32 of shape (n, 3), columns z, y, x: undoes :func:`zyx_keys`."""
    if not prefix_keys:
        return np.empty((0, 3), np.int32)
    raw = np.frombuffer(b"".join(prefix_keys), np.uint8).reshape(len(prefix_keys), -1)
    flipped = np.ascontiguousarray(raw[:, offset : offset + 12]).view(">u4")
    return (flipped.astype(np.int64) - _BIAS).astype(np.int32)


def text_key(text: str) -> bytes:
    """The type key of a text: UTF-8 and a NUL, which sorts as the text's bytes do.

    Raises ``BadRequest`` for a text with a NUL in it, or that is no valid Unicode.
    """
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        raise errors.BadRequest(f"key {text!r} is not valid Unicode") from None
    if b"\x00" in encoded:
        raise errors.BadRequest(f"key {text!r} must not contain a NUL character")
    return encoded + b"\x00"


def text_of(type_key: bytes) -> str:
    """The text of a type key made by :func:`text_key`."""
    return type_key[:-1].decode()


def u64_key(number: int) -> bytes:
    """The type key of a label or another unsigned 64-bit number: 8 bytes. Raises ``ValueError`` outside of that."""
    try:
        return _pack_u64(number)
    except struct.error:
        raise ValueError(f"{number} must fit 64 bits without sign") from None


def u64_keys(numbers: NDArray[np.uint64], prefix: bytes = b"") -> list[bytes]:
    """``prefix + u64_key(number)`` for each of an array of uint64 (n,)."""
    raw: list[bytes] = numbers.astype(">u8").view("V8").tolist()
    return [prefix + key for key in raw] if prefix else raw


def u64_of(key: bytes, offset: int = TYPE_KEY_OFFSET) -> int:
    """The number whose 8 bytes start at ``offset`` in ``key``."""
    return int.from_bytes(key[offset : offset + 8], "big")


# --- other classes -------------------------------------------------------------------------------------------------


def log_key(instance: int, version: int, sequence: int) -> bytes:
    """The key of a mutation's log record; ``sequence`` orders the mutations."""
    return _pack_log(LOG, instance, version, sequence)


def log_range(instance: int, version: int | None = None) -> tuple[bytes, bytes]:
    """(start, stop) of an instance's log records, or of those at one version."""
    prefix = LOG + _pack_u32(instance)
    return prefix_range(prefix if version is None else prefix + _pack_u32(version))


def split_log(key: bytes) -> tuple[int, int, int]:
    """(instance id, version id, sequence) of a log record's key."""
    _, instance, version, sequence = _unpack_log(key)
    return instance, version, sequence
