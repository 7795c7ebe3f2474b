"""A part of some voxels: one of their channels, or those inside of a region."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvidcore.datatypes.labels.reading.volume import Voxels
from dvidcore.datatypes.roi.region import Region
from dvidcore.geometry import ZYX


class Part:
    """One channel of some voxels, or those inside of a region; the others are 0."""

    def __init__(self, voxels: Voxels, channel: int | None, limit: Region | None) -> None:
        self._voxels, self._channel, self._limit = voxels, channel, limit
        self.shape = voxels.shape
        self.nbytes = voxels.nbytes if channel is None else voxels.empty((0, 0, 0)).dtype.itemsize

    def empty(self, size: tuple[int, ...]) -> NDArray[Any]:
        found = self._voxels.empty(size if self._channel is None else (0, 0, 0))
        return found if self._channel is None else np.empty(size, found.dtype)

    def fill(self, offset: ZYX, out: NDArray[Any]) -> None:
        if self._channel is None:
            self._voxels.fill(offset, out)
        else:
            out[...] = self._voxels.box(offset, out.shape)[..., self._channel]
        if self._limit is not None:
            self._limit.blank(offset, out)

    def box(self, offset: ZYX, size: tuple[int, ...]) -> NDArray[Any]:
        out = self.empty(size)
        self.fill(offset, out)
        return out
