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
from dvidcore.storage.keys import version_bytes
from dvidcore.storage.staged import LIMIT, StagedWrite

if TYPE_CHECKING:
    from dvidcore.datatypes.base import Call
    from dvidcore.datatypes.labels.engine import LabelEngine
    from dvidcore.storage.versioned import View

T = TypeVar("T")
_CHUNK = 100_000


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
            if not len(batch) and mapping is None:
                return answer
            try:
                _store(data, call.version, batch, mapping, guard)
            except GuardFailed:
                continue  # another process came between
            if mapping is not None:
                data.mapping.wrote(call.version, *mapping, unpack_u64(guard[data.rows.mapped]) + 1)
            return answer


def _store(
    data: LabelEngine, version: int, batch: Batch, mapping: Entries | None, guard: dict[bytes, bytes | None]
) -> None:
    """Writes the batch, the mapping and the next generations, whole however large they are."""
    with StagedWrite(data.engine) as staged:
        if mapping is not None:
            suffix = version_bytes(version)
            for at in range(0, len(mapping.supervoxels), _CHUNK):
                keys = data.rows.mapping_keys(mapping.supervoxels[at : at + _CHUNK])
                bodies = mapping.bodies[at : at + _CHUNK].astype("<u8").view("V8").tolist()
                for key, body in zip(keys, bodies, strict=True):
                    staged.put(key + suffix, body)
        final = Batch()
        if batch.nbytes <= LIMIT:
            final.extend(batch)
        else:
            for key, value in batch.operations:
                if value is None:
                    staged.delete(key)
                else:
                    staged.put(key, value)
        for generation, now in guard.items():
            final.put(generation, pack_u64(unpack_u64(now) + 1))
        staged.commit(final, sync=data.database.options.sync, guard=guard)
