from collections.abc import Sequence

from typing_extensions import Buffer

def downsample(
    children: Sequence[Buffer | None], parent: Buffer | None = None, shape: Sequence[int] | None = None
) -> bytes:
    """The coded block of the next coarser scale from the eight below it.

    `children` are 8 coded blocks in Z, Y, X order (number 4*dz + 2*dy + dx), all of one shape, whose sides must be
    multiples of 16. Each becomes an octant: of every 2x2x2 voxels the most frequent label that is not 0, on a tie the
    numerically smallest; 0 only if all eight are 0. Where a child is None, the octant keeps the voxels of `parent`, the
    coded block that is replaced, or is 0 without one. `shape` (z, y, x) is needed only where all are None.

    The answer is what `encode` gives for its voxels. Children are voted on sub-block by sub-block, and those of one
    label are not unpacked. Raises ValueError for corrupt blocks or shapes that differ. O(voxels of the children).
    """
