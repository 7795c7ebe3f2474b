"""Several stores, damaged metadata, failing writes, and several processes over one store."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvidcore.errors import BadRequest, Forbidden, StoreError
from dvidcore.repos import Database, OneStore, Repo
from dvidcore.storage import open_engine
from dvidcore.storage.engine import Batch
from dvidcore.storage.keys import META, data_prefix, prefix_range
from dvidcore.storage.memory import Memory
from dvidcore.versions import Node
from repo_model import Failing, again, check_consistent, committed, get, keyvalue, opened, picture, put, unchanged


class TwoStores(OneStore):
    def store_for(self, typename: str, tags: Any, name_uuid: str, data_uuid: str) -> str:
        assert ":" in name_uuid and len(data_uuid) == 32
        return "blocks" if typename == "uint8blk" or tags.get("type") == "meshes" else self.metadata


def test_instances_of_one_repo_may_lie_in_several_stores() -> None:
    stores = {"main": Memory("a"), "blocks": Memory("b")}
    with Database.open(stores, TwoStores("main")) as db:
        repo = db.new_repo()
        root = repo.dag.root
        kv = keyvalue(db, repo)
        gray = db.new_instance(repo, root, name="gray", typename="uint8blk")
        meshes = keyvalue(db, repo, "meshes", tags={"type": "meshes"})
        assert [db.engine_of(r) for r in (kv, gray, meshes)] == [stores["main"], stores["blocks"], stores["blocks"]]
        assert not list(stores["blocks"].scan(*prefix_range(META + b"R")))
        put(db, gray, root, x=b"1")
        db.delete_instance(repo, "gray")
        assert db.wait_for_deletions(10)
        assert not list(stores["blocks"].scan(*prefix_range(data_prefix(gray.id, 7))))
        with pytest.raises(StoreError, match=r'"meshes".*"blocks"'):
            Database.open({"main": stores["main"]})
        with pytest.raises(StoreError, match="assignment"):
            Database.open(stores)
        with pytest.raises(StoreError, match='"nosuch"'):
            Database.open(stores, TwoStores("nosuch"))


def test_damaged_metadata_is_refused_and_left_alone() -> None:
    engine = Memory()
    db = opened(engine)
    repo = db.new_repo()
    key = next(engine.scan(*prefix_range(META + b"N"), keys_only=True))
    for damage in (b"{", b"[]", b"{}", None):
        engine.write(_row(key, damage))
        rows = list(engine.scan(b"", b"\xff"))
        with pytest.raises(StoreError, match="damaged"):
            again(db)
        assert list(engine.scan(b"", b"\xff")) == rows
    assert repo.root in db.repos


def _row(key: bytes, value: bytes | None) -> Any:
    batch = Batch()
    if value is None:
        batch.delete(key)
    else:
        batch.put(key, value)
    return batch


def test_a_read_only_database_refuses_every_change() -> None:
    engine = Memory()
    writable = opened(engine)
    repo = writable.new_repo(passcode="p")
    keyvalue(writable, repo)
    db = Database.open({"main": engine}, read_only=True)
    here = db.repos[repo.root]
    root = here.dag.root
    record = here.instances["kv"]
    for change in (
        db.new_repo,
        lambda: db.delete_repo(here, "p"),
        lambda: db.update_repo(here, alias="x"),
        lambda: db.append_repo_log(here, ["x"]),
        lambda: db.set_note(here, root, "x", admin=True),
        lambda: db.append_log(here, root, ["x"], admin=True),
        lambda: db.commit(here, root),
        lambda: db.new_version(here, root),
        lambda: db.branch(here, root, "b"),
        lambda: db.tag(here, root, "v1"),
        lambda: db.merge(here, [root, root]),
        lambda: db.make_master(here, root, "x"),
        lambda: db.hide_branch(here, "x"),
        lambda: keyvalue(db, here, "x"),
        lambda: db.rename_instance(here, "kv", "x", "p"),
        lambda: db.update_instance(here, record, tags={}),
        lambda: db.set_syncs(here, record, []),
        lambda: db.delete_instance(here, "kv", "p"),
        here.next_mutation_id,
    ):
        unchanged(db, Forbidden, change, "read-only")


CHANGES: dict[str, Callable[[Database, Repo], object]] = {
    "new_repo": lambda db, repo: db.new_repo("x", passcode=None),
    "delete_repo": lambda db, repo: db.delete_repo(repo),
    "update_repo": lambda db, repo: db.update_repo(repo, "x", "y"),
    "append_repo_log": lambda db, repo: db.append_repo_log(repo, ["x", "y"]),
    "commit": lambda db, repo: db.commit(repo, repo.dag.leaf("open"), "note", ["line"]),
    "new_version": lambda db, repo: db.new_version(repo, repo.dag.root),
    "branch": lambda db, repo: db.branch(repo, repo.dag.root, "new"),
    "tag": lambda db, repo: db.tag(repo, repo.dag.root, "v1"),
    "merge": lambda db, repo: db.merge(repo, [repo.dag.leaf("a"), repo.dag.leaf("b")]),
    "resolve": lambda db, repo: db.resolve_conflicts(repo, ["kv"], [repo.dag.leaf("a"), repo.dag.leaf("b")]),
    "hide_branch": lambda db, repo: db.hide_branch(repo, "open"),
    "new_instance": lambda db, repo: keyvalue(db, repo, "new"),
    "rename_instance": lambda db, repo: db.rename_instance(repo, "kv", "new"),
    "delete_instance": lambda db, repo: db.delete_instance(repo, "kv"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_whose_write_fails_is_not_made(name: str) -> None:
    """The disk fails at the first write, then at the second …: each time nothing has changed, and it can be repeated."""
    engine = Failing()
    db = opened(engine)
    repo = db.new_repo("before")
    kv = keyvalue(db, repo)
    db.commit(repo, repo.dag.root)
    a, b = committed(db, repo, repo.dag.root, "a"), committed(db, repo, repo.dag.root, "b")
    db.branch(repo, repo.dag.root, "open")
    put(db, kv, a, x=b"a", y=b"a")
    put(db, kv, b, x=b"b", y=b"b")
    before = picture(db)
    seen = [get(db, kv, node, "x") for node in (repo.dag.root, a, b)]
    fails = 0
    while True:
        engine.left = fails
        try:
            CHANGES[name](db, repo)
        except StoreError:
            engine.left = None
            assert picture(db) == picture(again(db)) == before
            assert [get(db, kv, node, "x") for node in (repo.dag.root, a, b)] == seen
            fails += 1
            continue
        break
    engine.left = None
    assert fails >= 1
    assert db.wait_for_deletions(10) or name.startswith("delete")
    assert picture(db) == picture(again(db)) != before
    check_consistent(db)


def test_two_processes_over_one_store_see_each_others_changes() -> None:
    first = opened(Memory())
    repo = first.new_repo()
    second = again(first)
    there = second.repos[repo.root]
    first.commit(repo, repo.dag.root)
    assert not there.dag.root.locked
    assert second.refresh() and not second.refresh()
    assert there.dag.root.locked and second.repos[repo.root] is there  # the same object, brought up to date
    child = second.new_version(there, there.dag.root)
    # Without a refresh: the check is made against what is stored.
    with pytest.raises(BadRequest, match="goes on"):
        first.new_version(repo, repo.dag.root)
    first.branch(repo, repo.dag.root, "b")
    second.commit(there, child)
    assert first.resolve(":b")[0] is repo
    first.refresh()
    assert picture(first) == picture(second) == picture(again(first))
    check_consistent(first)


def test_a_look_up_in_a_shared_store_sees_what_others_did() -> None:
    class Shared(Memory):
        shared = True

    first = opened(Shared())
    repo = first.new_repo()
    second = again(first)
    first.commit(repo, repo.dag.root)
    assert second.resolve(":master")[1].locked
    child = first.new_version(repo, repo.dag.root)
    assert second.resolve(child.uuid)[1].uuid == second.resolve(":master")[1].uuid == child.uuid


def test_two_processes_that_write_at_the_same_time() -> None:
    first = opened(Memory())
    repo = first.new_repo()
    first.commit(repo, repo.dag.root)
    databases = [first, again(first), again(first)]
    made: list[Node] = []

    def work(n: int, database: Database) -> None:
        here = database.repos[repo.root]
        for i in range(15):
            made.append(database.branch(here, here.dag.root, f"{n}.{i}"))
            keyvalue(database, here, f"i{n}.{i}")
            database.append_repo_log(here, [f"{n}.{i}"])

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(databases)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for database in databases:
        database.refresh()
        check_consistent(database)
    assert picture(databases[0]) == picture(databases[1]) == picture(databases[2])
    assert len({node.id for node in made}) == 45
    assert len(repo.instances) == 45 and len(repo.log) == 90


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_random_changes_keep_every_branch_a_chain(data: st.DataObject) -> None:
    with opened(Memory()) as db:
        repo = db.new_repo()
        for step in range(data.draw(st.integers(1, 25))):
            nodes = list(repo.dag.nodes.values())
            node = data.draw(st.sampled_from(nodes))
            kind = data.draw(
                st.sampled_from(["commit", "new", "branch", "same", "tag", "merge", "master", "hide", "restart"])
            )
            try:
                if kind == "commit":
                    db.commit(repo, node, f"step {step}")
                elif kind == "new":
                    db.new_version(repo, node)
                elif kind == "branch":
                    db.branch(repo, node, f"b{step}")
                elif kind == "same":
                    db.branch(repo, node, node.branch)
                elif kind == "tag":
                    db.tag(repo, node, f"v{step}")
                elif kind == "merge":
                    db.merge(repo, data.draw(st.lists(st.sampled_from(nodes), max_size=3)))
                elif kind == "master":
                    db.make_master(repo, node, f"m{step}")
                elif kind == "hide":
                    db.hide_branch(repo, node.branch)
                else:
                    db = again(db)
                    repo = db.repos[repo.root]
            except BadRequest:
                pass
            check_consistent(db)
        assert picture(again(db)) == picture(db)


def test_a_restart_over_leveldb(tmp_path: Path) -> None:
    with Database.open({"main": open_engine("leveldb", str(tmp_path))}) as db:
        repo = db.new_repo("a", "ü")
        keyvalue(db, repo, tags={"a": "b"})
        db.commit(repo, repo.dag.root, "n", ["x"])
        db.branch(repo, repo.dag.root, "b")
        before = picture(db)
    with Database.open({"main": open_engine("leveldb", str(tmp_path))}) as db:
        assert picture(db) == before
        check_consistent(db)
