"""Labels at points: read block by block, and of each block no more than the voxels asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dvidcore import blocks
from dvidcore.datatypes.labels import stored
from dvidcore.datatypes.labels.reader import BlockReader, Stored
from dvidcore.pool import ordered_map

_FEW = 4
"""Up to this many blocks are not worth sharing among processors."""


def label_at(reader: BlockReader, point: Sequence[int]) -> int:
    """The label of the voxel at (z, y, x), 0 where none is stored."""
    block, inside = zip(*(divmod(p, b) for p, b in zip(point, reader.shape, strict=True)), strict=True)
    (value,) = reader.get([block])
    if value is None:
        return 0
    found = blocks.lookup(stored.coded(value), np.array([inside], np.int64))
    return int(reader.bodies(found)[0])


def labels_at(reader: BlockReader, points: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The labels of the voxels at ``points``, int64 (n, 3) z, y, x: uint64 (n,), 0 where none is stored.

    Each block that they touch is read once.
    """
    out = np.zeros(len(points), np.uint64)
    if not len(points):
        return out
    block, inside = np.divmod(points, np.array(reader.shape, np.int64))
    order = np.lexsort((block[:, 2], block[:, 1], block[:, 0]))
    block, inside = block[order], inside[order]
    first = np.flatnonzero(np.concatenate(([True], (block[1:] != block[:-1]).any(axis=1))))
    ends = [*first[1:].tolist(), len(points)]
    values = reader.get(block[first].tolist())
    groups = [(v, a, b) for v, a, b in zip(values, first.tolist(), ends, strict=True) if v is not None]

    def look_up(group: tuple[Stored, int, int]) -> None:
        value, start, stop = group
        out[start:stop] = blocks.lookup(stored.coded(value), inside[start:stop])

    if len(groups) <= _FEW:
        for group in groups:
            look_up(group)
    else:
        for _ in ordered_map(look_up, groups, 4 * _FEW):
            pass
    back = np.empty_like(out)
    back[order] = out
    return reader.bodies(back)
