"""The endpoints that compare an index with the voxels that it is of, and mend it."""

from __future__ import annotations

from typing import Any

from dvidcore.datatypes.arguments import choice
from dvidcore.datatypes.call import JSON, Call
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.labels.checks import body as one_body
from dvidcore.datatypes.labels.indexed import IndexedVoxels
from dvidcore.datatypes.labels.voxels import THROTTLE

BLOCKS = choice(
    "blocks", "all", "listed: only the blocks that the index lists, which finds no missing ones", ("all", "listed")
)


class VerifiableIndex(IndexedVoxels):
    """A label type whose index can be compared with its blocks."""

    @endpoint("GET", "verify-index/{label:label}", query=[BLOCKS, THROTTLE], answers=JSON, throttle=True)
    def get_verify_index(self, call: Call, label: int, blocks: str, **_: Any) -> dict[str, Any]:
        """Compares the index of a body with its voxels, counted from the blocks: ``{"Label": 231, "Agrees": true, …}``.

        Voxels and Blocks are as counted, RecordedVoxels and RecordedBlocks as stored. Differences lists the first 1000
        of DifferingBlocks: ``{"Block": [x, y, z], "Stored": {"231": 17}, "Counted": {"231": 18}}``, voxels by
        supervoxel. Reads all blocks of the instance. A body that exists nowhere agrees, with 0 voxels.
        """
        self._need_index("verify-index")
        return one_body.verify(self, call, label, everywhere=blocks == "all")

    @endpoint("POST", "repair-index/{label:label}", query=[BLOCKS, THROTTLE], answers=JSON, throttle=True)
    def post_repair_index(self, call: Call, label: int, blocks: str, **_: Any) -> dict[str, Any]:
        """Makes the index of a body that of its voxels, at this version; answers as verify-index did before.

        Voxels and mapping do not change, nor what the index says of the last mutation; nothing is logged.
        """
        self._need_index("repair-index")
        return one_body.repair(self, call, label, everywhere=blocks == "all")
