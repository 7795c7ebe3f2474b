"""The endpoints that change bodies and supervoxels, and those that tell what was changed."""

from __future__ import annotations

from typing import Any

import orjson

from dvidcore.datatypes.arguments import integer, text
from dvidcore.datatypes.call import JSON, Call, Reply
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.labels.mutations import cleave, merge, records, renumber
from dvidcore.datatypes.labels.splittable import SplittableBodies
from dvidcore.datatypes.labels.voxels import THROTTLE
from dvidcore.datatypes.labels.writing import allocation
from dvidcore.errors import BadRequest
from dvidcore.geometry import UINT64_MAX


class MutableBodies(SplittableBodies):
    """A label type whose bodies are sets of supervoxels, which mutations make other sets of."""

    # -- mutations -----------------------------------------------------------------------------------------------------

    @endpoint("POST", "merge", answers=JSON)
    def post_merge(self, call: Call) -> dict[str, int]:
        """Merges bodies: ``[target, a, b, …]`` makes all supervoxels of a, b, … part of the target.

        Answers ``{"MutationID": n}``.
        """
        self._need_index("merge")
        return merge.merge(self, call)

    @endpoint("POST", "cleave/{label:label}", answers=JSON)
    def post_cleave(self, call: Call, label: int) -> dict[str, int]:
        """Makes some supervoxels of a body, ``[supervoxel, …]``, a body of their own, with a new label.

        Answers ``{"CleavedLabel": n, "MutationID": n}``. They must be of that body, and not all of it.
        """
        self._need_index("cleave")
        return cleave.cleave(self, call, label)

    @endpoint("POST", "renumber")
    def post_renumber(self, call: Call) -> None:
        """Gives bodies other labels: ``[new, old, new, old, …]``, the new ones first; all pairs or none.

        Each pair is a mutation, carried out after the one before it. The new label must not be a body.
        """
        self._need_index("renumber")
        renumber.renumber(self, call)

    # -- what was changed ----------------------------------------------------------------------------------------------

    @endpoint("GET", "mutations", query=[text("userid", "", "only this user's"), THROTTLE], answers=JSON, throttle=True)
    def get_mutations(self, call: Call, userid: str, **_: Any) -> Reply:
        """The mutations of this version in order of completion, a JSON list of their records."""
        return Reply(records.mutations(self, call, userid), JSON)

    @endpoint("GET", "mutations-range/{first:text}/{last:text}", query=[THROTTLE], answers=JSON, throttle=True)
    def get_mutations_range(self, call: Call, first: str, last: str, **_: Any) -> Reply:
        """The mutations of the versions from ``last`` back to its ancestor ``first``, both included: last's first.

        Each version's are in order of completion. Versions are UUIDs or beginnings of some.
        """
        return Reply(records.mutations_range(self, call, first, last), JSON)

    @endpoint("GET", "supervoxel-splits", answers=JSON)
    def get_supervoxel_splits(self, call: Call) -> list[Any]:
        """The splits of supervoxels at this version and its ancestors: ``[UUID, splits, UUID, splits, …]``.

        This version comes first. Each split is ``[mutation id, old supervoxel, remain supervoxel, split supervoxel]``.
        """
        return records.supervoxel_splits(self, call)

    @endpoint("GET", "history/{label:label}/{first:text}/{last:text}", answers=JSON)
    def get_history(self, call: Call, label: int, first: str, last: str) -> Reply:
        """What happened to a body between two versions, the oldest first: a JSON list of mutations.

        They are those of the bodies that its supervoxels, as of ``last``, had in ``first``, renumberings and splits
        included. A request without an Accept header is answered as DVID does: the objects of merges, cleaves and
        splits one after the other, which is not JSON.
        """
        events = records.history(self, call, label, first, last)
        if "accept" in call.headers:
            return Reply(orjson.dumps(events), JSON)
        return Reply(b"".join(records.simple(events)), JSON)

    # -- counters ------------------------------------------------------------------------------------------------------

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
        """New labels are given out from ``label`` + 1 on, up to the ceiling; for administrators.

        ``nextlabel`` reserves those that follow, whatever they are; cleaves and splits pass over labels that are or
        were bodies or mapped supervoxels at any version.
        """
        self._need_index("set-nextlabel")
        self._need_admin(call, "set-nextlabel")
        allocation.set_nextlabel(self, call, label, ceiling)
