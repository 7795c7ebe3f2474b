"""Compression by name: how a value is packed for the store, and the formats of bodies.

A stored value is an envelope: one byte that says how the rest is packed, with ``CHECKED`` set the CRC-32 of that rest
(uint32 little-endian), then the payload. The payload is in the form that clients know for its compression, so that a
stored block can be answered as it stands:

====  ========  ==========================================================
code  name      payload
====  ========  ==========================================================
0     none      the bytes themselves
1     snappy    raw snappy (no framing)
2     lz4       uint32 little-endian size, then one LZ4 block
3     gzip      one gzip member
4     jpeg      a grayscale JPEG (``images.pack_jpeg``); lossy, voxels only
====  ========  ==========================================================

All compressors release the GIL.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from struct import Struct

import lz4.block
from isal import isal_zlib
from lz4.block import LZ4BlockError

from dvidcore.errors import StoreError

Buffer = bytes | bytearray | memoryview

PLAIN = 0
_LZ4 = 2
CHECKED = 0x10
"""Flag of the first byte: a CRC-32 of the payload follows."""
_CODE = 0x0F

SMALL = 4096
"""Up to this many bytes a copy is cheaper than a view."""
_WORTH = 0.94
"""What compresses to more than this share is stored plain: reading it then costs nothing."""
_LEAST = 48
"""Shorter values are not worth a compressor's start."""
_MOST = 0x7E00_0000
"""More bytes LZ4 does not take."""
_MAX_MEMBERS = 1 << 16
"""Of one gzip body; files in blocks have one each 64 KB."""

_U32 = Struct("<I")
_crc32: Callable[[Buffer], int] = isal_zlib.crc32
DeflateError: type[Exception] = isal_zlib.error  # type: ignore[assignment]  # its stub declares an instance
"""What isal raises for data that is no deflate stream."""


# -- the formats ----------------------------------------------------------------------------------------------------


def lz4_block_compress(data: Buffer) -> bytes:
    """``data`` as one LZ4 block, without a size."""
    return bytes(lz4.block.compress(data, store_size=False))


def lz4_block_decompress(data: Buffer, size: int) -> bytes:
    """The ``size`` bytes of an LZ4 block; ValueError where it is malformed or holds another number of bytes."""
    if size > 255 * len(data) + 64:  # more than any LZ4 block of this length can hold: don't allocate it
        raise ValueError(f"an LZ4 block of {len(data)} bytes cannot hold {size} bytes")
    try:
        out: bytes = lz4.block.decompress(data, uncompressed_size=size)
    except (LZ4BlockError, ValueError, OverflowError) as e:
        raise ValueError(f"not an LZ4 block of {size} bytes: {e}") from None
    if len(out) != size:
        raise ValueError(f"the LZ4 block holds {len(out)} bytes instead of {size}")
    return out


def snappy_compress(data: Buffer) -> bytes:
    """``data`` as raw snappy, without framing."""
    import snappy

    return bytes(snappy.compress(data))


def snappy_decompress(data: Buffer, limit: int) -> bytes:
    """The bytes of raw snappy; ValueError where it is malformed or holds more than ``limit`` bytes."""
    import snappy

    size = 0
    for i, byte in enumerate(memoryview(data)[:5]):
        size |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            break
    else:
        raise ValueError("not snappy: no length")
    if size > limit:
        raise ValueError(f"the snappy data holds {size} bytes, at most {limit} are allowed")
    if size > 32 * len(data):  # a copy of 3 bytes makes at most 64
        raise ValueError(f"snappy data of {len(data)} bytes cannot hold {size} bytes")
    try:
        return bytes(snappy.uncompress(data))
    except snappy.UncompressError as e:
        raise ValueError(f"not snappy: {e}") from None


def gzip(data: Buffer, level: int = -1) -> bytes:
    """``data`` as one gzip member (mtime 0, so equal data gives equal bytes).

    Levels 0 to 3 and -1 (the default, between speed and size) go to ISA-L, 15 times as fast as zlib's default; 4 to 9
    go to zlib for peers that need its ratio.
    """
    if level > 3:
        return zlib.compress(data, level, 31)
    return bytes(isal_zlib.compress(data, 2 if level < 0 else level, 31))


def gunzip(data: Buffer, limit: int) -> bytes:
    """The bytes of one or several whole gzip members.

    ValueError for anything else: truncation, a wrong checksum, bytes behind the last member, more than ``limit`` bytes
    of content. Never allocates much more than ``limit``.
    """
    view = memoryview(data).cast("B")
    if len(view) < 18:
        raise ValueError("not gzip: too short")
    # The last four bytes are the size of a single member. A member that lies about it is refused by its trailer check.
    size = _U32.unpack_from(view, len(view) - 4)[0]
    if size <= limit:
        member = isal_zlib.decompressobj(31)
        try:
            out: bytes = member.decompress(view, size + 1)
        except DeflateError as e:
            raise ValueError(f"not gzip: {e}") from None
        if member.eof and not member.unused_data:
            return out
    return b"".join(_members(view, limit))


def _members(view: memoryview, limit: int) -> list[bytes]:
    """The contents of all gzip members, in pieces. Linear also for a great many of them.

    A member is fed in growing windows, since the decompressor copies what it has read too much of.
    """
    out: list[bytes] = []
    at = total = members = 0
    while at < len(view):
        members += 1
        if members > _MAX_MEMBERS:
            raise ValueError(f"more than {_MAX_MEMBERS} gzip members")
        member, window = isal_zlib.decompressobj(31), 1024
        while not member.eof:
            if at >= len(view):
                raise ValueError("the gzip data is truncated, or other bytes follow it")
            piece = view[at : at + window]
            try:
                content: bytes = member.decompress(piece, limit - total + 1)
            except DeflateError as e:
                raise ValueError(f"not gzip: {e}") from None
            total += len(content)
            if total > limit:
                raise ValueError(f"the gzip data holds more than the {limit} bytes that are allowed")
            out.append(content)
            at += len(piece)
            window *= 2
        at -= len(member.unused_data)
    return out


# -- the registry ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Codec:
    """A compression of stored values. ``compress(data, level)``; level -1 is the codec's default."""

    name: str
    code: int
    compress: Callable[[Buffer, int], Buffer]
    decompress: Callable[[Buffer], Buffer]


_LIMIT = 0xFFFF_FFFF  # of one stored value


def _lz4_sized(data: Buffer, level: int) -> bytes:
    return bytes(lz4.block.compress(data, store_size=True))


def _lz4_unsized(payload: Buffer) -> bytes:
    view = memoryview(payload)
    if len(view) < 4:
        raise ValueError("no room for the size of the LZ4 block")
    return lz4_block_decompress(view[4:], _U32.unpack_from(view)[0])


def _decode_jpeg(payload: Buffer) -> bytes:
    from dvidcore.images import decode_jpeg

    return decode_jpeg(payload).tobytes()


def _refuse_jpeg(data: Buffer, level: int) -> bytes:
    raise ValueError("jpeg packs an image: use images.pack_jpeg")


CODECS: Mapping[str, Codec] = {
    c.name: c
    for c in (
        Codec("none", PLAIN, lambda data, _: data, lambda payload: payload),
        Codec("snappy", 1, lambda data, _: snappy_compress(data), lambda payload: snappy_decompress(payload, _LIMIT)),
        Codec("lz4", _LZ4, _lz4_sized, _lz4_unsized),
        Codec("gzip", 3, gzip, lambda payload: gunzip(payload, _LIMIT)),
        Codec("jpeg", 4, _refuse_jpeg, _decode_jpeg),
    )
}
_BY_CODE = {c.code: c for c in CODECS.values()}


@cache
def parse(compression: str) -> tuple[Codec, int]:
    """``"gzip:5"`` as its codec and level (-1 where it names none); ValueError for a word that is no compression."""
    name, _, level = compression.partition(":")
    codec = CODECS.get(name)
    if codec is None:
        raise ValueError(f'"{compression[:40]}" is not a compression: {", ".join(CODECS)}')
    return codec, int(level) if level else -1


# -- the envelope ---------------------------------------------------------------------------------------------------


def pack(data: Buffer, compression: str = "lz4", checksum: str = "none") -> bytes:
    """The stored form of ``data``; never empty. Plain where compression would gain less than 6 %, and beyond 2 GB.

    ``compression`` is ``none``, ``snappy``, ``lz4``, ``gzip`` or ``gzip:1`` … ``gzip:9``; ``checksum`` ``none`` or
    ``crc32``.
    """
    code = PLAIN
    if not isinstance(data, bytes):
        data = memoryview(data).cast("B")
    if compression != "none" and _LEAST <= len(data) <= _MOST:
        codec, level = parse(compression)
        packed = codec.compress(data, level)
        if len(packed) < _WORTH * len(data):
            code, data = codec.code, packed
    return _envelope(code, data, checksum)


def wrap(payload: Buffer, codec: str, checksum: str = "none") -> bytes:
    """The stored form of a payload that is in the form of ``codec`` already."""
    return _envelope(CODECS[codec].code, payload, checksum)


def _envelope(code: int, payload: Buffer, checksum: str) -> bytes:
    if checksum == "none":
        return b"".join((_HEADS[code], payload))
    return b"".join((_HEADS[code | CHECKED], _U32.pack(_crc32(payload)), payload))


_HEADS = [bytes((i,)) for i in range(256)]


def unpack(value: Buffer) -> bytes | memoryview:
    """What was packed. A plain value is not copied: a view of a large one lives as long as ``value`` does.

    Raises StoreError where the value is damaged.
    """
    if len(value) == 0:
        raise StoreError("a stored value is damaged: it is empty")
    if value[0] == PLAIN:
        if isinstance(value, bytes) and len(value) <= SMALL:
            return value[1:]
        return memoryview(value)[1:]
    if value[0] == _LZ4 and int.from_bytes(value[1:5], "little") <= 255 * len(value):
        # The most frequent form, without the detours that tell what is wrong with it.
        try:
            return lz4.block.decompress(memoryview(value)[1:])  # type: ignore[no-any-return]
        except (LZ4BlockError, ValueError):
            pass
    name, payload = stored_form(value)
    return _decompressed(CODECS[name], payload)


def _decompressed(codec: Codec, payload: memoryview) -> bytes | memoryview:
    try:
        out = codec.decompress(payload)
    except ValueError as e:
        raise StoreError(f"a stored value is damaged: {e}") from e
    return out if isinstance(out, bytes | memoryview) else bytes(out)


def stored_form(value: Buffer) -> tuple[str, memoryview]:
    """The name of the codec and the payload of a stored value, its checksum verified and removed.

    Raises StoreError where the value is damaged.
    """
    view = memoryview(value)
    codec = _BY_CODE.get(view[0] & _CODE) if view else None
    if codec is None or view[0] & ~(_CODE | CHECKED):
        raise StoreError("a stored value is damaged: its first byte names no codec")
    if not view[0] & CHECKED:
        return codec.name, view[1:]
    payload = view[5:]
    if len(view) < 5 or _U32.unpack_from(view, 1)[0] != _crc32(payload):
        raise StoreError("a stored value is damaged: its checksum does not match")
    return codec.name, payload


def transcode(value: Buffer, compression: str) -> Buffer:
    """The payload of a stored value in the form of ``compression``: as it stands where it is stored so.

    What was stored plain because it does not compress is compressed here nevertheless, since that is the form that a
    client expects. Raises StoreError where the value is damaged.
    """
    name, payload = stored_form(value)
    codec, level = parse(compression)
    if name == codec.name:
        return payload
    return codec.compress(_decompressed(CODECS[name], payload), level)
