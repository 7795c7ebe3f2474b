"""Elements below a merge of versions.

Blocks are what users change. One that a single side changed is seen below the merge by itself; one that several sides
changed is a conflict and stays one, named by whoever reads it, unless an order says who wins, or POST blocks replaces
it. Tags and bodies are derived from blocks and labels, and both may have changed on different sides: in all blocks that
any side touched they are made to follow anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from dvidcore.datatypes.annotation import reload, writing
from dvidcore.datatypes.annotation.edit import Edit
from dvidcore.datatypes.annotation.rows import TAG, Zyx, block_of
from dvidcore.datatypes.call import Call
from dvidcore.storage.engine import Batch
from dvidcore.storage.keys import VERSION_BYTES, kind_range, prefix_end, prefix_range, version_bytes
from dvidcore.storage.versioned import KeyConflict, VersionedBatch

if TYPE_CHECKING:
    from dvidcore.datatypes.annotation.datatype import Annotation


def settle(data: Annotation, call: Call, order: Mapping[int, int] | None) -> None:
    """Settles an instance at the merging version of the call; see ``DataType.settle``."""
    touched = {block_of(key) for key, _ in written(data.record.id, data.rows.block[-1], TAG, call)}
    if not touched:
        return
    if order is not None:
        _choose(data, call, order)
    ordered = [zyx for zyx in sorted(touched) if _agreed(data, call, zyx)]
    _mend(data, call, reload.mend_blocks, [data.rows.block + zyx for zyx in ordered])
    known = set(ordered)
    for prefix, mend in ((data.rows.tag, reload.mend_tags), (data.rows.body, reload.mend_bodies)):
        _mend(data, call, mend, [key for key in call.view.keys(*prefix_range(prefix)) if block_of(key) in known])
    call.renew()


def _mend(data: Annotation, call: Call, mend: reload.Mend, keys: Sequence[bytes]) -> None:
    for at in range(0, len(keys), reload.AT_ONCE):
        reload.write(data, call, mend, keys[at : at + reload.AT_ONCE], tell=False)


def _agreed(data: Annotation, call: Call, zyx: Zyx) -> bool:
    try:
        call.view.get(data.rows.block + zyx)
    except KeyConflict:
        return False
    return True


def _choose(data: Annotation, call: Call, order: Mapping[int, int]) -> None:
    """Stores, at the merging version, the winner of each block in conflict."""
    view = call.view
    won = [
        (prefix_key, min((writer for writer, deleted in entries if not deleted), key=order.__getitem__))
        for prefix_key, entries in view.conflicts(*prefix_range(data.rows.block))
    ]

    def choose(edit: Edit, call: Call, batch: Batch) -> None:
        writer = VersionedBatch(batch, call.version)
        keys = [prefix_key + version_bytes(winner) for prefix_key, winner in won]
        for (prefix_key, _), value in zip(won, edit.view.snapshot.get_many(keys), strict=True):
            if value:
                writer.put(prefix_key, bytes(value))

    if won:
        writing.change(data, call, choose, "resolve", later=True, tell=False)
        call.renew()


def divergent(call: Call) -> set[int]:
    """The ancestors of the merging version that not all of its parents have or are."""
    ancestry = call.ancestry
    return {
        member
        for member in ancestry.order
        if member != ancestry.version
        and not all(member == parent or ancestry.is_ancestor(member, parent) for parent in call.node.parents)
    }


def written(instance: int, first: int, last: int, call: Call) -> Iterator[tuple[bytes, int]]:
    """(prefix key, version) of the rows of kinds ``first`` to ``last`` that divergent versions wrote."""
    versions = {version_bytes(version): version for version in divergent(call)}
    start, stop = kind_range(instance, first)[0], prefix_end(kind_range(instance, last)[0])
    for key in call.snapshot.scan(start, stop, keys_only=True):
        version = versions.get(key[-VERSION_BYTES:])
        if version is not None:
            yield key[:-VERSION_BYTES], version
