"""The first pass: every stored block is decoded and counted once, whichever versions see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvidcore import blocks
from dvidcore.datatypes.checks import Examination, pattern_of
from dvidcore.datatypes.labels import stored
from dvidcore.datatypes.labels.checks.fingerprints import Sums, fingerprints
from dvidcore.errors import StoreError
from dvidcore.geometry import ZYX
from dvidcore.pool import ordered_map, processors
from dvidcore.storage.keys import TYPE_KEY_OFFSET, prefix_range, zyx_of

if TYPE_CHECKING:
    from dvidcore.datatypes.labels.engine import LabelEngine
    from dvidcore.storage.engine import Value

ZYX_OFFSET = TYPE_KEY_OFFSET + 1
"""Where z, y, x start in the key of a BLOCK row, behind the scale."""
U64s = NDArray[np.uint64]
Entries = list[tuple[int, "Value"]]


class Count(NamedTuple):
    """The supervoxels of a block, ascending, without 0, and their voxels."""

    supervoxels: U64s
    voxels: U64s


Counts = list[Count | str | None]
"""Of the entries of a key: None of a tombstone, a text of one that is damaged."""


def count(value: Value, shape: ZYX) -> Count:
    """Of a stored block. Raises StoreError or ValueError where it does not decode to a block of ``shape``."""
    block = stored.coded(value)
    blocks.check(block, shape)
    found, voxels = blocks.counts(block)
    return Count(found[1:], voxels[1:]) if len(found) and found[0] == 0 else Count(found, voxels)


class BlockPass:
    """Counts the blocks, adds what those of scale 0 hold to the sums, reports those that are damaged."""

    def __init__(self, data: LabelEngine, exam: Examination, sums: Sums | None) -> None:
        """Without ``sums`` nothing is summed up."""
        self._data = data
        self._exam = exam
        self._sums = sums
        self.hidden: dict[bytes, frozenset[int]] = {}
        """By z, y, x (of a key) the versions at which nothing can be said: the block is damaged, or in conflict."""
        self.boxes: dict[int, NDArray[np.int64]] = {}
        """By version the blocks with labels that it wrote: (2, 3), lowest and highest z, y, x, both included."""
        self.largest = 0
        """The largest supervoxel of all."""

    def run(self) -> None:
        """Goes through the blocks of all scales."""
        shape = self._data.block
        for scale in range(self._data.scales + 1):
            groups = self._exam.grouped(*prefix_range(self._data.rows.scale(scale)), f"blocks of scale {scale}")
            for key, entries, counts in ordered_map(lambda g: _counted(*g, shape), groups, 4 * processors()):
                damaged = self._report_damage(key, entries, counts)
                if scale == 0:
                    self._take(key, entries, counts, damaged)

    def _report_damage(self, key: bytes, entries: Entries, counts: Counts) -> set[int]:
        damaged = set()
        for place, (version, _) in enumerate(entries):
            text = counts[place]
            if isinstance(text, str):
                damaged.add(place)
                name = self._data.rows.name(key)
                self._exam.found("block", name, text, "a block that decodes", version=version)
        return damaged

    def _take(self, key: bytes, entries: Entries, counts: Counts, damaged: set[int]) -> None:
        lineage, pattern = self._exam.lineage, pattern_of(entries)
        hidden = lineage.conflicts(pattern)
        if damaged:
            hidden |= {version for version, place in lineage.seen(pattern).items() if place in damaged}
        if hidden:
            self.hidden[key[ZYX_OFFSET:]] = hidden
        at = np.array([zyx_of(key, ZYX_OFFSET)], np.int32)
        for (version, _), found in zip(entries, counts, strict=True):
            if isinstance(found, Count) and len(found.supervoxels):
                self.largest = max(self.largest, int(found.supervoxels[-1]))
                box = self.boxes.setdefault(version, at.repeat(2, axis=0).astype(np.int64))
                np.minimum(box[0], at[0], out=box[0])
                np.maximum(box[1], at[0], out=box[1])
        if self._sums is None:
            return
        for change in lineage.changes(pattern, hidden):
            for place, negative in ((change.now, False), (change.before, True)):
                found = None if place is None else counts[place]
                if isinstance(found, Count):
                    prints = fingerprints(at, *found)
                    self._sums.add(change.version, found.supervoxels, prints, negative=negative)


def _counted(key: bytes, entries: Entries, shape: ZYX) -> tuple[bytes, Entries, Counts]:
    out: Counts = []
    for _, value in entries:
        try:
            out.append(count(value, shape) if len(value) else None)
        except (StoreError, ValueError) as e:
            out.append(str(e))
    return key, entries, out
