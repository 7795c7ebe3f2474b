from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Runs = NDArray[np.int32]
Bound = Sequence[int | None] | None

def join(runs: Runs) -> Runs:
    """The union of ``runs`` (any order, overlaps allowed) in canonical form: sorted, maximal, disjoint.

    Every set of voxels has one canonical form, so equal sets give equal arrays. ``runs`` and the answer are int32
    (n, 4): x, y, z, length. O(n) if sorted already, else O(n log n).

    Raises ValueError for a length below 1, a run that ends beyond x = 2^31 - 1, a joined run longer than 2^31 - 1.
    """

def intersect(a: Runs, b: Runs) -> Runs:
    """The voxels that are in both, canonical. ``a`` and ``b`` are int32 (n, 4) in any form; raises as `join` does.

    O(n + m), and sorting what is not canonical.
    """

def subtract(a: Runs, b: Runs) -> Runs:
    """The voxels of ``a`` that are not in ``b``, canonical. As `intersect` otherwise."""

def clip(runs: Runs, minimum: Bound = None, maximum: Bound = None) -> Runs:
    """The parts of ``runs`` within inclusive voxel bounds, in the order given; runs are not joined.

    ``minimum`` and ``maximum`` are (x, y, z) in voxels; None, as a whole or for an axis, leaves it open. O(n).
    Raises ValueError for malformed runs (see `join`).
    """

def voxels(runs: Runs) -> int:
    """The sum of all lengths: the number of voxels if runs do not overlap. O(n). Raises as `join` for a bad run."""

def to_mask(runs: Runs, start: Sequence[int], shape: Sequence[int]) -> NDArray[np.uint8]:
    """A mask of ``shape`` (z, y, x) whose first voxel is ``start`` (z, y, x): 1 where a run is. O(voxels + n).

    What lies outside is left out. Raises ValueError for a bad run, a negative shape or a start beyond int32.
    """

def from_mask(mask: NDArray[np.uint8] | NDArray[np.bool_], start: Sequence[int] = (0, 0, 0)) -> Runs:
    """The canonical runs of the non-zero voxels of ``mask`` (z, y, x), whose first voxel is ``start`` (z, y, x).

    A view that is contiguous along x is read in place. O(voxels), eight at a time where they are alike.
    Raises ValueError for another dtype or number of axes, and where the mask reaches beyond int32.
    """

def coarse(coords: NDArray[np.int32]) -> Runs:
    """Blocks as runs: ``coords`` int32 (n, 3), z, y, x in blocks, any order, repeats allowed -> runs in blocks.

    The answer is canonical: the spans of ``sparsevol-coarse``. O(n) if ascending by z, y, x, else O(n log n).
    """
