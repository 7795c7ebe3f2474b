"""Reload: tags and bodies of a version are made to follow from its blocks and labels again.

Blocks are handled some at a time, each time in one guarded batch that changes what is wrong and nothing else. So
labels may change meanwhile, memory is bounded, and readers find old or right entries, never none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from dvidcore.datatypes.annotation import bodies, writing
from dvidcore.datatypes.annotation.edit import Edit
from dvidcore.datatypes.annotation.rows import block_of, body_of, tag_of
from dvidcore.datatypes.call import Call
from dvidcore.storage.engine import Batch
from dvidcore.storage.keys import prefix_range

if TYPE_CHECKING:
    from dvidcore.datatypes.annotation.datatype import Annotation

AT_ONCE = 256
"""Rows that are handled in one write."""

Mend = Callable[[Edit, Call, Sequence[bytes]], None]
"""Changes what is wrong with the rows of some prefix keys, or of their blocks."""


def start(data: Annotation, call: Call) -> None:
    """Begins with a reload of the call's version."""

    def begin(edit: Edit, call: Call, batch: Batch) -> None:
        batch.put(data.reloads.key(call.version), data.reloads.started)

    writing.change(data, call, begin, "reload")
    data.reloads.start(call.version)


def work(data: Annotation, call: Call, stop: threading.Event) -> bool:
    """The work of ``reloading.Reloads``."""
    rows = data.rows
    view = call.view
    steps: list[tuple[Iterator[bytes], Mend]] = [
        (view.keys(*prefix_range(rows.block)), mend_blocks),
        (view.keys(*prefix_range(rows.bodies)), mend_blocks),
        (view.keys(*prefix_range(rows.tag)), mend_tags),
        (view.keys(*prefix_range(rows.body)), mend_bodies),
    ]
    writer = Call(call.engine, call.node, call.ancestry)
    try:
        for keys, mend in steps:
            while some := list(islice(keys, AT_ONCE)):
                if stop.is_set():
                    return False
                write(data, writer, mend, some)
    finally:
        writer.close()
    return True


def write(data: Annotation, call: Call, mend: Mend, keys: Sequence[bytes], *, tell: bool = True) -> None:
    """One write of what ``mend`` finds wrong. Rows on which merged versions disagree are written anew."""

    def make(edit: Edit, call: Call, batch: Batch) -> None:
        edit.overrides = (data.rows.bodies, data.rows.body, data.rows.tag)
        mend(edit, call, keys)

    writing.change(data, call, make, "reload", later=True, tell=tell)


def mend_blocks(edit: Edit, call: Call, keys: Sequence[bytes]) -> None:
    """Gives the elements of blocks the entries that they should have, and takes others on known bodies away.

    Elements over labels that merged versions disagree on are on no body.
    """
    zyxs = [block_of(key) for key in keys]
    edit.load_blocks(zyxs)
    found = [(item, zyx) for zyx in zyxs for item in edit.block(zyx)]
    bodies.relabel(edit, found, lambda voxels: bodies.agreed_at(edit.data, call, voxels))
    for item, zyx in found:
        for tag in item.tags():
            edit.tag(tag, zyx).put(item.bare)
    for zyx in zyxs:
        block = edit.block(zyx)
        for place, body in edit.pairs(zyx).items():
            if place not in block:
                edit.unindex(place, zyx, body)


def mend_tags(edit: Edit, call: Call, keys: Sequence[bytes]) -> None:
    """Takes from TAG rows what does not have the tag."""
    edit.load([*keys, *{edit.data.rows.block + block_of(key) for key in keys}])
    for key in keys:
        row, block, tag = edit.row(key), edit.block(block_of(key)), tag_of(key)
        for place in row.places():
            item = block.get(place)
            if item is None or tag not in item.tags():
                row.pop(place)


def mend_bodies(edit: Edit, call: Call, keys: Sequence[bytes]) -> None:
    """Takes from BODY rows what is not indexed there."""
    edit.load(keys)
    edit.load_pairs([block_of(key) for key in keys])
    for key in keys:
        zyx, body = block_of(key), body_of(key)
        pairs = edit.pairs(zyx)
        for place in edit.row(key).places():
            if body not in pairs.of(place):
                edit.unindex(place, zyx, body)
