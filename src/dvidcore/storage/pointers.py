"""What a LevelDB row holds: the value itself, or a pointer to where it lies in a segment file.

Nearly every value stands as it is. Only what begins with ``MARK`` is something else: a pointer, or a value that happens
to begin with the mark and has ``INLINE`` before it. So rows without pointers cost nothing, and a store from before there
were segments needs no conversion.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from dvidcore import errors
from dvidcore.storage.engine import Value

MARK = b"\xffseg"
MARK_BYTES = len(MARK)
INLINE = MARK + b"\x00"
"""Before a value that begins with the mark."""
POINTER = MARK + b"\x01"

_pointer = struct.Struct(">IQII")
MAX_LENGTH = 0xFFFFFFFF
POINTER_BYTES = len(POINTER) + _pointer.size


class Pointer(NamedTuple):
    """Where a value lies."""

    segment: int
    offset: int
    length: int
    crc: int
    """CRC-32C of the value: it finds a damaged value as well as a damaged pointer."""

    def encode(self) -> bytes:
        return POINTER + _pointer.pack(*self)


class Standing(bytes):
    """An encoded pointer in a batch, in place of its value, which is on the disk already (:meth:`Engine.ahead`)."""

    __slots__ = ()


def is_pointer(stored: Value) -> bool:
    """Whether a row's content is a pointer; what :func:`decode` takes."""
    return stored[:5] == POINTER


def decode(stored: Value) -> Pointer:
    """The pointer in a row of which :func:`is_pointer` holds. Raises ``StoreError`` where its length is wrong."""
    try:
        return Pointer._make(_pointer.unpack(stored[len(POINTER) :]))
    except struct.error:
        raise errors.StoreError(
            f"a row that should point into a segment file is damaged: {stored[:99].hex()}"
        ) from None
