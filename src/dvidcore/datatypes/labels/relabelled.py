"""The endpoints that change labels where the voxels are the bodies."""

from __future__ import annotations

from typing import Any, ClassVar

from dvidcore.datatypes.arguments import integer, text
from dvidcore.datatypes.call import JSON, Call, Reply
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.labels.indexed import IndexedLabels
from dvidcore.datatypes.labels.mutations import records, relabel
from dvidcore.datatypes.labels.voxels import THROTTLE
from dvidcore.datatypes.labels.writing import counters
from dvidcore.errors import BadRequest
from dvidcore.geometry import UINT64_MAX

SPLIT = [integer("splitlabel", None, "the label of what is split off; absent: the next one", 1, UINT64_MAX)]


class RelabelledBodies(IndexedLabels):
    """A label type whose voxels are the bodies, so merges and splits give voxels other labels."""

    next_is_counted = True
    exact_splits: ClassVar[bool] = False
    """Whether all voxels of a split must be the label's, and ``splitlabel`` may be a label that exists.

    Such a label is then passed over by new ones; else they come after it.
    """

    @endpoint("POST", "merge")
    def post_merge(self, call: Call) -> Reply:
        """Merges labels: ``[target, a, b, …]`` makes all voxels of a, b, … voxels of the target.

        The target need not exist. Labels without voxels are passed over, and named by the header ``Missing-Labels``;
        where all are it is a 404. Everything that follows these labels has changed when the answer comes.
        """
        self._need_index("merge")
        return relabel.merge(self, call)

    @endpoint("POST", "split/{label:label}", query=SPLIT, answers=JSON)
    def post_split(self, call: Call, label: int, splitlabel: int | None) -> dict[str, int]:
        """Gives the voxels of a binary sparse volume, those that are of the label, another label: ``{"label": n}``.

        At least one must be. Everything that follows these labels has changed when the answer comes.
        """
        self._need_index("split")
        return relabel.split(self, call, label, splitlabel, strict=self.exact_splits)

    @endpoint("POST", "split-coarse/{label:label}", query=SPLIT, answers=JSON)
    def post_split_coarse(self, call: Call, label: int, splitlabel: int | None) -> dict[str, int]:
        """Gives the label's voxels in the listed blocks another label: ``{"label": n}``.

        The body is a binary sparse volume in blocks instead of voxels; each block must have some of the label.
        """
        self._need_index("split-coarse")
        return relabel.split_coarse(self, call, label, splitlabel, joins=self.exact_splits)

    @endpoint("GET", "maxlabel", answers=JSON)
    def get_maxlabel(self, call: Call) -> dict[str, int]:
        """The largest label that this version or an ancestor has had, by voxels or by a split; 400 before the first."""
        self._need_index("maxlabel")
        largest = counters.maximum(self, call.view)
        if not largest:
            raise BadRequest(f'"{self.record.name}" has had no label at this version')
        return {"maxlabel": largest}

    @endpoint("GET", "mutations", query=[text("userid", "", "only this user's"), THROTTLE], answers=JSON, throttle=True)
    def get_mutations(self, call: Call, userid: str, **_: Any) -> Reply:
        """The merges and splits of this version in order of completion, a JSON list of their records."""
        return Reply(records.mutations(self, call, userid), JSON)
