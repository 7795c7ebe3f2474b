"""Labels that clients choose themselves, where new ones go on as if these were not there, and pass them over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvidcore.datatypes.labels.rows import pack_u64
from dvidcore.datatypes.labels.writing.counters import counters, maximum
from dvidcore.storage.versioned import VersionedBatch, View

if TYPE_CHECKING:
    from dvidcore.datatypes.labels.engine import LabelEngine
    from dvidcore.storage.engine import Batch


def pass_over(data: LabelEngine, view: View, batch: Batch, chosen: int, *, counted: bool) -> None:
    """Keeps a label from being given out as a new one; ``counted``: it counts for the version's largest label."""
    if counted and chosen > maximum(data, view):
        VersionedBatch(batch, view.ancestry.version).put(data.rows.maxlabel, pack_u64(chosen))
    now = counters(data, view.snapshot)
    if chosen > now.maximum:
        batch.put(data.rows.next, now._replace(maximum=chosen, next_label=now.next_label or now.maximum).pack())
