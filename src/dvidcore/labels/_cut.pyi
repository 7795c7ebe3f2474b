from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

def cut(
    runs: NDArray[np.int32], coords: NDArray[np.int32], block_shape: Sequence[int]
) -> tuple[NDArray[np.int32], NDArray[np.int64], int, int]:
    """The pieces of runs that lie in given blocks: (pieces, starts, outside, voxels_outside).

    ``runs`` are int32 (n, 4), x, y, z, length, in any order, overlapping or not; ``coords`` int32 (m, 3), block
    coordinates z, y, x, strictly ascending; ``block_shape`` is (z, y, x) in voxels. Pieces are int32 (p, 4), x, y, z,
    length in voxels of their block: those of block k are ``pieces[starts[k]:starts[k + 1]]``, in the order of the runs.
    ``outside`` is the first run that has voxels in none of the blocks, -1 where all lie inside, and ``voxels_outside``
    is how many voxels of runs do not.

    Raises ValueError for a length below 1, a run that ends beyond x = 2^31 - 1, and blocks out of order. O(runs + pieces
    + m) where the runs of a row of blocks follow each other, else a search among the blocks for each run.
    """
