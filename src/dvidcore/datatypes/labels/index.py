"""The label index: which blocks a body has, and how many voxels of which supervoxel in each.

It is stored a row for each (body, block), so a write changes the rows of its blocks and no more, however large the
body; beside them stands one record of the body's totals. Both are written in the batch of the blocks themselves.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvidcore import labels
from dvidcore.datatypes.labels.rows import BODY_OFFSET, INDEX_ZYX_OFFSET, BodyRecord, Rows
from dvidcore.storage.engine import Batch, Value
from dvidcore.storage.keys import VERSION_BYTES, prefix_end, version_bytes, zyx_array
from dvidcore.storage.versioned import KeyConflict, View

CACHED_BYTES = 64 << 20
_MOST_BLOCKS = 20_000
_MOST_STEPS = 2000
SUMMED = 0
"""``change`` of totals that no row holds: what goes with them is not kept."""


class Columns(NamedTuple):
    """A body's index, a row for each (block, supervoxel), sorted by z, y, x and supervoxel. Read-only arrays."""

    coords: NDArray[np.int32]
    """(n, 3): block coordinates z, y, x."""
    supervoxels: NDArray[np.uint64]
    counts: NDArray[np.uint32]
    """Voxels of the supervoxel in the block."""
    surface: NDArray[np.uint64]
    """Mutation id of the last change of the body's surface in the block, 0 for none since it was written."""

    def of(self, supervoxel: int) -> Columns:
        """The rows of one supervoxel."""
        return self.where(self.supervoxels == np.uint64(supervoxel))

    def where(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Columns:
        """Some of the rows, by a mask or by their numbers."""
        return Columns(self.coords[rows], self.supervoxels[rows], self.counts[rows], self.surface[rows])

    def patched(self, blocks: NDArray[np.int32], fresh: Columns) -> Columns:
        """The same, but in some blocks (n, 3), ascending, each once: there it is what ``fresh`` has, maybe nothing."""
        old = labels.find_blocks(self.coords, blocks).tolist()
        new = labels.find_blocks(fresh.coords, blocks).tolist()
        parts: list[Columns] = []
        at = 0
        for (start, stop), (first, last) in zip(old, new, strict=True):
            parts += (self._piece(at, start), fresh._piece(first, last))
            at = stop
        parts.append(self._piece(at, len(self.counts)))
        return Columns(
            np.concatenate([part.coords for part in parts]),
            np.concatenate([part.supervoxels for part in parts]),
            np.concatenate([part.counts for part in parts]),
            np.concatenate([part.surface for part in parts]),
        ).frozen()

    def _piece(self, start: int, stop: int) -> Columns:
        return Columns(
            self.coords[start:stop], self.supervoxels[start:stop], self.counts[start:stop], self.surface[start:stop]
        )

    def frozen(self) -> Columns:
        """The same, read-only from here on."""
        for array in self:
            array.flags.writeable = False
        return self

    def blocks(self) -> NDArray[np.int32]:
        """(n, 3): each block once, sorted by z, y, x."""
        return self.coords[starts_of_blocks(self.coords)]


def starts_of_blocks(coords: NDArray[np.int32]) -> NDArray[np.int64]:
    """Where each block begins in the sorted coordinates (n, 3) of a body's index."""
    if not len(coords):
        return np.empty(0, np.int64)
    return np.flatnonzero(np.concatenate(([True], (coords[1:] != coords[:-1]).any(axis=1))))


_State = tuple[int, int]
"""A body and the ``change`` of its record."""


class _Step(NamedTuple):
    """What a state of a body came from, and the blocks in which it differs from that."""

    before: _State
    blocks: frozenset[bytes]


class BodyIndex:
    """Reads the index of bodies at a version. Parsed columns are kept while their body's record does not change."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, int], Columns] = OrderedDict()
        self._bytes = 0
        self._steps: OrderedDict[_State, _Step] = OrderedDict()
        self._forgotten = 0

    def record(self, view: View, body: int) -> BodyRecord | None:
        """The body's totals, None where it does not exist.

        Below a merge of versions that each changed the body, they are summed up from its rows. Raises KeyConflict where
        both changed it in the same block.
        """
        try:
            value = view.get(self._rows.body(body))
        except KeyConflict as conflict:
            return self._summed(view, body, conflict.writers)
        return None if value is None else BodyRecord.unpack(value)

    def _summed(self, view: View, body: int, writers: Sequence[int]) -> BodyRecord | None:
        columns = self.read(view, body)
        if not len(columns.supervoxels):
            return None
        keys = [self._rows.body(body) + version_bytes(writer) for writer in writers]
        records = [BodyRecord.unpack(value) for value in view.snapshot.get_many(keys) if value]
        voxels, blocks = int(columns.counts.sum(dtype=np.uint64)), len(columns.blocks())
        return max(records, key=lambda r: r.last_mutid)._replace(voxels=voxels, blocks=blocks, change=SUMMED)

    def records(self, view: View, first: int = 1, last: int = 2**64 - 1) -> Iterator[tuple[int, BodyRecord]]:
        """(body, record) of all bodies from ``first`` to ``last``, ascending. Raises as ``record`` does."""
        bounds = self._rows.bodies(first, last)
        if view.ancestry.linear:
            for key, value in view.scan(*bounds):
                yield int.from_bytes(key[BODY_OFFSET : BODY_OFFSET + 8], "big"), BodyRecord.unpack(value)
            return
        for key in view.keys(*bounds):
            body = int.from_bytes(key[BODY_OFFSET : BODY_OFFSET + 8], "big")
            record = self.record(view, body)
            if record is not None:
                yield body, record

    def columns(self, view: View, body: int) -> Columns | None:
        """The body's index, None where it does not exist.

        ``change`` of a record is never given to two states of a body, so it names the columns that go with it.
        """
        record = self.record(view, body)
        return None if record is None else self.columns_of(view, body, record)

    def columns_of(self, view: View, body: int, record: BodyRecord) -> Columns:
        """The index of a body that has this record in the view."""
        if record.change == SUMMED:
            return self.read(view, body)
        name = (body, record.change)
        with self._lock:
            kept = self._kept.get(name)
            if kept is not None:
                self._kept.move_to_end(name)
                return kept
            former, blocks = self._former(name)
            forgotten = self._forgotten
        columns = self.read(view, body) if former is None else self._advanced(view, body, former, blocks)
        with self._lock:
            if name not in self._kept and forgotten == self._forgotten:
                self._kept[name] = columns
                self._bytes += _nbytes(columns)
            while self._bytes > CACHED_BYTES and len(self._kept) > 1:
                self._bytes -= _nbytes(self._kept.popitem(last=False)[1])
        return columns

    def forget(self) -> None:
        """Keeps nothing of what was read so far, nor of what is being read."""
        with self._lock:
            self._kept.clear()
            self._steps.clear()
            self._bytes = 0
            self._forgotten += 1

    def wrote(self, body: int, before: object, change: int, batch: Batch) -> None:
        """Says that a batch made of a body, whose row ``state_of`` had ``before``, the state that ``change`` names.

        So the columns of the earlier one, where they are kept, need not be read again for the later.
        """
        if not isinstance(before, bytes):
            return
        former = (body, BodyRecord.unpack(before).change)
        with self._lock:
            if former not in self._kept and former not in self._steps:
                return
        prefix = self._rows.index(body)
        rows = (key[len(prefix) : -VERSION_BYTES] for key, _ in batch.operations if key.startswith(prefix))
        blocks = frozenset(rows)
        with self._lock:
            if len(blocks) > _MOST_BLOCKS:
                return
            self._steps[body, change] = _Step(former, blocks)
            if len(self._steps) > _MOST_STEPS:
                self._steps.popitem(last=False)

    def _former(self, state: _State) -> tuple[Columns | None, set[bytes]]:
        """(the columns of the nearest former state that are kept, the blocks that have changed since)."""
        blocks: set[bytes] = set()
        while (step := self._steps.get(state)) is not None and len(blocks) <= _MOST_BLOCKS:
            blocks |= step.blocks
            state = step.before
            if state in self._kept:
                return self._kept[state], blocks
        return None, blocks

    def _advanced(self, view: View, body: int, former: Columns, blocks: set[bytes]) -> Columns:
        """The columns of the state that the view shows, which differs from a former one in some blocks."""
        prefix = self._rows.index(body)
        keys = [prefix + zyx for zyx in sorted(blocks)]
        rows = [(key, row) for key, row in zip(keys, view.get_many(keys), strict=True) if row is not None]
        return former.patched(zyx_array(keys, INDEX_ZYX_OFFSET), _columns(rows))

    def read(self, view: View, body: int) -> Columns:
        """The body's index from its rows, past the cache."""
        start = self._rows.index(body)
        return _columns(view.scan(start, prefix_end(start))).frozen()


def state_of(view: View, prefix_key: bytes) -> object:
    """What a version sees under a key, to be compared: its value, or where merged versions each wrote one, all."""
    try:
        value = view.get(prefix_key)
    except KeyConflict as conflict:
        keys = [prefix_key + version_bytes(version) for version in conflict.writers]
        return [None if v is None else bytes(v) for v in view.snapshot.get_many(keys)]
    return None if value is None else bytes(value)


def _columns(rows: Iterable[tuple[bytes, Value]]) -> Columns:
    keys, values = [], []
    for key, value in rows:
        keys.append(key)
        values.append(value)
    return Columns(*labels.unpack_rows(keys, values, INDEX_ZYX_OFFSET))


def _nbytes(columns: Columns) -> int:
    return sum(a.nbytes for a in columns) + 500
