"""What an instance knows of its labels and its extents as a whole, at a version: largest label, next label, the box.

The reads answer for a view; the ``raise_`` and ``grow_`` functions add to a writer's batch, which carries the guard.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from dvidcore.datatypes.labels.rows import BODY_OFFSET, LabelCounters, pack_box, pack_u64, unpack_box, unpack_u64
from dvidcore.errors import BadRequest, NotFound
from dvidcore.geometry import UINT64_MAX
from dvidcore.storage.engine import Batch, Snapshot
from dvidcore.storage.keys import prefix_end
from dvidcore.storage.versioned import KeyConflict, VersionedBatch, View

if TYPE_CHECKING:
    from dvidcore.datatypes.labels.engine import LabelEngine
    from dvidcore.datatypes.labels.writing.leases import Lease

Box = tuple[tuple[int, int, int], tuple[int, int, int]]


def _each(view: View, prefix_key: bytes) -> list[bytes]:
    """The value under a key, or where merged versions each wrote one, all of these."""
    try:
        value = view.get(prefix_key)
    except KeyConflict as conflict:
        keys = [prefix_key + version.to_bytes(4, "big") for version in conflict.writers]
        return [bytes(v) for v in view.snapshot.get_many(keys) if v]
    return [] if value is None else [bytes(value)]


def maximum(label: LabelEngine, view: View) -> int:
    """The largest label that this version or an ancestor has had, 0 before any."""
    return max((unpack_u64(v) for v in _each(view, label.rows.maxlabel)), default=0)


def maxima(label: LabelEngine, snapshot: Snapshot) -> dict[int, int]:
    """The largest label by version id, of the versions that have raised it."""
    prefix = label.rows.maxlabel
    rows = snapshot.scan(prefix, prefix + b"\xff" * 4)
    return {int.from_bytes(key[-4:], "big"): unpack_u64(value) for key, value in rows}


def counters(label: LabelEngine, snapshot: Snapshot) -> LabelCounters:
    """The repo-wide maximum and the state of ``set-nextlabel``."""
    return LabelCounters.unpack(snapshot.get(label.rows.next))


def raise_maximum(
    label: LabelEngine, view: View, batch: Batch, largest: int, in_use: int = 0, *, given: int = 0
) -> None:
    """Makes ``largest`` the version's and the repo-wide maximum where it is greater.

    ``in_use`` raises the repo-wide one alone, so that a label in use which no maximum counts is not given out.
    ``given``: the last of the labels that were given out, which raises the next label instead where one is set.
    """
    if max(largest, given) > maximum(label, view):
        VersionedBatch(batch, view.ancestry.version).put(label.rows.maxlabel, pack_u64(max(largest, given)))
    stored = counters(label, view.snapshot)
    now = stored._replace(maximum=max(stored.maximum, largest, in_use))
    if stored.next_label:
        counted = max(largest, in_use) if label.next_is_counted else 0
        now = now._replace(next_label=max(stored.next_label, given, counted))
    else:
        now = now._replace(maximum=max(now.maximum, given))
    if now != stored:
        batch.put(label.rows.next, now.pack())


def allocate(
    label: LabelEngine,
    snapshot: Snapshot,
    now: LabelCounters,
    count: int,
    held: Iterable[range] = (),
    *,
    reserve: bool = False,
) -> range:
    """``count`` new labels, none of which is ``held``.

    Nor is or was one a body or a supervoxel; but with ``reserve``, where a next label was set, they follow it strictly.
    Raises BadRequest beyond the ceiling or uint64.
    """
    start = (now.next_label or max(now.maximum, now.ingested)) + 1
    limit = now.ceiling or UINT64_MAX
    passed = sorted(held, key=lambda some: some[0])  # so that each is looked at once
    while True:
        for some in passed:
            if some[0] < start + count and some[-1] >= start:
                start = some[-1] + 1
        end = start + count - 1
        if end > limit:
            what = "the ceiling" if now.ceiling else "the range of uint64"
            raise BadRequest(f"count: {count} labels from {start} on end beyond {what}, {limit}")
        taken = existing(label, snapshot, start, end) if now.next_label and not reserve else None
        if taken is None:
            return range(start, end + 1)
        start = taken + 1


def holds(label: LabelEngine, snapshot: Snapshot, lease: Lease) -> bool:
    """Whether the labels of a lease can still be given out, by what a later snapshot shows."""
    now = counters(label, snapshot)
    first, last = lease.labels[0], lease.labels[-1]
    if lease.epoch != label.leases.epoch or bool(now.next_label) != bool(lease.base) or now.next_label < lease.base:
        return False
    if (now.ceiling and last > now.ceiling) or (not now.next_label and first <= now.ingested):
        return False
    return lease.reserve or existing(label, snapshot, first, last) is None


def existing(label: LabelEngine, snapshot: Snapshot, first: int, last: int) -> int | None:
    """The largest label from ``first`` to ``last`` that is or was a body or mapped, or that was posted as a body of others.

    At any version.
    """
    rows = label.rows
    ranges = (
        rows.bodies(first, last),
        (rows.mapping(first), prefix_end(rows.mapping(last))),
        (rows.named(first), prefix_end(rows.named(last))),
    )
    keys = (next(snapshot.scan(*bounds, reverse=True, keys_only=True), None) for bounds in ranges)
    found = [int.from_bytes(key[BODY_OFFSET : BODY_OFFSET + 8], "big") for key in keys if key is not None]
    return max(found, default=None)


def raise_ingested(label: LabelEngine, view: View, batch: Batch, largest: int) -> None:
    """Keeps labels up to ``largest``, of voxels that are stored without index, from being given out."""
    now = counters(label, view.snapshot)
    if largest > now.ingested:
        batch.put(label.rows.next, now._replace(ingested=largest).pack())


def get_maxlabel(label: LabelEngine, view: View) -> dict[str, int]:
    """``GET maxlabel``; NotFound where this version has had no label."""
    largest = maximum(label, view)
    if not largest:
        raise NotFound(f'"{label.record.name}" has had no label at this version')
    return {"maxlabel": largest}


def get_nextlabel(label: LabelEngine, view: View) -> dict[str, int]:
    """``GET nextlabel``: the id that the next allocation starts with; BadRequest where the last one is taken.

    It is 1 as long as there are voxels alone, none of which was ever indexed.
    """
    now = counters(label, view.snapshot)._replace(ceiling=0)
    if not (now.next_label or now.maximum):
        return {"nextlabel": 1}
    if (now.next_label or max(now.maximum, now.ingested)) == UINT64_MAX:
        raise BadRequest(f"no label is left: {UINT64_MAX}, the largest there is, has been used")
    return {"nextlabel": allocate(label, view.snapshot, now, 1, reserve=True)[0]}


def extents(label: LabelEngine, view: View) -> Box | None:
    """The version's lowest and highest voxel (z, y, x; both included), None before any write.

    They start from ``MinPoint`` and ``MaxPoint`` of the settings; after a merge they are the union of the parents'.
    """
    boxes = [unpack_box(v) for v in _each(view, label.rows.extents)]
    if not boxes:
        settings = label.record.settings
        low, high = settings.get("MinPoint"), settings.get("MaxPoint")
        return None if low is None or high is None else ((low[2], low[1], low[0]), (high[2], high[1], high[0]))
    return union(boxes)


def union(boxes: list[Box]) -> Box:
    """The smallest box that holds all."""
    (z, y, x), (c, b, a) = (
        [f(box[end][axis] for box in boxes) for axis in range(3)] for end, f in enumerate((min, max))
    )
    return (z, y, x), (c, b, a)


def set_extents(label: LabelEngine, view: View, batch: Batch, box: Box) -> None:
    """Replaces the version's extents."""
    VersionedBatch(batch, view.ancestry.version).put(label.rows.extents, pack_box(*box))


def grow_extents(label: LabelEngine, view: View, batch: Batch, box: Box) -> None:
    """Makes the version's extents hold ``box`` too."""
    old = extents(label, view)
    new = box if old is None else union([old, box])
    if new != old:
        set_extents(label, view, batch, new)
