"""Settling what a merge leaves in conflict: which parent loses which key, and the entries that make it lose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dvidcore.storage.engine import Batch, Engine
from dvidcore.storage.keys import instance_range, version_bytes
from dvidcore.storage.versioned import Ancestry, VersionedBatch, View
from dvidcore.versions import DAG, Node

_CHUNK = 16 << 20
"""Bytes of entries that are written at once."""


@dataclass(slots=True)
class Losses:
    """The keys of one instance that each parent loses in a merge.

    ``keys`` has for a losing parent, by its version id, each prefix key and what a child of it has to hold under it:
    ``None`` for a tombstone, or the version id whose value is to be repeated.
    """

    engine: Engine
    keys: dict[int, dict[bytes, int | None]] = field(default_factory=dict)


def find_losses(engine: Engine, instance_id: int, dag: DAG, parents: Sequence[Node]) -> Losses:
    """What each parent loses in a merge, so that the first wins. One scan of the instance; holds the keys in conflict.

    Where several versions that a parent itself merged are in conflict, the order of that merge's parents decides, and so
    on upwards: the winner is the first in depth-first order. A child of a losing parent hides the key; but where that
    would hide the winner too, because the parent had both, the first such child repeats the winner's value.
    """
    merged = max(dag.nodes) + 1
    above = parents_above(dag, merged, parents)
    ancestry = Ancestry.from_parents(merged, above)
    order = depth_first(merged, above)
    losses = Losses(engine)
    with engine.snapshot() as snapshot:
        for prefix_key, entries in View(snapshot, ancestry).conflicts(*instance_range(instance_id)):
            writers = [writer for writer, deleted in entries if not deleted]
            winner = min(writers, key=order.__getitem__)
            repeated = False
            for parent in parents:
                members = dag.ancestry(parent.id).rank
                if any(writer in members for writer in writers if writer != winner):
                    repeats = winner in members and not repeated
                    repeated |= repeats
                    losses.keys.setdefault(parent.id, {})[prefix_key] = winner if repeats else None
    return losses


def parents_above(dag: DAG, merged: int, parents: Sequence[Node]) -> dict[int, Sequence[int]]:
    """The parents of a version that merges ``parents`` and of all its ancestors, by version id."""
    above: dict[int, Sequence[int]] = {merged: [parent.id for parent in parents]}
    for parent in parents:
        for version in dag.ancestry(parent.id).rank:
            above[version] = dag.nodes[version].parents
    return above


def depth_first(version: int, parents: Mapping[int, Sequence[int]]) -> dict[int, int]:
    """Each of the version and its ancestors → when it is met, going up through the first parent first."""
    order: dict[int, int] = {}
    waiting = [version]
    while waiting:
        member = waiting.pop()
        if member not in order:
            order[member] = len(order)
            waiting.extend(reversed(parents[member]))
    return order


def write_losses(losses: Losses, children: Mapping[int, int]) -> None:
    """Writes the entries of each losing parent under the version id of its child. On the disk on return."""
    batch = Batch()
    for parent, keys in losses.keys.items():
        entries = VersionedBatch(batch, children[parent])
        for prefix_key, repeated in keys.items():
            if repeated is None:
                entries.delete(prefix_key)
            else:
                value = losses.engine.get(prefix_key + version_bytes(repeated))
                if value:
                    entries.put(prefix_key, value)
                else:  # an administrator deleted it in the meantime
                    entries.delete(prefix_key)
            if batch.nbytes >= _CHUNK:
                losses.engine.write(batch)
                batch = Batch()
                entries = VersionedBatch(batch, children[parent])
    if batch:
        losses.engine.write(batch)
