"""Where some supervoxels, or some blocks, are in the index of a body."""

import numpy as np
from numpy.typing import NDArray

def divide(
    coords: NDArray[np.int32], supervoxels: NDArray[np.uint64], asked: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows of some supervoxels, and the other rows of the blocks that these are in, as two int64 (k,), ascending.

    coords int32 (n, 3) z, y, x, the rows of a block together; supervoxels uint64 (n,); asked uint64 (m,). Raises
    ValueError for lengths that differ. O(n + m).
    """

def find_blocks(coords: NDArray[np.int32], blocks: NDArray[np.int32]) -> NDArray[np.int64]:
    """Where each block's rows begin and end in columns: int64 (m, 2); both the same, the place for it, if it has none.

    coords int32 (n, 3) z, y, x, ascending; blocks int32 (m, 3) z, y, x. Raises ValueError for other shapes.
    O(m log n), by bisection.
    """

def totals(labels: NDArray[np.uint64], counts: NDArray[np.uint32]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Each label once, ascending, and the sum of its counts: two uint64 (k,). Raises ValueError for lengths that differ.

    labels uint64 (n,), counts uint32 (n,). O(n + k log k).
    """
