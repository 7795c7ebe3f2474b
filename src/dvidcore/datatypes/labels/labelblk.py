"""The datatype labelblk, the oldest of the label types: voxels alone. Bodies are those of a labelvol beside it.

A stored block, all that reads and writes voxels, and versions are the label engine's; there is no index, and a coarser
scale is an instance of its own, which follows this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from dvidcore.datatypes.arguments import choice
from dvidcore.datatypes.base import Setting
from dvidcore.datatypes.call import OCTETS, Call, Reply
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.following import Change, Guard, LabelChange
from dvidcore.datatypes.labels import follow, properties, settling
from dvidcore.datatypes.labels.voxels import THROTTLE, LabelVoxels
from dvidcore.datatypes.labels.writing.counters import extents
from dvidcore.datatypes.voxel_settings import (
    GRID_STORE,
    MAX_POINT,
    MIN_POINT,
    SCALE_LEVEL,
    VOXEL_SIZE,
    VOXEL_UNITS,
    block_size,
    check_first_extents,
    parse_coded_block_size,
)
from dvidcore.errors import BadRequest
from dvidcore.geometry import ZYX
from dvidcore.storage.engine import Batch
from dvidcore.storage.versioned import View

if TYPE_CHECKING:
    from dvidcore.repos import InstanceRecord

HALVED = 16
"""A block of this many voxels along each axis, or a multiple, can be halved in whole sub-blocks."""


def check_block_size(settings: Mapping[str, Any], source: InstanceRecord) -> None:
    """BadRequest unless a source has the block size of these settings."""
    ours, theirs = settings["BlockSize"], source.settings["BlockSize"]
    if ours != theirs:
        raise BadRequest(f'sync: "{source.name}" has blocks of {theirs} voxels, only blocks of {ours} can be followed')


class LabelBlock(LabelVoxels):
    """Labels in voxels, without an index. Synced with a labelvol, its voxels follow the merges and splits there.

    Synced with another labelblk, it is that one at half the resolution: each voxel is the majority of eight, 0 counts
    like any label, and a tie goes to the larger one. For example ``GET /api/node/3f8c/labels/label/10_20_30``.
    """

    typename = "labelblk"
    typeversion = "0.1"
    url = "github.com/janelia-flyem/dvid/datatype/labelblk"
    settings: ClassVar[tuple[Setting, ...]] = (
        block_size([32, 32, 32], parse_coded_block_size),
        VOXEL_SIZE,
        VOXEL_UNITS,
        MIN_POINT,
        MAX_POINT,
        properties.BACKGROUND,
        GRID_STORE,
        SCALE_LEVEL,
    )
    follows = frozenset({"labelblk", "labelvol"})
    follows_at_once = True
    absent_queries = frozenset({"scale", "supervoxels"})

    @property
    def scales(self) -> int:
        return 0

    @property
    def indexed(self) -> bool:
        return False

    @property
    def counted(self) -> bool:
        return False

    @classmethod
    def check_settings(cls, settings: dict[str, Any]) -> None:
        check_first_extents(settings)

    @classmethod
    def check_source(cls, settings: Mapping[str, Any], source: InstanceRecord) -> None:
        check_block_size(settings, source)
        if source.typename == cls.typename and any(n % HALVED for n in settings["BlockSize"]):
            raise BadRequest(
                f'sync: to be "{source.name}" at half the resolution, BlockSize must be multiples of {HALVED}'
            )

    def extended(self, view: View) -> dict[str, Any]:
        """The properties of voxels; blocks are not counted in."""
        shown = properties.geometry(self, extents(self, view))
        return {**shown, "MinIndex": None, "MaxIndex": None}

    def follow(self, call: Call, change: Change, batch: Batch) -> Guard:
        if not isinstance(change, LabelChange):
            return {}
        source = self.instances.of(self.repo, self.repo.by_data_uuid[change.path[-1]])
        if isinstance(source, LabelBlock):
            return follow.halve(self, source, call, change, batch)
        return follow.rename(self, call, change, batch)

    def finer(self) -> LabelBlock | None:
        """The instance that this one is at half the resolution."""
        return next((source for source in self.sources() if isinstance(source, LabelBlock)), None)

    def settle(self, call: Call, order: Mapping[int, int] | None) -> None:
        finer = self.finer()
        if finer is None:
            super().settle(call, order)
        else:
            settling.settle_chain(self, finer, call, order)

    @endpoint(
        "GET",
        "blocks/{size:size}/{offset:point}",
        query=[choice("compression", "lz4", "of each block", ("lz4", "uncompressed")), THROTTLE],
        answers=OCTETS,
        throttle=True,
    )
    def get_blocks_of_voxels(self, call: Call, *, size: ZYX, offset: ZYX, compression: str, **_: Any) -> Reply:
        """The stored blocks of a block-aligned box as a stream of records: int32 x, y, z, uint32 n, n bytes.

        These are the block's voxels, x fastest: as one LZ4 block, or as they are (``compression=uncompressed``).
        """
        return self.get_block_stream(call, size=size, offset=offset, compression=compression)
