"""Label instances: bodies or supervoxels as numpy volumes, their sparse volumes, sizes and mutations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import orjson
from numpy.typing import ArrayLike, NDArray

from dvidcore.datatypes.call import BytesBody
from dvidcore.datatypes.labels.reading import points
from dvidcore.datatypes.labels.reading.lists import LISTED
from dvidcore.datatypes.labels.reading.reader import BlockReader
from dvidcore.datatypes.labels.voxels import LabelVoxels
from dvidcore.datatypes.labels.writing import counters, ingest
from dvidcore.errors import BadRequest
from dvidcore.geometry import UINT64_MAX, ZYX
from dvidcore.local.selection import Extents
from dvidcore.local.volume import NOTHING, Volume, half_open, scaled

if TYPE_CHECKING:
    from dvidcore.datatypes.call import Call
    from dvidcore.local.node import Node


class Labels(Volume):
    """A volume of uint64 labels, 0 where there is none, that reads as bodies, or ``.supervoxels`` as these.

    Voxels hold supervoxels, and that is what an assignment writes, through either view: to write what was read, read
    ``.supervoxels``. ``.scale(n)`` reads the volume down-sampled n times, in coordinates of that scale.
    """

    def __init__(self, node: Node, name: str) -> None:
        super().__init__(node, name)
        self._scale = 0
        self._supervoxels = False

    @property
    def data(self) -> LabelVoxels:
        found = super().data
        assert isinstance(found, LabelVoxels)
        return found

    def __repr__(self) -> str:
        kind = "supervoxels" if self._supervoxels else "bodies"
        return f"{super().__repr__()[:-1]}, {kind} at scale {self._scale}>"

    # -- views --------------------------------------------------------------------------------------------------------

    @property
    def supervoxels(self) -> Self:
        """The same as supervoxels: what its voxels, sparse volumes and sizes are of."""
        return self._view(supervoxels=True)

    def scale(self, scale: int) -> Self:
        """The same at a scale, 0 for full resolution, each further one half of it; ``BadRequest`` for one there is not."""
        if not 0 <= scale <= self.data.scales:
            raise BadRequest(f"scale: {scale} is not one of 0 to {self.data.scales}, the instance's MaxDownresLevel")
        return self._view(scale=scale)

    def _view(self, scale: int | None = None, supervoxels: bool | None = None) -> Self:
        other = copy(self)
        other._scale = self._scale if scale is None else scale
        other._supervoxels = self._supervoxels if supervoxels is None else supervoxels
        return other

    # -- the volume ---------------------------------------------------------------------------------------------------

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype("<u8")

    @property
    def block_size(self) -> ZYX:
        return self.data.block

    @property
    def scales(self) -> int:
        """The coarsest scale, ``MaxDownresLevel``."""
        return self.data.scales

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        z, y, x = super().voxel_size
        factor = 1 << self._scale
        return z * factor, y * factor, x * factor

    @property
    def extents(self) -> Extents:
        with self.node.call(self.data) as call:
            found = counters.extents(self.data, call.view)
        return NOTHING if found is None else scaled(half_open(*found), self._scale)

    def _read(self, call: Call, low: ZYX, size: ZYX) -> NDArray[Any]:
        return BlockReader(self.data, call, self._scale, self._supervoxels).box(low, size)

    def _check_write(self) -> None:
        if self._scale:
            raise BadRequest("scale: only scale 0 is written, the others are made from it")
        super()._check_write()

    def _stored(self, low: ZYX, size: ZYX) -> NDArray[Any]:
        with self.node.call(self.data) as call:
            return BlockReader(self.data, call, self._scale, supervoxels=True).box(low, size)

    def _write(self, low: ZYX, volume: NDArray[Any]) -> None:
        body = BytesBody(np.ascontiguousarray(volume).reshape(-1).view(np.uint8).data)
        with self.node.call(self.data, "POST", body, writes=True) as call:
            ingest.post_raw(self.data, call, low, ZYX(*volume.shape), "")

    def labels_at(self, coordinates: ArrayLike) -> NDArray[np.uint64]:
        """The labels of single voxels: (n, 3) integers Z, Y, X as uint64 (n,). Each block is looked at once."""
        asked = np.asarray(coordinates)
        if asked.ndim != 2 or asked.shape[1] != 3 or asked.dtype.kind not in "iu":
            raise BadRequest(f"coordinates: {asked.dtype} {asked.shape}, integers of shape (n, 3) are needed")
        with self.node.call(self.data) as call:
            reader = BlockReader(self.data, call, self._scale, self._supervoxels)
            return points.labels_at(reader, asked.astype(np.int64))

    # -- bodies and supervoxels ---------------------------------------------------------------------------------------

    def sparsevol(self, label: int) -> NDArray[np.int32]:
        """The voxels of a body (of a supervoxel in that view) at the view's scale, as runs along x.

        int32 (n, 4), read-only, with rows **x, y, z, length**, the one place where X comes first, sorted by z, y, x; each run is as
        long as it can be. Raises ``NotFound`` for a label that does not exist.
        """
        path, scale, supervoxels = f"sparsevol/{label}", self._scale, self._supervoxels
        data = self.request("GET", path, format="srles", scale=scale, supervoxels=supervoxels)
        return np.frombuffer(data, "<i4").reshape(-1, 4)

    def size(self, label: int) -> int:
        """The voxels of a body (of a supervoxel in that view) at full resolution; ``NotFound`` where there is none."""
        found = orjson.loads(self.request("GET", f"size/{label}", supervoxels=self._supervoxels))
        return int(found["voxels"])

    def sizes(self, labels: Iterable[int]) -> NDArray[np.uint64]:
        """The voxels of several bodies (supervoxels in that view), 0 for what does not exist: uint64 (n,)."""
        asked = [int(label) for label in labels]
        return np.array(orjson.loads(self.request("GET", "sizes", asked, supervoxels=self._supervoxels)), np.uint64)

    def bodies(self) -> NDArray[np.uint64]:
        """All bodies of this version, ascending: uint64 (n,)."""
        found: list[NDArray[np.uint64]] = []
        first = 0
        while True:
            some = np.frombuffer(self.request("GET", "listlabels", start=first), "<u8")
            found.append(some)
            if len(some) < LISTED or int(some[-1]) == UINT64_MAX:
                return np.concatenate(found)
            first = int(some[-1]) + 1

    def members(self, body: int) -> NDArray[np.uint64]:
        """The supervoxels of a body, ascending: uint64 (n,). Raises ``NotFound`` for what is no body."""
        return np.array(orjson.loads(self.request("GET", f"supervoxels/{body}")), np.uint64)

    def bodies_of(self, supervoxels: Iterable[int]) -> NDArray[np.uint64]:
        """The body of each supervoxel, 0 for one that does not exist: uint64 (n,)."""
        return np.array(orjson.loads(self.request("GET", "mapping", [int(label) for label in supervoxels])), np.uint64)

    def merge(self, target: int, labels: int | Iterable[int]) -> int:
        """Makes all of some bodies part of ``target``; answers the mutation's id, 0 for a labelarray, which has no answer.

        Supervoxels stay as they are; the voxels of a labelarray, which has none, get the label ``target``. Raises
        ``BadRequest``, with nothing changed, where one of them is no body, in a labelarray ``NotFound`` where all are none.
        """
        others = [labels] if isinstance(labels, int | np.integer) else labels
        answer = self.request("POST", "merge", [int(target), *map(int, others)])
        return int(orjson.loads(answer)["MutationID"]) if answer else 0

    def cleave(self, body: int, supervoxels: int | Iterable[int]) -> int:
        """Makes some supervoxels of a body a body of their own; answers its label. Voxels stay as they are.

        Raises ``BadRequest``, with nothing changed, unless they are some of the body's supervoxels and not all.
        """
        listed = [supervoxels] if isinstance(supervoxels, int | np.integer) else supervoxels
        answer = orjson.loads(self.request("POST", f"cleave/{body}", [int(label) for label in listed]))
        return int(answer["CleavedLabel"])

    def renumber(self, bodies: Mapping[int, int]) -> None:
        """Gives bodies other labels: ``{body: new label}``, in their order, all of them or none.

        Raises ``BadRequest``, with nothing changed, where one is no body or its new label is one.
        """
        if bodies:
            self.request("POST", "renumber", [int(label) for body, new in bodies.items() for label in (new, body)])
