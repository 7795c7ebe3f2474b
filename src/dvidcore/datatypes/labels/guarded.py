"""Changes of an instance's rows other than blocks, computed from the newest state and written under its guard."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from dvidcore.datatypes.labels.ingest import read_guard
from dvidcore.datatypes.labels.rows import pack_u64, unpack_u64
from dvidcore.errors import GuardFailed
from dvidcore.storage.engine import Batch
from dvidcore.storage.staged import StagedWrite
from dvidcore.storage.versioned import VersionedBatch

if TYPE_CHECKING:
    from dvidcore.datatypes.base import Call
    from dvidcore.datatypes.labels.engine import LabelEngine
    from dvidcore.storage.versioned import View

T = TypeVar("T")


class Entries(NamedTuple):
    """Supervoxels, each once, and the bodies that they map to from now on: uint64 (n,) both."""

    supervoxels: NDArray[np.uint64]
    bodies: NDArray[np.uint64]


def write(data: LabelEngine, call: Call, change: Callable[[View, Batch], T], mapping: Entries | None = None) -> T:
    """Writes what ``change`` puts into the batch, given the newest view, and ``mapping``; answers what it answers.

    Where another process writes meanwhile, ``change`` is called again. What it raises leaves everything as it was.
    """
    generations = [data.rows.indexed] if mapping is None else [data.rows.indexed, data.rows.mapped]
    with data.commit_lock:
        while True:
            view = call.renew()
            guard = read_guard(view.snapshot, generations)
            batch = Batch()
            answer = change(view, batch)
            if mapping is not None:
                writer = VersionedBatch(batch, call.version)
                for supervoxel, body in zip(mapping.supervoxels.tolist(), mapping.bodies.tolist(), strict=True):
                    writer.put(data.rows.mapping(supervoxel), pack_u64(body))
            if not len(batch):
                return answer
            try:
                _store(data, batch, guard)
            except GuardFailed:
                continue  # another process came between
            if mapping is not None:
                data.mapping.wrote(call.version, *mapping, unpack_u64(guard[data.rows.mapped]) + 1)
            return answer


def _store(data: LabelEngine, batch: Batch, guard: dict[bytes, bytes | None]) -> None:
    """Writes the batch and the next generations, whole however large it is."""
    final = Batch()
    for generation, value in guard.items():
        final.put(generation, pack_u64(unpack_u64(value) + 1))
    with StagedWrite(data.engine) as staged:
        for key, new in batch.operations:
            if new is None:
                staged.delete(key)
            else:
                staged.put(key, new)
        staged.commit(final, sync=data.database.options.sync, guard=guard)
