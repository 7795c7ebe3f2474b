"""Giving stored voxels of some labels other labels: those in runs one, those elsewhere another.

It is what every split does. A block without runs gets another label list, and its voxels are not even inflated unless a
coarser scale is made from them; a block that lies on one side of the runs as a whole is inflated to find that out, and
gets another list too. In the others a kernel codes the sub-blocks anew that a run divides. Blocks are worked on in
parallel, in an order in which all coarser scales can be made at the same time, so a supervoxel of any size takes the
memory of a few blocks.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvidcore import blocks
from dvidcore.datatypes.labels import stored
from dvidcore.datatypes.labels.writing.downres import climb, families_together
from dvidcore.errors import BadRequest
from dvidcore.geometry import ZYX
from dvidcore.pool import ordered_map

if TYPE_CHECKING:
    from dvidcore.datatypes.labels.mutations.runs_input import Pieces, Runs
    from dvidcore.datatypes.labels.writing.transaction import Transaction

Labels = NDArray[np.uint64]
Stored = bytes | memoryview


class Relabelling(NamedTuple):
    """What voxels of label ``old[i]`` become: ``inside[i]`` in the runs, ``outside[i]`` elsewhere. uint64 (n,) each.

    A label that is to stay as it is elsewhere has itself in ``outside``: blocks without runs are then left alone.
    """

    old: Labels
    inside: Labels
    outside: Labels

    def renamed(self, palette: Labels, target: Labels) -> Labels:
        """A label list in which ``target[i]`` stands in place of ``old[i]``."""
        order = np.argsort(self.old)
        place = order[np.minimum(np.searchsorted(self.old, palette, sorter=order), len(order) - 1)]
        found: Labels = np.where(self.old[place] == palette, target[place], palette)
        return found


class Renamed(NamedTuple):
    """What was rewritten, for whoever has the same voxels elsewhere."""

    pieces: Pieces
    change: Relabelling

    def blocks(self) -> list[ZYX]:
        """The blocks in question, in the order of ``of``."""
        return [ZYX(*at) for at in self.pieces.coords.tolist()]

    def of(self, number: int, value: Stored) -> Stored | None:
        """What a stored block becomes; None where it stays as it is. Old labels count, wherever the runs lie."""
        palette, runs = stored.labels(value), self.pieces.of(number)
        if not np.isin(palette, self.change.old).any():
            return None
        if len(runs):
            return _divided(value, palette, runs, self.change).value
        return _relisted(value, palette, self.change, self.change.outside)


class Counted(NamedTuple):
    """The voxels of old labels in the blocks that have runs, an entry for each block and label that it has there."""

    block: NDArray[np.int64]
    """Number of the block, as in ``Pieces.coords``."""
    label: NDArray[np.int64]
    """Number of the label in ``Relabelling.old``."""
    inside: NDArray[np.uint64]
    outside: NDArray[np.uint64]


class _Divided(NamedTuple):
    """A block that has runs. ``value`` is None where it stays as it is."""

    value: Stored | None
    coded: bytes
    voxels: NDArray[np.uint64]
    """Of the old labels, (n, 2), inside and outside."""
    marked: int
    """Voxels that the runs have, each once."""


def _divided(old: Stored, palette: Labels, runs: Runs, change: Relabelling) -> _Divided:
    coded, voxels, marked = blocks.split_runs(stored.coded(old), runs, *change)
    if voxels.all(axis=1).any():
        return _Divided(stored.store(coded), coded, voxels, marked)
    target = np.where(voxels[:, 0] > 0, change.inside, change.outside)
    return _Divided(_relisted(old, palette, change, target), coded, voxels, marked)


def _relisted(old: Stored, palette: Labels, change: Relabelling, target: Labels) -> Stored | None:
    """The block with another label list; None where it is the same."""
    renamed = change.renamed(palette, target)
    return None if np.array_equal(renamed, palette) else stored.with_labels(old, renamed)


class _Block(NamedTuple):
    """A block that was looked at. ``value`` is what it is stored as, None where it stays as it is."""

    number: int
    at: ZYX
    value: Stored | None
    coded: bytes
    """The same, for the coarser scales; empty where none are made."""
    voxels: NDArray[np.uint64] | None
    """Of the old labels, (n, 2), inside and outside; None of a block without runs."""


class Rewriting:
    """The voxels of some labels in the blocks of ``pieces.coords``, as a transaction changes them.

    ``fresh_labels`` are labels that no block may have yet. With ``strict``, every voxel of the runs must have an old
    label; ``whose`` names these for the message. With ``keep_all`` all blocks that change are kept for followers.
    """

    def __init__(
        self,
        write: Transaction,
        pieces: Pieces,
        change: Relabelling,
        *,
        fresh_labels: Labels | None = None,
        strict: bool = False,
        whose: str = "",
        keep_all: bool = False,
    ) -> None:
        self._write = write
        self._pieces = pieces
        self._change = change
        self._fresh = fresh_labels if fresh_labels is not None else np.empty(0, np.uint64)
        self._strict, self._whose, self._keep_all = strict, whose, keep_all
        self.fresh: dict[ZYX, Stored] = {}
        """Blocks as they are stored from now on, those that have runs or all; none where nobody follows."""

    @property
    def renamed(self) -> Renamed:
        """What it does, in the words of ``following.LabelChange``."""
        return Renamed(self._pieces, self._change)

    def run(self, downres: bool) -> Counted:
        """Puts the blocks, with ``downres`` those of the coarser scales too.

        Raises BadRequest where a voxel is in two runs, has a label that it must not have, or where a label that is to
        be given is there already.
        """
        write = self._write
        coords = self._pieces.coords
        write.touch(map(ZYX._make, coords.tolist()))
        numbers, names = array("q"), array("q")
        inside, outside = array("Q"), array("Q")
        order = families_together(coords, write.data.scales if downres else 0).tolist()
        keep = write.data.has_followers()

        def changed() -> Iterator[tuple[ZYX, bytes]]:
            for block in ordered_map(lambda k: self._block(k, downres), order):
                if block.voxels is not None:
                    there = np.flatnonzero(block.voxels.any(axis=1))
                    numbers.extend([block.number] * len(there))
                    names.extend(there.tolist())
                    inside.extend(block.voxels[there, 0].tolist())
                    outside.extend(block.voxels[there, 1].tolist())
                if block.value is None:
                    continue
                write.put_block(0, block.at, block.value)
                if keep and (self._keep_all or block.voxels is not None):
                    self.fresh[block.at] = block.value
                yield block.at, block.coded

        if downres:
            climb(write, changed())
        else:
            for _ in changed():
                pass
        return Counted(
            np.array(numbers, np.int64),
            np.array(names, np.int64),
            np.array(inside, np.uint64),
            np.array(outside, np.uint64),
        )

    def _block(self, number: int, inflate: bool) -> _Block:
        at = ZYX(*self._pieces.coords[number].tolist())
        runs = self._pieces.of(number)
        (old,) = self._write.data.get_blocks(self._write.view, 0, [at])
        if old is None:
            if len(runs) and self._strict:
                raise BadRequest(f"block {at.xyz()} has no voxels of {self._whose}, but the body lists some")
            return _Block(number, at, None, b"", None)
        palette = stored.labels(old)
        if len(self._fresh) and (taken := palette[np.isin(palette, self._fresh)]).size:
            raise BadRequest(f"label {taken[0]} cannot be given: block {at.xyz()} has it already")
        if len(runs):
            return self._divided(number, at, old, palette, runs)
        value = _relisted(old, palette, self._change, self._change.outside)
        return _Block(number, at, value, b"" if value is None or not inflate else stored.coded(value), None)

    def _divided(self, number: int, at: ZYX, old: Stored, palette: Labels, runs: Runs) -> _Block:
        value, coded, voxels, marked = _divided(old, palette, runs, self._change)
        listed = int(runs[:, 3].sum(dtype=np.int64))
        if listed != marked:
            raise BadRequest(f"the body lists {listed - marked} voxels of block {at.xyz()} more than once")
        found = int(voxels[:, 0].sum())
        if self._strict and found != marked:
            raise BadRequest(
                f"{marked - found} voxels that the body lists in block {at.xyz()} are not of {self._whose}"
            )
        return _Block(number, at, value, coded, voxels)
