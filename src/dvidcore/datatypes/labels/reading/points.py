"""Labels at points: read block by block, and of each block no more than the voxels asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dvidcore import blocks
from dvidcore.datatypes.labels.reading.reader import BlockReader, Stored
from dvidcore.geometry import ZYX

if TYPE_CHECKING:
    from dvidcore.datatypes.call import Call
    from dvidcore.datatypes.labels.engine import LabelEngine

_BATCH = 512
"""Blocks that are held at once, as they are stored and inflated."""


def label_at(reader: BlockReader, point: Sequence[int]) -> int:
    """The label of the voxel at (z, y, x), 0 where none is stored."""
    block, inside = zip(*(divmod(p, b) for p, b in zip(point, reader.shape, strict=True)), strict=True)
    (value,) = reader.get([block])
    if value is None:
        return 0
    found = blocks.lookup(reader.supervoxels(block, value, keep=True), np.array([inside], np.int64))
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
    starts = np.flatnonzero(np.concatenate(([True], (block[1:] != block[:-1]).any(axis=1))))
    first = starts.tolist()
    ends = [*first[1:], len(points)]
    coords = block[starts].tolist()
    for at in range(0, len(coords), _BATCH):
        some = slice(at, at + _BATCH)
        found = zip(coords[some], reader.get(coords[some]), first[some], ends[some], strict=True)
        there = [(coord, value, start, stop) for coord, value, start, stop in found if value is not None]
        coded = reader.supervoxels_of_all([(coord, value) for coord, value, _, _ in there])
        for inflated, (_, _, start, stop) in zip(coded, there, strict=True):
            out[start:stop] = blocks.lookup(inflated, inside[start:stop])
    back = np.empty_like(out)
    back[order] = out
    return reader.bodies(back)


def after(
    data: LabelEngine,
    call: Call,
    mapping: tuple[NDArray[np.uint64], NDArray[np.uint64]] | None,
    fresh: Mapping[ZYX, Stored],
) -> Callable[[NDArray[np.int64]], NDArray[np.uint64]]:
    """``labels_at`` of a change that is not stored yet: the bodies at points once it is.

    ``fresh`` are the blocks that it writes; ``mapping`` the supervoxels that it maps, ascending, and their bodies.
    """

    def labels(points: NDArray[np.int64]) -> NDArray[np.uint64]:
        found = labels_at(_Fresh(data, call, fresh), points)
        bodies = data.mapping.at(call).bodies(found)
        if mapping is None:
            return bodies
        supervoxels, mapped = mapping
        place = np.minimum(np.searchsorted(supervoxels, found), len(supervoxels) - 1)
        return np.where(supervoxels[place] == found, mapped[place], bodies)

    return labels


class _Fresh(BlockReader):
    """Supervoxels of scale 0, some blocks of which are about to be written."""

    __slots__ = ("_fresh",)

    def __init__(self, data: LabelEngine, call: Call, fresh: Mapping[ZYX, Stored]) -> None:
        super().__init__(data, call, supervoxels=True)
        self._fresh = fresh

    def get(self, coords: Sequence[Sequence[int]]) -> list[Stored | None]:
        found: list[Stored | None] = [self._fresh.get(ZYX(*coord)) for coord in coords]
        missing = [k for k, value in enumerate(found) if value is None]
        for k, value in zip(missing, super().get([coords[k] for k in missing]), strict=True):
            found[k] = value
        return found
