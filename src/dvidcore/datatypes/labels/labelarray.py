"""The datatype labelarray, labelmap's predecessor: the label in a voxel is the body, there is no mapping.

It is the same engine with fewer endpoints, so a volume reads and is written as in a labelmap.
"""

from __future__ import annotations

from typing import Any, ClassVar

from dvidcore.datatypes.arguments import text
from dvidcore.datatypes.base import Setting
from dvidcore.datatypes.call import JSON, OCTETS, Call, Reply
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.labels import properties
from dvidcore.datatypes.labels.indexed import BOUNDS, bounds_of, missing
from dvidcore.datatypes.labels.reading import inputs, lists, sparse, streams
from dvidcore.datatypes.labels.reading.reader import BlockReader
from dvidcore.datatypes.labels.relabelled import RelabelledBodies
from dvidcore.datatypes.labels.verifiable import VerifiableIndex
from dvidcore.datatypes.labels.voxels import SCALE, THROTTLE
from dvidcore.storage.versioned import View


class LabelArray(RelabelledBodies, VerifiableIndex):
    """Labels in voxels, without a mapping: what a voxel holds is its body. ``supervoxels`` changes nothing here.

    For example ``GET /api/node/3f8c/bodies/sparsevol/231`` answers the runs of label 231.
    """

    typename = "labelarray"
    typeversion = "0.1"
    url = "github.com/janelia-flyem/dvid/datatype/labelarray"
    settings: ClassVar[tuple[Setting, ...]] = (
        *properties.SETTINGS,
        Setting("CountLabels", "CountLabels", True, properties.parse_bool, "kept and shown, without effect"),
    )
    absent = frozenset({"tags", "mutations"})
    absent_queries = frozenset({"noindexing"})  # an index cannot be posted apart
    empty_volumes = False

    def extended(self, view: View) -> dict[str, Any]:
        """As of a labelmap, but labels are never chosen by ``set-nextlabel``."""
        shown = properties.extended(self, view)
        del shown["NextLabel"]
        return {**shown, "CountLabels": self.record.settings["CountLabels"]}

    @endpoint(
        "GET",
        "specificblocks",
        query=[
            text("blocks", "", "block coordinates x,y,z,x,y,z,…"),
            SCALE,
            THROTTLE,
            text("compression", "", "accepted, without effect"),
            text("prefetch", "", "accepted, without effect"),
        ],
        answers=OCTETS,
        throttle=True,
    )
    def get_listed_blocks(self, call: Call, blocks: str, scale: int, **_: Any) -> Reply:
        """The listed blocks, those that exist, as the stream of ``blocks?compression=blocks``.

        The list may also be a JSON body.
        """
        coords = inputs.block_list(blocks, call.body)
        return streams.list_stream(BlockReader(self, call, scale), coords, "blocks")

    @endpoint("GET", "sparsevols-coarse/{first:label}/{last:label}", query=BOUNDS, answers=OCTETS)
    def get_coarse_volumes(self, call: Call, first: int, last: int, **given: Any) -> Reply:
        """The blocks of all labels from ``first`` to ``last``: for each uint64 label, int32 number of runs, the runs."""
        self._need_index("sparsevols-coarse")
        return Reply(sparse.coarse_volumes(self, call, first, last, bounds_of(given)))

    @endpoint("GET", "sparsevol-size/{label:label}", answers=JSON)
    def get_blocks_of_label(self, call: Call, label: int) -> dict[str, Any] | Reply:
        """The number of blocks of a label and the box of whole blocks that holds it, both ends included."""
        self._need_index("sparsevol-size")
        columns = self.index.columns(call.view, label)
        if columns is None:
            return missing()
        found = lists.box_of_blocks(columns, self.block)
        del found["voxels"]
        return found
