"""Layers of a posted volume that are too wide for memory, as bands of whole blocks.

A body has its voxels in the order z, y, x, so the first block is complete when nearly all of a layer of blocks has come.
A layer that memory should not hold goes through a temporary file.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import Self

from dvidcore.errors import BadRequest, StoreError
from dvidcore.geometry import ZYX

LARGEST_LAYER = 128 << 20
"""Bytes of a layer of blocks that is held in memory."""
BAND = 32 << 20
"""About the bytes of a band of a larger one; a row of blocks is the least."""
_PIECE = 1 << 20


def too_wide(size: ZYX, block: ZYX, itemsize: int) -> bool:
    """Whether a volume of ``size`` voxels of ``itemsize`` bytes is to be read by :func:`bands`."""
    return block.z * size.y * size.x * itemsize > LARGEST_LAYER


def bands(
    read: Callable[[int], bytes], size: ZYX, block: ZYX, itemsize: int
) -> Iterator[tuple[int, int, ZYX, bytearray]]:
    """Reads a volume of whole blocks: (z, y, size, voxels) of each band, as wide as the volume and one block deep.

    z and y count voxels from the start of the volume. ``read(n)`` gives the next bytes, at most n of them. Raises
    BadRequest where too little comes, StoreError where the temporary folder is full.
    """
    row = size.x * itemsize
    plane = size.y * row
    rows = max(1, BAND // (block.z * block.y * row)) * block.y
    with _Scratch() as scratch:
        for z in range(0, size.z, block.z):
            at, end = 0, block.z * plane
            while at < end:
                data = read(min(_PIECE, end - at))
                if not data:
                    whole = math.prod(size) * itemsize
                    raise BadRequest(f"the body ends early: a volume of {size.xyz()} voxels has {whole} bytes")
                scratch.write(data, at)
                at += len(data)
            for y in range(0, size.y, rows):
                part = ZYX(block.z, min(rows, size.y - y), size.x)
                band, length = bytearray(math.prod(part) * itemsize), part.y * row
                for k in range(part.z):
                    scratch.read(memoryview(band)[k * length : (k + 1) * length], k * plane + y * row)
                yield z, y, part, band


class _Scratch:
    """A file without a name. Raises StoreError where there is no room for it."""

    def __enter__(self) -> Self:
        with _failing():
            self._file = TemporaryFile(buffering=0)  # closed by __exit__
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def write(self, data: bytes, at: int) -> None:
        with _failing():
            done = 0
            while done < len(data):
                done += os.pwrite(self._file.fileno(), memoryview(data)[done:], at + done)

    def read(self, buffer: memoryview, at: int) -> None:
        with _failing():
            done = 0
            while done < len(buffer):
                got = os.preadv(self._file.fileno(), [buffer[done:]], at + done)
                if not got:
                    raise OSError("it became shorter")
                done += got


@contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"the temporary file for a large body: {error}") from error
