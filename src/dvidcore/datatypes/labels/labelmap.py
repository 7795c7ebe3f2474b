"""The datatype labelmap: its settings and its endpoints. What they do is in the other modules of this package."""

from __future__ import annotations

from typing import Any, ClassVar

import orjson

from dvidcore.datatypes.arguments import Query, choice, flag, integer, text
from dvidcore.datatypes.base import JSON, OCTETS, TEXT, Call, Reply, Setting, endpoint
from dvidcore.datatypes.labels import (
    allocation,
    counters,
    indices,
    ingest,
    inputs,
    lists,
    merge,
    points,
    properties,
    sparse,
)
from dvidcore.datatypes.labels.index import Columns
from dvidcore.datatypes.labels.reader import BlockReader
from dvidcore.datatypes.labels.sparse import Bounds, SparseVolume
from dvidcore.datatypes.labels.voxels import HASH, SCALE, SUPERVOXELS, THROTTLE, LabelVoxels
from dvidcore.datatypes.voxel_settings import check_first_extents
from dvidcore.errors import BadRequest
from dvidcore.geometry import UINT64_MAX, ZYX
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
LIST = [
    integer("start", 0, "the first label", 0, UINT64_MAX),
    integer("number", lists.LISTED, f"labels at most, capped at {lists.LISTED}", 0, UINT64_MAX),
    flag("sizes", "true: pairs of label and voxels"),
]


def _missing() -> Reply:
    """No such label: 404, and DVID's clients expect an empty body."""
    return Reply(status=404)


def _bounds(given: dict[str, int | None]) -> Bounds:
    """The bounds among the arguments."""
    low, high = ((given[f"{end}x"], given[f"{end}y"], given[f"{end}z"]) for end in ("min", "max"))
    return Bounds(low, high)


class LabelMap(LabelVoxels):
    """Supervoxels in voxels, bodies by a mapping; all reads at a version apply the mapping of that version.

    For example ``GET /api/node/3f8c/segmentation/sparsevol/231?scale=1`` answers the runs of body 231 at half the
    resolution.
    """

    typename = "labelmap"
    typeversion = "0.1"
    url = "github.com/janelia-flyem/dvid/datatype/labelmap"
    settings: ClassVar[tuple[Setting, ...]] = properties.SETTINGS
    follows = frozenset()
    compressions = frozenset({"none", "snappy", "lz4", "gzip", "jpeg"})
    default_compression = "gzip"

    @classmethod
    def check_settings(cls, settings: dict[str, Any]) -> None:
        check_first_extents(settings)

    # -- properties ----------------------------------------------------------------------------------------------------

    def extended(self, view: View) -> dict[str, Any]:
        return properties.extended(self, view)

    def info(self, view: View) -> dict[str, Any]:
        return {**super().info(view), "Extents": properties.extents_info(self, view)}

    @endpoint("POST", "info", answers=TEXT)
    def post_info(self, call: Call) -> str:
        """Changes VoxelSize, VoxelUnits, MaxDownresLevel, MinPoint or MaxPoint, given as strings in a JSON object."""
        return properties.post_info(self, call)

    @endpoint("GET", "metadata", answers=properties.METADATA)
    def get_metadata(self, call: Call) -> dict[str, Any]:
        """The axes with their resolution, units and extents at this version."""
        return properties.metadata(self, call.view)

    @endpoint("POST", "extents")
    def post_extents(self, call: Call) -> None:
        """Replaces the extents of this version: ``{"MinPoint": [x, y, z], "MaxPoint": [x, y, z]}``, both included."""
        properties.post_extents(self, call)

    @endpoint("POST", "resolution")
    def post_resolution(self, call: Call) -> None:
        """Replaces the voxel size, of all versions: ``[x, y, z]`` in the instance's units."""
        properties.post_resolution(self, call)

    # -- writing -------------------------------------------------------------------------------------------------------

    @endpoint("POST", "ingest-supervoxels", query=[SCALE, THROTTLE], throttle=True)
    def post_ingest_supervoxels(self, call: Call, scale: int, **_: Any) -> None:
        """Stores the voxels of a stream of gzipped blocks at a scale, and nothing else: for bulk loads."""
        ingest.ingest_supervoxels(self, call, scale)

    @endpoint("POST", "merge", answers=JSON)
    def post_merge(self, call: Call) -> dict[str, int]:
        """Merges bodies: ``[target, a, b, …]`` makes all supervoxels of a, b, … part of the target.

        Answers ``{"MutationID": n}``.
        """
        self._need_index("merge")
        return merge.merge(self, call)

    def _need_index(self, what: str) -> None:
        if not self.indexed:
            raise BadRequest(f'"{self.record.name}" has no label index (IndexedLabels=false), which {what} needs')

    # -- sparse volumes ------------------------------------------------------------------------------------------------

    @endpoint("GET", "sparsevol/{label:label}", query=SPARSE, answers=OCTETS)
    def get_sparsevol(self, call: Call, label: int, supervoxels: bool, **given: Any) -> Reply:
        """The voxels of a body: runs along x behind a header (rles), alone (srles), or masks of blocks (blocks).

        Runs are int32 x, y, z, length, sorted by z, y, x. Bounds are voxels of the scale, both included.
        """
        self._need_index("sparsevol")
        columns = sparse.subject(self, call, label, supervoxels)
        return _missing() if columns is None else self._sparse(call, label, columns, **given)

    @endpoint("GET", "sparsevol-by-point/{point:point}", query=SPARSE, answers=OCTETS)
    def get_sparsevol_by_point(self, call: Call, point: ZYX, scale: int, supervoxels: bool, **given: Any) -> Reply:
        """The sparse volume of the body at a voxel of the scale; options as of ``sparsevol``."""
        self._need_index("sparsevol-by-point")
        label = points.label_at(BlockReader(self, call, scale, supervoxels), point)
        if not label:
            raise BadRequest(f"point: there is no label at {point.xyz()}, scale {scale}")
        columns = sparse.subject(self, call, label, supervoxels)
        return _missing() if columns is None else self._sparse(call, label, columns, scale=scale, **given)

    def _sparse(
        self,
        call: Call,
        label: int,
        columns: Columns,
        *,
        format: str,
        exact: bool,
        scale: int,
        compression: str,
        **given: Any,
    ) -> Reply:
        bounds = _bounds(given)
        coords = bounds.blocks(sparse.at_scale(columns.blocks(), scale), self.block)
        if not len(coords):
            return _missing()
        reader = BlockReader(self, call, scale, supervoxels=True)
        members, _ = lists.members(columns)
        return sparse.answer(SparseVolume(reader, coords, members, bounds, exact), label, format, compression)

    @endpoint("HEAD", "sparsevol/{label:label}", query=SPARSE)
    def head_sparsevol(self, call: Call, label: int, supervoxels: bool, scale: int, **given: Any) -> Reply:
        """200 where the body has a block within the bounds, else 204."""
        self._need_index("sparsevol")
        columns = sparse.subject(self, call, label, supervoxels)
        if columns is None:
            return Reply(status=204)
        coords = _bounds(given).blocks(sparse.at_scale(columns.blocks(), scale), self.block)
        return Reply(status=200 if len(coords) else 204)

    @endpoint("GET", "sparsevol-coarse/{label:label}", query=[*BOUNDS, SUPERVOXELS], answers=OCTETS)
    def get_sparsevol_coarse(self, call: Call, label: int, supervoxels: bool, **given: Any) -> Reply:
        """The blocks of a body: as ``sparsevol`` (rles), in blocks instead of voxels."""
        self._need_index("sparsevol-coarse")
        columns = sparse.subject(self, call, label, supervoxels)
        if columns is None:
            return _missing()
        return Reply(sparse.coarse(_bounds(given).blocks(columns.blocks(), self.block)))

    @endpoint("GET", "sparsevols-coarse/{first:label}/{last:label}", query=BOUNDS, answers=OCTETS)
    def get_sparsevols_coarse(self, call: Call, first: int, last: int, **given: Any) -> Reply:
        """The blocks of all bodies from ``first`` to ``last``: for each uint64 body, int32 number of runs, the runs."""
        return Reply(sparse.coarse_volumes(self, call, first, last, _bounds(given)))

    @endpoint("GET", "sparsevol-size/{label:label}", query=[SUPERVOXELS], answers=JSON)
    def get_sparsevol_size(self, call: Call, label: int, supervoxels: bool) -> dict[str, Any] | Reply:
        """The voxels and blocks of a body, and the box of whole blocks that holds it."""
        columns = sparse.subject(self, call, label, supervoxels)
        return _missing() if columns is None else lists.box_of_blocks(columns, self.block)

    # -- bodies and supervoxels ----------------------------------------------------------------------------------------

    @endpoint("GET", "size/{label:label}", query=[SUPERVOXELS], answers=JSON)
    def get_size(self, call: Call, label: int, supervoxels: bool) -> dict[str, int] | Reply:
        """The voxels of a body: ``{"voxels": 2314}``."""
        if supervoxels:
            columns = sparse.subject(self, call, label, supervoxels)
            return _missing() if columns is None else {"voxels": lists.voxels(columns)}
        record = self.index.record(call.view, label)
        return _missing() if record is None else {"voxels": record.voxels}

    @endpoint("GET", "sizes", query=[SUPERVOXELS, HASH], answers=JSON)
    def get_sizes(self, call: Call, supervoxels: bool, hash: str) -> list[int]:
        """The voxels of the bodies listed in the body, ``[23, 911]``, in their order; 0 for what does not exist."""
        asked = inputs.labels(call.body, hash)
        return (lists.supervoxel_sizes if supervoxels else lists.body_sizes)(self, call, asked)

    @endpoint("GET", "supervoxels/{label:label}", answers=JSON)
    def get_supervoxels(self, call: Call, label: int) -> list[int] | Reply:
        """The supervoxels of a body, ascending."""
        columns = self.index.columns(call.view, label)
        return _missing() if columns is None else lists.members(columns)[0].tolist()

    @endpoint("GET", "supervoxel-sizes/{label:label}", answers=JSON)
    def get_supervoxel_sizes(self, call: Call, label: int) -> dict[str, list[int]] | Reply:
        """The supervoxels of a body and their voxels: ``{"supervoxels": [14, 15], "sizes": [38632, 39534]}``."""
        columns = self.index.columns(call.view, label)
        if columns is None:
            return _missing()
        supervoxels, sizes = lists.members(columns)
        return {"supervoxels": supervoxels.tolist(), "sizes": sizes.tolist()}

    @endpoint("GET", "existing-labels", answers=JSON)
    def get_existing_labels(self, call: Call) -> Reply:
        """All bodies at this version, ascending."""
        return Reply(lists.as_json(lists.bodies(self, call)), JSON)

    @endpoint("GET", "listlabels", query=LIST, answers=OCTETS)
    def get_listlabels(self, call: Call, start: int, number: int, sizes: bool) -> Reply:
        """The bodies from ``start`` on, ascending, as uint64, with ``sizes=true`` each followed by its voxels."""
        return Reply(lists.as_bytes(lists.bodies(self, call, start, min(number, lists.LISTED), sizes)))

    # -- the mapping ---------------------------------------------------------------------------------------------------

    @endpoint("GET", "mapping", query=[flag("nolookup", "true: existence is not checked"), HASH], answers=JSON)
    def get_mapping(self, call: Call, nolookup: bool, hash: str) -> list[int]:
        """The body of each supervoxel listed in the body; 0 for one that does not exist."""
        return lists.mapping(self, call, inputs.labels(call.body, hash), check=not nolookup)

    @endpoint(
        "GET", "mappings", query=[text("format", "", "binary: uint64 pairs"), THROTTLE], answers=TEXT, throttle=True
    )
    def get_mappings(self, call: Call, format: str, **_: Any) -> Reply:
        """All supervoxels that map to another body (or to 0: split away), lines of ``supervoxel body``."""
        supervoxels, bodies = self.mapping.at(call).items()
        if format == "binary":
            return Reply(lists.pairs(supervoxels, bodies))
        return Reply(lists.mapping_lines(supervoxels, bodies), TEXT)

    @endpoint("GET", "map-stats", answers=JSON)
    def get_map_stats(self, call: Call) -> dict[str, Any]:
        """The size of the mapping in memory."""
        return {self.record.name: lists.mapping_statistics(self, call)}

    # -- the index -----------------------------------------------------------------------------------------------------

    @endpoint("GET", "lastmod/{label:label}", answers=JSON)
    def get_lastmod(self, call: Call, label: int) -> dict[str, Any] | Reply:
        """The last mutation of a body: its id, user, application and time; empty until one touches it."""
        record = self.index.record(call.view, label)
        return _missing() if record is None else indices.last_change(record)

    @endpoint(
        "GET",
        "index/{label:label}",
        query=[
            flag("metadata-only", "true: totals and last mutation as JSON"),
            integer("mutid", None, "the index before a mutation, of which no history is kept: 404", 0, UINT64_MAX),
            THROTTLE,
        ],
        answers=OCTETS,
        throttle=True,
    )
    def get_index(self, call: Call, label: int, mutid: int | None, **given: Any) -> dict[str, Any] | bytes | Reply:
        """The label index of a body as a LabelIndex message (protobuf): its blocks, supervoxels and voxel counts."""
        if mutid is not None:
            return _missing()
        if given["metadata-only"]:
            record = self.index.record(call.view, label)
            return _missing() if record is None else Reply(orjson.dumps(indices.metadata(record)), JSON)
        return indices.index(self, call, label) or _missing()

    @endpoint("GET", "indices", query=[THROTTLE], answers=OCTETS, throttle=True)
    def get_indices(self, call: Call, **_: Any) -> bytes:
        """The label indices of the labels listed in the body, 50,000 at most, as a LabelIndices message."""
        return indices.indices(self, call, inputs.labels(call.body, most=indices.MOST))

    @endpoint("GET", "indices-compressed", query=[THROTTLE], answers=OCTETS, throttle=True)
    def get_indices_compressed(self, call: Call, **_: Any) -> Reply:
        """As ``indices``, each as uint64 n, uint64 label, n bytes: 0x80, uint32 size, LZ4 block of the LabelIndex."""
        return Reply(indices.compressed(self, call, inputs.labels(call.body, most=indices.MOST)))

    @endpoint("GET", "index-version/{label:label}", answers=TEXT)
    def get_index_version(self, call: Call, label: int) -> str | Reply:
        """The UUID of the version that stored (or deleted) the index of a body as it is seen here."""
        version = indices.writer(self, call, label)
        return _missing() if version is None else self.repo.dag.nodes[version].uuid

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

    @endpoint("POST", "nextlabel/{count:uint64}", answers=JSON)
    def post_nextlabel(self, call: Call, count: int) -> dict[str, int]:
        """Reserves new labels: ``{"start": 22, "end": 28}``, both included."""
        self._need_index("nextlabel")
        return allocation.post_nextlabel(self, call, count)

    def _need_admin(self, call: Call, what: str) -> None:
        if not call.admin:
            raise BadRequest(f"{what} needs an administrator (admintoken)")

    @endpoint("POST", "maxlabel/{label:uint64}")
    def post_maxlabel(self, call: Call, label: int) -> None:
        """Raises the largest label of this version and of the repo; for administrators."""
        self._need_index("maxlabel")
        self._need_admin(call, "POST maxlabel")
        allocation.post_maxlabel(self, call, label)

    @endpoint(
        "POST",
        "set-nextlabel/{label:uint64}",
        query=[integer("ceiling", None, "the largest label that is given out; 0: no such limit", 0, UINT64_MAX)],
    )
    def post_set_nextlabel(self, call: Call, label: int, ceiling: int | None) -> None:
        """New labels are given out from ``label`` + 1 on, up to the ceiling; for administrators."""
        self._need_index("set-nextlabel")
        self._need_admin(call, "set-nextlabel")
        allocation.set_nextlabel(self, call, label, ceiling)
