"""A labelmap and all its versions in numpy and dictionaries: what each request makes of them, by the contract alone.

A version holds the voxels of each scale, who wrote which block, and the mapping with who wrote which entry. The index
and the sizes follow from voxels and mapping.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from test_labelmap_writes import Index, Volume, downsample

SIDE = 16
SCALES = 2
Block = tuple[int, int, int]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Frame:
    """Where the model's voxels are: the lowest block, z, y, x, a multiple of what a coarsest block covers, and how many."""

    low: Block
    shape: Block

    def part(self, scale: int, at: Block) -> tuple[slice, ...]:
        """Where a block is in the volume of its scale."""
        low = [low >> scale for low in self.low]
        return tuple(slice((a - b) * SIDE, (a - b + 1) * SIDE) for a, b in zip(at, low, strict=True))

    def blocks(self, scale: int = 0) -> list[Block]:
        """All blocks of a scale."""
        low = [low >> scale for low in self.low]
        shape = (n >> scale for n in self.shape)
        return [tuple(int(a + b) for a, b in zip(at, low, strict=True)) for at in np.ndindex(*shape)]  # type: ignore[misc]


FRAME = Frame((-4, 0, -4), (4, 4, 8))


@dataclass
class Version:
    """What one version sees."""

    id: int
    uuid: str
    ancestors: frozenset[int]
    """Without itself."""
    parents: tuple[int, ...]
    levels: list[Volume]
    block_writer: list[dict[Block, int]]
    """By scale."""
    frame: Frame = FRAME
    mapping: dict[int, int] = field(default_factory=dict)
    mapping_writer: dict[int, int] = field(default_factory=dict)
    counts: dict[Block, dict[int, int]] = field(default_factory=dict)
    """The voxels of each supervoxel in each block of scale 0."""
    largest: int = 0
    low: list[int] | None = None
    high: list[int] | None = None
    open: bool = True
    splits: list[tuple[int, int, int]] = field(default_factory=list)
    """(old, remain, split) of this version, in order."""
    actions: list[str] = field(default_factory=list)
    """Of this version's log."""

    @classmethod
    def root(cls, version: int, uuid: str, frame: Frame = FRAME) -> Version:
        levels = [np.zeros([SIDE * n >> scale for n in frame.shape], np.uint64) for scale in range(SCALES + 1)]
        return cls(version, uuid, frozenset(), (), levels, [{} for _ in levels], frame)

    def child(self, version: int, uuid: str) -> Version:
        return Version(
            version,
            uuid,
            self.ancestors | {self.id},
            (self.id,),
            [level.copy() for level in self.levels],
            [dict(writers) for writers in self.block_writer],
            self.frame,
            dict(self.mapping),
            dict(self.mapping_writer),
            {at: dict(counts) for at, counts in self.counts.items()},
            self.largest,
            self.low,
            self.high,
        )

    # -- what follows --------------------------------------------------------------------------------------------------

    def body(self, supervoxel: int) -> int:
        return self.mapping.get(supervoxel, supervoxel)

    def index(self) -> dict[int, Index]:
        """Body → block → supervoxel → voxels."""
        out: dict[int, Index] = {}
        for at, counts in self.counts.items():
            for supervoxel, voxels in counts.items():
                if body := self.body(supervoxel):
                    out.setdefault(body, {}).setdefault(at, {})[supervoxel] = voxels
        return out

    def members(self) -> dict[int, dict[int, int]]:
        """Body → supervoxel → voxels."""
        out: dict[int, dict[int, int]] = {}
        for counts in self.counts.values():
            for supervoxel, voxels in counts.items():
                if body := self.body(supervoxel):
                    of_body = out.setdefault(body, {})
                    of_body[supervoxel] = of_body.get(supervoxel, 0) + voxels
        return out

    def bodies_of(self, volume: Volume) -> Volume:
        """A volume of supervoxels, all within some thousands of each other, as one of bodies."""
        base = int(volume[volume != 0].min(initial=2**63))
        table = np.arange(base, int(volume.max(initial=base)) + 1, dtype=np.uint64)
        for supervoxel, body in self.mapping.items():
            if base <= supervoxel < base + len(table):
                table[supervoxel - base] = body
        out = volume.copy()
        there = volume != 0
        out[there] = table[volume[there] - np.uint64(base)]
        return out

    # -- changes -------------------------------------------------------------------------------------------------------

    def map(self, pairs: Iterable[tuple[int, int]]) -> None:
        for supervoxel, body in pairs:
            self.mapping[supervoxel] = body
            self.mapping_writer[supervoxel] = self.id

    def write(self, changed: dict[Block, Volume], *, downres: bool) -> None:
        """Replaces blocks of scale 0, and votes the octants below which there is a new block."""
        for at, volume in changed.items():
            self.levels[0][self.frame.part(0, at)] = volume
            self.count(at)
            self.block_writer[0][at] = self.id
        fresh: set[Block] = set(changed)
        for scale in range(1, SCALES + 1 if downres else 1):
            parents: set[Block] = set()
            for at in fresh:
                half = tuple(slice(s.start // 2, s.stop // 2) for s in self.frame.part(scale - 1, at))
                self.levels[scale][half] = downsample(self.levels[scale - 1][self.frame.part(scale - 1, at)])
                parents.add(tuple(a >> 1 for a in at))  # type: ignore[arg-type]
            for at in parents:
                self.block_writer[scale][at] = self.id
            fresh = parents

    def count(self, at: Block) -> None:
        found, voxels = np.unique(self.levels[0][self.frame.part(0, at)], return_counts=True)
        self.counts[at] = {s: n for s, n in zip(found.tolist(), voxels.tolist(), strict=True) if s}

    def grow(self, blocks: Iterable[Block]) -> None:
        ends = np.array(list(blocks))
        low, high = (ends.min(0) * SIDE).tolist(), ((ends.max(0) + 1) * SIDE - 1).tolist()
        self.low = low if self.low is None else [min(p) for p in zip(low, self.low, strict=True)]
        self.high = high if self.high is None else [max(p) for p in zip(high, self.high, strict=True)]


class Model:
    """All versions, and the counters of the repo."""

    def __init__(self, root_id: int, uuid: str) -> None:
        self.versions = {root_id: Version.root(root_id, uuid)}
        self.maximum = 0
        self.next_label = 0
        self.existing: set[int] = set()
        """What is or was a body, or has a mapping entry, at any version."""

    def note(self, version: Version) -> None:
        """Takes in what a change of a version made exist."""
        self.existing |= {*version.mapping, *version.members()}

    def raise_to(self, version: Version, label: int) -> None:
        """A label was used at a version."""
        version.largest = max(version.largest, label)
        self.maximum = max(self.maximum, label)

    def in_use(self, labels: Iterable[int]) -> None:
        self.maximum = max(self.maximum, *labels)

    def following(self, count: int = 1, reserve: bool = True) -> int:
        """The first of the labels that are reserved next; without ``reserve``, that new bodies and supervoxels get."""
        start = (self.next_label or self.maximum) + 1
        while self.next_label and not reserve:
            taken = [label for label in self.existing if start <= label < start + count]
            if not taken:
                break
            start = max(taken) + 1
        return start

    def give(self, version: Version, count: int = 1, reserve: bool = False) -> range:
        """New labels, as they must come."""
        start = self.following(count, reserve)
        last = start + count - 1
        if self.next_label:
            self.next_label = last
        else:
            self.maximum = last
        version.largest = max(version.largest, last)
        return range(start, last + 1)

    # -- versions ------------------------------------------------------------------------------------------------------

    def child(self, parent: Version, version: int, uuid: str) -> Version:
        made = self.versions[version] = parent.child(version, uuid)
        return made

    def wins(self, a: int | None, b: int | None) -> int | None:
        """Whose entry a version sees whose parents see those of ``a`` and ``b``; raises ValueError for a conflict."""
        if a == b or b is None:
            return a
        if a is None or a in self.versions[b].ancestors:
            return b
        if b in self.versions[a].ancestors:
            return a
        raise ValueError("conflict")

    def mergeable(self, one: Version, two: Version) -> bool:
        """Whether neither voxels nor mappings are in conflict, and no side has voxels of what the other retired."""
        try:
            for at in one.frame.blocks():
                self.wins(one.block_writer[0].get(at), two.block_writer[0].get(at))
            for supervoxel in {*one.mapping, *two.mapping}:
                self.wins(one.mapping_writer.get(supervoxel), two.mapping_writer.get(supervoxel))
        except ValueError:
            return False
        there = {s for version in (one, two) for counts in version.counts.values() for s in counts}
        return not any(version.mapping.get(s) == 0 for version in (one, two) for s in there)

    def merge(self, one: Version, two: Version, version: int, uuid: str) -> Version:
        """What both have, conflicts of coarser scales voted anew; only what is ``mergeable``."""
        made = one.child(version, uuid)
        made.ancestors = one.ancestors | two.ancestors | {one.id, two.id}
        made.parents = (one.id, two.id)
        for supervoxel in two.mapping:
            first, second = one.mapping_writer.get(supervoxel), two.mapping_writer.get(supervoxel)
            if self.wins(first, second) != first:
                made.mapping[supervoxel] = two.mapping[supervoxel]
                made.mapping_writer[supervoxel] = two.mapping_writer[supervoxel]
        for scale in range(SCALES + 1):
            for at in one.frame.blocks(scale):
                first, second = one.block_writer[scale].get(at), two.block_writer[scale].get(at)
                here = one.frame.part(scale, at)
                try:
                    winner = self.wins(first, second)
                except ValueError:
                    finer = tuple(slice(2 * s.start, 2 * s.stop) for s in here)
                    made.levels[scale][here] = downsample(made.levels[scale - 1][finer])
                    made.block_writer[scale][at] = made.id
                    continue
                if winner is not None and winner != first:
                    made.levels[scale][here] = two.levels[scale][here]
                    made.block_writer[scale][at] = winner
                    if scale == 0:
                        made.counts[at] = dict(two.counts[at])
        made.largest = max(one.largest, two.largest)
        boxes = [(v.low, v.high) for v in (one, two) if v.low is not None and v.high is not None]
        if boxes:
            made.low = [min(p) for p in zip(*(low for low, _ in boxes), strict=True)]  # type: ignore[arg-type]
            made.high = [max(p) for p in zip(*(high for _, high in boxes), strict=True)]  # type: ignore[arg-type]
        self.versions[version] = made
        return made
