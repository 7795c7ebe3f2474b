"""Labels below a merge of versions: what is derived is made to agree with what each of the merged versions changed.

Voxels of scale 0 and mappings are what users change; a block or a mapping that only one side changed is seen below the
merge by itself. The index and the coarser scales are derived from both, so where two sides changed what meets there
(one merged bodies, the other wrote voxels of one), no side's rows are right. They are computed anew here, and written
under the merging version before it comes to be. Where several sides changed the same block or mapping, that is a
conflict: it stays one, named by whoever reads it, unless an order says who wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvidcore import blocks
from dvidcore.datatypes.labels import stored
from dvidcore.datatypes.labels.mapping import among
from dvidcore.datatypes.labels.rows import BODY_OFFSET, INDEX_ZYX_OFFSET, BodyRecord, unpack_u64
from dvidcore.datatypes.labels.writing import transaction
from dvidcore.datatypes.labels.writing.downres import Getter, children_of
from dvidcore.datatypes.labels.writing.indexing import Counts, Pair, rows_of
from dvidcore.datatypes.labels.writing.transaction import Transaction
from dvidcore.geometry import ZYX
from dvidcore.storage.engine import Value
from dvidcore.storage.keys import VERSION_BYTES, prefix_end, prefix_range, version_bytes, zyx_key, zyx_of
from dvidcore.storage.versioned import KeyConflict, View

if TYPE_CHECKING:
    from dvidcore.datatypes.call import Call
    from dvidcore.datatypes.labels.engine import LabelEngine


def settle(data: LabelEngine, call: Call, order: Mapping[int, int] | None) -> None:
    """Settles an instance at the merging version of the call; see ``DataType.settle``."""
    _Settling(data, call, order).run()


def settle_chain(data: LabelEngine, source: LabelEngine, call: Call, order: Mapping[int, int] | None) -> None:
    """Settles an instance that is another one at half the resolution, which is settled already."""
    ancestry = call.ancestry
    if not source.record.versioned:
        ancestry = source.database.ancestry_for(source.repo, call.node, source.record)
    finer = partial(source.get_blocks, View(call.snapshot, ancestry), 0)
    _Settling(data, call, order).settle_scale(0, finer, zeros=True)


class _Changed(NamedTuple):
    """The rows of one kind that versions wrote which not all parents share: prefix key → writers."""

    rows: dict[bytes, list[int]]

    def conflicts(self, view: View) -> Iterable[tuple[bytes, list[int]]]:
        """(prefix key, writers) of those that several sides have written, tombstones included."""
        for prefix_key, writers in self.rows.items():
            frontier = view.ancestry.frontier(writers)
            if len(frontier) > 1:
                yield prefix_key, frontier


class _Settling:
    def __init__(self, data: LabelEngine, call: Call, order: Mapping[int, int] | None) -> None:
        self.data = data
        self.call = call
        self.order = order
        self.divergent = _divergent(call)
        self.disputed: dict[int, set[int]] = {}
        """Supervoxels that sides map differently, and the bodies that each says: of these, rows stay as they are."""

    def run(self) -> None:
        of_blocks = self._changed(self.data.rows.scale(0))
        of_mapping = self._changed(*self.data.rows.mappings())
        if self.order is not None:
            self._write(self._winners(of_blocks))
            self._map(self._winners(of_mapping))
        else:
            self._dispute(of_mapping)
        if self.data.indexed:
            self._settle_index(of_blocks, of_mapping)
        for scale in range(1, self.data.scales + 1):
            self.settle_scale(scale, partial(self.data.get_blocks, self.call.view, scale - 1))

    def _changed(self, start: bytes, stop: bytes | None = None) -> _Changed:
        if stop is None:
            start, stop = prefix_range(start)
        divergent = {version_bytes(version): version for version in self.divergent}
        rows: dict[bytes, list[int]] = {}
        for key in self.call.snapshot.scan(start, stop, keys_only=True):
            version = divergent.get(key[-VERSION_BYTES:])
            if version is not None:
                rows.setdefault(key[:-VERSION_BYTES], []).append(version)
        return _Changed(rows)

    def _write(self, rows: Mapping[bytes, Value]) -> None:
        """Stores rows at the merging version; an empty value is a tombstone."""

        def put(attempt: Transaction) -> None:
            for prefix_key, value in rows.items():
                if len(value):
                    attempt.batch.put(prefix_key, value)
                else:
                    attempt.batch.delete(prefix_key)

        if rows:
            transaction.write(self.data, self.call, put)
            self.call.renew()

    def _winners(self, changed: _Changed) -> dict[bytes, bytes]:
        """What wins where several sides have written."""
        assert self.order is not None
        won = [
            (prefix_key, min(writers, key=self.order.__getitem__))
            for prefix_key, writers in changed.conflicts(self.call.view)
        ]
        values = self.call.snapshot.get_many([key + version_bytes(writer) for key, writer in won])
        return {key: bytes(value or b"") for (key, _), value in zip(won, values, strict=True)}

    def _map(self, won: Mapping[bytes, bytes]) -> None:
        supervoxels = np.array([_u64(key) for key in won], np.uint64)
        bodies = np.frombuffer(b"".join(won.values()), "<u8").astype(np.uint64)
        if len(won):
            transaction.write(self.data, self.call, lambda t: t.map(supervoxels, bodies))
            self.call.renew()

    def _dispute(self, of_mapping: _Changed) -> None:
        """Writes down which supervoxels the sides map differently: there is no telling which body they are of."""
        for prefix_key, writers in of_mapping.conflicts(self.call.view):
            values = self.call.snapshot.get_many([prefix_key + version_bytes(writer) for writer in writers])
            bodies = {unpack_u64(value) for value in values}
            if len(bodies) > 1:
                self.disputed[_u64(prefix_key)] = bodies
        if self.disputed:
            supervoxels = np.array(sorted(self.disputed), "<u8").tobytes()
            transaction.write(self.data, self.call, lambda t: t.batch.put(self.data.rows.disputed, supervoxels))
            self.call.renew()

    # -- the index -----------------------------------------------------------------------------------------------------

    def _settle_index(self, of_blocks: _Changed, of_mapping: _Changed) -> None:
        """Recomputes the rows of all blocks in which the changes of several sides may meet."""
        of_index = self._changed(*prefix_range(self.data.rows.all_indices))
        moved = np.array([_u64(key) for key in of_mapping.rows], np.uint64)  # in the order of keys, so they ascend
        met = {key[INDEX_ZYX_OFFSET:] for key, _ in of_index.conflicts(self.call.view)}
        met |= {zyx for zyx, supervoxels in self._palettes(of_blocks) if among(moved, supervoxels).any()}
        counts = [counted for zyx in met if (counted := self._counted(zyx)) is not None]
        undecided: set[Pair] = set()
        if self.disputed:
            counts = [self._decided(counted, undecided) for counted in counts]
        wanted, _ = rows_of(self.data.mapping.at(self.call), counts) if counts else ({}, None)
        known = {zyx_key(*at) for at, _, _ in counts}
        for key in of_index.rows:
            if (zyx := key[INDEX_ZYX_OFFSET:]) in known:
                wanted.setdefault((_u64(key), zyx), b"")
        rows: dict[bytes, Value] = {}
        bodies = {_u64(key) for key, _ in self._changed(*self.data.rows.bodies(0, 2**64 - 1)).conflicts(self.call.view)}
        for (body, zyx), row in wanted.items():
            if (body, zyx) in undecided:
                continue
            prefix_key = self.data.rows.index(body, zyx)
            if self._seen(prefix_key) != row:
                rows[prefix_key] = row
                bodies.add(body)
        self._write(rows)
        self._settle_totals(bodies)

    def _palettes(self, of_blocks: _Changed) -> Iterable[tuple[bytes, NDArray[np.uint64]]]:
        for prefix_key in of_blocks.rows:
            try:
                value = self.call.view.get(prefix_key)
            except KeyConflict:
                continue
            if value is not None:
                yield prefix_key[-len(zyx_key(0, 0, 0)) :], stored.labels(value)

    def _counted(self, zyx: bytes) -> Counts | None:
        """The voxels of each label in a block; None where the block is in conflict."""
        at = ZYX(*zyx_of(zyx, 0))
        try:
            (value,) = self.data.get_blocks(self.call.view, 0, [at])
        except KeyConflict:
            return None
        nothing = np.empty(0, np.uint64)
        return at, *((nothing, nothing) if value is None else blocks.counts(stored.coded(value)))

    def _decided(self, counts: Counts, undecided: set[Pair]) -> Counts:
        """The counts without disputed supervoxels; the rows that those may be part of are added to ``undecided``."""
        at, found, voxels = counts
        keep = np.array([label not in self.disputed for label in found.tolist()], np.bool_)
        for label in found[~keep].tolist():
            undecided |= {(body, zyx_key(*at)) for body in self.disputed[label]}
        return at, found[keep], voxels[keep]

    def _seen(self, prefix_key: bytes) -> bytes | None:
        """The row as it is seen now, empty where there is none, None where it is in conflict."""
        try:
            value = self.call.view.get(prefix_key)
        except KeyConflict:
            return None
        return b"" if value is None else bytes(value)

    def _settle_totals(self, bodies: set[int]) -> None:
        """Sums up the rows of bodies anew; a body that has a row in conflict keeps its conflict."""
        rows: dict[bytes, Value] = {}
        for body in sorted(bodies):
            try:
                columns = self.data.index.read(self.call.view, body)
            except KeyConflict:
                continue
            if not len(columns.counts):
                rows[self.data.rows.body(body)] = b""
                continue
            stamp = max(self._records(body), key=lambda r: r.last_mutid, default=BodyRecord(0, 0, 0))
            rows[self.data.rows.body(body)] = stamp._replace(
                voxels=int(columns.counts.sum(dtype=np.uint64)),
                blocks=len(columns.blocks()),
                change=self.data.repo.next_mutation_id(),
            ).pack()
        self._write(rows)

    def _records(self, body: int) -> list[BodyRecord]:
        """What each side has as the record of a body."""
        start = self.data.rows.body(body)
        entries = {v: bytes(value) for _, v, value in self.call.view.scan_entries(start, prefix_end(start))}
        return [BodyRecord.unpack(entries[v]) for v in self.call.ancestry.frontier(entries) if entries[v]]

    # -- coarser scales ------------------------------------------------------------------------------------------------

    def settle_scale(self, scale: int, finer: Getter, zeros: bool = False) -> None:
        """Votes the blocks anew that several sides have voted, from the blocks of the finer scale."""
        rows: dict[bytes, Value] = {}
        changed = self._changed(self.data.rows.scale(scale))
        for prefix_key, writers in changed.conflicts(self.call.view):
            at = zyx_of(prefix_key, len(prefix_key) - len(zyx_key(0, 0, 0)))
            try:
                children = finer(children_of(ZYX(*at)))
            except KeyConflict:
                continue
            if any(child is not None for child in children):
                coded = [None if child is None else stored.coded(child) for child in children]
                rows[prefix_key] = stored.store(blocks.downsample(coded, None, self.data.block, zeros))
            elif self.order is not None:
                winner = min(writers, key=self.order.__getitem__)
                rows[prefix_key] = self.call.snapshot.get(prefix_key + version_bytes(winner)) or b""
        self._write(rows)


def _divergent(call: Call) -> list[int]:
    """The ancestors of the merging version that not all of its parents have or are."""
    ancestry = call.ancestry
    shared = [
        member
        for member in ancestry.order
        if all(member == parent or ancestry.is_ancestor(member, parent) for parent in call.node.parents)
    ]
    return sorted(set(ancestry.order) - set(shared) - {ancestry.version})


def _u64(prefix_key: bytes) -> int:
    """The body or supervoxel in a key."""
    return int.from_bytes(prefix_key[BODY_OFFSET : BODY_OFFSET + 8], "big")
