"""Image instances as numpy volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvidcore.datatypes.call import BytesBody
from dvidcore.datatypes.imageblk import ImageBlock
from dvidcore.geometry import ZYX
from dvidcore.local.selection import Extents
from dvidcore.local.volume import NOTHING, Volume, half_open

if TYPE_CHECKING:
    from dvidcore.datatypes.call import Call


class ImageVolume(Volume):
    """A volume of grayscale, numbers or colours; an rgba8blk has a fourth axis of red, green, blue and alpha."""

    @property
    def data(self) -> ImageBlock:
        found = super().data
        assert isinstance(found, ImageBlock)
        return found

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.data.element.dtype

    @property
    def channels(self) -> int:
        return self.data.element.channels

    @property
    def block_size(self) -> ZYX:
        return self.data.stored.block

    @property
    def background(self) -> int:
        """The value of voxels that are not stored."""
        return self.data.stored.background

    @property
    def extents(self) -> Extents:
        with self.node.call(self.data) as call:
            found = self.data.extents(call.view)
        return NOTHING if found is None else half_open(*found)

    def _read(self, call: Call, low: ZYX, size: ZYX) -> NDArray[Any]:
        return self.data.stored.read(call.view, low, size)

    def _write(self, low: ZYX, volume: NDArray[Any]) -> None:
        body = BytesBody(np.ascontiguousarray(volume).reshape(-1).view(np.uint8).data)
        size = "_".join(map(str, reversed(volume.shape[:3])))
        with self.node.call(self.data, "POST", body, writes=True) as call:
            self.data.post_raw(call, dims="0_1_2", size=size, offset=low, roi=None, mutate=True)
