"""How a label block is stored: its label list apart from the compressed rest, so that nothing is ever compressed twice.

A stored block is, little-endian::

    uint32  kind (1)
    uint32  size of the rest, uncompressed
    uint32  CRC-32 of the rest
    uint32  0
    16 + 8 N bytes   the head of the coded block as it is: gx, gy, gz, N, the N labels
    the rest of the coded block as a raw deflate stream (nothing for a block of one label)

Reading labels, or their bodies, needs the head alone. A block travels as one gzip member: with other labels that
member is put together from a gzip header, the new head as a *stored* deflate block, the kept deflate stream, and the
CRC of both parts combined (RFC 1951, §3.2.4; RFC 1952). So a mapped answer costs no compression and no inflation.
"""

from __future__ import annotations

import struct

import numpy as np
from isal import igzip_lib, isal_zlib
from numpy.typing import NDArray

from dvidcore import codecs
from dvidcore.errors import StoreError

Buffer = bytes | bytearray | memoryview

KIND = 1
_PREFIX = struct.Struct("<IIII")
_HEADER = struct.Struct("<IIIIIIII")
_TAIL = struct.Struct("<II")
_STORED = struct.Struct("<BHH")
GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
LABELS_AT = _HEADER.size
_STORED_MAX = 65535  # bytes in one stored deflate block


def _head_size(n: int) -> int:
    return 16 + 8 * n


def store(block: Buffer) -> bytes:
    """A valid coded block (``blocks.check``) in its stored form."""
    view = memoryview(block)
    (n,) = struct.unpack_from("<I", view, 12)
    cut = _head_size(n)
    rest = view[cut:]
    packed = isal_zlib.compress(rest, 1, -15) if len(rest) else b""
    prefix = _PREFIX.pack(KIND, len(rest), isal_zlib.crc32(rest) if len(rest) else 0, 0)
    return b"".join((prefix, view[:cut], packed))


def _parse(value: Buffer) -> tuple[int, int, int]:
    """(size of the rest, its CRC, offset of the deflate stream) of a stored block."""
    if len(value) < LABELS_AT + 8:
        raise StoreError(f"a stored label block of {len(value)} bytes")
    kind, size, crc, _, _, _, _, n = _HEADER.unpack_from(value)
    end = LABELS_AT + 8 * n
    if kind != KIND or n == 0 or end > len(value) or (size == 0) != (end == len(value)):
        raise StoreError("a stored label block is corrupt")
    return size, crc, end


def labels(value: Buffer) -> NDArray[np.uint64]:
    """The block's label list (repeated and unused entries too), read-only uint64, without touching its voxels."""
    _, _, end = _parse(value)
    return np.frombuffer(value, "<u8", (end - LABELS_AT) // 8, LABELS_AT)


def coded(value: Buffer, mapped: NDArray[np.uint64] | None = None) -> bytes:
    """The coded block, with ``mapped`` in place of its label list where given."""
    size, crc, end = _parse(value)
    view = memoryview(value)
    head = view[16:end] if mapped is None else b"".join((view[16:LABELS_AT], mapped.tobytes()))
    if not size:
        return bytes(head)
    try:
        rest = igzip_lib.decompress(view[end:], flag=igzip_lib.DECOMP_DEFLATE, bufsize=size + 1)
    except codecs.DeflateError as e:
        raise StoreError(f"a stored label block is corrupt: {e}") from None
    if len(rest) != size or isal_zlib.crc32(rest) != crc:
        raise StoreError("a stored label block is corrupt: its checksum differs")
    return b"".join((head, rest))


def with_labels(value: Buffer, mapped: NDArray[np.uint64]) -> bytes:
    """The stored block with another label list of the same length; its voxels are not touched."""
    _, _, end = _parse(value)
    if 8 * len(mapped) != end - LABELS_AT:
        raise ValueError(f"{len(mapped)} labels for a block with {(end - LABELS_AT) // 8}")
    view = memoryview(value)
    return b"".join((view[:LABELS_AT], mapped.tobytes(), view[end:]))


def gzip_member(value: Buffer, mapped: NDArray[np.uint64] | None = None) -> list[Buffer]:
    """The coded block as one gzip member, in pieces to join; ``mapped`` replaces its label list where given."""
    size, crc, end = _parse(value)
    view = memoryview(value)
    head = bytes(view[16:end]) if mapped is None else b"".join((view[16:LABELS_AT], mapped.tobytes()))
    pieces: list[Buffer] = [GZIP_HEADER]
    for at in range(0, len(head), _STORED_MAX):
        piece = head[at : at + _STORED_MAX]
        final = not size and at + _STORED_MAX >= len(head)
        pieces += (_STORED.pack(final, len(piece), len(piece) ^ 0xFFFF), piece)
    whole = isal_zlib.crc32(head)
    if size:
        pieces.append(view[end:])
        whole = isal_zlib.crc32_combine(whole, crc, size)
    pieces.append(_TAIL.pack(whole, len(head) + size))
    return pieces
