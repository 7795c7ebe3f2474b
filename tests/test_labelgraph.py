"""labelgraph over the HTTP API: its endpoints, what they refuse, and each point in which DVID was weak."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from apiclient import Answer, Client
from dvidcore.datatypes.labelgraph.datatype import LabelGraph
from dvidcore.repos import Database
from dvidcore.storage import open_engine
from dvidcore.storage.keys import instance_range, prefix_range

HUGE = 2**64 - 1
TINY = {"Transactions": [], "Vertices": [], "Edges": []}


def body(vertices: Iterable[Any] = (), edges: Iterable[Any] = ()) -> dict[str, Any]:
    """A graph as clients send it, from ids or (id, weight) and (id, id[, weight])."""
    pairs = [v if isinstance(v, tuple) else (v,) for v in vertices]
    return {
        "Vertices": [dict(zip(("Id", "Weight"), v, strict=False)) for v in pairs],
        "Edges": [dict(zip(("Id1", "Id2", "Weight"), e, strict=False)) for e in edges],
    }


class Graph:
    """An instance at a version."""

    def __init__(self, client: Client, path: str) -> None:
        self.client, self.path = client, path

    @classmethod
    def create(cls, database: Database, **settings: str) -> Graph:
        client = Client(database)
        return cls(client, client.instance(client.repo(), "graph", "labelgraph", **settings))

    @property
    def node(self) -> str:
        return self.path.split("/")[3]

    def at(self, node: str) -> Graph:
        return Graph(self.client, f"/api/node/{node}/graph")

    def child(self) -> Graph:
        self.client.commit(self.node)
        return self.at(self.client.child(self.node))

    def branch(self, name: str) -> Graph:
        answer = self.client.post(f"/api/node/{self.node}/branch", {"branch": name})
        assert answer.status == 200, answer.text
        return self.at(answer.json()["child"])

    def merged_with(self, other: Graph) -> Graph:
        for graph in (self, other):
            self.client.commit(graph.node)
        given = {"mergeType": "conflict-free", "parents": [self.node, other.node], "note": ""}
        answer = self.client.post(f"/api/repo/{self.node}/merge", given)
        assert answer.status == 200, answer.text
        return self.at(answer.json()["child"])

    def ask(self, verb: str, path: str, given: Any = None) -> Answer:
        return self.client(verb, f"{self.path}/{path}", given)

    def do(self, verb: str, path: str, given: Any = None) -> bytes:
        answer = self.ask(verb, path, given)
        assert answer.status == 200, answer.text
        return answer.body

    def post(self, vertices: Iterable[Any] = (), edges: Iterable[Any] = (), path: str = "subgraph") -> None:
        assert self.do("POST", path, body(vertices, edges)) == b""

    def refused(self, verb: str, path: str, given: Any = None, status: int = 400) -> str:
        """A request that must be refused, and change nothing. Its message."""
        engine = self.client.server.database.stores["main"]
        before = list(engine.scan(b"", b"\xff"))
        answer = self.ask(verb, path, given)
        assert answer.status == status, (answer.status, answer.text)
        assert list(engine.scan(b"", b"\xff")) == before
        return answer.text

    def get(self, vertices: Iterable[Any] | None = None, path: str = "subgraph") -> tuple[list[Any], list[Any]]:
        """(vertices, edges) of an answer, as tuples."""
        found = json.loads(self.do("GET", path, None if vertices is None else body(vertices)))
        assert list(found) == ["Transactions", "Vertices", "Edges"] and found["Transactions"] == []
        return [(v["Id"], v["Weight"]) for v in found["Vertices"]], [tuple(e.values()) for e in found["Edges"]]

    def neighbors(self, vertex: int) -> tuple[list[Any], list[Any]]:
        return self.get(path=f"neighbors/{vertex}")


@pytest.fixture
def graph(database: Database) -> Graph:
    return Graph.create(database)


@pytest.fixture
def triangle(graph: Graph) -> Graph:
    """Vertices 1 to 4; edges 1-2, 2-3, 1-3."""
    graph.post([(1, 2.3), (2, 10.1), (3, 1), 4], [(1, 2, 10), (3, 2, 0.5), (1, 3)])
    return graph


# -- the graph ---------------------------------------------------------------------------------------------------------


def test_info_and_an_empty_graph(graph: Graph) -> None:
    info = json.loads(graph.do("GET", "info"))
    assert info["Base"]["TypeName"] == "labelgraph" and info["Base"]["TypeVersion"] == "0.1"
    assert info["Base"]["TypeURL"] == "github.com/janelia-flyem/dvid/datatype/labelgraph"
    assert info["Extended"] == {}
    answer = graph.ask("GET", "subgraph")
    assert answer.headers["content-type"] == "application/json"
    assert answer.body == b'{"Transactions":[],"Vertices":[],"Edges":[]}'
    assert graph.ask("GET", "help").status == 200


def test_the_answer_to_the_byte(graph: Graph) -> None:
    graph.post([(2, 10.1), (1, 2.3)], [(2, 1, 10)])
    assert graph.do("GET", "subgraph") == (
        b'{"Transactions":[],"Vertices":[{"Id":1,"Weight":2.3},{"Id":2,"Weight":10.1}],'
        b'"Edges":[{"Id1":1,"Id2":2,"Weight":10}]}'
    )


def test_the_whole_graph_is_sorted(triangle: Graph) -> None:
    whole = [(1, 2.3), (2, 10.1), (3, 1), (4, 0)], [(1, 2, 10), (1, 3, 0), (2, 3, 0.5)]
    assert triangle.get() == whole
    assert triangle.get([]) == whole


def test_a_part_has_the_vertices_asked_and_all_their_edges(triangle: Graph) -> None:
    vertices, edges = triangle.get([(3, 99), 1])
    assert vertices == [(3, 1), (1, 2.3)]
    assert sorted(edges) == [(1, 2, 10), (1, 3, 0), (2, 3, 0.5)]
    assert triangle.get([4]) == ([(4, 0)], [])
    assert triangle.get([1, (1, 2)])[0] == [(1, 2.3)]


def test_neighbors_start_with_the_vertex(triangle: Graph) -> None:
    triangle.post([5], [(5, 1, 7)])
    assert triangle.neighbors(3) == ([(3, 1), (1, 2.3), (2, 10.1)], [(1, 3, 0), (2, 3, 0.5)])
    assert triangle.neighbors(4) == ([(4, 0)], [])
    for path in ("neighbors/99", "neighbors/0", "neighbors/x", "neighbors/-1", "neighbors", f"neighbors/{2**64}"):
        triangle.refused("GET", path)


def test_delete_takes_edges_and_properties_along(triangle: Graph) -> None:
    for path in ("1/k", "2/k", "1/2/k", "2/3/k"):
        triangle.do("POST", f"property/{path}", b"p")
    triangle.do("DELETE", "subgraph", body([1]))
    assert triangle.get() == ([(2, 10.1), (3, 1), (4, 0)], [(2, 3, 0.5)])
    assert triangle.do("GET", "property/1/k") == triangle.do("GET", "property/1/2/k") == b""
    assert triangle.do("GET", "property/2/k") == triangle.do("GET", "property/2/3/k") == b"p"
    triangle.do("DELETE", "subgraph", body([], [(3, 2)]))
    assert triangle.get() == ([(2, 10.1), (3, 1), (4, 0)], [])
    assert triangle.do("GET", "property/2/3/k") == b""


@pytest.mark.parametrize("given", [None, {"Vertices": [], "Edges": []}])
def test_delete_of_nothing_in_particular_is_of_everything(triangle: Graph, given: Any) -> None:
    triangle.do("POST", "property/1/k", b"p")
    triangle.do("POST", "property/1/2/k", b"p")
    triangle.do("DELETE", "subgraph", given)
    assert json.loads(triangle.do("GET", "subgraph")) == TINY
    triangle.post([1, 2], [(1, 2)])
    assert triangle.do("GET", "property/1/k") == triangle.do("GET", "property/1/2/k") == b""


def test_a_version_without_ancestors_keeps_no_tombstones(triangle: Graph) -> None:
    triangle.do("DELETE", "subgraph")
    database = triangle.client.server.database
    record = next(iter(database.repos.values())).instances["graph"]
    left = [key for key, _ in database.stores["main"].scan(*instance_range(record.id))]
    assert [key[5] for key in left] == [0x22]


def test_weights_are_added(graph: Graph) -> None:
    graph.post([(1, 2), (2, 3.5)], path="weight")
    graph.post([(1, -0.5), (3, 1), (3, 2)], [(1, 2, 4), (3, 1, 1), (1, 3, 1.5)], path="weight")
    assert graph.get() == ([(1, 1.5), (2, 3.5), (3, 3)], [(1, 2, 4), (1, 3, 2.5)])
    graph.post([], [(2, 1, -4)], path="weight")
    assert graph.get([2])[1] == [(1, 2, 0)]


def test_weight_takes_a_thousand_vertices(graph: Graph) -> None:
    graph.post([(v, 1) for v in range(1, 1001)], [(1, v, 1) for v in range(2, 1001)], path="weight")
    assert "1001" in graph.refused("POST", "weight", body([], [(1, v, 1) for v in range(2, 1002)]))
    vertices, edges = graph.get()
    assert vertices == [(v, 1) for v in range(1, 1001)] and edges == [(1, v, 1) for v in range(2, 1001)]


@pytest.mark.parametrize("path", ["merge", "merge/nohistory"])
def test_merge_keeps_the_last_and_sums_up(graph: Graph, path: str) -> None:
    graph.post(
        [(v, v) for v in range(1, 7)],
        [(1, 2, 5), (1, 4, 1), (2, 4, 2), (2, 5, 3), (3, 5, 4), (3, 6, 10), (1, 3, 1), (4, 5, 8)],
    )
    graph.do("POST", "property/3/k", b"kept")
    graph.do("POST", "property/1/k", b"gone")
    graph.post([1, 2, 3], path=path)
    assert graph.get() == (
        [(3, 6), (4, 4), (5, 5), (6, 6)],
        [(3, 4, 3), (3, 5, 7), (3, 6, 10), (4, 5, 8)],
    )
    assert graph.do("GET", "property/3/k") == b"kept" and graph.do("GET", "property/1/k") == b""


def test_merge_takes_weights_from_the_request(graph: Graph) -> None:
    graph.post([(v, v) for v in range(1, 6)], [(1, 3, 5), (1, 4, 1), (2, 4, 2), (2, 5, 3)])
    graph.post([(1, 50), (2, 0.5)], [(4, 2, 0), (5, 2, 9), (4, 5, 77)], path="merge")
    assert graph.get() == ([(2, 0.5), (3, 3), (4, 4), (5, 5)], [(2, 3, 5), (2, 4, 0), (2, 5, 9)])


@pytest.mark.parametrize("vertices", [[], [1], [1, (1, 2)], [1, 9], [9, 1]])
def test_merge_refuses(triangle: Graph, vertices: list[Any]) -> None:
    triangle.refused("POST", "merge", body(vertices))


def test_what_there_is_not(triangle: Graph) -> None:
    triangle.refused("POST", "undomerge", body([1, 2]))
    triangle.refused("PUT", "subgraph", body([1]))
    triangle.refused("GET", "weight")
    triangle.refused("GET", "nosuch")
    assert "no vertex 9" in triangle.refused("POST", "subgraph", body([1], [(1, 9)]))


# -- requests ----------------------------------------------------------------------------------------------------------

BAD = [
    "no json",
    "[]",
    "null",
    "{}",
    '{"Vertices": []}',
    '{"Edges": []}',
    '{"Vertices": null, "Edges": []}',
    '{"Vertices": {}, "Edges": []}',
    '{"vertices": [], "edges": []}',
    '{"Vertices": [1], "Edges": []}',
    '{"Vertices": [{}], "Edges": []}',
    '{"Vertices": [{"Id": 0}], "Edges": []}',
    '{"Vertices": [{"Id": -1}], "Edges": []}',
    '{"Vertices": [{"Id": 1.5}], "Edges": []}',
    '{"Vertices": [{"Id": "1"}], "Edges": []}',
    '{"Vertices": [{"Id": true}], "Edges": []}',
    '{"Vertices": [{"Id": 18446744073709551616}], "Edges": []}',
    '{"Vertices": [{"Id": 1, "Weight": "2"}], "Edges": []}',
    '{"Vertices": [{"Id": 1, "Weight": null}], "Edges": []}',
    '{"Vertices": [{"Id": 1, "Weight": 1e999}], "Edges": []}',
    '{"Vertices": [{"Id": 1, "Weight": NaN}], "Edges": []}',
    '{"Vertices": [{"Id": 1}, {"Id": 1}], "Edges": []}',
    '{"Vertices": [], "Edges": [{"Id1": 1}]}',
    '{"Vertices": [], "Edges": [{"Id1": 1, "Id2": 2}, {"Id1": 1, "Id2": 2}]}',
    '{"Vertices": [], "Edges": [{"Id1": 1, "Id2": 0}]}',
]


@pytest.mark.parametrize("given", BAD)
def test_bad_graphs_are_refused_whole(triangle: Graph, given: str) -> None:
    for verb, path in (
        ("GET", "subgraph"),
        ("POST", "subgraph"),
        ("DELETE", "subgraph"),
        ("POST", "weight"),
        ("POST", "merge"),
    ):
        triangle.refused(verb, path, given.encode())


def test_an_empty_body_is_the_empty_graph(triangle: Graph) -> None:
    before = triangle.get()
    triangle.do("POST", "subgraph")
    triangle.do("POST", "weight")
    assert triangle.get() == before


def test_unsafe_skips_the_check_of_the_form_only(triangle: Graph) -> None:
    triangle.do("POST", "subgraph?unsafe=true", {"Vertices": [{"Id": 7}, {"Id": 7}]})
    assert triangle.get([7]) == ([(7, 0)], [])
    triangle.do("POST", "subgraph?unsafe=true", {"Edges": [{"Id1": 7, "Id2": 1}], "Vertices": None})
    triangle.do("DELETE", "subgraph?unsafe=true", {"Vertices": [{"Id": 7}]})
    assert json.loads(triangle.do("GET", "subgraph?unsafe=true", {"Vertices": [{"Id": 4}]}))["Vertices"]
    triangle.refused("POST", "subgraph?unsafe=true", {"Vertices": [{"Id": "7"}]})
    triangle.refused("POST", "subgraph?unsafe=true", b"[")
    triangle.refused("POST", "subgraph?unsafe=1", {"Vertices": [{"Id": 7}]})


def test_ids_are_exact(graph: Graph) -> None:
    ids = [2**53 + 1, 2**63 - 1, 2**63, HUGE - 1, HUGE]
    graph.post([(v, 1) for v in ids], [(HUGE, v, 2) for v in ids[:-1]])
    assert graph.get()[0] == [(v, 1) for v in ids]
    assert graph.neighbors(HUGE)[1] == [(v, HUGE, 2) for v in ids[:-1]]


NUMBERS = {
    b"10": b"10",
    b"2.3": b"2.3",
    b"-0.5": b"-0.5",
    b"1e5": b"100000",
    b"1.5e20": b"150000000000000000000",
    b"1e21": b"1e+21",
    b"0.000001": b"0.000001",
    b"1.25e-7": b"1.25e-7",
    b"123456789.123": b"123456789.123",
    b"9007199254740993": b"9007199254740992",
    b"5e-324": b"5e-324",
    b"1.7976931348623157e308": b"1.7976931348623157e+308",
}


@pytest.mark.parametrize("given", NUMBERS)
def test_numbers_are_as_short_as_can_be(graph: Graph, given: bytes) -> None:
    graph.do("POST", "subgraph", b'{"Vertices":[{"Id":1,"Weight":%s}],"Edges":[]}' % given)
    answer = graph.do("GET", "subgraph")
    assert b'{"Id":1,"Weight":%s}' % NUMBERS[given] in answer
    assert json.loads(answer)["Vertices"][0]["Weight"] == float(given)


# -- properties --------------------------------------------------------------------------------------------------------


def test_properties_are_bytes(triangle: Graph) -> None:
    for path in ("1/size", "1/2/size", f"1/{'n' * 1000}", "1/ü%20%25"):
        assert triangle.do("GET", f"property/{path}") == b""
        triangle.do("POST", f"property/{path}", bytes(range(256)))
        answer = triangle.ask("GET", f"property/{path}")
        assert (answer.body, answer.headers["content-type"]) == (bytes(range(256)), "application/octet-stream")
    assert triangle.do("GET", "property/2/1/size") == bytes(range(256))
    triangle.do("POST", "property/2/1/size", b"other")
    assert triangle.do("GET", "property/1/2/size") == b"other"
    triangle.do("POST", "property/1/size", b"")
    assert triangle.do("GET", "property/1/size") == b""
    triangle.do("DELETE", "property/1/2/size")
    assert triangle.do("GET", "property/1/2/size") == b""
    for path in ("1/2/size", "1/nosuch", "99/size", "1/99/size"):
        triangle.do("DELETE", f"property/{path}")


def test_large_properties(triangle: Graph) -> None:
    value = b"0123456789" * 700_000
    triangle.do("POST", "property/1/p", value)
    assert triangle.do("GET", "property/1/p") == value


@pytest.mark.parametrize(
    "path", ["0/k", "x/k", "-1/k", "1/1/k", "1/x/k", f"{2**64}/k", "1", f"1/{'n' * 1001}", "1/a%00b", "1/2/3/k"]
)
def test_bad_property_paths(triangle: Graph, path: str) -> None:
    for verb in ("GET", "POST", "DELETE"):
        triangle.refused(verb, f"property/{path}", b"x" if verb == "POST" else None)


# -- versions ----------------------------------------------------------------------------------------------------------


def test_versions_and_branches(triangle: Graph) -> None:
    triangle.do("POST", "property/1/k", b"root")
    triangle.do("POST", "property/1/2/k", b"root")
    before = triangle.get()
    child, other = triangle.child(), triangle.branch("other")
    child.do("DELETE", "subgraph", body([1]))
    other.post([(1, 5)], [(1, 4, 3)])
    other.do("POST", "property/1/k", b"other")
    assert triangle.get() == before
    assert child.get() == ([(2, 10.1), (3, 1), (4, 0)], [(2, 3, 0.5)])
    assert other.get([1])[1] == [(1, 2, 10), (1, 3, 0), (1, 4, 3)]
    assert [g.do("GET", "property/1/k") for g in (triangle, child, other)] == [b"root", b"", b"other"]
    assert [g.do("GET", "property/1/2/k") for g in (triangle, child, other)] == [b"root", b"", b"root"]
    child.post([(1, 1)])
    assert child.neighbors(1) == ([(1, 1)], [])
    assert child.do("GET", "property/1/k") == child.do("GET", "property/1/2/k") == b""
    child.do("DELETE", "subgraph")
    assert json.loads(child.do("GET", "subgraph")) == TINY
    assert child.child().get() == ([], [])


def test_locked_means_locked(triangle: Graph) -> None:
    triangle.client.commit(triangle.node)
    for verb, path in (
        ("POST", "subgraph"),
        ("DELETE", "subgraph"),
        ("POST", "weight"),
        ("POST", "merge"),
        ("POST", "property/1/k"),
        ("DELETE", "property/1/k"),
        ("POST", "propertytransaction/vertices/k"),
        ("POST", "propertytransaction/edges/k"),
    ):
        assert "committed" in triangle.refused(verb, path, body([1, 2]))


def test_a_weight_that_merged_versions_disagree_on_is_a_conflict(triangle: Graph) -> None:
    child, other = triangle.child(), triangle.branch("other")
    for graph, weight in ((child, 7), (other, 8)):
        graph.post([(3, weight)], [(1, 2, weight)])
        graph.do("POST", "property/4/k", b"%d" % weight)
    merged = child.merged_with(other)
    assert "vertex 3" in merged.refused("GET", "subgraph", status=409)
    assert "edge of 1 and 2" in merged.refused("GET", "neighbors/1", status=409)
    assert "edge of 1 and 2" in merged.refused("POST", "weight", body([], [(2, 1, 1)]), status=409)
    assert 'property "k" of vertex 4' in merged.refused("GET", "property/4/k", status=409)
    merged.post([(3, 9)], [(1, 2, 9)])
    merged.do("DELETE", "property/4/k")
    assert merged.get() == ([(1, 2.3), (2, 10.1), (3, 9), (4, 0)], [(1, 2, 9), (1, 3, 0), (2, 3, 0.5)])
    assert merged.do("GET", "property/4/k") == b""


def test_conflicts_can_be_deleted(triangle: Graph) -> None:
    child, other = triangle.child(), triangle.branch("other")
    for graph, weight in ((child, 7), (other, 8)):
        graph.post([(3, weight)], [(1, 2, weight)])
    merged = child.merged_with(other)
    merged.do("DELETE", "subgraph", body([3], [(1, 2)]))
    assert merged.get() == ([(1, 2.3), (2, 10.1), (4, 0)], [])


def test_an_edge_that_lost_an_end_in_a_merge_is_none(triangle: Graph) -> None:
    """One version removes vertex 4 and the edge of 1 and 2; the other joins 4 with 3 and gives both properties."""
    child, other = triangle.child(), triangle.branch("other")
    child.do("DELETE", "subgraph", body([4], [(1, 2)]))
    other.post([], [(3, 4, 1)])
    for path in ("4/k", "3/4/k", "1/2/k"):
        other.do("POST", f"property/{path}", b"p")
    merged = child.merged_with(other)
    assert merged.get() == ([(1, 2.3), (2, 10.1), (3, 1)], [(1, 3, 0), (2, 3, 0.5)])
    assert merged.neighbors(3) == ([(3, 1), (1, 2.3), (2, 10.1)], [(1, 3, 0), (2, 3, 0.5)])
    assert merged.get([3])[1] == [(1, 3, 0), (2, 3, 0.5)]
    assert [merged.do("GET", f"property/{path}") for path in ("4/k", "3/4/k", "1/2/k")] == [b""] * 3
    merged.refused("POST", "property/3/4/k", b"p")
    merged.refused("POST", "weight", body([], [(3, 4, 1)]))
    merged.post([(4, 1)], [(1, 2, 1)])
    assert merged.neighbors(4) == ([(4, 1)], [])
    assert [merged.do("GET", f"property/{path}") for path in ("4/k", "3/4/k", "1/2/k")] == [b""] * 3


def test_resolve_lets_the_first_version_win(triangle: Graph) -> None:
    child, other = triangle.child(), triangle.branch("other")
    for graph, weight in ((child, 7), (other, 8)):
        graph.post([(3, weight), (10 + weight, 1)], [(1, 2, weight), (3, 10 + weight, weight)])
        graph.do("POST", "property/1/2/k", b"%d" % weight)
        graph.client.commit(graph.node)
    given = {"data": ["graph"], "parents": [other.node, child.node], "note": ""}
    answer = triangle.client.post(f"/api/repo/{child.node}/resolve", given)
    assert answer.status == 200, answer.text
    merged = triangle.at(answer.json()["child"])
    assert merged.get() == (
        [(1, 2.3), (2, 10.1), (3, 8), (4, 0), (17, 1), (18, 1)],
        [(1, 2, 8), (1, 3, 0), (2, 3, 0.5), (3, 17, 7), (3, 18, 8)],
    )
    assert merged.neighbors(2)[1] == [(1, 2, 8), (2, 3, 0.5)]
    assert merged.do("GET", "property/2/1/k") == b"8"


@pytest.mark.parametrize("name", ["leveldb", "lmdb"])
def test_every_engine_and_a_restart(name: str, tmp_path: Path) -> None:
    with Database.open({"main": open_engine(name, str(tmp_path / "db"))}) as database:
        graph = Graph.create(database, Compression="gzip:6", Checksum="crc32")
        graph.post([1, HUGE, 5], [(HUGE, 1, 2.5), (5, 1, 1)])
        data = graph.client.server.instances.named(next(iter(database.repos.values())), "graph")
        assert isinstance(data, LabelGraph)
        longest = "n" * data.longest_name
        graph.do("POST", f"property/1/{HUGE}/{longest}", b"p" * 100_000)
        assert "at most" in graph.refused("POST", f"property/1/{HUGE}/{longest}n", b"p")
        graph.do("DELETE", "subgraph", body([5]))
    with Database.open({"main": open_engine(name, str(tmp_path / "db"))}) as database:
        graph = Graph(Client(database), graph.path)
        assert graph.get() == ([(1, 0), (HUGE, 0)], [(1, HUGE, 2.5)])
        assert graph.do("GET", f"property/1/{HUGE}/{longest}") == b"p" * 100_000


def test_an_unversioned_graph_is_one(database: Database) -> None:
    graph = Graph.create(database, versioned="0")
    child = graph.child()
    graph.post([1])
    child.post([2])
    assert graph.get() == child.get() == ([(1, 0), (2, 0)], [])


# -- where DVID was weak -----------------------------------------------------------------------------------------------


def test_posting_a_vertex_again_keeps_its_edges_and_properties(triangle: Graph) -> None:
    triangle.do("POST", "property/1/k", b"p")
    triangle.do("POST", "property/1/2/k", b"q")
    triangle.post([(1, 99)])
    assert triangle.neighbors(1) == ([(1, 99), (2, 10.1), (3, 1)], [(1, 2, 10), (1, 3, 0)])
    triangle.post([], [(1, 2, 98)])
    assert (1, 2, 98) in triangle.get()[1]
    assert (triangle.do("GET", "property/1/k"), triangle.do("GET", "property/2/1/k")) == (b"p", b"q")


def test_deleting_an_edge_that_does_not_exist_does_nothing(triangle: Graph) -> None:
    before = triangle.get()
    triangle.do("DELETE", "subgraph", body([77], [(1, 4), (77, 78), (4, 3)]))
    assert triangle.get() == before
    assert triangle.neighbors(1)[1] == [(1, 2, 10), (1, 3, 0)]


def test_deleting_an_edge_deletes_its_properties_and_no_others(triangle: Graph) -> None:
    paths = ["1/2/k", "1/3/k", "2/3/k", "1/k", "2/k"]
    for path in paths:
        triangle.do("POST", f"property/{path}", b"p")
    triangle.do("DELETE", "subgraph", body([], [(2, 1)]))
    assert [triangle.do("GET", f"property/{path}") for path in paths] == [b"", b"p", b"p", b"p", b"p"]


def test_properties_of_a_removed_vertex_do_not_come_back_with_it(triangle: Graph) -> None:
    triangle.do("POST", "property/1/k", b"p")
    triangle.do("POST", "property/1/2/k", b"p")
    triangle.do("DELETE", "subgraph", body([1]))
    triangle.post([1], [(1, 2)])
    assert triangle.do("GET", "property/1/k") == triangle.do("GET", "property/1/2/k") == b""


@pytest.mark.parametrize("verb,path", [("POST", "subgraph"), ("DELETE", "subgraph"), ("POST", "weight")])
def test_an_edge_joins_two_different_vertices(triangle: Graph, verb: str, path: str) -> None:
    assert "different" in triangle.refused(verb, path, body([], [(1, 1)]))


@pytest.mark.parametrize("given", [b"{", b" ", b"x", b'{"Vertices": [}'])
def test_a_body_that_cannot_be_read_deletes_nothing(triangle: Graph, given: bytes) -> None:
    triangle.refused("DELETE", "subgraph", given)


def test_properties_of_what_does_not_exist_are_refused(triangle: Graph) -> None:
    for path in ("99/k", "1/99/k", "1/4/k", "98/99/k"):
        assert "no properties" in triangle.refused("POST", f"property/{path}", b"x")


def test_weight_is_all_or_nothing(triangle: Graph) -> None:
    triangle.refused("POST", "weight", body([(1, 1), (50, 1)], [(1, 2, 1), (1, 99, 1)]))
    triangle.refused("POST", "weight", b'{"Vertices":[{"Id":1,"Weight":1}],"Edges":[')
    triangle.refused("POST", "weight", body([(v, 1) for v in range(1, 1002)]))
    triangle.post([(1, 1.7e308)])
    assert "float64" in triangle.refused("POST", "weight", body([(1, 1.7e308), (2, 1)]))


def test_the_answer_is_streamed(graph: Graph) -> None:
    number = 20_000
    vertices = [(v, 0.5) for v in range(1, number + 1)]
    edges = [(v, v + 1, 0.25) for v in range(1, number)]
    graph.post(vertices, edges)
    answer = graph.ask("GET", "subgraph")
    pieces = list(answer.pieces)
    answer.pieces.close()
    assert len(pieces) > 3 and max(map(len, pieces)) < 600_000
    found = json.loads(b"".join(pieces))
    assert [(v["Id"], v["Weight"]) for v in found["Vertices"]] == vertices
    assert [tuple(e.values()) for e in found["Edges"]] == edges
    assert graph.get([v for v, _ in vertices]) == (vertices, edges)
    assert len(graph.neighbors(2)[0]) == 3


def test_percent_signs_pass(triangle: Graph) -> None:
    triangle.do("POST", "property/1/100%25s", b"%d%s")
    assert triangle.do("GET", "property/1/100%25s") == b"%d%s"


def test_a_graph_can_be_asked_for_by_post(triangle: Graph) -> None:
    assert triangle.do("POST", "subgraph?op=get") == triangle.do("GET", "subgraph")
    given = body([3, 1])
    assert triangle.do("POST", "subgraph?op=get", given) == triangle.do("GET", "subgraph", given)
    triangle.refused("POST", "subgraph?op=get", body([99]), status=404)
    triangle.refused("POST", "subgraph?op=put", given)
    triangle.client.commit(triangle.node)
    assert triangle.do("POST", "subgraph?op=get", given) == triangle.do("GET", "subgraph", given)
    triangle.refused("POST", "subgraph?op=", given)


def test_unknown_vertices_are_not_found(triangle: Graph) -> None:
    assert "99" in triangle.refused("GET", "subgraph", body([1, 99]), status=404)


def test_a_deleted_instance_leaves_nothing(triangle: Graph) -> None:
    triangle.do("POST", "property/1/k", b"p")
    database = triangle.client.server.database
    repo = next(iter(database.repos.values()))
    record = repo.instances["graph"]
    database.delete_instance(repo, "graph")
    assert database.wait_for_deletions(10)
    assert not list(database.stores["main"].scan(*instance_range(record.id)))
    assert not list(database.stores["main"].scan(*prefix_range(b"\x04")))
