from collections.abc import Sequence
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

_Out = TypeVar("_Out", bound=Buffer)

def copy_box(
    src: NDArray[Any], src_start: Sequence[int], dst: NDArray[Any], dst_start: Sequence[int], size: Sequence[int]
) -> None:
    """Copies the box of `size` voxels at `src_start` of `src` to `dst_start` of `dst`; all (z, y, x).

    Both are arrays (z, y, x) or (z, y, x, channels) with contiguous rows and voxels of the same size in bytes (items of
    1, 2, 4 or 8 bytes; their types are not compared). Raises ValueError if a box is not within its array. O(bytes).
    """

def gather(
    out: NDArray[Any],
    origin: Sequence[int],
    block_shape: Sequence[int],
    coords: NDArray[np.int32] | NDArray[np.int64],
    blocks: Sequence[Buffer],
) -> None:
    """Copies into a volume what it shares with each of many blocks of plain voxels.

    `out` is a writable array (z, y, x) or (z, y, x, channels) of items of 1, 2, 4 or 8 bytes with contiguous rows, and
    `origin` the voxel (z, y, x) of its first corner. Block i of `block_shape` voxels (z, y, x) lies at the block
    coordinates ``coords[i]`` (int32 or int64 (n, 3), z, y, x): its first voxel is ``coords[i] * block_shape``. Blocks
    beside the volume are ignored, and voxels that no block covers are left alone.

    Raises ValueError, before anything is written, if a block has not exactly the bytes of `block_shape`. O(bytes).
    """

@overload
def scatter(
    volume: NDArray[Any], origin: Sequence[int], block_shape: Sequence[int], coord: Sequence[int], out: None = None
) -> bytes: ...
@overload
def scatter(
    volume: NDArray[Any], origin: Sequence[int], block_shape: Sequence[int], coord: Sequence[int], out: _Out
) -> _Out: ...
def scatter(
    volume: NDArray[Any],
    origin: Sequence[int],
    block_shape: Sequence[int],
    coord: Sequence[int],
    out: Buffer | None = None,
) -> Any:
    """The block of plain voxels at block coordinates `coord` (z, y, x), cut from a volume: the inverse of `gather`.

    `volume`, `origin` and `block_shape` are as in `gather`. Answers bytes, or fills and answers `out`, any writable
    contiguous buffer of exactly that size. Raises ValueError if the block is not within the volume. O(bytes).
    """
