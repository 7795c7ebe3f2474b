from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

def shape(block: Buffer) -> tuple[int, int, int]:
    """The shape (z, y, x) of a coded block, from its header.

    Raises ValueError if the block's header or lengths are corrupt. O(sub-blocks).
    """

def check(block: Buffer, shape: Sequence[int] | None = None) -> None:
    """Checks all of a coded block: header, lengths, palette positions and every voxel value.

    Raises ValueError, which says what is wrong, also if `shape` (z, y, x) is given and the block has another.
    O(voxels), a third of the time of `decode`.
    """

def encode(volume: NDArray[np.uint64]) -> bytes:
    """The coded block of a volume of labels.

    `volume` is uint64 (z, y, x), each side a multiple of 8 from 16 to 1024. Rows must be contiguous, z and y may have
    any stride, so that a box of a larger volume is encoded where it lies. Read-only arrays will do.
    The palette lists labels in order of first appearance, by sub-block and then by voxel: the encoding of a volume is
    unique. O(voxels) where sub-blocks have few labels.

    Raises ValueError for another shape, type or stride.
    """

def decode(block: Buffer, out: NDArray[np.uint64] | None = None) -> NDArray[np.uint64]:
    """The labels of a coded block, uint64 (z, y, x).

    They are written to `out` if it is given: a writable uint64 array of the block's shape with contiguous rows and any
    z and y strides. Reusing one is several times faster than a new array for each block.

    Raises ValueError for a corrupt block (`out` may then be partly written) or an `out` that does not fit. O(voxels).
    """

def decode_box(
    block: Buffer, start: Sequence[int], stop: Sequence[int], out: NDArray[np.uint64] | None = None
) -> NDArray[np.uint64]:
    """The labels of a box of a coded block, uint64 (z, y, x), from `start` up to but not including `stop`.

    `start` and `stop` are voxels (z, y, x) within the block; `out` is as in `decode`, of the shape of the box. Only
    sub-blocks that the box touches are decoded. O(all sub-blocks + voxels of those touched).

    Raises ValueError as `decode` does, and for a box that is not within the block. Values of voxels in other
    sub-blocks are not checked.
    """
