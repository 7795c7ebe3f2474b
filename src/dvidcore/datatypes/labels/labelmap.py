"""The datatype labelmap: its settings and its endpoints. What they do is in the other modules of this package."""

from __future__ import annotations

from typing import Any, ClassVar

import orjson

from dvidcore.datatypes.arguments import flag, integer, text
from dvidcore.datatypes.base import Setting
from dvidcore.datatypes.call import JSON, OCTETS, TEXT, Call, Reply
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.labels import properties
from dvidcore.datatypes.labels.indexed import missing
from dvidcore.datatypes.labels.mutable import MutableBodies
from dvidcore.datatypes.labels.mutations import former
from dvidcore.datatypes.labels.reading import indices, inputs, lists, sparse
from dvidcore.datatypes.labels.voxels import HASH, SCALE, SUPERVOXELS, THROTTLE
from dvidcore.datatypes.labels.writing import ingest, posted
from dvidcore.geometry import UINT64_MAX

LIST = [
    integer("start", 0, "the first label", 0, UINT64_MAX),
    integer("number", lists.LISTED, f"labels at most, capped at {lists.LISTED}", 0, UINT64_MAX),
    flag("sizes", "true: pairs of label and voxels"),
]


class LabelMap(MutableBodies):
    """Supervoxels in voxels, bodies by a mapping; all reads at a version apply the mapping of that version.

    For example ``GET /api/node/3f8c/segmentation/sparsevol/231?scale=1`` answers the runs of body 231 at half the
    resolution.
    """

    typename = "labelmap"
    typeversion = "0.1"
    url = "github.com/janelia-flyem/dvid/datatype/labelmap"
    settings: ClassVar[tuple[Setting, ...]] = properties.SETTINGS

    # -- properties ----------------------------------------------------------------------------------------------------

    @endpoint("POST", "info", answers=TEXT)
    def post_info(self, call: Call) -> str:
        """Changes VoxelSize, VoxelUnits, MaxDownresLevel, MinPoint or MaxPoint, given as strings in a JSON object."""
        return properties.post_info(self, call)

    @endpoint("POST", "extents")
    def post_extents(self, call: Call) -> None:
        """Replaces the extents of this version: ``{"MinPoint": [x, y, z], "MaxPoint": [x, y, z]}``, both included."""
        properties.post_extents(self, call)

    # -- writing -------------------------------------------------------------------------------------------------------

    @endpoint("POST", "ingest-supervoxels", query=[SCALE, THROTTLE], throttle=True)
    def post_ingest_supervoxels(self, call: Call, scale: int, **_: Any) -> None:
        """Stores the voxels of a stream of gzipped blocks at a scale, and nothing else: for bulk loads."""
        ingest.ingest_supervoxels(self, call, scale)

    # -- bodies and supervoxels ----------------------------------------------------------------------------------------

    @endpoint("GET", "size/{label:label}", query=[SUPERVOXELS], answers=JSON)
    def get_size(self, call: Call, label: int, supervoxels: bool) -> dict[str, int] | Reply:
        """The voxels of a body: ``{"voxels": 2314}``."""
        if supervoxels:
            columns = sparse.subject(self, call, label, supervoxels)
            return missing() if columns is None else {"voxels": lists.voxels(columns)}
        record = self.index.record(call.view, label)
        return missing() if record is None else {"voxels": record.voxels}

    @endpoint("GET", "sizes", query=[SUPERVOXELS, HASH], answers=JSON)
    def get_sizes(self, call: Call, supervoxels: bool, hash: str) -> list[int]:
        """The voxels of the bodies listed in the body, ``[23, 911]``, in their order; 0 for what does not exist."""
        asked = inputs.labels(call.body, hash)
        return (lists.supervoxel_sizes if supervoxels else lists.body_sizes)(self, call, asked)

    @endpoint("GET", "supervoxels/{label:label}", answers=JSON)
    def get_supervoxels(self, call: Call, label: int) -> list[int] | Reply:
        """The supervoxels of a body, ascending."""
        columns = self.index.columns(call.view, label)
        return missing() if columns is None else lists.members(columns)[0].tolist()

    @endpoint("GET", "supervoxel-sizes/{label:label}", answers=JSON)
    def get_supervoxel_sizes(self, call: Call, label: int) -> dict[str, list[int]] | Reply:
        """The supervoxels of a body and their voxels: ``{"supervoxels": [14, 15], "sizes": [38632, 39534]}``."""
        columns = self.index.columns(call.view, label)
        if columns is None:
            return missing()
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
        "GET",
        "mappings",
        query=[
            text("format", "", "binary: uint64 pairs"),
            flag("complete", "true: also the supervoxels that have the number of their body"),
            THROTTLE,
        ],
        answers=TEXT,
        throttle=True,
    )
    def get_mappings(self, call: Call, format: str, complete: bool, **_: Any) -> Reply:
        """All supervoxels that map to another body (or to 0: split away), lines of ``supervoxel body``.

        With ``complete=true`` it is every supervoxel of every body.
        """
        supervoxels, bodies = lists.complete(self, call) if complete else self.mapping.at(call).items()
        if format == "binary":
            return Reply(lists.pairs(supervoxels, bodies), length=16 * len(supervoxels))
        return Reply(lists.mapping_lines(supervoxels, bodies), TEXT)

    @endpoint("POST", "mappings", query=[THROTTLE], throttle=True)
    def post_mappings(self, call: Call, **_: Any) -> None:
        """Maps supervoxels to bodies, to themselves, or to 0 (they exist no more): a MappingOps message (protobuf).

        Operations apply in their order. Nothing is compared with voxels, and indices stay: bulk loads post them too.
        """
        posted.post_mappings(self, call)

    @endpoint("GET", "map-stats", answers=JSON)
    def get_map_stats(self, call: Call) -> dict[str, Any]:
        """The size of the mapping in memory."""
        return {self.record.name: lists.mapping_statistics(self, call)}

    # -- the index -----------------------------------------------------------------------------------------------------

    @endpoint("GET", "lastmod/{label:label}", answers=JSON)
    def get_lastmod(self, call: Call, label: int) -> dict[str, Any] | Reply:
        """The last mutation of a body: its id, user, application and time; empty until one touches it."""
        record = self.index.record(call.view, label)
        return missing() if record is None else indices.last_change(record)

    @endpoint(
        "GET",
        "index/{label:label}",
        query=[
            flag("metadata-only", "true: totals and last mutation as JSON"),
            integer("mutid", None, "the index before the body's last mutation up to this one", 0, UINT64_MAX),
            THROTTLE,
        ],
        answers=OCTETS,
        throttle=True,
    )
    def get_index(self, call: Call, label: int, mutid: int | None, **given: Any) -> dict[str, Any] | bytes | Reply:
        """The label index of a body as a LabelIndex message (protobuf): its blocks, supervoxels and voxel counts.

        ``mutid`` needs a server that is configured to keep former indices of the instance (``[mutcache.NAME]``); where
        none is kept it is a 404.
        """
        if mutid is not None:
            return former.get(self, call, label, mutid) or missing()
        if given["metadata-only"]:
            record = self.index.record(call.view, label)
            return missing() if record is None else Reply(orjson.dumps(indices.metadata(record)), JSON)
        return indices.index(self, call, label) or missing()

    @endpoint("POST", "index/{label:label}", query=[THROTTLE], throttle=True)
    def post_index(self, call: Call, label: int, **_: Any) -> None:
        """Replaces the label index of a body by a LabelIndex message (protobuf); one without blocks deletes it.

        It is stored as given, its last mutation too, and not compared with voxels.
        """
        self._need_index("POST index")
        posted.post_index(self, call, label)

    @endpoint("GET", "indices", query=[THROTTLE], answers=OCTETS, throttle=True)
    def get_indices(self, call: Call, **_: Any) -> bytes:
        """The label indices of the labels listed in the body, 50,000 at most, as a LabelIndices message."""
        return indices.indices(self, call, inputs.labels(call.body, most=indices.MOST))

    @endpoint("POST", "indices", query=[THROTTLE], throttle=True)
    def post_indices(self, call: Call, **_: Any) -> None:
        """Replaces the label indices of many bodies by a LabelIndices message, all of them or none: as POST index."""
        self._need_index("POST indices")
        posted.post_indices(self, call)

    @endpoint("GET", "indices-compressed", query=[THROTTLE], answers=OCTETS, throttle=True)
    def get_indices_compressed(self, call: Call, **_: Any) -> Reply:
        """As ``indices``, each as uint64 n, uint64 label, n bytes: 0x80, uint32 size, LZ4 block of the LabelIndex."""
        return Reply(indices.compressed(self, call, inputs.labels(call.body, most=indices.MOST)))

    @endpoint("GET", "index-version/{label:label}", answers=TEXT)
    def get_index_version(self, call: Call, label: int) -> str | Reply:
        """The UUID of the version that stored (or deleted) the index of a body as it is seen here."""
        version = indices.writer(self, call, label)
        return missing() if version is None else self.repo.dag.nodes[version].uuid
