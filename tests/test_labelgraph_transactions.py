"""Property transactions of labelgraph: the bytes of requests and answers, and what they promise to several clients."""

from __future__ import annotations

import struct
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from apiclient import Client
from dvidcore.repos import Database
from dvidcore.storage.leveldb import LevelDB
from repo_model import Failing, again
from test_labelgraph import HUGE, Graph

Owner = tuple[int, ...]


def words(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}Q", *numbers)


def reading(vertices: Sequence[int], wanted: Sequence[Owner]) -> bytes:
    flat = [n for v in vertices for n in (v, 0)]
    return words(len(vertices), *flat, len(wanted), *(end for owner in wanted for end in owner))


def writing(ids: dict[int, int], values: Sequence[tuple[Owner, bytes]]) -> bytes:
    out = words(len(ids), *(n for pair in ids.items() for n in pair), len(values))
    return out + b"".join(words(*owner, len(value)) + value for owner, value in values)


@dataclass
class Taken:
    """A decoded answer."""

    granted: dict[int, int]
    refused: list[int]
    properties: list[tuple[Owner, bytes]] = field(default_factory=list)


def decode(data: bytes, ends: int = 0) -> Taken:
    """An answer to a write, or with ``ends`` to a read."""
    at = 0

    def take(count: int) -> tuple[int, ...]:
        nonlocal at
        found = struct.unpack_from(f"<{count}Q", data, at)
        at += 8 * count
        return found

    flat = take(2 * take(1)[0])
    taken = Taken(dict(zip(flat[::2], flat[1::2], strict=True)), list(take(take(1)[0])))
    for _ in range(take(1)[0] if ends else 0):
        owner = take(ends)
        (size,) = take(1)
        taken.properties.append((owner, data[at : at + size]))
        at += size
    assert at == len(data)
    return taken


class Kind:
    """Transactions over vertices or edges."""

    def __init__(self, graph: Graph, kind: str) -> None:
        self.graph, self.path = graph, f"propertytransaction/{kind}/k"
        self.ends = 1 if kind == "vertices" else 2

    def read(self, vertices: Sequence[int], wanted: Sequence[Owner]) -> Taken:
        return decode(self.graph.do("GET", self.path, reading(vertices, wanted)), self.ends)

    def write(self, ids: dict[int, int], values: Sequence[tuple[Owner, bytes]]) -> Taken:
        return decode(self.graph.do("POST", self.path, writing(ids, values)))


@pytest.fixture
def graph(database: Database) -> Graph:
    graph = Graph.create(database)
    graph.post([1, 2, 3, HUGE], [(1, 2), (2, 3), (1, HUGE)])
    return graph


@pytest.fixture
def vertices(graph: Graph) -> Kind:
    return Kind(graph, "vertices")


@pytest.fixture
def edges(graph: Graph) -> Kind:
    return Kind(graph, "edges")


def test_the_example_of_the_contract(graph: Graph) -> None:
    """Two clients read the same; the first to write wins, and the other is told so."""
    path = "propertytransaction/vertices/features"
    request = words(2, 1, 0, 2, 0, 2, 1, 2)
    answer = graph.ask("GET", path, request)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.body == words(2, 1, 1, 2, 2, 0, 2, 1, 0, 2, 0)
    assert graph.do("GET", path + "/", request) == answer.body
    write = words(2, 1, 1, 2, 2, 2, 1, 3) + b"one" + words(2, 3) + b"two"
    assert graph.do("POST", path, write) == words(2, 1, 3, 2, 4, 0)
    assert graph.do("POST", path, write.replace(b"one", b"ONE")) == words(0, 2, 1, 2)
    expected = words(2, 1, 3, 2, 4, 0, 2, 1, 3) + b"one" + words(2, 3) + b"two"
    assert graph.do("GET", path + "/", request) == expected
    assert graph.do("GET", "property/1/features") == b"one"


def test_edges_come_back_as_they_were_given(edges: Kind) -> None:
    taken = edges.read([3, 2, 1], [(3, 2), (1, 2), (1, HUGE)])
    assert taken.properties == [((3, 2), b""), ((1, 2), b"")]
    assert set(taken.granted) == {1, 2, 3} and taken.refused == []
    done = edges.write(taken.granted, [((3, 2), b"x" * 100), ((1, 2), b"y")])
    assert done.refused == [] and all(done.granted[v] > taken.granted[v] for v in taken.granted)
    taken = edges.read([1, 2, 3], [(2, 3), (2, 1), (3, 2), (3, 1)])
    assert taken.properties == [((2, 3), b"x" * 100), ((2, 1), b"y"), ((3, 2), b"x" * 100), ((3, 1), b"")]
    assert edges.graph.do("GET", "property/2/3/k") == b"x" * 100


def test_vertices_that_do_not_exist_are_granted_but_have_no_properties(vertices: Kind, edges: Kind) -> None:
    taken = vertices.read([1, 99], [(99,), (1,)])
    assert taken.properties == [((99,), b""), ((1,), b"")] and set(taken.granted) == {1, 99}
    done = vertices.write(taken.granted, [((99,), b"lost"), ((1,), b"kept")])
    assert set(done.granted) == {1, 99}
    assert vertices.read([1, 99], [(99,), (1,)]).properties == [((99,), b""), ((1,), b"kept")]
    taken = edges.read([1, 3], [(1, 3)])
    assert edges.write(taken.granted, [((1, 3), b"lost")]).refused == []
    vertices.graph.post([99], [(1, 3)])
    assert vertices.read([99], [(99,)]).properties == [((99,), b"")]
    assert edges.read([1, 3], [(1, 3)]).properties == [((1, 3), b"")]


def test_an_id_that_was_never_asked_for_is_refused(vertices: Kind) -> None:
    for given in (0, 1, 2, HUGE):
        done = vertices.write({1: given}, [((1,), b"x")])
        assert (done.granted, done.refused) == ({}, [1])
    assert vertices.read([1], [(1,)]).properties == [((1,), b"")]


def test_what_is_refused_is_left_out_and_the_rest_written(vertices: Kind, edges: Kind) -> None:
    ids = vertices.read([1, 2, 3], []).granted
    vertices.write({2: ids[2]}, [])
    done = vertices.write(ids, [((1,), b"a"), ((2,), b"b"), ((3,), b""), ((HUGE,), b"not locked")])
    assert set(done.granted) == {1, 3} and done.refused == [2]
    found = vertices.read([1, 2, 3, HUGE], [(1,), (2,), (3,), (HUGE,)]).properties
    assert [value for _, value in found] == [b"a", b"", b"", b""]
    ids = edges.read([1, 2, 3], []).granted
    vertices.write({3: ids[3]}, [])
    done = edges.write(ids, [((2, 1), b"a"), ((2, 3), b"b")])
    assert done.refused == [3]
    assert [value for _, value in edges.read([1, 2, 3], [(1, 2), (3, 2)]).properties] == [b"a", b""]


def test_size_0_writes_nothing_and_the_last_of_repeated_ones_stays(vertices: Kind) -> None:
    ids = vertices.read([1], []).granted
    ids = vertices.write(ids, [((1,), b"first"), ((1,), b"second")]).granted
    vertices.write(ids, [((1,), b"")])
    assert vertices.read([1], [(1,)]).properties == [((1,), b"second")]


def test_properties_ignore_transactions(vertices: Kind) -> None:
    ids = vertices.read([1], []).granted
    vertices.graph.do("POST", "property/1/k", b"plain")
    assert vertices.read([1], [(1,)]).granted == ids
    assert vertices.write(ids, [((1,), b"by transaction")]).refused == []
    assert vertices.graph.do("GET", "property/1/k") == b"by transaction"


def test_ids_are_of_all_versions_and_properties_of_one(vertices: Kind) -> None:
    ids = vertices.read([1], []).granted
    child = Kind(vertices.graph.child(), "vertices")
    assert child.read([1], []).granted == ids
    ids = child.write(ids, [((1,), b"child")]).granted
    assert vertices.read([1, 2], [(1,)]) == Taken({1: ids[1], 2: ids[1] + 1}, [], [((1,), b"")])
    vertices.graph.refused("POST", vertices.path, writing(ids, []))


@pytest.mark.parametrize("ends", [1, 2])
def test_bad_bodies_are_refused_whole(graph: Graph, ends: int) -> None:
    kind = Kind(graph, ["vertices", "edges"][ends - 1])
    owners = [(1,), (2,)] if ends == 1 else [(1, 2), (2, 3)]
    ids = kind.read([1, 2, 3], []).granted
    read, write = reading([1, 2, 3], owners), writing(ids, [(owner, b"value!") for owner in owners])
    for cut in range(len(read)):
        graph.refused("GET", kind.path, read[:cut])
    for cut in range(len(write)):
        graph.refused("POST", kind.path, write[:cut])
    graph.refused("GET", kind.path, read + b"\0")
    graph.refused("POST", kind.path, write + b"\0")
    assert "1000" in graph.refused("GET", kind.path, reading(range(1, 1002), []))
    assert "1000" in graph.refused("POST", kind.path, writing(dict.fromkeys(range(1, 1002), 1), []))
    graph.refused("GET", kind.path, reading([0], []))
    graph.refused("GET", kind.path, words(HUGE))
    graph.refused("GET", kind.path, words(0, HUGE))
    graph.refused("POST", kind.path, words(0, 1, *owners[0], HUGE))
    assert "two" in graph.refused("POST", kind.path, words(2, 1, ids[1], 1, 7, 0))
    if ends == 2:
        assert "different" in graph.refused("GET", kind.path, reading([1], [(1, 1)]))
    graph.refused("GET", "propertytransaction/vertices", read)
    graph.refused("GET", "propertytransaction/faces/k", read)
    assert kind.write(ids, []).refused == []


def test_a_vertex_may_be_listed_twice(vertices: Kind) -> None:
    ids = vertices.read([1, 1, 2], [(1,), (1,)])
    assert set(ids.granted) == {1, 2} and len(ids.properties) == 2
    data = words(2, 1, ids.granted[1], 1, ids.granted[1], 0)
    assert set(decode(vertices.graph.do("POST", vertices.path, data)).granted) == {1}


def test_a_thousand_vertices(vertices: Kind) -> None:
    numbers = list(range(1, 1001))
    vertices.graph.post(numbers)
    wanted = [(v,) for v in numbers]
    ids = vertices.read(numbers, wanted).granted
    done = vertices.write(ids, [((v,), b"%d" % v * 50) for v in numbers])
    assert list(done.granted) == numbers and done.refused == []
    assert vertices.read(numbers, wanted).properties == [((v,), b"%d" % v * 50) for v in numbers]


# -- where DVID was weak -----------------------------------------------------------------------------------------------


def test_ids_outlive_a_restart(tmp_path: Path) -> None:
    with Database.open({"main": LevelDB.open(str(tmp_path / "db"))}) as database:
        graph = Graph.create(database)
        graph.post([1, 2])
        path = graph.path
        ids = Kind(graph, "vertices").read([1], []).granted
        newer = Kind(graph, "vertices").write(ids, [((1,), b"before")]).granted
    with Database.open({"main": LevelDB.open(str(tmp_path / "db"))}) as database:
        vertices = Kind(Graph(Client(database), path), "vertices")
        fresh = vertices.read([2], []).granted
        assert fresh[2] > newer[1] > ids[1] > 0
        assert vertices.write(ids, [((1,), b"stale")]).refused == [1]
        assert vertices.write(newer, [((1,), b"after")]).refused == []


def test_a_request_that_fails_holds_nothing(database: Database) -> None:
    engine = Failing()
    with Database.open({"main": engine}) as failing:
        graph = Graph.create(failing)
        graph.post([1])
        vertices = Kind(graph, "vertices")
        engine.left = 0
        assert graph.ask("GET", vertices.path, reading([1], [])).status == 500
        engine.left = None
        ids = vertices.read([1], []).granted
        engine.left = 0
        assert graph.ask("POST", vertices.path, writing(ids, [((1,), b"x")])).status == 500
        engine.left = None
        assert vertices.read([1], [(1,)]) == Taken(ids, [], [((1,), b"")])
        assert vertices.write(ids, [((1,), b"x")]).refused == []


def test_a_locked_version_and_a_read_only_database_can_be_read(graph: Graph) -> None:
    graph.client.commit(graph.node)
    vertices = Kind(graph, "vertices")
    taken = vertices.read([1], [(1,)])
    assert taken == Taken({1: 1}, [], [((1,), b"")])
    database = graph.client.server.database
    closed = Database.open(database.stores, database.assign, read_only=True)
    reader = Kind(Graph(Client(closed), graph.path), "vertices")
    before = list(database.stores["main"].scan(b"", b"\xff"))
    assert reader.read([1, 2, 3], [(2,)]) == Taken({1: 1, 2: 2, 3: 3}, [], [((2,), b"")])
    assert list(database.stores["main"].scan(b"", b"\xff")) == before


@pytest.mark.parametrize("processes", [1, 2])
def test_read_change_write_by_many_clients_loses_nothing(tmp_path: Path, processes: int) -> None:
    """Each client counts up the numbers of two vertices and the edge between them, again where it is refused."""
    with Database.open({"main": LevelDB.open(str(tmp_path / "db"))}) as database:
        graph = Graph.create(database)
        numbers = range(1, 6)
        graph.post(numbers, [(a, b) for a in numbers for b in numbers if a < b])
        databases = [database, again(database)][:processes]
        counted: dict[Owner, int] = {}
        lock = threading.Lock()

        def client(seed: int) -> None:
            rng = Random(seed)
            here = Graph(Client(databases[seed % processes]), graph.path)
            for _ in range(10):
                pair = tuple(rng.sample(numbers, 2))
                kind = Kind(here, "vertices" if rng.random() < 0.5 else "edges")
                left: list[Owner] = [pair] if kind.ends == 2 else [(v,) for v in pair]
                while left:
                    taken = kind.read(pair, left)
                    values = [(owner, b"%d" % (int(value or b"0") + 1)) for owner, value in taken.properties]
                    done = kind.write(taken.granted, values)
                    for owner in [owner for owner in left if all(end in done.granted for end in owner)]:
                        left.remove(owner)
                        name = tuple(sorted(owner))
                        with lock:
                            counted[name] = counted.get(name, 0) + 1

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(client, range(4)))
        assert sum(counted.values()) >= 40
        for owner, count in counted.items():
            path = "/".join(map(str, owner))
            assert graph.do("GET", f"property/{path}/k") == b"%d" % count
