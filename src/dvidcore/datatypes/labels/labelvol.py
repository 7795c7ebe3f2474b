"""The datatype labelvol: sparse volumes of the labels of a labelblk, and where these are merged and split.

It is a labelarray that nobody posts voxels to: it has blocks of its own, which are those of the labelblk, and an index.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from dvidcore.datatypes.base import Setting
from dvidcore.datatypes.call import OCTETS, Call, Reply
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.following import Change, Guard, LabelChange
from dvidcore.datatypes.labels import follow, properties
from dvidcore.datatypes.labels.indexed import missing
from dvidcore.datatypes.labels.labelblk import LabelBlock, check_block_size
from dvidcore.datatypes.labels.mutations import patch
from dvidcore.datatypes.labels.mutations.cut_runs import CutVolume
from dvidcore.datatypes.labels.reading import points, sparse
from dvidcore.datatypes.labels.reading.reader import BlockReader
from dvidcore.datatypes.labels.relabelled import RelabelledBodies
from dvidcore.datatypes.labels.writing import counters
from dvidcore.datatypes.voxel_settings import VOXEL_SIZE, VOXEL_UNITS, block_size, parse_coded_block_size
from dvidcore.errors import BadRequest
from dvidcore.geometry import ZYX, BlockBox, check_aligned, check_box
from dvidcore.storage.engine import Batch
from dvidcore.storage.versioned import View

if TYPE_CHECKING:
    from dvidcore.repos import InstanceRecord


class LabelVolume(RelabelledBodies):
    """Sparse volumes of labels. Sync it with a labelblk, and that one with it, before voxels are posted.

    For example ``GET /api/node/3f8c/bodies/sparsevol/231?minz=120`` answers the runs of label 231 from z = 120 on.
    """

    typename = "labelvol"
    typeversion = "0.1"
    url = "github.com/janelia-flyem/dvid/datatype/labelvol"
    settings: ClassVar[tuple[Setting, ...]] = (
        block_size([32, 32, 32], parse_coded_block_size),
        VOXEL_SIZE,
        VOXEL_UNITS,
    )
    follows = frozenset({"labelblk"})
    absent = frozenset({"sparsevol-size", "sparsevols-coarse"})
    follows_at_once = True
    absent_queries = frozenset({"format", "scale", "supervoxels"})
    empty_volumes = False
    sparse_volume = CutVolume
    exact_splits = True
    head_type = "text/html"

    @property
    def scales(self) -> int:
        return 0

    @property
    def indexed(self) -> bool:
        return True

    @classmethod
    def check_source(cls, settings: Mapping[str, Any], source: InstanceRecord) -> None:
        check_block_size(settings, source)

    def extended(self, view: View) -> dict[str, Any]:
        """The sizes, and the largest label of each version that has raised it, by UUID."""
        nodes, given = self.repo.dag.nodes, self.record.settings
        return {
            "VoxelSize": properties.numbers(given["VoxelSize"]),
            "VoxelUnits": given["VoxelUnits"],
            "BlockSize": given["BlockSize"],
            "MaxLabel": {nodes[v].uuid: label for v, label in counters.maxima(self, view.snapshot).items()},
        }

    def voxels(self) -> LabelBlock:
        """The labelblk that this instance follows, the first of several; BadRequest where there is none."""
        found = next((source for source in self.sources() if isinstance(source, LabelBlock)), None)
        if found is None:
            raise BadRequest(f'"{self.record.name}" is not synced with a labelblk, which has the voxels')
        return found

    def follow(self, call: Call, change: Change, batch: Batch) -> Guard:
        return follow.copy(self, call, change, batch) if isinstance(change, LabelChange) else {}

    def _label_at(self, call: Call, point: ZYX, scale: int, supervoxels: bool) -> int:
        source = self.voxels()
        return points.label_at(BlockReader(source, call.of(source)), point)

    @endpoint("GET", "sparsevol-coarse/{label:label}", answers=OCTETS)
    def get_coarse_volume(self, call: Call, label: int) -> Reply:
        """The blocks of a label: as ``sparsevol``, in blocks instead of voxels, with runs through adjoining blocks."""
        columns = self.index.columns(call.view, label)
        return missing() if columns is None else Reply(sparse.coarse(columns.blocks()))

    # -- repairs -------------------------------------------------------------------------------------------------------

    @endpoint("DELETE", "area/{label:label}/{size:size}/{offset:point}")
    def delete_area(self, call: Call, label: int, size: ZYX, offset: ZYX) -> None:
        """Takes the label's voxels in a block-aligned box out of its sparse volume, and changes nothing else."""
        check_aligned(offset, size, self.block)
        check_box(offset, size)
        patch.erase(self, call, label, BlockBox.covering(offset, size, self.block))

    @endpoint("POST", "resync/{label:label}")
    def post_resync(self, call: Call, label: int) -> None:
        """Makes the label's sparse volume, in the listed blocks, that of the voxels in the synced labelblk.

        The body is a binary sparse volume in blocks instead of voxels.
        """
        patch.resync(self, call, label, self.voxels())
