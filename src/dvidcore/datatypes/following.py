"""Following (``POST sync``): what a change of one instance means for those that are synced with it.

A follower takes part in the write that it follows. It puts its own rows into the batch of the change, so for every
reader, and after a crash, the labels and what follows them are both as before or both changed. ``tell`` is called by
whoever changes an instance, with the batch that is about to be written; each follower's ``follow`` may in turn tell its
own followers. A change says what it needs to say of the state after it, since nothing of that is in the store yet.

A follower in another store cannot take part in the batch. For it the batch holds an *intent*: a row of the source that
says what changed. Whoever next uses the follower calls ``catch_up`` first, which brings what the intents name to the
state of the source and then removes them. That is the same however often it is done, so a crash in between is harmless.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from dvidcore.errors import BadRequest
from dvidcore.geometry import ZYX
from dvidcore.storage.engine import Batch
from dvidcore.storage.keys import data_prefix, prefix_range, version_bytes, version_of

if TYPE_CHECKING:
    from dvidcore.datatypes.base import DataType
    from dvidcore.datatypes.call import Call
    from dvidcore.datatypes.labels.mutations.rewrite import Renamed

Stored = bytes | memoryview
Guard = dict[bytes, bytes | None]
"""Keys, and the values that must still stand under them when a batch is written."""

INTENT = 0xF0
"""The kind of a source's rows that hold intents: the follower's instance id (4 bytes), 12 bytes that make it unique."""

_AT_ONCE = 1000  # intents that are carried out together


@dataclass(frozen=True, slots=True)
class Change:
    """A change of an instance at one version."""

    action: str
    """What was done, in the words of DVID's messages: ``merge``, ``cleave``, ``mutate-block`` …"""
    mutation: int
    """The id of the mutation."""
    path: tuple[str, ...] = field(default=(), kw_only=True)
    """The DataUUIDs of the instances that it came through, the one that tells it last. These are not told again."""

    def intent(self) -> Mapping[str, Any]:
        """What of this change a follower needs to know to carry it out later, JSON-able."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class LabelChange(Change):
    """A change of which body voxels belong to. Voxels that neither ``bodies`` nor ``blocks`` speak of keep theirs."""

    labels_at: Callable[[NDArray[np.int64]], NDArray[np.uint64]]
    """The bodies at voxels, int64 (n, 3) z, y, x, once the change is made: uint64 (n,), 0 for background."""
    block: ZYX
    """Voxels of a block."""
    bodies: Mapping[int, int] = field(default_factory=dict)
    """Bodies that became part of another as a whole, and which: of a merge, or of a renumbering."""
    blocks: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 3), np.int64))
    """Blocks of scale 0, (n, 3) z, y, x, each once, in which voxels came to belong to other bodies: of a cleave, a
    split, a write of voxels."""
    losing: tuple[int, ...] | None = None
    """The bodies that voxels of ``blocks`` belonged to before; None where it can be any."""
    fresh: Mapping[ZYX, Stored] = field(default_factory=dict)
    """Blocks of scale 0 that are written, as they are stored from now on: all of them where the voxels are the bodies."""
    renamed: Renamed | None = None
    """Which voxels became which labels, of a merge or split where the voxels are the bodies."""

    def intent(self) -> Mapping[str, Any]:
        """``bodies`` that are gone, ``blocks`` as ``block`` tells, and ``losing``."""
        return {
            "bodies": list(self.bodies),
            "block": list(self.block),
            "blocks": self.blocks.tolist(),
            "losing": None if self.losing is None else list(self.losing),
        }


@dataclass(frozen=True, slots=True)
class Counted:
    """Annotation elements on bodies, each once for each body that it is on."""

    bodies: NDArray[np.uint64]
    """(n,)"""
    kinds: NDArray[np.uint8]
    """(n,): as ``annotation.elements.KINDS``."""
    positions: NDArray[np.int64]
    """(n, 3): voxels z, y, x."""

    @classmethod
    def none(cls) -> Counted:
        return cls(np.empty(0, np.uint64), np.empty(0, np.uint8), np.empty((0, 3), np.int64))


@dataclass(frozen=True, slots=True)
class ElementChange(Change):
    """A change of which annotation elements are on which bodies: what left them, then what came to them."""

    removed: Counted
    added: Counted

    def intent(self) -> Mapping[str, Any]:
        """The ``bodies`` whose elements changed."""
        return {"bodies": np.unique(np.concatenate((self.removed.bodies, self.added.bodies))).tolist()}


def tell(source: DataType, call: Call, change: Change, batch: Batch) -> Guard:
    """Has all followers of an instance add to the batch what follows from a change at the call's version.

    Answers what the batch must be guarded with; each of these generations must be raised in the batch, which
    ``follow`` has done. Raises BadRequest where a follower cannot follow, so that nothing changes.
    """
    guard: Guard = {}
    for follower in source.followers():
        if follower.record.data_uuid in change.path:
            continue
        _check(source, follower, call)
        if follower.engine is source.engine:
            guard |= follower.follow(call.of(follower), change, batch)
        else:
            unique = change.mutation.to_bytes(8, "big") + os.urandom(4)
            key = _intents(source, follower) + unique + version_bytes(call.version)
            batch.put(key, orjson.dumps(change.intent()))
    return guard


def hold(source: DataType, stack: ExitStack) -> None:
    """Has the writers of an instance, and of all that takes part in its writes, wait until the stack ends.

    That is those of this process. The caller must not hold the lock of any of these instances.
    """
    found = [source]
    for instance in found:
        found += [f for f in instance.followers() if f.engine is source.engine and f not in found]
    for instance in sorted(found, key=lambda one: (one.lock_rank, one.record.id)):
        stack.enter_context(instance.lock)


def _check(source: DataType, follower: DataType, call: Call) -> None:
    if follower.follows_at_once and follower.engine is not source.engine:
        raise BadRequest(f'"{follower.record.name}" follows "{source.record.name}", but is kept in another store')
    if follower.record.versioned and not source.record.versioned and call.node.locked and not call.admin:
        raise BadRequest(f'"{follower.record.name}" follows "{source.record.name}", but this version of it is locked')


def catch_up(follower: DataType) -> None:
    """Carries out what changed in the sources of an instance that lie in other stores, before the instance is used."""
    for source in follower.sources():
        if source.engine is follower.engine or follower.database.read_only:
            continue
        start, stop = prefix_range(_intents(source, follower))
        while rows := list(islice(source.engine.scan(start, stop), _AT_ONCE)):
            by_version: dict[int, list[Mapping[str, Any]]] = {}
            for key, value in rows:
                by_version.setdefault(version_of(key), []).append(orjson.loads(bytes(value)))
            for version in sorted(by_version):  # parents first
                if version in follower.repo.dag.nodes:
                    follower.follow_later(source, version, by_version[version])
            done = Batch()
            for key, _ in rows:
                done.delete(key)
            source.engine.write(done, sync=follower.database.options.sync)


def _intents(source: DataType, follower: DataType) -> bytes:
    """What the keys of a source's intents for a follower start with."""
    return data_prefix(source.record.id, INTENT) + follower.record.id.to_bytes(4, "big")


def merged_intents(intents: Sequence[Mapping[str, Any]]) -> set[int]:
    """All ``bodies`` that intents name."""
    return {body for intent in intents for body in intent["bodies"]}
