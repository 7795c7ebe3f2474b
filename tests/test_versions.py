"""The DAG of versions: ancestry, branches as chains, version specs, names that are refused."""

from __future__ import annotations

import re
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvidcore.errors import BadRequest
from dvidcore.versions import (
    DAG,
    Node,
    checked_branch,
    checked_tag,
    checked_uuid,
    new_uuid,
    now,
    parse_spec,
    stamp,
)


def node(version: int, *parents: int, branch: str = "") -> Node:
    return Node(version, f"{version:032x}", branch=branch, parents=list(parents), locked=True)


def uuids(*versions: int) -> list[str]:
    return [f"{version:032x}" for version in versions]


@pytest.fixture
def dag() -> DAG:
    """1 - 2 - 3 ------- 7 (merges 6, 3) - 8 on master; 4 - 5 on "b" from 2; 6 on "c" from 5."""
    return DAG(
        [
            node(1),
            node(2, 1),
            node(3, 2),
            node(4, 2, branch="b"),
            node(5, 4, branch="b"),
            node(6, 5, branch="c"),
            node(7, 6, 3),
            node(8, 7),
        ]
    )


def test_children_are_in_order_of_creation(dag: DAG) -> None:
    assert dag.nodes[2].children == [3, 4]
    assert dag.nodes[3].children == [7]
    assert dag.nodes[6].children == [7]
    assert dag.nodes[8].children == []
    dag.add(node(9, 2, branch="d"))
    assert dag.nodes[2].children == [3, 4, 9]
    assert dag.by_uuid[uuids(9)[0]] is dag.nodes[9]


def test_add_replaces_what_readers_iterate(dag: DAG) -> None:
    nodes, children = dag.nodes, dag.nodes[8].children
    dag.add(node(9, 8))
    assert 9 not in nodes and children == []
    assert dag.nodes[8].children == [9]


@pytest.mark.parametrize(
    "bad",
    [
        [],
        [node(1, 2)],
        [node(1), node(2)],
        [node(1), node(2, 3), node(3, 1)],
        [node(1), node(2, 5)],
        [node(1), Node(2, f"{1:032x}", parents=[1])],
    ],
    ids=["empty", "no root", "two roots", "child before parent", "unknown parent", "double UUID"],
)
def test_what_is_no_dag_is_refused(bad: list[Node]) -> None:
    with pytest.raises(ValueError):
        DAG(bad)


def test_leaf_ignores_children_on_other_branches(dag: DAG) -> None:
    assert dag.leaf("b").id == 5  # 5 has a child, but on "c"
    assert dag.leaf("c").id == 6
    assert dag.leaf("master").id == dag.leaf("").id == 8
    with pytest.raises(BadRequest, match="nosuch"):
        dag.leaf("nosuch")


def test_branch_versions_goes_up_through_the_last_parent_of_a_merge(dag: DAG) -> None:
    assert dag.branch_versions("master") == uuids(8, 7, 6, 3, 2, 1)
    assert dag.branch_versions("") == dag.branch_versions("master")
    assert dag.branch_versions("c") == uuids(6, 5, 4, 2, 1)
    assert dag.branch_versions("nosuch") == []


def test_step_up_goes_along_branch_versions(dag: DAG) -> None:
    for branch in ("master", "b", "c"):
        line = dag.branch_versions(branch)
        assert [dag.step_up(branch, n).uuid for n in range(len(line))] == line
        for n in (len(line), -1):
            with pytest.raises(BadRequest, match="out of range"):
                dag.step_up(branch, n)
    with pytest.raises(BadRequest):
        dag.step_up("nosuch", 0)


def test_the_leaf_and_its_zeroth_step_agree_below_a_merge(dag: DAG) -> None:
    for branch in dag.branches:
        assert dag.step_up(branch, 0) is dag.leaf(branch)


def test_path_lies_between_an_ancestor_and_a_descendant(dag: DAG) -> None:
    def path(start: int, end: int) -> list[int]:
        return [n.id for n in dag.path(dag.nodes[start], dag.nodes[end])]

    assert path(1, 3) == [1, 2, 3]
    assert path(4, 8) == [4, 5, 6, 7, 8]
    assert path(2, 7) == [2, 3, 4, 5, 6, 7]
    assert path(5, 5) == [5]
    for start, end in ((3, 1), (3, 6), (6, 3)):
        with pytest.raises(BadRequest, match="not an ancestor"):
            path(start, end)


def test_a_branch_goes_on_from_its_leaf_only(dag: DAG) -> None:
    dag.check_next(dag.nodes[8])
    dag.check_next(dag.nodes[5])
    for version in (1, 4):
        with pytest.raises(BadRequest, match="goes on"):
            dag.check_next(dag.nodes[version])
    dag.check_new_branch("d")
    for name in ("b", ""):
        with pytest.raises(BadRequest, match="already"):
            dag.check_new_branch(name)


def test_merge_branch_keeps_every_branch_a_chain(dag: DAG) -> None:
    def branch(*parents: int) -> str | None:
        return dag.merge_branch([dag.nodes[version] for version in parents])

    assert branch(8, 5) == ""
    assert branch(5, 8) == ""
    dag.add(node(9, 8, branch="d"))
    assert branch(9, 5) == ""  # master's leaf is above 9
    assert branch(5, 3) == "b"  # master's leaf is not above either
    assert branch(3, 5) == "b"
    assert branch(6, 3) == "c"
    assert branch(2, 4) is None


def test_ancestries_are_kept_but_not_without_bound() -> None:
    dag = DAG([node(1), *(node(n, n - 1) for n in range(2, 400))])
    assert dag.ancestry(5) is dag.ancestry(5)
    for n in range(1, 400):
        assert dag.ancestry(n).version == n
    assert len(dag._ancestries) < 400
    with pytest.raises(KeyError):
        dag.ancestry(1000)


@st.composite
def dags(draw: st.DrawFn) -> DAG:
    nodes = [node(1)]
    for version in range(2, draw(st.integers(2, 14))):
        parents = draw(st.lists(st.integers(1, version - 1), min_size=1, max_size=3, unique=True))
        nodes.append(node(version, *parents, branch=draw(st.sampled_from(["", "a", "b"]))))
    return DAG(nodes)


@given(dags())
def test_ancestors_and_paths_against_a_plain_closure(dag: DAG) -> None:
    above: dict[int, set[int]] = {}
    for version, n in dag.nodes.items():
        above[version] = set(n.parents).union(*(above[p] for p in n.parents))
    for b in dag.nodes:
        assert set(dag.ancestry(b).rank) == above[b] | {b}
        for a in dag.nodes:
            assert dag.is_ancestor(a, b) == (a in above[b])
            if a in above[b]:
                between = {v for v in dag.nodes if (v == a or a in above[v]) and (v == b or v in above[b])}
                assert [n.id for n in dag.path(dag.nodes[a], dag.nodes[b])] == sorted(between)


@given(dags(), st.data())
def test_an_ancestry_holds_when_nodes_are_added(dag: DAG, data: st.DataObject) -> None:
    version = data.draw(st.sampled_from(list(dag.nodes)))
    before = dag.ancestry(version)
    dag.add(node(max(dag.nodes) + 1, version))
    assert DAG(dag.nodes.values()).ancestry(version) == before


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("3f8a", ("3f8a", None, 0)),
        ("3f8a:", ("3f8a", None, 0)),
        ("3f8a:b", ("3f8a", "b", 0)),
        ("3f8a:master", ("3f8a", "", 0)),
        ("3f8a:MASTER", ("3f8a", "MASTER", 0)),
        ("3f8a:b 2 é~12", ("3f8a", "b 2 é", 12)),
        (":master~0", ("", "", 0)),
        (":", ("", "", 0)),
        (":~1", ("", "", 1)),
        ("3f8a:~2", ("3f8a", "", 2)),
        ("", ("", None, 0)),
        ("v1~2", ("v1~2", None, 0)),
    ],
)
def test_version_specs(text: str, parsed: tuple[str, str | None, int]) -> None:
    assert parse_spec(text) == parsed


@pytest.mark.parametrize(
    "text", ["a:b:c", "a:b~1~1", "a:b~x", "a:b~", "a:b~-1", "a:~", "::", "a:b~1:", "a:b~²", "a:b~" + "9" * 30]
)
def test_what_is_no_version_spec(text: str) -> None:
    with pytest.raises(BadRequest):
        parse_spec(text)


def test_uuids_are_32_hex_digits_in_lower_case() -> None:
    assert checked_uuid("ABCDEF0123456789abcdef0123456789") == "abcdef0123456789abcdef0123456789"
    assert re.fullmatch("[0-9a-f]{32}", new_uuid())
    for bad in ("", "zz", "g" * 32, "a" * 31, "a" * 33, "a" * 32 + "\n", "٣" * 32):
        with pytest.raises(BadRequest, match="root"):
            checked_uuid(bad, "root")


def test_tags_that_no_url_names_or_that_look_like_a_uuid() -> None:
    assert checked_tag("v1.0-beta ü") == "v1.0-beta ü"
    for bad in (
        "",
        "  ",
        "..",
        "a/b",
        "a:b",
        "a\nb",
        "t" * 1001,
        "a" * 32,
        "A" * 32,
        "123e4567-e89b-12d3-a456-426614174000",
    ):
        with pytest.raises(BadRequest, match="tag"):
            checked_tag(bad)


def test_branch_names() -> None:
    assert checked_branch("b 2 é") == "b 2 é"
    for bad in ("", " ", "master", "a:b", "a~1", "a/b", "a\x00", ".", "b" * 1001):
        with pytest.raises(BadRequest, match="branch"):
            checked_branch(bad)


def test_times() -> None:
    assert datetime.fromisoformat(now().replace("Z", "+00:00")).tzinfo is not None
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", now())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  two  words", stamp("two  words"))
