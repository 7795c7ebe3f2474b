"""Giving out new labels, and what an administrator may say about it.

New labels follow the repo-wide maximum, or a number that ``set-nextlabel`` chose, up to its ceiling. They are stored as
taken before they are answered, so none is given out twice, whatever happens to the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvidcore.datatypes.labels import counters, guarded
from dvidcore.datatypes.labels.rows import LabelCounters, pack_u64
from dvidcore.errors import BadRequest
from dvidcore.geometry import UINT64_MAX
from dvidcore.storage.engine import Batch
from dvidcore.storage.versioned import VersionedBatch, View

if TYPE_CHECKING:
    from dvidcore.datatypes.base import Call
    from dvidcore.datatypes.labels.engine import LabelEngine

MOST = 1 << 48
"""The largest label that ``POST maxlabel`` takes."""


def allocate(now: LabelCounters, count: int) -> tuple[int, int, LabelCounters]:
    """(first, last, the counters afterwards) of ``count`` new labels; BadRequest beyond the ceiling or uint64."""
    start = (now.next_label or now.maximum) + 1
    end = start + count - 1
    limit = now.ceiling or UINT64_MAX
    if end > limit:
        what = "the ceiling" if now.ceiling else "the range of uint64"
        raise BadRequest(f"count: {count} labels from {start} on end beyond {what}, {limit}")
    if now.next_label:
        return start, end, now._replace(next_label=end)
    return start, end, now._replace(maximum=end)


def post_nextlabel(data: LabelEngine, call: Call, count: int) -> dict[str, int]:
    """Reserves ``count`` new labels: ``{"start": …, "end": …}``, both included."""
    if count == 0:
        raise BadRequest("count: at least 1 label must be asked for")

    def change(view: View, batch: Batch) -> dict[str, int]:
        start, end, after = allocate(counters.counters(data, view.snapshot), count)
        _put_maximum(data, view, batch, end)
        batch.put(data.rows.next, after.pack())
        return {"start": start, "end": end}

    return guarded.write(data, call, change)


def post_maxlabel(data: LabelEngine, call: Call, label: int) -> None:
    """Raises the largest label of this version and of the repo to ``label``; a smaller one changes nothing."""
    if not 0 < label <= MOST:
        raise BadRequest(f"label: {label} is out of range, allowed is 1 to {MOST}")
    guarded.write(data, call, lambda view, batch: counters.raise_maximum(data, view, batch, label))


def set_nextlabel(data: LabelEngine, call: Call, label: int, ceiling: int | None) -> None:
    """New labels start at ``label`` + 1; ``ceiling`` is the largest from now on, 0 for none, None for that which is."""
    if not 0 < label < UINT64_MAX:
        raise BadRequest(f"label: {label} is out of range, allowed is 1 to {UINT64_MAX - 1}")

    def change(view: View, batch: Batch) -> None:
        now = counters.counters(data, view.snapshot)
        limit = now.ceiling if ceiling is None else ceiling
        if limit and label > limit:
            raise BadRequest(f"label: {label} is above the ceiling, {limit}")
        batch.put(data.rows.next, now._replace(next_label=label, ceiling=limit).pack())

    guarded.write(data, call, change)


def _put_maximum(data: LabelEngine, view: View, batch: Batch, largest: int) -> None:
    """Raises the maximum of the version alone."""
    if largest > counters.maximum(data, view):
        VersionedBatch(batch, view.ancestry.version).put(data.rows.maxlabel, pack_u64(largest))
