"""Sparse volumes whose runs end where blocks do, one block after the other: how a labelvol answers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dvidcore import labels
from dvidcore.datatypes.labels.reading.sparse import Coords, Runs, SparseVolume
from dvidcore.pool import ordered_map

_TOGETHER = 64
"""Blocks that one task turns into runs."""
_WINDOW = 4


class CutVolume(SparseVolume):
    """A body's voxels in runs of single blocks: blocks in the order of z, y, x, and so the runs of each."""

    __slots__ = ()

    def slabs(self) -> Iterator[Runs]:
        """The runs (n, 4) x, y, z, length of some blocks after the other."""
        batches = (self.coords[at : at + _TOGETHER] for at in range(0, len(self.coords), _TOGETHER))
        for runs in ordered_map(self._cut, batches, _WINDOW):
            yield self.bounds.clip(runs) if self.exact and self.bounds else runs

    def _cut(self, coords: Coords) -> Runs:
        at = coords.tolist()
        side = self.reader.shape
        parts = [np.empty((0, 4), np.int32)]
        for coord, value in zip(at, self.reader.get(at), strict=True):
            if value is not None:
                block = self.reader.supervoxels(coord, value, self.keep)
                origin = [c * n for c, n in zip(coord, side, strict=True)][::-1]
                parts.append(labels.runs(block, self.members, origin))
        return np.concatenate(parts)
