"""What was found out about the bodies of a version, kept until the index changes.

A write that changes the index counts it up (``Rows.indexed``), so what a snapshot shows of that generation at a version
is the same in every snapshot that shows it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dvidcore.datatypes.labels.rows import unpack_u64

if TYPE_CHECKING:
    from dvidcore.datatypes.call import Call
    from dvidcore.datatypes.labels.rows import Rows
    from dvidcore.storage.versioned import Ancestry

_VERSIONS = 8


class Known:
    """Of one version and generation."""

    __slots__ = ("ancestry", "bodies", "generation", "own")

    def __init__(self, ancestry: Ancestry, generation: int) -> None:
        self.ancestry = ancestry
        self.generation = generation
        self.bodies: NDArray[np.uint64] | None = None
        """All bodies and their voxels, (n, 2), ascending; None while nobody has asked, or where they are too many."""
        self.own: dict[int, bool] = {}
        """Whether the body of an id has the supervoxel of that id."""


class KnownBodies:
    """Of the versions of an instance that were asked about last."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._kept: OrderedDict[int, Known] = OrderedDict()
        self._lock = threading.Lock()

    def at(self, call: Call) -> Known:
        """What is known at the call's version of the generation that its snapshot shows."""
        generation = unpack_u64(call.snapshot.get(self._rows.indexed))
        ancestry = call.ancestry
        with self._lock:
            known = self._kept.get(ancestry.version)
            if known is None or known.generation != generation or known.ancestry is not ancestry:
                known = Known(ancestry, generation)
                self._kept[ancestry.version] = known
                if len(self._kept) > _VERSIONS:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(ancestry.version)
        return known
