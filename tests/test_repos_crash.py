"""``kill -9`` of a process that changes metadata, at random moments: what it acknowledged is there, nothing in part."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from dvidcore.repos import Database, Repo
from dvidcore.storage import open_engine
from dvidcore.storage.keys import DATA, LOG, META, prefix_range
from dvidcore.versions import Node
from repo_model import check_consistent, put_rows
from victims import kill_after

Operation = dict[str, Any]
State = dict[str, dict[str, Any]]


def opened(path: Path) -> Database:
    return Database.open({"main": open_engine("leveldb", str(path))})


KINDS = [
    *("new_repo", "delete_repo", "repo_log", "commit", "commit", "note", "log", "new_version", "branch", "branch"),
    *("tag", "merge", "merge", "new_instance", "new_instance", "rows", "rows", "delete_instance", "rename"),
]

# -- the process that is killed --------------------------------------------------------------------------------------------


def choose(rng: random.Random, db: Database) -> Operation:
    """A change that is allowed now; with all that is needed to know what it leads to."""
    fresh = uuid.UUID(int=rng.getrandbits(128)).hex
    repos = list(db.repos.values())
    kind = rng.choice(KINDS)
    if len(repos) < 2 or (kind == "new_repo" and len(repos) < 5):
        return {"do": "new_repo", "root": fresh, "alias": fresh[:5]}
    repo = rng.choice(repos)
    nodes = list(repo.dag.nodes.values())
    locked = [node for node in nodes if node.locked]
    open_ = [node for node in nodes if not node.locked]
    names = list(repo.instances)
    op: Operation = {"do": kind, "root": repo.root}
    if kind in ("commit", "note", "log") and open_:
        return op | {"node": rng.choice(open_).uuid, "text": fresh[:8]}
    if kind == "new_version":
        ends = [node for node in locked if repo.dag.leaf(node.branch) is node]
        if ends:
            return op | {"node": rng.choice(ends).uuid, "child": fresh, "text": fresh[:8]}
    if kind in ("branch", "tag") and locked:
        return op | {"node": rng.choice(locked).uuid, "child": fresh if kind == "branch" else f"v{fresh[:9]}"}
    if kind == "merge" and len(locked) > 1:
        return op | {"nodes": [node.uuid for node in rng.sample(locked, 2)], "text": f"merge {fresh[:8]}"}
    if kind in ("rows", "delete_instance", "rename") and names:
        return op | {"name": rng.choice(names), "new": fresh[:8], "count": rng.randrange(1, 300)}
    if kind == "delete_repo" and len(repos) > 3:
        return op
    if kind == "repo_log":
        return op | {"text": fresh}
    return op | {"do": "new_instance", "name": fresh[:8]}


def carry_out(db: Database, op: Operation) -> object:
    if op["do"] == "new_repo":
        return db.new_repo(op["alias"], root=op["root"])
    repo = db.repos[op["root"]]
    by_uuid = repo.dag.by_uuid
    changes: dict[str, Callable[[], object]] = {
        "delete_repo": lambda: db.delete_repo(repo),
        "commit": lambda: db.commit(repo, by_uuid[op["node"]], op["text"], [op["text"]]),
        "note": lambda: db.set_note(repo, by_uuid[op["node"]], op["text"]),
        "log": lambda: db.append_log(repo, by_uuid[op["node"]], [op["text"], op["text"]]),
        "new_version": lambda: db.new_version(repo, by_uuid[op["node"]], op["text"], op["child"]),
        "branch": lambda: db.branch(repo, by_uuid[op["node"]], op["child"], uuid=op["child"]),
        "tag": lambda: db.tag(repo, by_uuid[op["node"]], op["child"]),
        "merge": lambda: db.merge(repo, [by_uuid[parent] for parent in op["nodes"]], op["text"]),
        "repo_log": lambda: db.append_repo_log(repo, [op["text"]]),
        "new_instance": lambda: db.new_instance(repo, repo.dag.root, name=op["name"], typename="keyvalue", admin=True),
        "rows": lambda: put_rows(db, repo.instances[op["name"]], repo.dag.root, op["count"]),
        "delete_instance": lambda: db.delete_instance(repo, op["name"]),
        "rename": lambda: db.rename_instance(repo, op["name"], op["new"]),
    }
    return changes[op["do"]]()


def victim(path: Path, seed: int, pipe: Connection) -> None:
    """Says what it is about to do, does it, says that it is done; takes mutation ids at the same time."""
    rng = random.Random(seed)
    db = opened(path)
    lock = threading.Lock()

    def say(message: object) -> None:
        with lock:
            pipe.send(message)

    def take_ids() -> None:
        while True:
            for repo in list(db.repos.values()):
                try:
                    taken = repo.next_mutation_id()
                except ValueError:  # deleted meanwhile
                    continue
                say(("id", (repo.root, repo.created), taken))
            time.sleep(0.0002)

    say(("ready",))
    threading.Thread(target=take_ids, daemon=True).start()
    while True:
        op = choose(rng, db)
        say(("begin", op))
        result = carry_out(db, op)
        say(("done", result.uuid if isinstance(result, Node) else ""))


# -- what has to be there -----------------------------------------------------------------------------------------------------


def apply(state: State, op: Operation) -> State:
    """The state after an operation; for a merge that has come to pass, ``op["child"]`` is the UUID that it got."""
    state = deepcopy(state)
    kind = op["do"]

    def node(parents: list[str], **given: Any) -> dict[str, Any]:
        return {"note": "", "log": [], "locked": False, "parents": parents} | given

    if kind == "new_repo":
        state[op["root"]] = {"alias": op["alias"], "lines": [], "nodes": {op["root"]: node([])}, "instances": {}}
        return state
    repo = state[op["root"]]
    nodes, instances = repo["nodes"], repo["instances"]
    if kind == "delete_repo":
        del state[op["root"]]
    elif kind == "commit":
        nodes[op["node"]] |= {"locked": True, "note": op["text"], "log": [*nodes[op["node"]]["log"], op["text"]]}
    elif kind == "note":
        nodes[op["node"]]["note"] = op["text"]
    elif kind == "log":
        nodes[op["node"]]["log"] += [op["text"]] * 2
    elif kind == "new_version":
        nodes[op["child"]] = node([op["node"]], note=op["text"])
    elif kind == "branch":
        nodes[op["child"]] = node([op["node"]])
    elif kind == "tag":
        nodes[op["child"]] = node([op["node"]], locked=True)
    elif kind == "merge":
        nodes[op["child"]] = node(op["nodes"], note=op["text"])
    elif kind == "repo_log":
        repo["lines"].append(op["text"])
    elif kind == "new_instance":
        instances[op["name"]] = 0
    elif kind == "rows":
        instances[op["name"]] = max(instances[op["name"]], 2 * op["count"])
    elif kind == "delete_instance":
        del instances[op["name"]]
    elif kind == "rename":
        instances[op["new"]] = instances.pop(op["name"])
    return state


def found(db: Database) -> State:
    """The state of a database in the same terms; asserts that no other rows are in it."""
    rows: Counter[int] = Counter()
    for kind in (DATA, LOG):
        rows.update(
            int.from_bytes(key[1:5], "big") for key in db.stores["main"].scan(*prefix_range(kind), keys_only=True)
        )
    state: State = {}
    for root, repo in db.repos.items():
        state[root] = {
            "alias": repo.alias,
            "lines": [text for line in repo.log if len(text := line.split("  ", 1)[1]) == 32],
            "nodes": nodes_of(repo),
            "instances": {name: rows.pop(record.id, 0) for name, record in repo.instances.items()},
        }
    assert not rows, "rows of instances that do not exist"
    return state


def nodes_of(repo: Repo) -> dict[str, Any]:
    return {
        node.uuid: {
            "note": "" if node.uuid.startswith("v") else node.note,
            "log": [line.split("  ", 1)[1] for line in node.log],
            "locked": node.locked,
            "parents": [repo.dag.nodes[parent].uuid for parent in node.parents],
        }
        for node in repo.dag.nodes.values()
    }


def all_nodes(state: State) -> set[str]:
    return {name for repo in state.values() for name in repo["nodes"]}


def soak(path: Path, kills: int, longest: float) -> None:
    rng = random.Random(path.name)
    state: State = {}
    last_ids: dict[tuple[str, str], int] = {}
    last_version = 0
    operations = 0
    for kill in range(kills):
        under_way: Operation | None = None
        ids: dict[tuple[str, str], list[int]] = {}

        def receive(kind: str, told: Any, number: int = 0, ids: dict[tuple[str, str], list[int]] = ids) -> bool:
            nonlocal state, under_way, operations
            if kind == "begin":
                under_way = told
            elif kind == "done":
                assert under_way is not None
                state = apply(state, {"child": told} | under_way)
                under_way = None
                operations += 1
            else:
                ids.setdefault(told, []).append(number)
            return kind == "done"

        kill_after(victim, (path, rng.getrandbits(32)), receive, rng.uniform(0, longest), kill % 2 == 0)
        for repo, taken in ids.items():
            assert taken == sorted(set(taken)) and taken[0] > last_ids.get(repo, 0), "a mutation id came twice"
            last_ids[repo] = taken[-1]
        with opened(path) as db:
            assert db.wait_for_deletions(120)
            check_consistent(db)
            assert not list(db.stores["main"].scan(*prefix_range(META + b"D")))
            now = found(db)
            possible = [state]
            if under_way is not None:
                new = [name for name in now.get(under_way["root"], {}).get("nodes", {}) if name not in all_nodes(state)]
                possible.append(apply(state, {"child": (new or [""])[0]} | under_way))
            assert now in possible, f"after kill {kill}, during {under_way}"
            state = now
            versions = [version for repo in db.repos.values() for version in repo.dag.nodes]
            last_version = max([last_version, *versions])
            check = db.new_repo(root=uuid.UUID(int=rng.getrandbits(128)).hex, alias="check")
            assert check.dag.root.id > last_version, "a version id came twice"
            last_version = check.dag.root.id
            db.delete_repo(check)
    assert operations >= kills // 2


@pytest.mark.parametrize("kills", [20, pytest.param(400, marks=pytest.mark.slow)])
def test_kill_at_random_moments(tmp_path: Path, kills: int) -> None:
    soak(tmp_path, kills, 0.15)
