"""Label blocks: kernels over DVID's compressed label block, and over blocks of plain voxels.

A coded block is ``bytes`` or any other C-contiguous buffer. Arrays are in Z, Y, X order (x varies fastest). Every
kernel releases the GIL around its work, may run in many threads at once, and raises ValueError for what is corrupt;
the bytes that it reads must not be changed meanwhile. The layout and the algorithms are in ``docs/kernels.md``.
"""

from dvidcore.blocks._codec import check, decode, decode_box, encode, shape
from dvidcore.blocks._copy import copy_box, gather, scatter
from dvidcore.blocks._downsample import downsample
from dvidcore.blocks._inspect import counts, lookup, palette, with_palette
from dvidcore.blocks._mask import count_in, mask
from dvidcore.blocks._relabel import labels_in_runs, relabel_runs, split_runs
from dvidcore.blocks._segmentation import compressed_segmentation

__all__ = [
    "check",
    "compressed_segmentation",
    "copy_box",
    "count_in",
    "counts",
    "decode",
    "decode_box",
    "downsample",
    "encode",
    "gather",
    "labels_in_runs",
    "lookup",
    "mask",
    "palette",
    "relabel_runs",
    "scatter",
    "shape",
    "split_runs",
    "with_palette",
]
