"""Coarser scales: each changed block's octant of the next scale is voted anew, from coded blocks, level by level."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
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
    from dvidcore.datatypes.labels.writing.transaction import Transaction

Stored = bytes | memoryview
Getter = Callable[[Sequence[ZYX]], Sequence[Stored | None]]


def coarser(label: LabelEngine, view: View, fresh: Mapping[ZYX, Stored]) -> Iterator[tuple[int, dict[ZYX, Stored]]]:
    """(scale, stored blocks by coordinate) for scales 1 … of what changes with the fresh blocks of scale 0.

    An octant whose block is not among the fresh keeps the voxels that are stored, zeros where nothing is. A coarser
    block that merged versions disagree on is voted from the blocks that are stored, unless they disagree on these too.
    """
    for scale in range(1, label.scales + 1):
        coarse, fine = (partial(label.get_blocks, view, at) for at in (scale, scale - 1))
        fresh = halved(fresh, label.block, coarse, fine)
        yield scale, dict(fresh)


def halved(
    fresh: Mapping[ZYX, Stored], shape: ZYX, coarse: Getter, fine: Getter, zeros: bool = False
) -> dict[ZYX, Stored]:
    """The stored blocks of half the resolution that change with fresh ones; ``zeros`` as of ``blocks.downsample``.

    ``coarse`` and ``fine`` answer what is stored at the two resolutions, or raise KeyConflict.
    """
    families: dict[ZYX, list[Stored | None]] = {}
    for at, value in fresh.items():
        children = families.setdefault(ZYX(at.z >> 1, at.y >> 1, at.x >> 1), [None] * 8)
        children[4 * (at.z & 1) + 2 * (at.y & 1) + (at.x & 1)] = value
    incomplete = sorted(parent for parent, children in families.items() if None in children)
    try:
        kept = dict(zip(incomplete, coarse(incomplete), strict=True))
    except KeyConflict:
        kept = _settled(coarse, fine, incomplete, families)
    tasks = ((children, kept.get(parent)) for parent, children in families.items())
    made = ordered_map(lambda task: _vote(*task, shape, zeros), tasks)
    return dict(zip(families, made, strict=True))


def children_of(parent: ZYX) -> list[ZYX]:
    """The eight blocks that a block of half the resolution is made from, in Z, Y, X order."""
    return [ZYX(*(2 * c + (k >> s & 1) for c, s in zip(parent, (2, 1, 0), strict=True))) for k in range(8)]


def _settled(
    coarse: Getter, fine: Getter, incomplete: Sequence[ZYX], families: dict[ZYX, list[Stored | None]]
) -> dict[ZYX, Stored | None]:
    """What is stored of the incomplete families; where that is in conflict, their children are completed.

    Families whose children are in conflict too are left out.
    """
    kept: dict[ZYX, Stored | None] = {}
    for parent in incomplete:
        try:
            (kept[parent],) = coarse([parent])
        except KeyConflict:
            children = families.pop(parent)
            missing = [k for k, child in enumerate(children) if child is None]
            finer = children_of(parent)
            try:
                found = fine([finer[k] for k in missing])
            except KeyConflict:
                continue
            for k, child in zip(missing, found, strict=True):
                children[k] = child
            families[parent] = children
    return kept


def _vote(children: Sequence[Stored | None], parent: Stored | None, shape: ZYX, zeros: bool) -> bytes:
    coded = [None if child is None else stored.coded(child) for child in children]
    return stored.store(blocks.downsample(coded, None if parent is None else stored.coded(parent), shape, zeros))


# -- any number of blocks, a few of them in memory -----------------------------------------------------------------------

Level = Iterator[tuple[ZYX, bytes]]
"""Fresh coded blocks of a scale, those with a common parent at any coarser scale one after the other."""

_LAST_APART = 31
"""From this scale on there are eight blocks at the most: of int32 coordinates nothing but the signs is left."""


def families_together(coords: NDArray[np.int32], scales: int) -> NDArray[np.intp]:
    """The order of block coordinates, (n, 3) z, y, x, in which those with a common parent at any scale are together."""
    keys: list[NDArray[np.int32]] = []
    for scale in range(min(scales, _LAST_APART) + 1):
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
        if scale >= _LAST_APART:
            fresh = iter(list(fresh))  # else each scale would be a few calls deeper, up to 255 of them
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
