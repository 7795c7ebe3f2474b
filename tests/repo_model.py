"""For the tests of repos: databases, what they hold as plain objects, and a store that fails when it is told to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import pytest

from dvidcore.errors import StoreError
from dvidcore.repos import Database, DatabaseOptions, InstanceRecord, Repo
from dvidcore.storage.engine import Batch, Key
from dvidcore.storage.keys import data_prefix, log_key, text_key
from dvidcore.storage.memory import Memory
from dvidcore.storage.versioned import VersionedBatch, View
from dvidcore.versions import DAG, Node


def opened(engine: Memory, **options: Any) -> Database:
    return Database.open({"main": engine}, options=DatabaseOptions(**options))


def again(database: Database) -> Database:
    """Another database over the same store, as another process would have it, or this one after a restart."""
    return Database.open(database.stores, database.assign, options=database.options)


def keyvalue(db: Database, repo: Repo, name: str = "kv", **given: Any) -> Any:
    return db.new_instance(repo, repo.dag.leaf(""), name=name, typename="keyvalue", admin=True, **given)


def unchanged(db: Database, error: type[Exception], change: Callable[[], object], match: str | None = None) -> None:
    """The change raises, and changes nothing: neither in memory nor in the store."""
    before = picture(db), list(db.stores["main"].scan(b"", b"\xff"))
    with pytest.raises(error, match=match):
        change()
    assert (picture(db), list(db.stores["main"].scan(b"", b"\xff"))) == before


def committed(db: Database, repo: Repo, parent: Node, branch: str) -> Node:
    node = db.branch(repo, parent, branch)
    db.commit(repo, node)
    return node


def picture(database: Database) -> dict[str, Any]:
    """Everything about all repos but the mutation ids."""
    return {
        root: {
            "id": repo.id,
            "alias": repo.alias,
            "description": repo.description,
            "log": repo.log,
            "passcode": repo.passcode_hash,
            "times": (repo.created, repo.updated),
            "nodes": {v: asdict(n) for v, n in sorted(repo.dag.nodes.items())},
            "leaves": {branch: repo.dag.leaf(branch).id for branch in sorted(repo.dag.branches)},
            "instances": {name: asdict(record) for name, record in sorted(repo.instances.items())},
        }
        for root, repo in sorted(database.repos.items())
    }


def check_consistent(database: Database) -> None:
    """Every branch is one chain, children mirror parents, look-ups agree, ids are used once."""
    versions: list[int] = []
    instances: list[int] = []
    for root, repo in database.repos.items():
        dag = repo.dag
        assert dag.root.uuid == repo.root == root
        versions += dag.nodes
        instances += [record.id for record in repo.instances.values()]
        assert {r.data_uuid: r for r in repo.instances.values()} == repo.by_data_uuid
        for version, node in dag.nodes.items():
            assert node.id == version and dag.by_uuid[node.uuid] is node
            assert node.children == sorted(n.id for n in dag.nodes.values() if version in n.parents)
            assert all(dag.nodes[parent].locked for parent in node.parents)
            assert database.resolve(node.uuid) == (repo, node)
        check_chains(dag)
    assert len(set(versions)) == len(versions)
    assert len(set(instances)) == len(instances)


def check_chains(dag: DAG) -> None:
    for branch in dag.branches:
        line = sorted(n.id for n in dag.nodes.values() if n.branch == branch)
        assert all(dag.is_ancestor(a, b) for a, b in pairwise(line)), (branch, line)
        assert dag.leaf(branch).id == line[-1]


KIND = 7


def put(database: Database, record: InstanceRecord, node: Node, **values: bytes | None) -> None:
    """Stores values, or tombstones for None, under text keys at a node."""
    database.engine_of(record).write(_entries(record, node, values))


def put_rows(database: Database, record: InstanceRecord, node: Node, count: int) -> None:
    """Stores ``count`` rows of data and as many of the log, at once."""
    batch = _entries(record, node, {f"key{n:05}": b"value" for n in range(count)})
    for n in range(count):
        batch.put(log_key(record.id, node.id, n), b"{}")
    database.engine_of(record).write(batch)


def _entries(record: InstanceRecord, node: Node, values: Mapping[str, bytes | None]) -> Batch:
    entries = VersionedBatch(Batch(), node.id)
    for key, value in values.items():
        prefix_key = data_prefix(record.id, KIND) + text_key(key)
        if value is None:
            entries.delete(prefix_key)
        else:
            entries.put(prefix_key, value)
    return entries.batch


def view(database: Database, record: InstanceRecord, node: Node) -> View:
    repo = database.resolve(node.uuid)[0]
    return View(database.engine_of(record).snapshot(), database.ancestry_for(repo, node, record))


def get(database: Database, record: InstanceRecord, node: Node, key: str) -> bytes | None:
    """The value that a node sees; raises Conflict."""
    value = view(database, record, node).get(data_prefix(record.id, KIND) + text_key(key))
    return None if value is None else bytes(value)


class Failing(Memory):
    """Fails at the write after ``left`` more of them; never while that is None."""

    left: int | None = None

    def write(self, batch: Batch, *, sync: bool = True, guard: Mapping[Key, bytes | None] | None = None) -> None:
        if self.left is not None:
            if self.left == 0:
                raise StoreError("the disk is full")
            self.left -= 1
        super().write(batch, sync=sync, guard=guard)
