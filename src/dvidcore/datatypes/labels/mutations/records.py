"""The mutation log of an instance, and what it tells: splits of supervoxels, the history of a body."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from dvidcore.datatypes.call import Call
from dvidcore.errors import BadRequest
from dvidcore.mutations import log
from dvidcore.repos import blobs
from dvidcore.storage.engine import Batch
from dvidcore.storage.versioned import View

if TYPE_CHECKING:
    from dvidcore.datatypes.call import Buffer
    from dvidcore.datatypes.labels.engine import LabelEngine

Record = dict[str, Any]
_COMPLETE = "-complete"


def append(data: LabelEngine, call: Call, given: Sequence[tuple[int, Record]], batch: Batch) -> list[bytes]:
    """Adds records, each with its mutation's id, to the log of the call's version; answers them whole, as JSON.

    A mutation that took its id earlier may have been completed already, but the log is in order of completion.
    """
    if not given:
        return []
    instance, version = data.record.id, call.version
    every = {
        "UUID": data.repo.dag.nodes[version].uuid,
        "Timestamp": log.timestamp(),
        **{key: who for key, who in (("User", call.user), ("App", call.app)) if who},
    }
    whole = [{**record, "MutationID": mutation, **every} for mutation, record in given]
    return log.append(batch, instance, version, given[0][0], whole, after=log.last(call.snapshot, instance, version))


def mutations(data: LabelEngine, call: Call, user: str) -> Iterator[Buffer]:
    """``GET mutations``: the records of this version as a JSON list, in order; with ``user`` only theirs."""
    return _as_list(_of_user(log.records(call.snapshot, data.record.id, call.version), user))


def mutations_range(data: LabelEngine, call: Call, first: str, last: str) -> Iterator[Buffer]:
    """``GET mutations-range``: the records of the versions from ``last`` back to ``first``, those of ``last`` first.

    All records of an unversioned instance are the root's.
    """
    versions = _versions(data, first, last)
    return _as_list(record for v in versions for record in log.records(call.snapshot, data.record.id, v))


def _of_user(records: Iterator[bytes], user: str) -> Iterator[bytes]:
    return (record for record in records if not user or orjson.loads(record).get("User") == user)


def _as_list(records: Iterator[bytes]) -> Iterator[Buffer]:
    before = b"["
    for record in records:
        yield before + record
        before = b","
    yield b"[]" if before == b"[" else b"]"


def _versions(data: LabelEngine, first: str, last: str) -> list[int]:
    """The versions from ``last`` back to ``first``, children before parents; BadRequest where they are not in line.

    Of versions that merged several, the first parent that leads to ``first`` is followed.
    """
    start, end = (_version(data, name) for name in (first, last))
    nodes = data.repo.dag.nodes
    path = [end]
    ancestry = data.repo.dag.ancestry(end)
    if start not in ancestry.rank:
        raise BadRequest(f"version {nodes[start].uuid} is not {nodes[end].uuid} nor an ancestor of it")
    while path[-1] != start:
        parents = nodes[path[-1]].parents
        path.append(next(p for p in parents if p == start or ancestry.is_ancestor(start, p)))
    return path


def _version(data: LabelEngine, name: str) -> int:
    """The version of this repo that a UUID, or the beginning of one, names."""
    repo, node = data.database.resolve(name)
    if repo.id != data.repo.id:
        raise BadRequest(f"version {node.uuid} is of another repo")
    return node.id


# -- splits ------------------------------------------------------------------------------------------------------------


def supervoxel_splits(data: LabelEngine, call: Call) -> list[Any]:
    """``GET supervoxel-splits``: ``[UUID, [[mutation, old, remain, split], …], …]``, this version first.

    Its ancestors follow, children before parents, those without splits left out.
    """
    out: list[Any] = []
    for version in reversed(call.ancestry.order):
        found = [[mutation, old, remain, split] for mutation, old, split, remain in _splits(data, call, version)]
        if found:
            out += [data.repo.dag.nodes[version].uuid, found]
    return out


def _splits(data: LabelEngine, call: Call, version: int) -> list[tuple[int, int, int, int]]:
    """``splits_of`` all records of a version."""
    records = log.records(call.snapshot, data.record.id, version)
    return [split for record in records if b'"Action":"split' in record for split in splits_of(orjson.loads(record))]


def splits_of(record: Record) -> list[tuple[int, int, int, int]]:
    """(mutation, old, split, remain) of the supervoxels that a record says were split."""
    action, mutation = record["Action"], record["MutationID"]
    if action == "split-supervoxel" + _COMPLETE:
        return [(mutation, record["Supervoxel"], record["SplitSupervoxel"], record["RemainSupervoxel"])]
    if action == "split" + _COMPLETE:
        return [(mutation, int(old), new["Split"], new["Remain"]) for old, new in record["SVSplits"].items()]
    return []


# -- history -----------------------------------------------------------------------------------------------------------


def history(data: LabelEngine, call: Call, label: int, first: str, last: str) -> list[Record]:
    """``GET history``: what happened to a body in the versions from ``first`` to ``last``, the oldest first.

    These are the mutations of the bodies that the body's supervoxels, or those that they were split off, had in
    ``first`` or came to have by renumbering, and their splits. Empty where there is no such body in ``last``.
    """
    versions = _versions(data, first, last)
    supervoxels = _members(data, call, versions[0], label)
    if not supervoxels:
        return []
    for version in versions:
        for _, old, split, remain in reversed(_splits(data, call, version)):
            if split in supervoxels or remain in supervoxels:
                supervoxels.add(old)
    bodies = _bodies(data, call, versions[-1], supervoxels)
    records = (r for v in reversed(versions) for r in log.records(call.snapshot, data.record.id, v))
    told = (_told(data, orjson.loads(record), supervoxels, bodies) for record in records)
    return [event for event in told if event is not None]


def simple(events: list[Record]) -> Iterator[Buffer]:
    """A history as DVID tells it: one object after the other, and neither renumbering nor supervoxels that are gone."""
    return (orjson.dumps(event) for event in events if event["Action"] in ("merge", "cleave", "split"))


def _members(data: LabelEngine, call: Call, version: int, label: int) -> set[int]:
    """The supervoxels of a body at a version, none where it is no body."""
    columns = data.index.columns(_view(data, call, version), label)
    return set() if columns is None else set(columns.supervoxels.tolist())


def _bodies(data: LabelEngine, call: Call, version: int, supervoxels: set[int]) -> set[int]:
    """The bodies of supervoxels at a version."""
    mapped = data.mapping.seen(_view(data, call, version))
    return set(mapped.bodies(np.array(list(supervoxels), np.uint64)).tolist()) - {0}


def _view(data: LabelEngine, call: Call, version: int) -> View:
    node = data.repo.dag.nodes[version]
    return View(call.snapshot, data.database.ancestry_for(data.repo, node, data.record))


def _told(data: LabelEngine, record: Record, supervoxels: set[int], bodies: set[int]) -> Record | None:
    """A record as history tells it; None where it is of other bodies. A body's new id joins ``bodies``."""
    action = record["Action"].removesuffix(_COMPLETE)
    told: Record = {"Action": action}
    if action == "merge" and record["Target"] in bodies:
        return told | {key: record[key] for key in ("Target", "Labels")}
    if action == "cleave" and record["OrigLabel"] in bodies:
        listed = (
            record if "CleavedSupervoxels" in record else orjson.loads(blobs.get_blob(data.engine, record["DataRef"]))
        )
        cleaved = {"CleavedSupervoxels": listed["CleavedSupervoxels"]}
        return told | {key: record[key] for key in ("OrigLabel", "CleavedLabel")} | cleaved
    if action == "split" and record["Target"] in bodies:
        return told | {"Target": record["Target"], "NewLabel": record["NewLabel"], "Coarse": False}
    if action == "split-supervoxel" and record["Supervoxel"] in supervoxels:
        return told | {key: record[key] for key in ("Supervoxel", "SplitSupervoxel", "RemainSupervoxel")}
    if action == "renumber" and not bodies.isdisjoint((record["OrigLabel"], record["NewLabel"])):
        bodies.add(record["NewLabel"])
        return told | {key: record[key] for key in ("NewLabel", "OrigLabel")}
    return None
