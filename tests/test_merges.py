"""Merges, the settling of conflicts, and branches that become master or are hidden."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvidcore.errors import BadRequest, Conflict
from dvidcore.repos import Database, Repo
from dvidcore.storage.keys import kind_range
from dvidcore.storage.memory import Memory
from dvidcore.versions import Node
from repo_model import check_consistent, committed, get, keyvalue, opened, put, unchanged, view


def test_a_merge_is_on_master_where_master_stays_one_chain(db: Database, repo: Repo) -> None:
    root = repo.dag.root
    a, b = committed(db, repo, root, "a"), committed(db, repo, root, "b")
    merged = db.merge(repo, [a, b], "m")
    assert (merged.branch, merged.parents, merged.note, merged.locked) == ("", [a.id, b.id], "m", False)
    unchanged(db, BadRequest, lambda: db.new_version(repo, root), "goes on")  # master goes on in the merged node
    db.commit(repo, merged)
    side = db.merge(repo, [a, b], "again")  # would be a second leaf of master
    assert side.branch == "a"
    db.commit(repo, side)
    third = db.merge(repo, [a, b])  # would be a second leaf of "a"
    assert third.branch == "b"
    db.commit(repo, third)
    own = db.merge(repo, [a, b])
    assert own.branch == f"merge-{own.uuid}"
    assert db.new_version(repo, merged).branch == ""


def test_merges_that_are_refused_leave_nothing(db: Database, repo: Repo) -> None:
    root = repo.dag.root
    a = committed(db, repo, root, "a")
    open_ = db.branch(repo, root, "open")
    other = db.new_repo()
    db.commit(other, other.dag.root)
    keyvalue(db, repo)
    for parents, match in (
        ([], "two"),
        ([a], "two"),
        ([a, a], "twice"),
        ([a, open_], "open"),
        ([open_, a], "open"),
        ([a, other.dag.root], "not in repo"),
    ):
        unchanged(db, BadRequest, lambda parents=parents: db.merge(repo, parents), match)
        unchanged(db, BadRequest, lambda parents=parents: db.resolve_conflicts(repo, ["kv"], parents), match)


def test_conflicts_below_a_merge_are_errors_that_name_the_writers(db: Database, repo: Repo) -> None:
    kv = keyvalue(db, repo)
    a, b = committed(db, repo, repo.dag.root, "a"), committed(db, repo, repo.dag.root, "b")
    put(db, kv, a, x=b"a", y=b"a")
    put(db, kv, b, x=b"b", z=b"b")
    merged = db.merge(repo, [a, b])
    with pytest.raises(Conflict, match=rf"{a.id} and {b.id}"):
        get(db, kv, merged, "x")
    listed = list(view(db, kv, merged).keys(*kind_range(kv.id, 7)))
    assert [key[6:-1] for key in listed] == [b"x", b"y", b"z"]
    put(db, kv, merged, x=b"settled")
    assert get(db, kv, merged, "x") == b"settled"


def test_resolve_settles_conflicts_only(db: Database, repo: Repo) -> None:
    kv, flat = keyvalue(db, repo), keyvalue(db, repo, "flat", versioned=False)
    root = repo.dag.root
    put(db, kv, root, a=b"root", b=b"root", c=b"root", e=b"root")
    x, y = committed(db, repo, root, "x"), committed(db, repo, root, "y")
    put(db, kv, x, a=b"x", d=b"x", only_x=b"x", c=None)
    put(db, kv, y, a=b"y", d=b"y", only_y=b"y", e=None)
    before = {n.uuid: {k: get(db, kv, n, k) for k in "abcde"} for n in (x, y)}
    child = db.resolve_conflicts(repo, ["kv", "flat"], [x, y], "x before y")
    seen = {key: get(db, kv, child, key) for key in ("a", "b", "c", "d", "e", "only_x", "only_y")}
    assert seen == {"a": b"x", "b": b"root", "c": None, "d": b"x", "e": None, "only_x": b"x", "only_y": b"y"}
    assert {n.uuid: {k: get(db, kv, n, k) for k in "abcde"} for n in (x, y)} == before
    loser = repo.dag.leaf(f"conflict-{y.uuid}")
    assert (loser.parents, loser.locked) == ([y.id], True)
    assert loser.note == "Version for deleting conflicts before merge"
    assert child.parents == [x.id, loser.id] and loser.id < child.id
    assert (child.branch, child.note, child.locked) == ("", "x before y", False)
    assert flat.name in repo.instances
    other_way = db.resolve_conflicts(repo, ["kv"], [y, x])
    assert get(db, kv, other_way, "a") == b"y"
    once_more = db.resolve_conflicts(repo, ["kv"], [x, y])
    assert get(db, kv, once_more, "a") == b"x"
    assert repo.dag.nodes[once_more.parents[1]].branch == f"conflict-{y.uuid}-2"


def test_resolve_without_conflicts_is_a_merge(db: Database, repo: Repo) -> None:
    kv = keyvalue(db, repo)
    a, b = committed(db, repo, repo.dag.root, "a"), committed(db, repo, repo.dag.root, "b")
    put(db, kv, a, x=b"a")
    put(db, kv, b, y=b"b")
    child = db.resolve_conflicts(repo, ["kv"], [a, b])
    assert child.parents == [a.id, b.id]
    assert (get(db, kv, child, "x"), get(db, kv, child, "y")) == (b"a", b"b")
    unchanged(db, BadRequest, lambda: db.resolve_conflicts(repo, [], [a, b]), "data")
    unchanged(db, BadRequest, lambda: db.resolve_conflicts(repo, ["kv", "nosuch"], [a, b]), "nosuch")


def test_resolve_of_a_conflict_that_a_parent_has_in_itself(db: Database, repo: Repo) -> None:
    kv = keyvalue(db, repo)
    a, b, c = (committed(db, repo, repo.dag.root, name) for name in "abc")
    for node in (a, b, c):
        put(db, kv, node, x=node.branch.encode())
    inner = db.merge(repo, [b, a])
    db.commit(repo, inner)
    child = db.resolve_conflicts(repo, ["kv"], [inner, c])
    assert get(db, kv, child, "x") == b"b"
    child = db.resolve_conflicts(repo, ["kv"], [c, inner])
    assert get(db, kv, child, "x") == b"c"


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_resolve_against_the_rule(data: st.DataObject) -> None:
    """On random DAGs: the first parent that has a value in conflict wins; nothing else changes."""
    with opened(Memory()) as db:
        repo = db.new_repo()
        kv = keyvalue(db, repo)
        nodes = [repo.dag.root]
        for step in range(data.draw(st.integers(3, 9))):
            for key in data.draw(st.sets(st.sampled_from("wxyz"))):
                put(db, kv, nodes[-1], **{key: data.draw(st.sampled_from([None, f"{nodes[-1].id}".encode()]))})
            db.commit(repo, nodes[-1])
            parents = data.draw(st.lists(st.sampled_from(nodes), min_size=1, max_size=3, unique=True))
            make = db.merge(repo, parents) if len(parents) > 1 else db.branch(repo, parents[0], f"b{step}")
            nodes.append(make)
        parents = data.draw(st.lists(st.sampled_from(nodes[:-1]), min_size=2, max_size=3, unique=True))
        plain = db.merge(repo, parents)

        def look(node: Node) -> dict[str, Any]:
            seen: dict[str, Any] = {}
            for key in "wxyz":
                try:
                    seen[key] = get(db, kv, node, key)
                except Conflict as e:
                    seen[key] = {f"{writer}".encode() for writer in e.writers}  # type: ignore[attr-defined]
            return seen

        before = [look(node) for node in nodes]
        merged = look(plain)
        child = db.resolve_conflicts(repo, ["kv"], parents)
        after = look(child)
        assert [look(node) for node in nodes] == before
        for key, value in merged.items():
            if not isinstance(value, set):
                assert after[key] == value
                continue
            for parent in parents:
                own = look(parent)[key]
                here = own & value if isinstance(own, set) else {own} & value
                if here:
                    assert after[key] in here
                    break
        check_consistent(db)


def test_make_master(db: Database, repo: Repo) -> None:
    root = repo.dag.root
    m1 = db.new_version(repo, root)
    db.commit(repo, m1)
    m2 = db.new_version(repo, m1)
    b1 = committed(db, repo, root, "b")
    b2 = db.new_version(repo, b1)
    unchanged(db, BadRequest, lambda: db.make_master(repo, b2, "old"), "first node")
    unchanged(db, BadRequest, lambda: db.make_master(repo, m1, "old"), "first node")
    for name in ("b", "", "master", "a:b"):
        unchanged(db, BadRequest, lambda name=name: db.make_master(repo, b1, name))
    assert db.resolve(":master")[1] is m2
    db.make_master(repo, b1, "old")
    assert [n.branch for n in (root, m1, m2, b1, b2)] == ["", "old", "old", "", ""]
    assert db.resolve(":master")[1] is b2  # at once, not after a restart
    assert db.resolve(":old")[1] is m2
    unchanged(db, BadRequest, lambda: db.resolve(":b"))
    lone = committed(db, repo, b1, "lone")
    beyond = committed(db, repo, lone, "beyond")
    unchanged(db, BadRequest, lambda: db.make_master(repo, beyond, "x"), "does not fork from master")


def test_hide_branch(db: Database, repo: Repo) -> None:
    root = repo.dag.root
    b1 = committed(db, repo, root, "b")
    db.append_log(repo, b1, ["line"], admin=True)
    b2 = committed(db, repo, b1, "b")
    c = db.branch(repo, b2, "c")
    unchanged(db, BadRequest, lambda: db.hide_branch(repo, "b"), '"c"')
    unchanged(db, BadRequest, lambda: db.hide_branch(repo, "master"), "master")
    unchanged(db, BadRequest, lambda: db.hide_branch(repo, "nosuch"), "nosuch")
    db.hide_branch(repo, "c")
    db.hide_branch(repo, "b")
    assert list(repo.dag.nodes) == [root.id] and root.children == []
    unchanged(db, BadRequest, lambda: db.resolve(b1.uuid))
    unchanged(db, BadRequest, lambda: db.commit(repo, c), "not in repo")
    assert db.branch(repo, root, "b").id > c.id
