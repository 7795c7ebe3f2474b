"""The protobuf messages of key-value pairs, encoded and decoded by hand.

    message KeyValue  { string key = 1; bytes value = 2; }
    message KeyValues { repeated KeyValue kvs = 1; }
    message KeyRange  { string key = 1; uint64 byte_start = 2; uint64 byte_end = 3; }
    message Keys      { repeated string keys = 1; repeated KeyRange key_ranges = 2; }

By hand, since values then go out without being copied into a message and come in piece by piece, and since the protobuf
package takes as long to import as the rest of the server. Unknown fields are skipped, as protobuf demands; groups, which
proto3 does not have, are refused. What is no message raises ValueError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

Buffer = bytes | bytearray | memoryview

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# A tag is a field's number and its wire type.
_KEY = _KEYS = _KVS = 1 << 3 | _BYTES
_VALUE = _KEY_RANGES = 2 << 3 | _BYTES
_BYTE_START = 2 << 3 | _VARINT
_BYTE_END = 3 << 3 | _VARINT

_UINT64 = (1 << 64) - 1
_GREATEST_TAG = (1 << 32) - 1
_CHUNK = 4 << 20


class KeyRange(NamedTuple):
    """Bytes ``start`` to ``end`` of the value of a key, both included."""

    key: str
    start: int
    end: int


class _Cut(ValueError):
    """The data end within a field, before ``needed`` more bytes at least."""

    def __init__(self, needed: int) -> None:
        super().__init__("it ends within a field")
        self.needed = needed


# -- encoding -------------------------------------------------------------------------------------------------------


def _encode_varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_SHORT = [_encode_varint(n) for n in range(0x400)]


def varint(number: int) -> bytes:
    """A number from 0 on, in protobuf's variable length."""
    if number < 0x400:
        return _SHORT[number]
    return bytes((number & 0x7F | 0x80, number >> 7)) if number < 0x4000 else _encode_varint(number)


def key_value_head(key: str, size: int) -> bytes:
    """One pair of a ``KeyValues`` message up to its value, whose ``size`` bytes follow."""
    name = key.encode()
    before = varint(len(name))
    after = b"\x12" + varint(size) if size else b""
    whole = varint(1 + len(before) + len(name) + len(after) + size)
    return b"".join((b"\x0a", whole, b"\x0a", before, name, after))


def encode_key_values(pairs: list[tuple[str, Buffer]]) -> bytes:
    """A ``KeyValues`` message."""
    return b"".join(part for key, value in pairs for part in (key_value_head(key, len(value)), value))


def encode_keys(keys: list[str], ranges: list[KeyRange] | None = None) -> bytes:
    """A ``Keys`` message."""
    out = []
    for key in keys:
        name = key.encode()
        out += [b"\x0a", varint(len(name)), name]
    for key, start, end in ranges or ():
        name = key.encode()
        fields = b"".join((b"\x0a", varint(len(name)), name, b"\x10", varint(start), b"\x18", varint(end)))
        out += [b"\x12", varint(len(fields)), fields]
    return b"".join(out)


# -- decoding -------------------------------------------------------------------------------------------------------


def _decode_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """(number, where it ends)."""
    number = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & _UINT64, at
        shift += 7
        if shift == 70:
            raise ValueError("a number has more than ten bytes")
    raise _Cut(1)


def _field(data: bytes, at: int, end: int) -> tuple[int, int, int]:
    """(tag, where its content starts, where it stops) of the field at ``at``; the next one starts at the stop."""
    tag, at = _decode_varint(data, at, end)
    if not 8 <= tag <= _GREATEST_TAG:
        raise ValueError("a field has the number 0, or one out of range")
    kind = tag & 7
    if kind == _BYTES:
        size, at = _decode_varint(data, at, end)
        stop = at + size
    elif kind == _VARINT:
        stop = _decode_varint(data, at, end)[1]
    elif kind == _FIXED64:
        stop = at + 8
    elif kind == _FIXED32:
        stop = at + 4
    else:
        raise ValueError(f"a field has the wire type {kind}, which is not used")
    if stop > end:
        raise _Cut(stop - end)
    return tag, at, stop


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ValueError(f"the key {data[:40]!r} is not UTF-8") from None


def _key_value(data: bytes, at: int, end: int) -> tuple[str, bytes]:
    """The pair in a field; what is cut short within it stays so, whatever follows the field."""
    try:
        return _pair(data, at, end)
    except _Cut as e:
        raise ValueError(str(e)) from None


def _pair(data: bytes, at: int, end: int) -> tuple[str, bytes]:
    key, value = b"", b""
    while at < end:
        # A key or value of less than 128 bytes is by far the most frequent field.
        if end - at > 1 and (size := data[at + 1]) < 0x80:
            tag, start, stop = data[at], at + 2, at + 2 + size
            if tag not in (_KEY, _VALUE) or stop > end:
                tag, start, stop = _field(data, at, end)
        else:
            tag, start, stop = _field(data, at, end)
        if tag == _KEY:
            key = data[start:stop]
        elif tag == _VALUE:
            value = data[start:stop]
        at = stop
    return _text(key), value


def read_key_values(read: Callable[[int], bytes]) -> Iterator[tuple[str, bytes]]:
    """The pairs of a ``KeyValues`` message that ``read(size)`` gives piece by piece (less than asked for at its end).

    Holds a few megabytes, or one pair where that is larger. Raises ValueError on reaching what is no message.
    """
    data = read(_CHUNK)
    at, whole = 0, len(data) < _CHUNK
    while True:
        end = len(data)
        needed = 0
        try:
            while at < end:
                # Most pairs are of less than 128 bytes, most others of less than 16 KB.
                if data[at] == _KVS and end - at > 2:
                    size, start = data[at + 1], at + 2
                    if size >= 0x80:
                        size, start = size & 0x7F | data[at + 2] << 7, at + 3
                    if size < 0x4000 and (stop := start + size) <= end:
                        yield _key_value(data, start, stop)
                        at = stop
                        continue
                tag, start, stop = _field(data, at, end)
                if tag == _KVS:
                    yield _key_value(data, start, stop)
                at = stop
        except _Cut as cut:
            if whole:
                raise
            needed = cut.needed
        if whole:
            return
        wanted = max(needed, _CHUNK)
        more = read(wanted)
        data, at, whole = data[at:] + more, 0, len(more) < wanted


def decode_keys(data: bytes) -> tuple[list[str], list[KeyRange]]:
    """The keys and the key ranges of a ``Keys`` message, each in their order."""
    keys: list[str] = []
    ranges: list[KeyRange] = []
    at, end = 0, len(data)
    while at < end:
        if data[at] == _KEYS and at + 1 < end and (size := data[at + 1]) < 0x80 and (stop := at + 2 + size) <= end:
            keys.append(_text(data[at + 2 : stop]))
            at = stop
            continue
        tag, start, at = _field(data, at, end)
        if tag == _KEYS:
            keys.append(_text(data[start:at]))
        elif tag == _KEY_RANGES:
            ranges.append(_key_range(data, start, at))
    return keys, ranges


def _key_range(data: bytes, at: int, end: int) -> KeyRange:
    key, first, last = b"", 0, 0
    while at < end:
        tag, start, at = _field(data, at, end)
        if tag == _KEY:
            key = data[start:at]
        elif tag == _BYTE_START:
            first = _decode_varint(data, start, at)[0]
        elif tag == _BYTE_END:
            last = _decode_varint(data, start, at)[0]
    return KeyRange(_text(key), first, last)
