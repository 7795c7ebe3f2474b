"""A part of a value: ``byte_start`` and ``byte_end``, and the ``Range`` header."""

from __future__ import annotations

import re

from dvidcore.datatypes.call import OCTETS, TEXT, Buffer, Reply
from dvidcore.errors import BadRequest

_RANGE = re.compile(r"\s*bytes\s*=\s*([0-9]{0,600})\s*-\s*([0-9]{0,600})\s*")


def check_bounds(start: int | None, end: int | None, what: str = "") -> None:
    """BadRequest unless the bounds are both there or both missing, and in order. ``what`` names their owner."""
    if (start is None) != (end is None):
        missing = "byte_start" if start is None else "byte_end"
        raise BadRequest(f"{what}byte_start and byte_end go together; {missing} is missing")
    if start is not None and end is not None and start > end:
        raise BadRequest(f"{what}byte_start {start} is behind byte_end {end}")


def piece(value: Buffer, start: int, end: int, what: str = "") -> Buffer:
    """Bytes ``start`` to ``end`` of a value, both included; BadRequest where they lie outside."""
    if end >= len(value):
        raise BadRequest(f"{what}byte_end {end} is outside of the value, which has {len(value)} bytes")
    return value[start : end + 1]


def answer_range(value: Buffer, header: str) -> Reply | None:
    """The answer to a request with this ``Range`` header: 206 and the part, or 416 where it starts behind the value.

    ``None`` where the header is to be ignored: several ranges, another unit, a reversed or malformed one.
    """
    match = _RANGE.fullmatch(header)
    if match is None:
        return None
    first, last = match.groups()
    size = len(value)
    if first:
        start, end = int(first), int(last) if last else size - 1
        if last and start > end:
            return None
        end = min(end, size - 1)
    elif last:
        start, end = max(size - int(last), 0), size - 1
    else:
        return None
    if start >= size:
        text = f'the range "{header.strip()[:80]}" starts behind the {size} bytes of the value\n'
        return Reply(text, TEXT, {"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"}, 416)
    headers = {"Content-Range": f"bytes {start}-{end}/{size}", "Accept-Ranges": "bytes"}
    return Reply(value[start : end + 1], OCTETS, headers, 206)
