"""Where voxels are loaded to: an instance of a local store, or (``server``) of a server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvidcore.errors import BadRequest
from dvidcore.geometry import ZYX
from dvidcore.local import Labels, Node, Volume


class Target(ABC):
    """An image or label instance at a version. ``write`` may be called from several threads, of distant blocks."""

    name: str
    labels: bool
    dtype: np.dtype[Any]
    channels: int
    block: ZYX
    identity: list[str]
    """What tells this instance at this version from all others."""

    @abstractmethod
    def write(self, low: ZYX, volume: NDArray[Any]) -> None:
        """Stores a box, whole or not at all; the other voxels of its blocks stay as they are."""


class LocalTarget(Target):
    """An instance in a store that this process has open."""

    def __init__(self, node: Node, name: str) -> None:
        volume = node[name]
        if not isinstance(volume, Volume):
            raise BadRequest(f'"{name}" is a {volume.typename}, which has no voxels')
        self.name, self.labels = name, isinstance(volume, Labels)
        self._volume = volume
        self.dtype, self.channels, self.block = volume.dtype, volume.channels, volume.block_size
        self.identity = [node.uuid, volume.data.record.data_uuid]

    def write(self, low: ZYX, volume: NDArray[Any]) -> None:
        box = tuple(slice(o, o + n) for o, n in zip(low, volume.shape[:3], strict=True))
        self._volume[box] = volume
