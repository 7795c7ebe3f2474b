"""Sparse volumes in the bodies of requests: runs of voxels, in any order, that say what a split takes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dvidcore import labels
from dvidcore.errors import BadRequest

if TYPE_CHECKING:
    from dvidcore.datatypes.call import Body

_HEADER = struct.Struct("<4B2I")
_RUN_BYTES = 16
_CHUNK = 1 << 18
_MEMORY = 4
"""Bytes that are held for each byte of a body: itself, its runs as pieces of blocks, and what is written."""

Runs = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class PostedRuns:
    """A sparse volume as it was sent."""

    runs: Runs
    """int32 (n, 4): x, y, z, length, n >= 1, in the order of the body; each is at least a voxel long and ends in int32."""
    voxels: int
    """The sum of all lengths."""

    def blob(self) -> bytes:
        """The runs without a header, as the log keeps them."""
        return self.runs.tobytes()


def memory_for(body: Body) -> int:
    """About how many bytes a split needs for its body: what it borrows of ``budget.work``."""
    return _MEMORY * body.length


def read_runs(body: Body, *, described: bool = True) -> PostedRuns:
    """The binary sparse volume of a body: a header of 12 bytes, then x, y, z, length of each run, little-endian int32.

    The header is byte 0 = 0 (binary), byte 1 = 3 dimensions, byte 2 = 0 (runs along x), a reserved byte, the number of
    voxels as uint32, which is ignored, and the number of runs as uint32. Unless it is ``described``, bytes 1 and 2 are
    ignored, too: clients of labelvol may leave them empty. Raises BadRequest for anything else, for a body that is
    shorter or longer than its runs, for none, and for runs that are empty or leave int32.
    """
    head = body.read(_HEADER.size) if body.length >= _HEADER.size else b""
    if not head:
        raise BadRequest(f"the body has {body.length} bytes, a binary sparse volume begins with a header of 12")
    payload, dimensions, axis, _, _, count = _HEADER.unpack(head)
    if payload:
        raise BadRequest(f"the body is not a binary sparse volume: byte 0 of its header is {payload}, not 0")
    if described and dimensions != 3:
        raise BadRequest(f"the sparse volume has {dimensions} dimensions (byte 1 of its header), 3 are needed")
    if described and axis:
        raise BadRequest(f"the runs go along axis {axis} (byte 2 of the header), only 0, which is x, is known")
    there = body.length - _HEADER.size
    if there != _RUN_BYTES * count:
        raise BadRequest(f"the header announces {count} runs of 16 bytes, but {there} bytes follow it")
    if not count:
        raise BadRequest("the sparse volume has no runs")
    runs = np.frombuffer(body.read(), "<i4").reshape(count, 4)
    try:
        return PostedRuns(runs, labels.voxels(runs))
    except ValueError as e:
        raise BadRequest(f"the sparse volume is malformed: {e}") from None


@dataclass(frozen=True, slots=True)
class Pieces:
    """Runs cut at the borders of blocks."""

    coords: NDArray[np.int32]
    """(n, 3): block coordinates z, y, x, strictly ascending; a block may have no piece."""
    runs: Runs
    """(m, 4): x, y, z, length in voxels of the block."""
    starts: NDArray[np.int64]
    """(n + 1,): where the pieces of each block begin."""

    def of(self, block: int) -> Runs:
        return self.runs[self.starts[block] : self.starts[block + 1]]

    def touched(self) -> NDArray[np.bool_]:
        """Of each block whether it has a piece."""
        return self.starts[1:] > self.starts[:-1]


def cut(posted: PostedRuns, coords: NDArray[np.int32], block: Sequence[int]) -> tuple[Pieces, Runs]:
    """(the pieces of the runs in the given blocks, the first run that has voxels in no such block, as (0 or 1, 4)).

    There are as many pieces as runs and the blocks that these cross: compare ``voxels`` with something first.
    """
    runs, starts, outside, _ = labels.cut(posted.runs, coords, block)
    return Pieces(coords, runs, starts), posted.runs[outside : outside + 1] if outside >= 0 else posted.runs[:0]


def blocks_met(posted: PostedRuns, block: Sequence[int]) -> NDArray[np.int32]:
    """The blocks that the runs meet, int32 (n, 3) z, y, x, each once, ascending. As for ``cut``, compare first."""
    met = [_blocks_of(posted.runs[at : at + _CHUNK], block) for at in range(0, len(posted.runs), _CHUNK)]
    return np.unique(np.concatenate(met), axis=0).astype(np.int32)


def _blocks_of(runs: Runs, block: Sequence[int]) -> NDArray[np.int64]:
    """As ``blocks_met``; runs that meet the same blocks count once, so this takes memory for the blocks alone."""
    x, y, z, length = runs.astype(np.int64).T
    ends = np.stack((z // block[0], y // block[1], x // block[2], (x + length - 1) // block[2]), axis=1)
    spans = np.unique(ends, axis=0)
    many = spans[:, 3] - spans[:, 2] + 1
    span = np.repeat(np.arange(len(many)), many)
    out: NDArray[np.int64] = spans[span, :3]
    out[:, 2] += np.arange(len(span)) - np.repeat(np.cumsum(many) - many, many)
    return out
