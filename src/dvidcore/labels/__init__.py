"""Kernels for labels: sparse volumes as runs, the supervoxel -> body table, and label indices.

Runs are int32 arrays (n, 4) with rows x, y, z, length: ``length`` voxels along x from (x, y, z). They are sorted by
z, y, x wherever a kernel answers them. Every kernel works without the GIL, may be called from many threads at once,
and raises ``ValueError`` on anything malformed.
"""

from dvidcore.labels._columns import divide, find_blocks, totals
from dvidcore.labels._cut import cut
from dvidcore.labels._index import (
    decode_index,
    decode_indices,
    decode_mapping_ops,
    encode_index,
    encode_indices,
)
from dvidcore.labels._mapping import Mapping
from dvidcore.labels._rle import clip, coarse, from_mask, intersect, join, subtract, to_mask, voxels
from dvidcore.labels._runs import binary_block, runs, runs_of_blocks
from dvidcore.labels._stored_rows import join_rows, pack_rows, row_voxels, supervoxels_of, unpack_rows

__all__ = [
    "Mapping",
    "binary_block",
    "clip",
    "coarse",
    "cut",
    "decode_index",
    "decode_indices",
    "decode_mapping_ops",
    "divide",
    "encode_index",
    "encode_indices",
    "find_blocks",
    "from_mask",
    "intersect",
    "join",
    "join_rows",
    "pack_rows",
    "row_voxels",
    "runs",
    "runs_of_blocks",
    "subtract",
    "supervoxels_of",
    "to_mask",
    "totals",
    "unpack_rows",
    "voxels",
]
