"""The bodies that elements lie on: looked up in the labels that an instance is synced with, and kept with them.

Whatever changes labels tells what changed, in the batch that it is about to write (``following``). An edit that was
computed from older labels fails the guard on this instance's generation, which each change of the labels raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvidcore.datatypes import following
from dvidcore.datatypes.annotation.edit import Edit
from dvidcore.datatypes.annotation.elements import Item, Place
from dvidcore.datatypes.annotation.lists import points
from dvidcore.datatypes.annotation.rows import Zyx
from dvidcore.datatypes.base import DataType
from dvidcore.datatypes.call import Call
from dvidcore.datatypes.following import LabelChange
from dvidcore.datatypes.labels.engine import LabelEngine
from dvidcore.datatypes.labels.reading.points import labels_at
from dvidcore.datatypes.labels.reading.reader import BlockReader
from dvidcore.errors import Conflict
from dvidcore.geometry import ZYX
from dvidcore.storage.keys import zyx_keys

if TYPE_CHECKING:
    from dvidcore.datatypes.annotation.datatype import Annotation

LabelsAt = Callable[[NDArray[np.int64]], NDArray[np.uint64]]


def source(data: Annotation) -> LabelEngine | None:
    """The instance with the voxels that tell the bodies."""
    found = (labels for labels in data.sources() if isinstance(labels, LabelEngine) and labels.typename != "labelvol")
    return next(found, None)


def at(data: Annotation, call: Call, voxels: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The bodies at voxels, int64 (n, 3) z, y, x, in the call's version: uint64 (n,), 0 where there is none."""
    labels = source(data)
    if labels is None or not len(voxels):
        return np.zeros(len(voxels), np.uint64)
    if labels.engine is call.engine:
        return labels_at(BlockReader(labels, call.of(labels)), voxels)
    # Made after the call's snapshot, so no change that was carried out before is missed.
    there = call.elsewhere(labels)
    try:
        return labels_at(BlockReader(labels, there), voxels)
    finally:
        there.close()


def agreed_at(data: Annotation, call: Call, voxels: NDArray[np.int64]) -> NDArray[np.uint64]:
    """As ``at``, with 0 where the labels are in conflict below a merge of versions. O(n + conflicts log n)."""
    try:
        return at(data, call, voxels)
    except Conflict:
        if len(voxels) == 1:
            return np.zeros(1, np.uint64)
        half = len(voxels) // 2
        return np.concatenate([agreed_at(data, call, part) for part in (voxels[:half], voxels[half:])])


def hold(data: Annotation, stack: ExitStack) -> None:
    """Has other writers of the labels in this process wait."""
    held: Iterable[DataType] = sorted(data.sources(), key=lambda labels: labels.record.id)
    for labels in held:
        if isinstance(labels, LabelEngine) and labels.engine is data.engine:
            stack.enter_context(labels.commit_lock)


def follow(edit: Edit, change: LabelChange) -> None:
    """Moves the elements that a change of labels puts on other bodies."""
    merge(edit, change.bodies)
    if len(change.blocks):
        found = in_blocks(edit, change.blocks, change.block, change.losing)
        relabel(edit, found, change.labels_at)


def merge(edit: Edit, bodies: Mapping[int, int]) -> None:
    """Has all elements of some bodies belong to others."""
    rows = edit.data.rows
    for old, new in bodies.items():
        found = list(edit.rows_of_body(old))
        edit.load_pairs([zyx for zyx, _ in found])
        edit.load([rows.of_body(new) + zyx for zyx, _ in found])
        for zyx, row in found:
            edit.rename(zyx, row, old, new)


Found = list[tuple[Item, Zyx]]


def in_blocks(edit: Edit, blocks: NDArray[np.int64], size: ZYX, losing: Sequence[int] | None) -> Found:
    """The elements in blocks of labels, (n, 3) z, y, x of ``size`` voxels, of the bodies ``losing`` or all."""
    zyxs = covering(blocks, size, edit.size)
    if losing is None:
        if not edit.data.has_elements(edit.view):
            return []
        edit.load_blocks(zyxs)
        found = [(item, zyx) for zyx in zyxs for item in edit.block(zyx)]
    else:
        keys = [(edit.data.rows.of_body(body) + zyx, zyx) for body in losing for zyx in zyxs]
        edit.load([key for key, _ in keys])
        found = [(item, zyx) for key, zyx in keys for item in edit.row(key)]
    if size == edit.size or not found:
        return found
    inside = set(zyx_keys(blocks))
    at = zyx_keys(points([item.place for item, _ in found]) // np.array(size, np.int64))
    return [one for one, block in zip(found, at, strict=True) if block in inside]


def covering(blocks: NDArray[np.int64], size: ZYX, other: ZYX) -> list[Zyx]:
    """The blocks of another size that touch blocks (n, 3) z, y, x."""
    if size == other:
        return zyx_keys(blocks)
    low = blocks * np.array(size, np.int64)
    first, last = low // np.array(other), (low + np.array(size) - 1) // np.array(other)
    touched = [
        np.stack(np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(f, t, strict=True)), indexing="ij"), -1).reshape(
            -1, 3
        )
        for f, t in zip(first.tolist(), last.tolist(), strict=True)
    ]
    return zyx_keys(np.unique(np.concatenate(touched), axis=0))


def relabel(edit: Edit, found: Found, labels_at: LabelsAt) -> None:
    """Puts elements on the bodies that are under them."""
    if not found:
        return
    for (item, zyx), body in zip(found, labels_at(points([item.place for item, _ in found])).tolist(), strict=True):
        place, bare = item.place, item.bare
        was = edit.pairs(zyx).of(place)
        for old in was:
            if old != body:
                edit.unindex(place, zyx, old)
        if body:
            edit.index(bare, zyx, body)


def catch_up(data: Annotation, edit: Edit, call: Call, intents: Sequence[Mapping[str, Any]]) -> None:
    """Puts the elements that intents (``LabelChange.intent``) speak of on the bodies that are now under them."""
    found: dict[Place, tuple[Item, Zyx]] = {}
    for body in following.merged_intents(intents):
        found |= {item.place: (item, zyx) for zyx, row in edit.rows_of_body(body) for item in row}
    for intent in intents:
        blocks = np.array(intent["blocks"], np.int64).reshape(-1, 3)
        if len(blocks):
            found |= {one[0].place: one for one in in_blocks(edit, blocks, ZYX(*intent["block"]), intent["losing"])}
    relabel(edit, list(found.values()), lambda voxels: at(data, call, voxels))
