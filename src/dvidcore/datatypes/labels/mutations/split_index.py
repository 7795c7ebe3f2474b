"""Index rows after voxels of some supervoxels became others: the rows of the blocks that hold them, and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvidcore import labels
from dvidcore.datatypes.labels.index import starts_of_blocks
from dvidcore.storage.keys import zyx_keys

if TYPE_CHECKING:
    from dvidcore.datatypes.labels.index import Columns
    from dvidcore.datatypes.labels.mutations.rewrite import Counted
    from dvidcore.datatypes.labels.writing.transaction import Transaction

Labels = NDArray[np.uint64]


class Entries(NamedTuple):
    """Voxels of supervoxels in blocks, an entry for each that has some."""

    block: NDArray[np.int64]
    """Number of the block in the body's index."""
    supervoxels: Labels
    counts: Labels

    @classmethod
    def of(cls, block: NDArray[np.int64], supervoxels: Labels, counts: Labels) -> Entries:
        there = counts > 0
        return cls(block[there], supervoxels[there], counts[there])

    def voxels(self) -> int:
        return int(self.counts.sum())


class Affected:
    """The part of a body's index that has certain supervoxels, as a transaction changes it."""

    def __init__(self, columns: Columns, supervoxels: Labels) -> None:
        """``supervoxels`` ascend or are few; those that the body does not have do no harm."""
        starts = starts_of_blocks(columns.coords)
        self._number = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(columns.coords)))
        self._columns = columns
        self._surface = columns.surface[starts]
        self._all = columns.coords[starts]
        order = np.argsort(supervoxels)
        place = order[np.minimum(np.searchsorted(supervoxels, columns.supervoxels, sorter=order), len(order) - 1)]
        self._label = place
        self._gone = supervoxels[place] == columns.supervoxels
        self._blocks = np.unique(self._number[self._gone])

    @property
    def coords(self) -> NDArray[np.int32]:
        """(n, 3): the blocks that have one of the supervoxels, z, y, x, ascending."""
        found: NDArray[np.int32] = self._all[self._blocks]
        return found

    def voxels(self) -> int:
        """What the supervoxels have, as the index says."""
        return int(self._columns.counts[self._gone].sum(dtype=np.uint64))

    def become(
        self, counted: Counted, divided: NDArray[np.bool_], inside: Labels, outside: Labels
    ) -> tuple[Entries, Entries]:
        """What is in the runs, and what is not, under the new ids of each supervoxel.

        In the ``divided`` ones of the blocks, those with runs, voxels were counted; elsewhere all that the index says
        is outside.
        """
        whole = np.ones(len(self._all), bool)
        whole[self._blocks[divided]] = False
        rest = self._gone & whole[self._number]
        block = self._blocks[counted.block]
        return (
            Entries.of(block, inside[counted.label], counted.inside),
            Entries.of(
                np.concatenate((block, self._number[rest])),
                outside[np.concatenate((counted.label, self._label[rest]))],
                np.concatenate((counted.outside, self._columns.counts[rest].astype(np.uint64))),
            ),
        )

    def replace(self, write: Transaction, body: int, *entries: Entries) -> int:
        """Puts the body's rows with ``entries`` in place of the supervoxels; answers how many rows are left without any."""
        hit = np.zeros(len(self._all), bool)
        hit[self._blocks] = True
        stay = hit[self._number] & ~self._gone
        columns = self._columns
        kept = Entries(self._number[stay], columns.supervoxels[stay], columns.counts[stay].astype(np.uint64))
        filled = self._put(write, body, [kept, *entries], self._surface)
        empty = self._blocks[~np.isin(self._blocks, filled)]
        for key in zyx_keys(self._all[empty], write.data.rows.index(body)):
            write.batch.delete(key)
        return len(empty)

    def create(self, write: Transaction, body: int, entries: Entries) -> int:
        """Puts the rows of a new body, whose surface nothing has changed yet; answers how many."""
        return len(self._put(write, body, [entries], np.zeros(len(self._all), np.uint64)))

    def _put(self, write: Transaction, body: int, parts: list[Entries], surface: Labels) -> NDArray[np.int64]:
        """Puts a row for each block that has an entry; answers the blocks."""
        block, supervoxels, counts = (np.concatenate(part) for part in zip(*parts, strict=True))
        order = np.lexsort((supervoxels, block))
        block, supervoxels, counts = block[order], supervoxels[order], counts[order].astype(np.uint32)
        first = np.ones(len(block), bool)
        first[1:] = block[1:] != block[:-1]
        starts = np.flatnonzero(first)
        blocks: NDArray[np.int64] = block[starts]
        rows = labels.pack_rows(supervoxels, counts, starts, surface[blocks])
        for key, row in zip(zyx_keys(self._all[blocks], write.data.rows.index(body)), rows, strict=True):
            write.batch.put(key, row)
        return blocks
