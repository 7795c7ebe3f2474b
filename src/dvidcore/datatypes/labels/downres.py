"""Coarser scales: each changed block's octant of the next scale is voted anew, from coded blocks, level by level."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from dvidcore import blocks
from dvidcore.datatypes.labels import stored
from dvidcore.geometry import ZYX
from dvidcore.pool import ordered_map
from dvidcore.storage.versioned import KeyConflict, View

if TYPE_CHECKING:
    from dvidcore.datatypes.labels.engine import LabelEngine

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
