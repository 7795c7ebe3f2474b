"""The chunks of a precomputed JPEG volume as they lie in the store, for answers that are JPEG too.

What is not decoded is not coded a second time, which loses neither time nor detail.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

from dvidcore.datatypes.remote.waiting import Together
from dvidcore.geometry import ZYX


class JpegChunks:
    """Whole chunks of one scale by their first voxel."""

    def __init__(
        self,
        kvstore: Any,
        sharded: bool,
        *,
        origin: ZYX,
        size: ZYX,
        chunk: ZYX,
        wait: Callable[[Callable[[], Any]], Any],
    ) -> None:
        """``kvstore`` holds the chunks by name, or by their number where it is that of a sharded scale."""
        self._kvstore, self._sharded, self._wait = kvstore, sharded, wait
        self._origin, self._size = origin, size
        self.chunk = chunk
        self._bits = [(-(-n // c) - 1).bit_length() for n, c in zip(size, chunk, strict=True)]

    def has(self, point: ZYX) -> bool:
        """Whether a chunk begins at a voxel, and lies in the volume with all of its voxels."""
        places = zip(point, self._origin, self._size, self.chunk, strict=True)
        return all(p >= o and (p - o) % c == 0 and p + c <= o + n for p, o, n, c in places)

    def read(self, points: Sequence[ZYX]) -> list[bytes | None]:
        """The JPEG of each chunk that begins at one of ``points``, None where the store has none.

        An image is X columns of Y·Z rows; a chunk whose image has other sides is an empty text. Raises what failures of
        the service are called.
        """
        keys = [self._key(point) for point in points]
        found = self._wait(lambda: Together([self._kvstore.read(key) for key in keys]))
        return [self._checked(bytes(one.value)) if one.state == "value" else None for one in found]

    def _key(self, point: ZYX) -> bytes | str:
        if not self._sharded:
            ends = (f"{p}-{p + c}" for p, c in zip(point.xyz(), self.chunk.xyz(), strict=True))
            return "_".join(ends)
        grid = [(p - o) // c for p, o, c in zip(point, self._origin, self.chunk, strict=True)]
        return morton(grid, self._bits).to_bytes(8, "big")

    def _checked(self, data: bytes) -> bytes:
        from PIL import Image

        try:
            with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
                fits = image.size == (self.chunk.x, self.chunk.y * self.chunk.z) and image.mode == "L"
        except (OSError, SyntaxError, Image.DecompressionBombError):
            fits = False
        return data if fits else b""


def morton(grid: Sequence[int], bits: Sequence[int]) -> int:
    """The compressed Morton code of a chunk at (z, y, x) of a grid whose axes need so many bits.

    The bits of x, y and z in turn from the lowest on, without those of an axis that needs no more (the sharded
    precomputed format).
    """
    code = place = 0
    for bit in range(max(bits)):
        for axis in (2, 1, 0):
            if bit < bits[axis]:
                code |= (grid[axis] >> bit & 1) << place
                place += 1
    return code
