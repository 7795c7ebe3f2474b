import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

def palette(block: Buffer) -> NDArray[np.uint64]:
    """The palette of a coded block, uint64 (n,): a copy, in its stored order.

    Entries may repeat and may not occur in any voxel. Raises ValueError if the block is corrupt. O(sub-blocks + n).
    """

def with_palette(block: Buffer, labels: NDArray[np.uint64]) -> bytes:
    """The same coded block with another palette: entry i of the old one becomes ``labels[i]`` in every voxel.

    `labels` is uint64 (n,) for a palette of n entries, and may repeat labels. This maps a block to other labels
    without touching its voxels. Raises ValueError for another length or type, or a corrupt block. O(bytes).
    """

def lookup(block: Buffer, points: NDArray[np.int32] | NDArray[np.int64]) -> NDArray[np.uint64]:
    """The labels at points of a coded block, uint64 (n,).

    `points` is int32 or int64 (n, 3), each row z, y, x in voxels of the block. Only the bits of those voxels are read.
    Raises ValueError for a point outside, or a corrupt block. O(sub-blocks + n).
    """

def counts(block: Buffer) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The labels that occur in a coded block, 0 too, and how many voxels each has.

    Two uint64 arrays (n,), labels ascending and unique; palette entries of the same label are added up, and entries
    without voxels left out. Sub-blocks of up to four labels are counted by population counts of their packed bits.
    Raises ValueError if the block is corrupt. O(voxels + n log n).
    """
