"""Coarser scales: each changed block's octant of the next scale is voted anew, from coded blocks, level by level."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dvidcore import blocks
from dvidcore.datatypes.labels import stored
from dvidcore.geometry import ZYX
from dvidcore.pool import ordered_map
from dvidcore.storage.versioned import KeyConflict, View

if TYPE_CHECKING:
    from dvidcore.datatypes.labels.engine import LabelEngine
    from dvidcore.datatypes.labels.transaction import Transaction

Stored = bytes | memoryview


def coarser(label: LabelEngine, view: View, fresh: Mapping[ZYX, Stored]) -> Iterator[tuple[int, dict[ZYX, Stored]]]:
    """(scale, stored blocks by coordinate) for scales 1 … of what changes with the fresh blocks of scale 0.

    An octant whose block is not among the fresh keeps the voxels that are stored, zeros where nothing is. A coarser
    block that merged versions disagree on is voted from the blocks that are stored, unless they disagree on these too.
    """
    for scale in range(1, label.scales + 1):
        families: dict[ZYX, list[Stored | None]] = {}
        for at, value in fresh.items():
            children = families.setdefault(ZYX(at.z >> 1, at.y >> 1, at.x >> 1), [None] * 8)
            children[4 * (at.z & 1) + 2 * (at.y & 1) + (at.x & 1)] = value
        partial = sorted(parent for parent, children in families.items() if None in children)
        try:
            kept = dict(zip(partial, label.get_blocks(view, scale, partial), strict=True))
        except KeyConflict:
            kept = _settled(label, view, scale, partial, families)
        tasks = ((children, kept.get(parent)) for parent, children in families.items())
        made = ordered_map(lambda task: _vote(*task, label.block), tasks)
        fresh = dict(zip(families, made, strict=True))
        yield scale, dict(fresh)


def _settled(
    label: LabelEngine, view: View, scale: int, partial: Sequence[ZYX], families: dict[ZYX, list[Stored | None]]
) -> dict[ZYX, Stored | None]:
    """What is stored of the partial families of a scale; where that is in conflict, their children are completed.

    Families whose children are in conflict too are left out.
    """
    kept: dict[ZYX, Stored | None] = {}
    for parent in partial:
        try:
            (kept[parent],) = label.get_blocks(view, scale, [parent])
        except KeyConflict:
            children = families.pop(parent)
            missing = [k for k, child in enumerate(children) if child is None]
            finer = [ZYX(*(2 * c + (k >> s & 1) for c, s in zip(parent, (2, 1, 0), strict=True))) for k in missing]
            try:
                found = label.get_blocks(view, scale - 1, finer)
            except KeyConflict:
                continue
            for k, child in zip(missing, found, strict=True):
                children[k] = child
            families[parent] = children
    return kept


def _vote(children: Sequence[Stored | None], parent: Stored | None, shape: ZYX) -> bytes:
    coded = [None if child is None else stored.coded(child) for child in children]
    return stored.store(blocks.downsample(coded, None if parent is None else stored.coded(parent), shape))


# -- any number of blocks, a few of them in memory -----------------------------------------------------------------------

Level = Iterator[tuple[ZYX, bytes]]
"""Fresh coded blocks of a scale, those with a common parent at any coarser scale one after the other."""


def families_together(coords: NDArray[np.int32], scales: int) -> NDArray[np.intp]:
    """The order of block coordinates, (n, 3) z, y, x, in which those with a common parent at any scale are together."""
    keys: list[NDArray[np.int32]] = []
    for scale in range(min(scales, 31) + 1):
        at = coords >> np.int32(scale)
        keys += (at[:, 2], at[:, 1], at[:, 0])
        if not len(at) or (at == at[0]).all():
            break
    return np.lexsort(keys)


def climb(write: Transaction, fresh: Level) -> None:
    """Puts all coarser blocks that change with the fresh blocks of scale 0, in the order of ``families_together``.

    An octant whose block is not among the fresh keeps the voxels that are stored, zeros where nothing is. All scales
    are made at once, so no more blocks are held than a few of each.
    """
    for scale in range(1, write.data.scales + 1):
        fresh = _parents(write, scale, fresh)
    for _ in fresh:
        pass


def _parents(write: Transaction, scale: int, finer: Level) -> Level:
    label = write.data

    def vote(family: tuple[ZYX, list[bytes | None]]) -> tuple[ZYX, bytes, bytes]:
        parent, children = family
        (old,) = label.get_blocks(write.view, scale, [parent]) if None in children else (None,)
        block = blocks.downsample(children, None if old is None else stored.coded(old), label.block)
        return parent, block, stored.store(block)

    for parent, block, value in ordered_map(vote, _families(finer)):
        write.put_block(scale, parent, value)
        yield parent, block


def _families(finer: Level) -> Iterator[tuple[ZYX, list[bytes | None]]]:
    """(parent, its eight children) of blocks that come family by family."""
    for parent, family in groupby(finer, key=lambda item: ZYX(*(c >> 1 for c in item[0]))):
        children: list[bytes | None] = [None] * 8
        for at, block in family:
            children[4 * (at.z & 1) + 2 * (at.y & 1) + (at.x & 1)] = block
        yield parent, children
