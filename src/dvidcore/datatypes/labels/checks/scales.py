"""The coarser scales, compared with the vote of the finer ones.

Clients may post coarser blocks of their own, or none, so what differs is counted, and serious only where that is asked
for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dvidcore import blocks
from dvidcore.datatypes.checks import CONFLICT, Examination
from dvidcore.datatypes.families import Family, families
from dvidcore.datatypes.labels import stored
from dvidcore.errors import StoreError
from dvidcore.geometry import ZYX
from dvidcore.pool import ordered_map, processors
from dvidcore.storage.versioned import KeyConflict, View

if TYPE_CHECKING:
    from dvidcore.datatypes.labels.engine import LabelEngine


def check_scales(data: LabelEngine, exam: Examination) -> None:
    """Reports by version and scale how many coarse blocks are not the vote of the finer ones."""
    scales = _Scales(data, exam)
    for scale in range(1, data.scales + 1):
        scales.check(scale)


class _Scales:
    def __init__(self, data: LabelEngine, exam: Examination) -> None:
        self.data = data
        self.exam = exam

    def check(self, scale: int) -> None:
        differ: dict[int, list[ZYX]] = {}
        compared: dict[int, int] = {}
        found = families(self.exam, self.data.rows.scale(scale), self.data.rows.scale(scale - 1))
        for at, results in ordered_map(lambda family: self._compare(scale, family), found, 4 * processors()):
            for version, agrees in results:
                compared[version] = compared.get(version, 0) + 1
                if not agrees:
                    differ.setdefault(version, []).append(at)
        for version, places in sorted(differ.items()):
            self.exam.found(
                "scale",
                f"scale {scale}",
                f"in {len(places)} of {compared[version]} blocks not the vote of scale {scale - 1}, first {places[0].xyz()}",
                "their vote",
                version=version,
                serious=False,
            )

    def _compare(self, scale: int, family: Family) -> tuple[ZYX, list[tuple[int, bool]]]:
        at, writers = family
        versions = {*writers}
        if len(writers) > 1:  # versions that were merged see what neither of them wrote whole
            seen = self.exam.lineage.seen(writers)
            versions |= {version for version, place in seen.items() if place == CONFLICT}
        out = []
        for version in sorted(versions):
            try:
                out.append((version, self._agrees(scale, at, version)))
            except (KeyConflict, StoreError, ValueError):
                continue  # a conflict, or damage that is reported elsewhere
        return at, out

    def _agrees(self, scale: int, at: ZYX, version: int) -> bool:
        data = self.data
        ancestry = data.database.ancestry_for(data.repo, data.repo.dag.nodes[version], data.record)
        view = View(self.exam.snapshot, ancestry)
        below = [ZYX(2 * at.z + z, 2 * at.y + y, 2 * at.x + x) for z in (0, 1) for y in (0, 1) for x in (0, 1)]
        children = [None if value is None else stored.coded(value) for value in data.get_blocks(view, scale - 1, below)]
        value = data.get_blocks(view, scale, [at])[0]
        coarse = None if value is None else stored.coded(value)
        if all(child is None for child in children):
            return True  # nothing to compare with
        voted = blocks.decode(blocks.downsample(children, coarse, data.block))
        there = np.zeros(data.block, np.uint64) if coarse is None else blocks.decode(coarse)
        return bool((voted == there).all())
