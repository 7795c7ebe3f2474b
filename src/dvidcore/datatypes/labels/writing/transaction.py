"""Changing labels: what a mutation is computed from, and all that it writes, whole or not at all.

A mutation is computed under the locks of its bodies and tiles alone, so mutations of different bodies work side by
side. Then comes a short section that one commit of an instance is in at a time: if nothing that the mutation was
computed from has changed, its rows, mapping, counters, log and what its followers add are one batch. The batch is
guarded by the generation of the index, so another process that came between makes the section start again. Readers
wait for nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack, nullcontext
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dvidcore.datatypes import following
from dvidcore.datatypes.call import Call
from dvidcore.datatypes.following import LabelChange
from dvidcore.datatypes.labels import remapped
from dvidcore.datatypes.labels.index import Columns, state_of
from dvidcore.datatypes.labels.mapping import Mapped, among
from dvidcore.datatypes.labels.mutations import former, records
from dvidcore.datatypes.labels.reading import points
from dvidcore.datatypes.labels.rows import BodyRecord, pack_u64, unpack_u64
from dvidcore.datatypes.labels.writing import counters
from dvidcore.datatypes.labels.writing.entries import ROW_BYTES, Entries, joined, put_entries
from dvidcore.datatypes.labels.writing.generations import raise_again, raise_generations, read_guard, tiles_of
from dvidcore.datatypes.labels.writing.leases import Lease
from dvidcore.errors import GuardFailed, Locked
from dvidcore.geometry import ZYX
from dvidcore.storage.engine import Batch
from dvidcore.storage.keys import version_bytes
from dvidcore.storage.staged import LIMIT, StagedWrite
from dvidcore.storage.versioned import VersionedBatch, View

if TYPE_CHECKING:
    from dvidcore.datatypes.labels.engine import LabelEngine
    from dvidcore.datatypes.labels.mutations.rewrite import Renamed

T = TypeVar("T")
Labels = NDArray[np.uint64]
Stored = bytes | memoryview
Step = Callable[[Call, VersionedBatch], None]
_TRIES = 3


class Outcome(Enum):
    """What became of an attempt to commit. Only where it was written has anything been done."""

    WRITTEN = 1
    OVERTAKEN = 2
    """Something that it was computed from has changed."""
    CONTENDED = 3
    """Writers of followers came between, again and again, or must not, since it will be written in parts."""


class Transaction:
    """One attempt of a mutation: the state that it is computed from, and all that it will write."""

    def __init__(self, data: LabelEngine, call: Call, staged: StagedWrite) -> None:
        self.data = data
        self.call = call
        self.view = call.view
        """The newest view at the call's version when the attempt began."""
        self.batch = VersionedBatch(Batch(), call.version)
        """Rows at the call's version. Values may be memoryviews of ``view``."""
        self._staged = staged
        self._suffix = version_bytes(call.version)
        (self._indexed,) = read_guard(self.view.snapshot, [data.rows.indexed]).values()
        self._mutation = 0
        self._seen: dict[bytes, Any] = {}
        self._tiles: dict[bytes, bytes | None] = {}
        self._entries: list[Entries] = []
        self._asked: list[Labels | None] = []
        self._leases: list[Lease] = []
        self._largest = self._in_use = 0
        self._records: list[tuple[int, dict[str, Any]]] = []
        self._tellings: list[Callable[[Call, Entries | None], LabelChange]] = []
        self._steps: list[Step] = []
        self._put: dict[int, int] = {}
        self._time = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._spent = False

    # -- what it is computed from --------------------------------------------------------------------------------------

    @property
    def mutation(self) -> int:
        """The id of this mutation, taken on first access."""
        if not self._mutation:
            self._mutation = self.new_mutation()
        return self._mutation

    def new_mutation(self) -> int:
        """One more mutation id, for a request that is several mutations."""
        return self.data.repo.next_mutation_id()

    def record(self, body: int) -> BodyRecord | None:
        """A body's totals, None where it does not exist. Until the commit, a change of the body starts anew."""
        state = self._rely(self.data.rows.body(body))
        if isinstance(state, bytes):
            return BodyRecord.unpack(state)
        return None if state is None else self.data.index.record(self.view, body)

    def columns(self, body: int) -> Columns | None:
        """A body's index, None where it does not exist; as for ``record``."""
        record = self.record(body)
        return None if record is None else self.data.index.columns_of(self.view, body, record)

    def mapped(self) -> Mapped:
        """The mapping at this version, before this transaction. Until the commit, a change of what is asked starts anew."""
        return self.data.mapping.at(self.call, self._asked)

    def blocks(self, scale: int, coords: Collection[ZYX]) -> list[Stored | None]:
        """Stored blocks of a scale, None where there is none. Until the commit, a write to their tiles starts anew."""
        self.touch(coords, scale)
        return self.data.get_blocks(self.view, scale, list(coords))

    def touch(self, coords: Iterable[ZYX], scale: int = 0) -> None:
        """Says that blocks are read or written: their tiles' generations become part of the guard."""
        keys = [self.data.rows.tile(*tile) for tile in sorted(tiles_of(self.data, coords, scale))]
        self._tiles |= read_guard(self.view.snapshot, [key for key in keys if key not in self._tiles])

    def _rely(self, prefix_key: bytes) -> object:
        """What the view has under a key, as ``state_of`` says."""
        if prefix_key not in self._seen:
            self._seen[prefix_key] = state_of(self.view, prefix_key)
        return self._seen[prefix_key]

    # -- what it writes ------------------------------------------------------------------------------------------------

    def put_block(self, scale: int, at: ZYX, value: Stored) -> None:
        """Stores a block. Blocks do not add to what is held in memory; ``touch`` their coordinates, too."""
        self._staged.put(self.data.rows.block(scale, *at) + self._suffix, value)

    def map(self, supervoxels: Labels, bodies: Labels) -> None:
        """Maps supervoxels to bodies at this version, uint64 (n,) both; of one named twice the last entry counts."""
        if len(supervoxels):
            self._entries.append((supervoxels, bodies))

    def name(self, bodies: Labels) -> None:
        """Says that labels (n,) are taken, though perhaps no index and no mapping of theirs does."""
        for key in self.data.rows.named_keys(bodies):
            self._staged.put(key, b"\x01")

    def put_body(self, body: int, voxels: int, blocks: int, mutation: int = 0) -> None:
        """Puts a body's totals, with this mutation as its last unless another is named."""
        record = BodyRecord(
            voxels=voxels,
            blocks=blocks,
            change=mutation or self.mutation,
            last_mutid=mutation or self.mutation,
            last_mod_time=self._time,
            last_mod_user=self.call.user,
            last_mod_app=self.call.app,
        )
        self.batch.put(self.data.rows.body(body), record.pack())
        self._put[body] = record.change

    def new_labels(self, count: int, reserve: bool = False) -> range:
        """``count`` consecutive labels; BadRequest beyond the ceiling or uint64.

        They exist nowhere; but with ``reserve`` they are those that follow the label an administrator has set, if any.
        """

        def choose(held: list[range]) -> tuple[range, int]:
            with self.data.engine.snapshot() as snapshot:
                now = counters.counters(self.data, snapshot)
                now = now._replace(maximum=max(now.maximum, self._in_use))
                given = counters.allocate(self.data, snapshot, now, count, held, reserve=reserve)
                return given, now.next_label

        lease = self.data.leases.take(choose, reserve)
        self._leases.append(lease)
        return lease.labels

    def raise_maximum(self, largest: int, in_use: int = 0) -> None:
        """As ``counters.raise_maximum``; labels that are given out from here on are above both."""
        self._largest = max(self._largest, largest)
        self._in_use = max(self._in_use, largest, in_use)

    def log(self, record: dict[str, Any], mutation: int = 0) -> None:
        """A record of the mutation log, without what all records have; of this mutation unless another is named."""
        self._records.append((mutation or self.mutation, record))

    def tell(
        self,
        action: str,
        *,
        bodies: Mapping[int, int] | None = None,
        blocks: NDArray[np.int64] | None = None,
        losing: tuple[int, ...] | None = None,
        fresh: Mapping[ZYX, Stored] | None = None,
        renamed: Renamed | None = None,
        mutation: int = 0,
    ) -> None:
        """Tells the followers, as ``following.LabelChange`` says; ``fresh`` are the blocks of scale 0 that it writes.

        Costs nothing where there is no follower.
        """
        identity, fresh = mutation or self.mutation, fresh or {}

        def telling(now: Call, mapping: Entries | None) -> LabelChange:
            return LabelChange(
                action,
                identity,
                points.after(self.data, now, mapping, fresh),
                self.data.block,
                bodies or {},
                np.empty((0, 3), np.int64) if blocks is None else blocks,
                losing,
                fresh,
                renamed,
                path=(self.data.record.data_uuid,),
            )

        self._tellings.append(telling)

    def at_commit(self, step: Step) -> None:
        """Has ``step`` called within the commit, with a call of the state that the batch goes onto, and the batch.

        For what is cheap and would often be overtaken if it were computed earlier. It may run more than once, and what
        it raises leaves everything as it was.
        """
        self._steps.append(step)

    # -- the commit ----------------------------------------------------------------------------------------------------

    def _overtaken(self, now: Call) -> bool:
        """Whether something that this was computed from is not what it was."""
        snapshot = now.snapshot
        if self._tiles and read_guard(snapshot, list(self._tiles)) != self._tiles:
            return True
        view = now.view
        if any(state_of(view, key) != state for key, state in self._seen.items()):
            return True
        if any(not counters.holds(self.data, snapshot, lease) for lease in self._leases):
            return True
        return bool(self._asked) and self._remapped(view)

    def _remapped(self, view: View) -> bool:
        """Whether something that was asked of the mapping has changed, or may have."""
        mapping, key = self.data.mapping, self.data.rows.mapped
        before = unpack_u64(self.view.snapshot.get(key))
        if unpack_u64(view.snapshot.get(key)) == before:
            return False
        mapping.seen(view)  # so that it knows of what another process wrote, and that this cannot be told apart
        changed = mapping.changed_since(before)
        return changed is None or any(asked is None or bool(among(changed, asked).any()) for asked in self._asked)

    def commit_blocks(self) -> Outcome:
        """Writes the blocks and nothing else."""
        final = Batch()
        raise_generations(final, self._tiles)
        try:
            self._staged.commit(final, sync=self.data.database.options.sync, guard=self._tiles)
        except GuardFailed:
            return Outcome.OVERTAKEN
        return Outcome.WRITTEN

    def commit(self, *, held: bool = False) -> Outcome:
        """Writes everything, while other commits of the instance wait; ``held``: so do writers of its followers."""
        call, rows = self.call, self.data.rows
        with self.data.commit_lock:
            stored, indexed = call.engine.get_many([rows.next, rows.indexed])
            self.data.leases.observe(stored)
            same = indexed == self._indexed and not held  # what followers have is newer than what the call sees
            if same and (outcome := self._write(call, held)) is not Outcome.OVERTAKEN:
                return outcome
            for _ in range(_TRIES):
                now = Call(call.engine, call.node, call.ancestry, user=call.user, app=call.app, admin=call.admin)
                try:
                    now.renew()
                    self.data.leases.observe(now.snapshot.get(rows.next))
                    if self._spent or self._overtaken(now):
                        return Outcome.OVERTAKEN
                    if (outcome := self._write(now, held)) is not Outcome.OVERTAKEN:
                        return outcome
                finally:
                    now.close()
        return Outcome.CONTENDED

    def _write(self, now: Call, held: bool) -> Outcome:
        """Writes onto the state of ``now``, if that is still the newest."""
        data, rows = self.data, self.data.rows
        guard = self._tiles | read_guard(now.snapshot, [rows.indexed])
        raised = list(guard)
        batch = VersionedBatch(Batch(), now.version)
        batch.batch.extend(self.batch.batch)
        for step in self._steps:
            step(now, batch)
        if self._in_use or self._leases:
            given = max((lease.labels[-1] for lease in self._leases), default=0)
            counters.raise_maximum(data, now.view, batch.batch, self._largest, self._in_use, given=given)
        mapping = joined(self._entries)
        for telling in self._tellings if data.has_followers() else ():
            guard |= following.tell(data, now, telling(now, mapping), batch.batch)
        if self._records and former.kept(data):
            former.put(data, self.view, [rows.body_of(key) for key in self._seen], self._records, batch)
        told = records.append(data, now, self._records, batch.batch)
        if not len(batch.batch) and mapping is None and not self._tiles:
            return Outcome.WRITTEN
        parts = batch.batch.nbytes + (0 if mapping is None else ROW_BYTES * len(mapping[0])) > LIMIT
        large = parts or self._staged.staged
        if large and not held and data.has_followers():
            return Outcome.CONTENDED
        generation = unpack_u64(now.snapshot.get(rows.mapped)) + 1
        final = self._final(batch.batch, mapping, guard if parts else None)
        raise_generations(final, {key: guard[key] for key in raised})
        if mapping is not None:
            # Not in the guard, which the index's generation makes good: so it appears with the last of the mapping.
            final.put(rows.mapped, pack_u64(generation))
            if data.engine.shared:
                remapped.put(final, rows, generation, now.version, mapping)
            data.mapping.begin(generation, mapping[0])
        try:
            self._staged.commit(final, sync=data.database.options.sync, guard=guard)
        except GuardFailed:
            data.mapping.failed(generation)
            return Outcome.OVERTAKEN
        except BaseException:
            data.mapping.failed(generation)  # or it was written after all: then the rows will be read
            raise
        if mapping is not None:
            data.mapping.wrote(now.version, *mapping, generation)
        counted = next((value for key, value in reversed(batch.batch.operations) if key == rows.next), None)
        if counted is not None:
            data.leases.wrote(bytes(counted))
        if large:  # what readers beside it may have kept of a part is taken back
            data.index.forget()
            raise_again(data.engine, rows.indexed, guard[rows.indexed])
        for body, change in self._put.items():
            data.index.wrote(body, self._seen.get(rows.body(body)), change, batch.batch)
        data.publish(self.call, told)
        return Outcome.WRITTEN

    def _final(self, batch: Batch, mapping: Entries | None, in_parts: following.Guard | None) -> Batch:
        """What ends the write: all rows or, where it is ``in_parts``, generations and the records of bodies alone.

        The other rows go before them. ``in_parts`` is the guard, whose keys must change with its check.
        """
        final = Batch()
        put: Callable[[bytes, Stored], None] = final.put
        if in_parts is None:
            final.extend(batch)
        else:
            self._spent = True
            put = self._staged.put
            for key, value in batch.operations:
                if self.data.rows.is_body(key) or key in in_parts:
                    final.operations.append((key, value))
                elif value is None:
                    self._staged.delete(key)
                else:
                    put(key, value)
        if mapping is not None:
            put_entries(self.data.rows, self._suffix, mapping, put)
        return final

    def release(self) -> None:
        """Ends what the attempt holds, whatever became of it."""
        self.data.leases.release(self._leases)
        self._leases = []


def write(
    data: LabelEngine,
    call: Call,
    change: Callable[[Transaction], T],
    *,
    bodies: Collection[int] = (),
    tiles: Collection[ZYX] = (),
    blocks_alone: bool = False,
    labels_stay: bool = False,
) -> T:
    """Calls ``change`` to fill a transaction and writes it; answers what ``change`` answers.

    Other writers of the ``bodies`` and of the ``tiles`` (``tiles_of``) wait until it is done. Without either, all wait.
    Where ``change`` was overtaken nevertheless, by another process or by voxels, it is called again, on the newest
    state; from the third time on all wait. Writers of followers wait only where they come between again and again, or
    where the write is a large one. What ``change`` raises leaves everything as it was. With ``blocks_alone`` it puts
    blocks and nothing else; with ``labels_stay`` it puts no labels, only what is counted of them. Raises ``Locked`` for
    labels at a committed version, unless the call may change history.
    """
    if call.node.locked and data.record.versioned and not (call.history or labels_stay):
        raise Locked(
            f"version {call.node.uuid} is committed, and its children inherit the labels of {data.record.name}: "
            "an administrator who means to change them adds writelocked=true"
        )
    alone, held, overtaken = not bodies and not tiles, False, 0
    with data.body_locks.holding(bodies), data.locks.holding(tiles), ExitStack() as locks:
        while True:
            with data.commit_lock if alone else nullcontext(), StagedWrite(data.engine) as staged:
                call.renew()
                attempt = Transaction(data, call, staged)
                try:
                    answer = change(attempt)
                    outcome = attempt.commit_blocks() if blocks_alone else attempt.commit(held=held)
                    if outcome is Outcome.CONTENDED and not alone:
                        following.hold(data, locks)
                        alone = held = True
                        outcome = attempt.commit(held=True)
                finally:
                    attempt.release()
                if outcome is Outcome.WRITTEN:
                    return answer
            if alone and not held:
                following.hold(data, locks)
                held = True
            overtaken += 1
            alone |= overtaken > 1 and not blocks_alone
