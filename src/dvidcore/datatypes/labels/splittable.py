"""The endpoints that split supervoxels and bodies along voxels."""

from __future__ import annotations

from dvidcore.datatypes.arguments import Query, integer
from dvidcore.datatypes.call import JSON, Call
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.labels.mutations import split as splitting
from dvidcore.datatypes.labels.verifiable import VerifiableIndex
from dvidcore.errors import BadRequest
from dvidcore.geometry import UINT64_MAX


class SplittableBodies(VerifiableIndex):
    """A label type of supervoxels, which can be split."""

    @endpoint(
        "POST",
        "split-supervoxel/{supervoxel:label}",
        query=[
            integer("split", None, "the id of what is listed; absent: the next one", 1, UINT64_MAX),
            integer("remain", None, "the id of what is not; absent: the next one", 1, UINT64_MAX),
            Query("downres", True, "false: coarser scales keep the old id", lambda v, _: v != "false", "true|false"),
        ],
        answers=JSON,
    )
    def post_split_supervoxel(
        self, call: Call, supervoxel: int, split: int | None, remain: int | None, downres: bool
    ) -> dict[str, int]:
        """Splits a supervoxel: the voxels of a binary sparse volume become one, its other voxels another supervoxel.

        Both belong to its body. Every voxel must be the supervoxel's, and some must be left; ids that are given must be
        new. Answers ``{"SplitSupervoxel": n, "RemainSupervoxel": n, "MutationID": n}``.
        """
        self._need_index("split-supervoxel")
        return splitting.split_supervoxel(self, call, supervoxel, split=split, remain=remain, downres=downres)

    @endpoint("POST", "split/{label:label}", answers=JSON)
    def post_split(self, call: Call, label: int) -> dict[str, int]:
        """Splits a body: the voxels of a binary sparse volume become a new body, with new supervoxels.

        Background among them is left alone. Answers ``{"label": n, "MutationID": n}``. Off unless the server's
        configuration has ``allowLabelmapSplit = true`` in ``[server]``.
        """
        if not self.database.options.allow_labelmap_split:
            raise BadRequest("split is off: the server's configuration must have [server] allowLabelmapSplit = true")
        self._need_index("split")
        return splitting.split_body(self, call, label)
