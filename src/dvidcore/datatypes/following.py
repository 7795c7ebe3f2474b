"""Following (``POST sync``): what a change of one instance means for those that are synced with it.

A follower takes part in the write that it follows. It puts its own rows into the batch of the change, so for every
reader, and after a crash, the labels and what follows them are both as before or both changed. ``tell`` is called by
whoever changes an instance, with the batch that is about to be written; each follower's ``follow`` may in turn tell its
own followers. A change says what it needs to say of the state after it, since nothing of that is in the store yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dvidcore.geometry import ZYX

if TYPE_CHECKING:
    from dvidcore.datatypes.base import Call, DataType
    from dvidcore.storage.engine import Batch

Guard = dict[bytes, bytes | None]
"""Keys, and the values that must still stand under them when a batch is written."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of an instance at one version."""

    action: str
    """What was done, in the words of DVID's messages: ``merge``, ``cleave``, ``mutate-block`` …"""
    mutation: int
    """The id of the mutation."""


@dataclass(frozen=True, slots=True)
class LabelChange(Change):
    """A change of which body voxels belong to. Voxels that neither ``bodies`` nor ``blocks`` speak of keep theirs."""

    labels_at: Callable[[NDArray[np.int64]], NDArray[np.uint64]]
    """The bodies at voxels, int64 (n, 3) z, y, x, once the change is made: uint64 (n,), 0 for background."""
    block: ZYX
    """Voxels of a block."""
    bodies: Mapping[int, int] = field(default_factory=dict)
    """Bodies that became part of another as a whole, and which: of a merge, or of a renumbering."""
    blocks: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 3), np.int64))
    """Blocks of scale 0, (n, 3) z, y, x, each once, in which voxels came to belong to other bodies: of a cleave, a
    split, a write of voxels."""
    losing: tuple[int, ...] | None = None
    """The bodies that voxels of ``blocks`` belonged to before; None where it can be any."""


def tell(source: DataType, call: Call, change: Change, batch: Batch) -> Guard:
    """Has all followers of an instance add to the batch what follows from a change at the call's version.

    Answers what the batch must be guarded with; each of these generations must be raised in the batch, which
    ``follow`` has done.
    """
    guard: Guard = {}
    for follower in source.followers():
        guard |= follower.follow(call.of(follower), change, batch)
    return guard
