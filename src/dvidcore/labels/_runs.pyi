from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

Runs = NDArray[np.int32]

def runs(block: Buffer, labels: NDArray[np.uint64], origin: Sequence[int] = (0, 0, 0)) -> Runs:
    """The voxels of a coded block whose label is one of ``labels``, as canonical runs: int32 (n, 4), x, y, z, length.

    ``labels`` is uint64 (k,), any order, 0 allowed; ``origin`` is the (x, y, z) of the block's first voxel. Voxels
    are never decoded to labels: only the values of sub-blocks that mix the labels with others are read, as bits.
    O(palette + sub-blocks + voxels of those sub-blocks + runs).

    Raises ValueError for a corrupt block (values that are not needed are not looked at) and for voxels beyond int32.
    """

def runs_of_blocks(
    blocks: Sequence[Buffer], coords: NDArray[np.int32], block_shape: Sequence[int], labels: NDArray[np.uint64]
) -> Runs:
    """As `runs` over many coded blocks of one size; runs continue through neighbouring blocks.

    ``coords`` is int32 (n, 3): the z, y, x of each block in blocks, strictly ascending by z, y, x; ``block_shape``
    is (z, y, x) in voxels. The answer is canonical. Linear in the blocks and the answer: blocks are merged row by row
    within a slab of equal z, and nothing is sorted. Beside the answer it needs the runs of one slab, and a bit per
    voxel of 8 planes of a row of blocks.

    Raises ValueError for a corrupt block, a block of another size, coordinates out of order or voxels beyond int32.
    """

def binary_block(block: Buffer, labels: NDArray[np.uint64]) -> bytes:
    """A coded block as one block of DVID's sparsevol ``blocks`` format, without its int32 x, y, z.

    A content flag: 0 = no voxel has one of ``labels``, 1 = all have, 2 = mixed. Only if mixed, for each 8x8x8
    sub-block in Z, Y, X order a flag of the same meaning, followed for 2 by 64 bytes: a bit per voxel, x fastest,
    least significant first. Complexity and errors as `runs`.
    """
