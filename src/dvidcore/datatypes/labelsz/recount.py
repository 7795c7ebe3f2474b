"""Counting anew from the annotation instance: for reloads, for followers in another store, where versions merge."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from dvidcore import codecs
from dvidcore.datatypes.annotation.lists import ElementList, points
from dvidcore.datatypes.annotation.rows import BODY, body_of
from dvidcore.datatypes.annotation.settling import written
from dvidcore.datatypes.call import Call
from dvidcore.datatypes.labelsz import counts
from dvidcore.datatypes.labelsz.counts import ALL_SYNAPSES, COUNT, RANK, SYNAPTIC, Key, key_of
from dvidcore.datatypes.pending import erase
from dvidcore.geometry import UINT64_MAX
from dvidcore.storage.engine import Batch, Value
from dvidcore.storage.keys import TYPE_KEY_OFFSET, prefix_end, prefix_range, u64_of
from dvidcore.storage.versioned import KeyConflict, VersionedBatch, View

if TYPE_CHECKING:
    from dvidcore.datatypes.annotation.datatype import Annotation
    from dvidcore.datatypes.labelsz.datatype import LabelSizes

AT_ONCE = 5000
"""About how many rows of elements are counted for one write."""


def start(data: LabelSizes, call: Call) -> None:
    """Begins with a reload of the call's version."""

    def begin(view: View, batch: Batch) -> None:
        batch.put(data.reloads.key(call.version), data.reloads.started)

    data.change(call, begin)
    data.reloads.start(call.version)


def work(data: LabelSizes, call: Call, stop: threading.Event) -> bool:
    """The work of ``reloading.Reloads``: a range of labels after the other."""
    annotation = data.annotation()
    if annotation is None:
        return True
    there = call.elsewhere(annotation)
    writer = Call(call.engine, call.node, call.ancestry)
    try:
        for first, last in _ranges(annotation, there.view):
            if stop.is_set():
                return False
            data.change(writer, _recount(data, writer, annotation, first, last))
    finally:
        writer.close()
        there.close()
    return True


def _ranges(annotation: Annotation, view: View) -> Iterator[tuple[int, int]]:
    """All labels in ranges (first, last) that have about so many rows of elements."""
    first = rows = 0
    body = -1
    for key in view.keys(*prefix_range(annotation.rows.body)):
        if (found := body_of(key)) != body:
            if rows >= AT_ONCE:
                yield first, body
                first, rows = body + 1, 0
            body = found
        rows += 1
    yield first, UINT64_MAX


def _recount(
    data: LabelSizes, call: Call, annotation: Annotation, first: int, last: int
) -> Callable[[View, Batch], None]:
    def recount(view: View, batch: Batch) -> None:
        there = call.elsewhere(annotation)
        try:
            right = counted(data, annotation, there.view, first, last)
        finally:
            there.close()
        stored = counts.counted(data, view, first, last)
        for key in right.keys() | stored.keys():
            counts.put(data, view, batch, key, old=stored.get(key, 0), new=right[key])

    return recount


def counted(data: LabelSizes, annotation: Annotation, view: View, first: int, last: int) -> Counter[Key]:
    """The right counts of all labels from ``first`` to ``last``, both included.

    What merged versions disagree on counts as nothing until it is settled.
    """
    found: Counter[Key] = Counter()
    start, stop = annotation.rows.of_body(first), prefix_end(annotation.rows.of_body(last))
    rows = view.scan(start, stop) if view.ancestry.linear else _settled(view, view.keys(start, stop))
    for key, value in rows:
        tally(found, body_of(key), _kinds(data, ElementList(codecs.unpack(value))))
    return found


def _settled(view: View, keys: Iterable[bytes]) -> Iterator[tuple[bytes, Value]]:
    for key in keys:
        with suppress(KeyConflict):
            value = view.get(key)
            if value is not None:
                yield key, value


def _kinds(data: LabelSizes, elements: ElementList) -> Iterable[int]:
    """The kinds of those elements that count."""
    kinds = elements.kinds()
    if data.region is None:
        return kinds
    inside = data.region.contains(points(elements.places())).tolist()
    return [kind for kind, counts_ in zip(kinds, inside, strict=True) if counts_]


def tally(found: Counter[Key], label: int, kinds: Iterable[int], times: int = 1) -> None:
    """Adds elements of some kinds on a label to the counts of the index types that they belong to."""
    for kind in kinds:
        if kind:
            found[kind, label] += times
            if kind in SYNAPTIC:
                found[ALL_SYNAPSES, label] += times


def labels(data: LabelSizes, call: Call, wanted: Iterable[int]) -> None:
    """Counts some labels anew."""
    annotation = data.annotation()
    if annotation is not None:
        for label in sorted(wanted):
            # Another process may be about to write a count of elements from before, so the generation is raised.
            data.change(call, _recount(data, call, annotation, label, label), always=True)


# -- below a merge of versions -----------------------------------------------------------------------------------------


def settle(data: LabelSizes, call: Call) -> None:
    """Counts the labels anew that any side of a merge touched; see ``DataType.settle``."""
    annotation = data.annotation()
    if annotation is None or annotation.engine is not data.engine:
        return
    instance = data.record.id
    ranks: dict[int, set[bytes]] = {}
    for key, _ in written(instance, RANK, RANK, call):
        ranks.setdefault(key_of(key)[1], set()).add(key)
    touched = {key_of(key)[1] for key, _ in written(instance, COUNT, COUNT, call)} | ranks.keys()
    touched |= {body_of(key) for key, _ in written(annotation.record.id, BODY, BODY, call)}
    touched |= {body_of(key) for key in _written_at(annotation, call)}

    def recount(view: View, batch: Batch) -> None:
        writer = VersionedBatch(batch, call.version)
        seen = call.of(annotation).view
        for label in touched:
            right = counted(data, annotation, seen, label, label)
            for kind in range(1, ALL_SYNAPSES + 1):
                key = (kind, label)
                row = data.rows.of_count(key)
                stored = _count_or_conflict(view, row)
                if stored == right[key]:
                    continue
                if right[key]:
                    writer.put(row, right[key].to_bytes(8, "little"))
                    writer.put(data.rows.of_rank(key, right[key]), b"\x01")
                else:
                    erase(view, writer, row)
            for row in ranks.get(label, ()):
                if UINT64_MAX - u64_of(row, TYPE_KEY_OFFSET + 1) != right[key_of(row)]:
                    erase(view, writer, row)

    if touched:
        data.change(call, recount)


def _count_or_conflict(view: View, row: bytes) -> int:
    try:
        return counts.count_of(view.get(row))
    except KeyConflict:
        return -1


def _written_at(annotation: Annotation, call: Call) -> Iterator[bytes]:
    """The BODY rows that were settled for the merging version itself."""
    for key, version, _ in call.of(annotation).view.scan_entries(*prefix_range(annotation.rows.body)):
        if version == call.version:
            yield key
