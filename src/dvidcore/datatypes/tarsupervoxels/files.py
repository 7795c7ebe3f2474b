"""The stored files of supervoxels. They belong to the instance, not to a version.

A row of kind FILE has the extension as text and the supervoxel (8 bytes, big-endian) as its type key, version 0, which
no version has, and the packed file, uncompressed. So files under another extension stay, unseen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from dvidcore import codecs
from dvidcore.errors import BadRequest
from dvidcore.geometry import UINT64_MAX
from dvidcore.storage.keys import TYPE_KEY_OFFSET, data_prefix, text_key, u64_key, u64_of, version_bytes

if TYPE_CHECKING:
    from dvidcore.storage.engine import Snapshot

FILE = 1
_EXTENSION = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]{0,63}", re.ASCII)
_INSTANCE_WIDE = version_bytes(0)


def parse_extension(value: str, name: str) -> str:
    """A file name extension, without the dot before it."""
    if not _EXTENSION.fullmatch(value):
        raise BadRequest(
            f'{name}: "{value[:80]}" is not a file name extension: 1 to 64 letters, digits and "_.+-", no "." first'
        )
    return value


def name_of(prefix_key: bytes) -> str | None:
    """The name of the file whose row has a prefix key, as ``23.drc``; None where no file can have that key."""
    kind, text, number = (
        prefix_key[TYPE_KEY_OFFSET - 1 : TYPE_KEY_OFFSET],
        prefix_key[TYPE_KEY_OFFSET:-8],
        prefix_key[-8:],
    )
    extension = text[:-1].decode("ascii", "replace")
    if kind != bytes([FILE]) or text[-1:] != b"\x00" or not _EXTENSION.fullmatch(extension) or number == bytes(8):
        return None
    return f"{u64_of(number, 0)}.{extension}"


class Files:
    """The files of one extension."""

    def __init__(self, instance: int, extension: str) -> None:
        self.extension = extension
        self._prefix = data_prefix(instance, FILE) + text_key(extension)

    def key(self, supervoxel: int) -> bytes:
        """The whole key of a row."""
        return self._prefix + u64_key(supervoxel) + _INSTANCE_WIDE

    def supervoxel(self, name: str) -> int:
        """The supervoxel of a file name; BadRequest for a name that is none of these files'."""
        digits = name.removesuffix(f".{self.extension}")
        if digits == name or not (digits.isascii() and digits.isdecimal() and len(digits) <= 20):
            wanted = f"SUPERVOXEL.{self.extension}"
            raise BadRequest(
                f'member "{name[:120]}" of the tar file: the name must be {wanted}, as 23.{self.extension}'
            )
        supervoxel = int(digits)
        if not 0 < supervoxel <= UINT64_MAX:
            raise BadRequest(f'member "{name[:120]}" of the tar file: a supervoxel is from 1 to {UINT64_MAX}')
        return supervoxel

    def get(self, snapshot: Snapshot, supervoxel: int) -> bytes | memoryview | None:
        """A file, None where there is none."""
        stored = snapshot.get(self.key(supervoxel))
        return None if stored is None else codecs.unpack(stored)

    def stubs(self, snapshot: Snapshot, supervoxels: Iterable[int]) -> Iterator[bytes | memoryview]:
        """What stands for each file without its being read, empty where there is none."""
        for supervoxel in supervoxels:
            key = self.key(supervoxel)
            row = snapshot.floor_stub(key, key)
            yield b"" if row is None else row[1]

    def existing(self, snapshot: Snapshot, supervoxels: Iterable[int]) -> Iterator[bool]:
        """Whether each has a file."""
        return (len(stub) > 0 for stub in self.stubs(snapshot, supervoxels))

    def named(self, snapshot: Snapshot, supervoxels: Sequence[int]) -> Iterator[tuple[str, bytes | memoryview]]:
        """(name, content) of the files, a few in memory at a time; ``ID.missing``, empty, where there is none."""
        rows = zip(supervoxels, self.stubs(snapshot, supervoxels), strict=True)
        for supervoxel, stored in snapshot.load_rows(rows):
            if len(stored):
                yield f"{supervoxel}.{self.extension}", codecs.unpack(stored)
            else:
                yield f"{supervoxel}.missing", b""
