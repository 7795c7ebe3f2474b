"""Tar files as they come and go, one member at a time.

Reading is strict: only what a reader takes in whole and unambiguously passes, so that an archive that was cut short or
holds something else than files is refused and not half-read. The format is POSIX ustar with pax headers (IEEE 1003.1) and
GNU's long names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from dvidcore.errors import BadRequest, TooLarge

BLOCK = 512
RECORD = 20 * BLOCK
"""What the size of an archive is a multiple of."""
LARGEST_MEMBER = 256 << 20
"""Bytes of a member, which is held in memory."""

_LARGEST_HEADER = 1 << 20
"""Bytes of a pax header or a long name."""
_ZEROS = bytes(BLOCK)
_PIECE = 1 << 20
_REGULAR, _PAX, _PAX_GLOBAL, _LONG_NAME = b"0\x00\x37", b"x", b"g", b"L"
_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"5": "a directory",
    b"6": "a FIFO",
    b"S": "a sparse file",
}
_CHECKSUM = slice(148, 156)
_OCTAL = re.compile(rb"[0-7]*")

Read = Callable[[int], bytes]


class _Header(NamedTuple):
    name: str
    size: int
    kind: bytes


def members(read: Read) -> Iterator[tuple[str, memoryview]]:
    """(name, content) of each member of an archive, which ``read(size)`` gives piece by piece.

    Raises BadRequest that names the member before or at the place where the archive is cut short, damaged, or has
    anything but regular files; TooLarge for a member beyond ``LARGEST_MEMBER``.
    """
    before = ""
    given: dict[str, str] = {}
    while True:
        block = read(BLOCK)
        where = f'behind member "{before[:120]}"' if before else "at the start"
        if len(block) < BLOCK:
            if not before and not given:
                raise BadRequest(f"the body is not a tar file: {len(block)} bytes {where}, a tar file has at least 512")
            raise BadRequest(f"the tar file is cut short {where}: its end mark is missing")
        if block == _ZEROS:
            _check_end(read, where)
            return
        header = _header(block, where)
        if header.kind in (_PAX, _PAX_GLOBAL, _LONG_NAME):
            if header.size > _LARGEST_HEADER:
                raise BadRequest(f"the tar file is damaged {where}: a header of {header.size} bytes")
            data = bytes(_content(read, header.size, f"a header {where}"))
            if header.kind == _LONG_NAME:
                given["path"] = data.rstrip(b"\x00").decode(errors="replace")
            elif header.kind == _PAX:
                given |= _pax(data, where)
            continue
        name = given.get("path", header.name)
        size = _pax_size(given["size"], where) if "size" in given else header.size
        given = {}
        member = f'member "{name[:120]}"'
        if header.kind not in _REGULAR:
            what = _KINDS.get(header.kind, f"of the type {header.kind!r}")
            raise BadRequest(f"{member} of the tar file is {what}, only regular files are allowed")
        if size > LARGEST_MEMBER:
            raise TooLarge(f"{member} of the tar file has {size} bytes, at most {LARGEST_MEMBER} are allowed")
        yield name, _content(read, size, member)
        before = name


def _header(block: bytes, where: str) -> _Header:
    stated = _octal(block[_CHECKSUM])
    # The sum is over the block with the checksum itself as spaces.
    if stated is None or sum(block) - sum(block[_CHECKSUM]) + 8 * 32 != stated:
        what = "the body is not a tar file" if where == "at the start" else "the tar file is damaged"
        raise BadRequest(f"{what}: there is no valid header {where}")
    size = _octal(block[124:136])
    if size is None:
        raise BadRequest(f"the tar file is damaged {where}: the size of a member is no number")
    name = _text(block[:100])
    if block[257:263] == b"ustar\x00" and (prefix := _text(block[345:500])):
        name = f"{prefix}/{name}"
    return _Header(name, size, block[156:157])


def _text(field: bytes) -> str:
    return field.partition(b"\x00")[0].decode(errors="replace")


def _octal(field: bytes) -> int | None:
    """A number in octal, or as GNU writes large ones; None for neither."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \x00")
    return int(digits or b"0", 8) if _OCTAL.fullmatch(digits) else None


def _content(read: Read, size: int, what: str) -> memoryview:
    padded = size + -size % BLOCK
    data = read(padded)
    if len(data) < padded:
        raise BadRequest(f"the tar file is cut short within {what}: {min(len(data), size)} of {size} bytes")
    return memoryview(data)[:size]


def _pax(data: bytes, where: str) -> dict[str, str]:
    """The records ``length key=value`` of a pax header."""
    found = {}
    while data:
        digits, _, _ = data[:20].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        record = data[len(digits) + 1 : length]
        key, equals, value = record.partition(b"=")
        if not equals or not value.endswith(b"\n") or length > len(data):
            raise BadRequest(f"the tar file is damaged {where}: a pax header cannot be read")
        found[key.decode(errors="replace")] = value[:-1].decode(errors="replace")
        data = data[length:]
    return found


def _pax_size(text: str, where: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise BadRequest(f"the tar file is damaged {where}: the size of a member is no number")
    return int(text)


def _check_end(read: Read, where: str) -> None:
    """Reads what follows the first block of the end mark, which must be zeros."""
    while piece := read(_PIECE):
        if piece.count(0) < len(piece):
            raise BadRequest(f"the tar file has data behind its end mark, which is {where}")


# -- answers -----------------------------------------------------------------------------------------------------------


def pieces(files: Iterable[tuple[str, bytes | memoryview]]) -> Iterator[bytes | memoryview]:
    """An archive with a member of mode 0755 for each (name, content); names are ASCII of at most 100 characters."""
    written = 0
    for name, content in files:
        size = len(content)
        padding = -size % BLOCK
        yield head(name, size)
        if size:
            yield content
        if padding:
            yield bytes(padding)
        written += BLOCK + size + padding
    yield bytes(2 * BLOCK + -(written + 2 * BLOCK) % RECORD)


def head(name: str, size: int) -> bytes:
    """The header of a regular file."""
    start = b"%s0000755\x000000000\x000000000\x00%011o\x0000000000000\x00" % (name.encode().ljust(100, b"\x00"), size)
    total = sum(start) + _TAIL_SUM
    return b"%s%06o\x00 %s" % (start, total, _TAIL)


_TAIL = (b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\x000000000\x00").ljust(BLOCK - 156, b"\x00")
_TAIL_SUM = sum(_TAIL) + 8 * 32
