from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

def encode_index(
    label: int,
    coords: NDArray[np.int32],
    supervoxels: NDArray[np.uint64],
    counts: NDArray[np.uint32],
    surface: NDArray[np.uint64] | None = None,
    last_mutid: int = 0,
    last_mod_time: str = "",
    last_mod_user: str = "",
    last_mod_app: str = "",
) -> bytes:
    """DVID's LabelIndex message (proto3) of the columns of an index, ascending by z, y, x, supervoxel.

    ``coords`` is (n, 3), z, y, x of blocks; the others are (n,). ``surface`` is the block's ``surface_mutid``, the same
    in all of its rows; None: 0. Numbers that are 0 and empty texts are left out, but not within map entries, as
    protobuf's own encoders do. O(n). Raises ValueError for rows out of order or repeated, columns of unequal length,
    rows of a block that differ in ``surface``, and for coordinates beyond +-(2^20 - 1) blocks.
    """

def decode_index(
    data: Buffer,
) -> tuple[int, NDArray[np.int32], NDArray[np.uint64], NDArray[np.uint32], NDArray[np.uint64], int, str, str, str]:
    """A LabelIndex message: (label, coords, supervoxels, counts, surface, last_mutid, time, user, app).

    It is what ``encode_index`` takes. Sorted by z, y, x, supervoxel. Of a map key that is listed twice the last one
    counts; unknown fields are skipped; a block without counts gives no row. O(bytes + n log n).
    Raises ValueError for what is no such message, a count beyond 32 bits, a block key beyond 63.
    """

def encode_indices(indices: Sequence[Buffer]) -> bytes:
    """A LabelIndices message of LabelIndex messages, in that order. O(bytes)."""

def decode_indices(data: Buffer) -> list[memoryview]:
    """The LabelIndex messages within a LabelIndices message, in order, as views of ``data``.

    They are not looked into. Raises ValueError if the outer message is corrupt.
    """

def decode_mapping_ops(data: Buffer) -> list[tuple[int, int, NDArray[np.uint64]]]:
    """The operations of a MappingOps message, in order: (mutid, mapped body, original supervoxels uint64 (n,)).

    ``original`` may be packed or not. O(bytes). Raises ValueError for what is no such message.
    """
