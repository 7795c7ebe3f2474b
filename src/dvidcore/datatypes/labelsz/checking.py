"""The check of a labelsz instance: counts and rankings must agree, and both with the elements.

The latter is noted only: elements from before a sync are not counted until a reload.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvidcore.datatypes.annotation.checking import written_versions
from dvidcore.datatypes.call import Call
from dvidcore.datatypes.labelsz import counts, recount
from dvidcore.datatypes.labelsz.counts import ALL_SYNAPSES, Key
from dvidcore.geometry import UINT64_MAX
from dvidcore.storage.engine import Batch
from dvidcore.storage.versioned import VersionedBatch, View

if TYPE_CHECKING:
    from dvidcore.datatypes.checks import Examination
    from dvidcore.datatypes.labelsz.datatype import LabelSizes


def check(data: LabelSizes, exam: Examination) -> None:
    """Reports what disagrees in all versions, and mends it where the examination repairs."""
    for version in written_versions(data, exam):
        node = data.repo.dag.nodes[version]
        call = Call(data.engine, node, data.database.ancestry_for(data.repo, node, data.record))
        try:
            _rankings(data, call, exam)
            _elements(data, call, exam)
        finally:
            call.close()


def _rankings(data: LabelSizes, call: Call, exam: Examination) -> None:
    view = call.view
    stored = counts.counted(data, view, 0, UINT64_MAX)
    ranked: set[tuple[Key, int]] = set()
    for kind in range(1, ALL_SYNAPSES + 1):
        page = slice(0, None)
        ranked |= {((kind, label), count) for label, count in counts.ranked(data, view, kind, 1, page)}
    wrong = set(stored.items()) ^ ranked
    for key, count in sorted(wrong):
        there = (key, count) in ranked
        what = data.row_name(data.rows.of_count(key))
        words = (f"ranked with {count}", "not") if there else ("not ranked", f"ranked with {count}")
        exam.found("ranking", what, *words, version=call.version, repairable=True)

    def mend(view: View, batch: Batch) -> None:
        writer = VersionedBatch(batch, call.version)
        for key, count in wrong:
            row = data.rows.of_rank(key, count)
            if (key, count) in ranked:
                writer.delete(row)
            else:
                writer.put(row, b"\x01")

    if exam.repair and wrong:
        data.change(call, mend)


def _elements(data: LabelSizes, call: Call, exam: Examination) -> None:
    annotation = data.annotation()
    if annotation is None:
        return
    there = call.elsewhere(annotation)
    try:
        right = recount.counted(data, annotation, there.view, 0, UINT64_MAX)
    finally:
        there.close()
    stored = counts.counted(data, call.view, 0, UINT64_MAX)
    wrong = [key for key in sorted(right.keys() | stored.keys()) if stored.get(key, 0) != right[key]]
    for key in wrong:
        what = data.row_name(data.rows.of_count(key))
        exam.found("count", what, stored.get(key, 0), right[key], version=call.version, serious=False, repairable=True)
    if exam.repair:
        recount.labels(data, call, {label for _, label in wrong})
