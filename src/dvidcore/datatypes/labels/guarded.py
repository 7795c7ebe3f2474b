"""Small changes of an instance's rows, computed from the newest state and written under its guard."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from dvidcore.datatypes.labels.ingest import read_guard
from dvidcore.datatypes.labels.rows import pack_u64, unpack_u64
from dvidcore.errors import GuardFailed
from dvidcore.storage.engine import Batch

if TYPE_CHECKING:
    from dvidcore.datatypes.base import Call
    from dvidcore.datatypes.labels.engine import LabelEngine
    from dvidcore.storage.versioned import View

T = TypeVar("T")


def write(data: LabelEngine, call: Call, change: Callable[[View, Batch], T]) -> T:
    """Writes what ``change`` puts into the batch, given the newest view; answers what it answers.

    Where another process writes meanwhile, ``change`` is called again. What it raises leaves everything as it was.
    """
    indexed = data.rows.indexed
    with data.commit_lock:
        while True:
            view = call.renew()
            guard = read_guard(view.snapshot, [indexed])
            batch = Batch()
            answer = change(view, batch)
            if not len(batch):
                return answer
            batch.put(indexed, pack_u64(unpack_u64(guard[indexed]) + 1))
            try:
                data.engine.write(batch, guard=guard)
            except GuardFailed:
                continue  # another process came between
            return answer
