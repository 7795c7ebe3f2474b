"""The check of an annotation instance: tags and bodies must follow from blocks and labels.

It does what a reload does, without writing, and reports the rows that would change. Most of that clients may have meant,
since blocks can be posted alone and syncs take effect from then on, so it is noted; but where an element is indexed is
kept twice, and must agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from dvidcore import codecs
from dvidcore.datatypes.annotation import bodies, reload
from dvidcore.datatypes.annotation.edit import Edit
from dvidcore.datatypes.annotation.lists import ElementList
from dvidcore.datatypes.annotation.rows import Pairs
from dvidcore.datatypes.call import Call
from dvidcore.storage.keys import instance_range, prefix_range
from dvidcore.storage.versioned import KeyConflict, View

if TYPE_CHECKING:
    from dvidcore.datatypes.annotation.datatype import Annotation
    from dvidcore.datatypes.base import DataType
    from dvidcore.datatypes.checks import Examination


def written_versions(data: DataType, exam: Examination) -> list[int]:
    """The versions that wrote rows of an instance, and those without children; each row is read on the way."""
    nodes = data.repo.dag.nodes
    found = {version for version in exam.lineage.versions if not nodes[version].children}
    for _, entries in exam.grouped(*instance_range(data.record.id), "rows"):
        found.update(version for version, _ in entries)
    return sorted(found)


def check(data: Annotation, exam: Examination) -> None:
    """Reports what disagrees in all versions, and mends it where the examination repairs."""
    for version in written_versions(data, exam):
        node = data.repo.dag.nodes[version]
        call = Call(data.engine, node, data.database.ancestry_for(data.repo, node, data.record))
        try:
            for keys, mend in _steps(data, call.view):
                _look(data, call, exam, keys, mend)
        finally:
            call.close()


def _steps(data: Annotation, view: View) -> list[tuple[Iterator[bytes], reload.Mend]]:
    rows = data.rows
    steps: list[tuple[bytes, reload.Mend]] = [(rows.tag, reload.mend_tags), (rows.body, reload.mend_bodies)]
    if bodies.source(data) is not None:  # else what is there was posted as it is, or is of a sync that ended
        steps = [(rows.block, reload.mend_blocks), (rows.bodies, reload.mend_blocks), *steps]
    return [(view.keys(*prefix_range(prefix)), mend) for prefix, mend in steps]


def _look(data: Annotation, call: Call, exam: Examination, keys: Iterable[bytes], mend: reload.Mend) -> None:
    found = iter(keys)
    while some := list(islice(found, reload.AT_ONCE)):
        for group in _agreed(data, call, some, mend):
            edit = Edit(data, call.view)
            mend(edit, call, group)
            for key in edit.changed_rows():
                stored, right = _number(call.view, data, key), edit.number(key)
                serious = mend is reload.mend_bodies
                words = (f"{stored} elements", f"{right} elements") if stored != right else ("old", "as in the block")
                exam.found(
                    "elements", data.row_name(key), *words, version=call.version, serious=serious, repairable=True
                )
            if exam.repair and edit.changed_rows():
                writer = Call(call.engine, call.node, call.ancestry)
                try:
                    reload.write(data, writer, mend, group)
                finally:
                    writer.close()


def _agreed(data: Annotation, call: Call, keys: list[bytes], mend: reload.Mend) -> Iterator[list[bytes]]:
    """The keys together or, where merged versions disagree on something of them, one by one without those."""
    try:
        mend(Edit(data, call.view), call, keys)
    except KeyConflict:
        for key in keys:
            try:
                mend(Edit(data, call.view), call, [key])
            except KeyConflict:
                continue
            yield [key]
    else:
        yield keys


def _number(view: View, data: Annotation, key: bytes) -> int:
    value = view.get(key)
    if value is None:
        return 0
    unpacked = codecs.unpack(value)
    return len(Pairs(unpacked)) if key.startswith(data.rows.bodies) else len(ElementList(unpacked))
