"""The stored rows of a label index."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Buffer = bytes | bytearray | memoryview

def pack_rows(
    supervoxels: NDArray[np.uint64],
    counts: NDArray[np.uint32],
    starts: NDArray[np.int64],
    surface_mutid: int | NDArray[np.uint64] = 0,
) -> list[bytes]: ...
def row_voxels(row: Buffer) -> int: ...
def join_rows(first: Buffer, second: Buffer) -> bytes: ...
def supervoxels_of(rows: Iterable[Buffer]) -> NDArray[np.uint64]: ...
def unpack_rows(
    keys: Sequence[Buffer], values: Sequence[Buffer], key_offset: int
) -> tuple[NDArray[np.int32], NDArray[np.uint64], NDArray[np.uint32], NDArray[np.uint64]]: ...
