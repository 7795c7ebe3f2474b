"""The endpoints that the label types with an index share: properties, sparse volumes, the largest and next label."""

from __future__ import annotations

from typing import Any, ClassVar

from dvidcore.datatypes.arguments import Query, choice, flag, integer, text
from dvidcore.datatypes.call import JSON, OCTETS, Call, Reply
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.labels import properties
from dvidcore.datatypes.labels.engine import LabelEngine
from dvidcore.datatypes.labels.index import Columns
from dvidcore.datatypes.labels.reading import inputs, lists, points, sparse, streams
from dvidcore.datatypes.labels.reading.reader import BlockReader
from dvidcore.datatypes.labels.reading.sparse import Bounds, SparseVolume
from dvidcore.datatypes.labels.voxels import SCALE, SUPERVOXELS, THROTTLE, LabelVoxels, blocks_query
from dvidcore.datatypes.labels.writing import counters, ingest
from dvidcore.datatypes.voxel_settings import check_first_extents
from dvidcore.errors import BadRequest
from dvidcore.geometry import ZYX
from dvidcore.storage.versioned import View

BOUNDS = [
    integer(f"{end}{axis}", None, f"{word} {axis} in voxels, included")
    for axis in "xyz"
    for end, word in (("min", "lowest"), ("max", "highest"))
]
SPARSE = [
    text("format", "rles", "rles, srles or blocks"),
    *BOUNDS,
    Query("exact", True, "false: whole blocks instead of cut runs", lambda value, _: value != "false", "true|false"),
    SCALE,
    choice("compression", "", "of rles", ("", "gzip", "lz4")),
    SUPERVOXELS,
]

POST_BLOCKS = [
    SCALE,
    flag("downres", "true: all coarser scales are computed too"),
    flag("noindexing", "true: the label index stays as it is"),
    choice("compression", "blocks", "of each block", ("blocks",)),
    THROTTLE,
]


def missing() -> Reply:
    """No such label: 404, and DVID's clients expect an empty body."""
    return Reply(status=404)


def bounds_of(given: dict[str, int | None]) -> Bounds:
    """The bounds among the arguments."""
    low, high = ((given[f"{end}x"], given[f"{end}y"], given[f"{end}z"]) for end in ("min", "max"))
    return Bounds(low, high)


class IndexedLabels(LabelEngine):
    """A label type whose labels can be asked for as sparse volumes."""

    empty_volumes: ClassVar[bool] = True
    """Whether a label without a voxel in the blocks that are asked for is answered by no runs; else it is a 404."""
    head_type: ClassVar[str] = OCTETS
    """The content type of an answer to HEAD."""
    sparse_volume: ClassVar[type[SparseVolume]] = SparseVolume
    """How the runs of a sparse volume are put together."""

    def _need_index(self, what: str) -> None:
        if not self.indexed:
            raise BadRequest(f'"{self.record.name}" has no label index (IndexedLabels=false), which {what} needs')

    # -- sparse volumes ------------------------------------------------------------------------------------------------

    @endpoint("GET", "sparsevol/{label:label}", query=SPARSE, answers=OCTETS)
    def get_sparsevol(self, call: Call, label: int, supervoxels: bool = False, **given: Any) -> Reply:
        """The voxels of a body: runs along x behind a header (rles), alone (srles), or masks of blocks (blocks).

        Runs are int32 x, y, z, length, sorted by z, y, x. Bounds are voxels of the scale, both included.
        """
        self._need_index("sparsevol")
        columns = sparse.subject(self, call, label, supervoxels)
        return missing() if columns is None else self._sparse(call, label, columns, **given)

    @endpoint("GET", "sparsevol-by-point/{point:point}", query=SPARSE, answers=OCTETS)
    def get_sparsevol_by_point(
        self, call: Call, point: ZYX, scale: int = 0, supervoxels: bool = False, **given: Any
    ) -> Reply:
        """The sparse volume of the body at a voxel of the scale; options as of ``sparsevol``."""
        self._need_index("sparsevol-by-point")
        label = self._label_at(call, point, scale, supervoxels)
        if not label:
            raise BadRequest(f"point: there is no label at {point.xyz()}, scale {scale}")
        columns = sparse.subject(self, call, label, supervoxels)
        return missing() if columns is None else self._sparse(call, label, columns, scale=scale, **given)

    def _label_at(self, call: Call, point: ZYX, scale: int, supervoxels: bool) -> int:
        """The label of a voxel of the scale."""
        return points.label_at(BlockReader(self, call, scale, supervoxels), point)

    def _sparse(
        self,
        call: Call,
        label: int,
        columns: Columns,
        *,
        exact: bool,
        compression: str,
        format: str = "rles",
        scale: int = 0,
        **given: Any,
    ) -> Reply:
        bounds = bounds_of(given)
        coords = bounds.blocks(sparse.at_scale(columns.blocks(), scale), self.block)
        if not len(coords):
            return missing()
        reader = BlockReader(self, call, scale, supervoxels=True)
        members, _ = lists.members(columns)
        # Masks are of whole blocks, whatever the bounds.
        volume = self.sparse_volume(reader, coords, members, bounds, exact and format != "blocks")
        if not self.empty_volumes and not volume.any():
            return missing()
        return sparse.answer(volume, label, format, compression)

    @endpoint("HEAD", "sparsevol/{label:label}", query=SPARSE)
    def head_sparsevol(self, call: Call, label: int, supervoxels: bool = False, scale: int = 0, **given: Any) -> Reply:
        """200 where the body has a block within the bounds, else 204."""
        self._need_index("sparsevol")
        columns = sparse.subject(self, call, label, supervoxels)
        if columns is None:
            return Reply(status=204, content_type=self.head_type)
        coords = bounds_of(given).blocks(sparse.at_scale(columns.blocks(), scale), self.block)
        return Reply(status=200 if len(coords) else 204, content_type=self.head_type)

    @endpoint("GET", "sparsevol-coarse/{label:label}", query=[*BOUNDS, SUPERVOXELS], answers=OCTETS)
    def get_sparsevol_coarse(self, call: Call, label: int, supervoxels: bool = False, **given: Any) -> Reply:
        """The blocks of a body: as ``sparsevol`` (rles), in blocks instead of voxels."""
        self._need_index("sparsevol-coarse")
        columns = sparse.subject(self, call, label, supervoxels)
        if columns is None:
            return missing()
        coords = bounds_of(given).blocks(columns.blocks(), self.block)
        return Reply(sparse.coarse(coords)) if self.empty_volumes or len(coords) else missing()

    @endpoint("GET", "sparsevols-coarse/{first:label}/{last:label}", query=BOUNDS, answers=OCTETS)
    def get_sparsevols_coarse(self, call: Call, first: int, last: int, **given: Any) -> Reply:
        """The blocks of all bodies from ``first`` to ``last``: for each uint64 body, int32 number of runs, the runs."""
        return Reply(sparse.coarse_volumes(self, call, first, last, bounds_of(given)))

    @endpoint("GET", "sparsevol-size/{label:label}", query=[SUPERVOXELS], answers=JSON)
    def get_sparsevol_size(self, call: Call, label: int, supervoxels: bool) -> dict[str, Any] | Reply:
        """The voxels and blocks of a body, and the box of whole blocks that holds it."""
        columns = sparse.subject(self, call, label, supervoxels)
        return missing() if columns is None else lists.box_of_blocks(columns, self.block)

    # -- counters ------------------------------------------------------------------------------------------------------

    @endpoint("GET", "maxlabel", answers=JSON)
    def get_maxlabel(self, call: Call) -> dict[str, int]:
        """The largest label that this version or an ancestor has had."""
        self._need_index("maxlabel")
        return counters.get_maxlabel(self, call.view)

    @endpoint("GET", "nextlabel", answers=JSON)
    def get_nextlabel(self, call: Call) -> dict[str, int]:
        """The label that is given out next, the same for all versions."""
        self._need_index("nextlabel")
        return counters.get_nextlabel(self, call.view)


class IndexedVoxels(IndexedLabels, LabelVoxels):
    """A label type with voxels, coarser scales of them, and an index."""

    follows = frozenset()
    compressions = frozenset({"none", "snappy", "lz4", "gzip", "jpeg"})
    default_compression = "gzip"

    @classmethod
    def check_settings(cls, settings: dict[str, Any]) -> None:
        check_first_extents(settings)

    def extended(self, view: View) -> dict[str, Any]:
        return properties.extended(self, view)

    def info(self, view: View) -> dict[str, Any]:
        return {**super().info(view), "Extents": properties.extents_info(self, view)}

    # -- blocks --------------------------------------------------------------------------------------------------------

    @endpoint(
        "GET",
        "specificblocks",
        query=[
            text("blocks", "", "block coordinates x,y,z,x,y,z,…"),
            *blocks_query("blocks"),
            text("prefetch", "", "accepted, without effect"),
        ],
        answers=OCTETS,
        throttle=True,
    )
    def get_specific_blocks(
        self, call: Call, blocks: str, compression: str, scale: int, supervoxels: bool, **_: Any
    ) -> Reply:
        """The listed blocks, those that exist, as the stream of ``blocks``; the list may also be a JSON body."""
        coords = inputs.block_list(blocks, call.body)
        return streams.list_stream(BlockReader(self, call, scale, supervoxels), coords, compression)

    @endpoint("POST", "blocks", query=POST_BLOCKS, throttle=True)
    @endpoint("POST", "blocks/{ignored:rest}", query=POST_BLOCKS, throttle=True)
    def post_blocks(self, call: Call, scale: int, downres: bool, noindexing: bool = False, **_: Any) -> None:
        """Stores a stream of gzipped blocks of supervoxels, at scale 0 with index, extents and maximum label."""
        ingest.post_blocks(self, call, scale, downres, not noindexing)
