"""labelgraph against a model of plain dicts: random changes over versions and branches, also side by side."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiclient import Client
from dvidcore.repos import Database, OneStore
from dvidcore.storage.keys import instance_range
from dvidcore.storage.leveldb import LevelDB
from dvidcore.storage.memory import Memory
from repo_model import Failing, again
from side_by_side import beside
from test_labelgraph import Graph, body
from test_labelgraph_transactions import Kind, Owner

IDS = [1, 2, 3, 2**63, 2**64 - 1]
NAMES = ["k", "kk"]
ACTIONS = ["post", "post", "delete", "wipe", "weight", "weight", "merge", "set", "set", "unset", "transaction"]


def edge(one: int, other: int) -> tuple[int, int]:
    return min(one, other), max(one, other)


class Model:
    """The graph of one version."""

    def __init__(self) -> None:
        self.vertices: dict[int, float] = {}
        self.edges: dict[tuple[int, int], float] = {}
        self.properties: dict[tuple[Owner, str], bytes] = {}

    def exists(self, owner: Owner) -> bool:
        return owner in self.edges if len(owner) == 2 else owner[0] in self.vertices

    def remove(self, *owners: Owner) -> None:
        for owner in owners:
            if len(owner) == 2:
                self.edges.pop(owner, None)
            else:
                self.vertices.pop(owner[0], None)
                self.remove(*[e for e in self.edges if owner[0] in e])
            self.properties = {key: value for key, value in self.properties.items() if key[0] != owner}

    def around(self, vertex: int) -> dict[int, float]:
        return {a + b - vertex: weight for (a, b), weight in sorted(self.edges.items()) if vertex in (a, b)}

    # Each answers whether the request is to be taken.

    def post(self, vertices: dict[int, float], edges: dict[tuple[int, int], float]) -> bool:
        if not {end for e in edges for end in e} <= vertices.keys() | self.vertices.keys():
            return False
        self.vertices |= vertices
        self.edges |= edges
        return True

    def weight(self, vertices: dict[int, float], edges: dict[tuple[int, int], float]) -> bool:
        return self.post(
            {v: self.vertices.get(v, 0) + weight for v, weight in vertices.items()},
            {e: self.edges.get(e, 0) + weight for e, weight in edges.items()},
        )

    def merge(self, vertices: dict[int, float], edges: dict[tuple[int, int], float]) -> bool:
        if len(vertices) < 2 or not vertices.keys() <= self.vertices.keys():
            return False
        kept, own = list(vertices.items())[-1]
        sums: dict[int, float] = {}
        for vertex in vertices:
            for other, weight in self.around(vertex).items():
                sums[other] = sums.get(other, 0) + weight
        total = own or sum(self.vertices[vertex] for vertex in vertices)
        self.remove(*[(vertex,) for vertex in vertices if vertex != kept])
        self.vertices[kept] = total
        for other in sums.keys() - vertices.keys():
            self.edges[edge(kept, other)] = edges.get(edge(kept, other), sums[other])
        return True


class World:
    """A repo with an instance, and the model of each of its versions."""

    def __init__(self, database: Database) -> None:
        self.graphs = [Graph.create(database)]
        self.models = [Model()]
        self.open = {0}

    def grow(self, at: int, branch: str) -> None:
        """A child of a version: the next on its branch, or the first of another."""
        parent = self.graphs[at]
        if at in self.open:
            parent.client.commit(parent.node)
            self.open.discard(at)
        answer = parent.client.post(f"/api/node/{parent.node}/newversion") if not branch else None
        if answer is not None and answer.status == 200:
            self.graphs.append(parent.at(answer.json()["child"]))
        else:
            self.graphs.append(parent.branch(branch or f"b{len(self.graphs)}"))
        self.open.add(len(self.graphs) - 1)
        self.models.append(copy.deepcopy(self.models[at]))

    def change(self, at: int, action: str, rng: Random) -> None:
        """A random change of a version, in the instance and in the model."""
        graph, model = self.graphs[at], self.models[at]
        vertices = {v: float(rng.randrange(-4, 9)) / 2 for v in rng.sample(IDS, rng.randrange(len(IDS)))}
        pairs = [edge(a, b) for a in IDS for b in IDS if a < b]
        edges = {e: float(rng.randrange(9)) / 4 for e in rng.sample(pairs, rng.randrange(4))}
        given = body(vertices.items(), [(b, a, w) if w else (a, b, w) for (a, b), w in edges.items()])
        owner: Owner = (rng.choice(IDS),) if rng.random() < 0.5 else rng.choice(pairs)
        name, path = rng.choice(NAMES), "/".join(map(str, owner))
        if action in ("post", "weight", "merge"):
            taken = getattr(model, action)(vertices, edges)
            answer = graph.ask("POST", "subgraph" if action == "post" else action, given)
            assert answer.status == (200 if taken else 400), (action, given, answer.text)
        elif action == "delete" and (vertices or edges):
            graph.do("DELETE", "subgraph", given)
            model.remove(*[(v,) for v in vertices], *edges)
        elif action == "wipe" and rng.random() < 0.3:
            graph.do("DELETE", "subgraph")
            self.models[at] = Model()
        elif action == "set":
            value = rng.randbytes(rng.randrange(40))
            exists = model.exists(owner)
            assert graph.ask("POST", f"property/{path}/{name}", value).status == (200 if exists else 400)
            if exists:
                model.properties[owner, name] = value
        elif action == "unset":
            graph.do("DELETE", f"property/{path}/{name}")
            model.properties.pop((owner, name), None)
        elif action == "transaction":
            kind = Kind(graph, "vertices" if len(owner) == 1 else "edges")
            taken = kind.read(owner, [owner])
            assert taken.properties == [(owner, model.properties.get((owner, "k"), b""))]
            value = rng.randbytes(9)
            assert kind.write(taken.granted, [(owner, value)]).refused == []
            if model.exists(owner):
                model.properties[owner, "k"] = value

    def check(self) -> None:
        """Compares all that can be read at every version."""
        for graph, model in zip(self.graphs, self.models, strict=True):
            edges = [(a, b, weight) for (a, b), weight in sorted(model.edges.items())]
            assert graph.get() == (sorted(model.vertices.items()), edges)
            for vertex in IDS:
                if vertex not in model.vertices:
                    graph.refused("GET", f"neighbors/{vertex}")
                    continue
                around = model.around(vertex)
                vertices = [(v, model.vertices[v]) for v in (vertex, *around)]
                touching = [e for e in edges if vertex in e[:2]]
                assert graph.neighbors(vertex) == (vertices, touching)
                asked = [v for v in dict.fromkeys((vertex, IDS[0])) if v in model.vertices]
                found, some = graph.get(asked)
                assert found == [(v, model.vertices[v]) for v in asked]
                assert sorted(some) == [e for e in edges if set(e[:2]) & set(asked)]
            for owner in [(v,) for v in IDS] + [edge(a, b) for a in IDS for b in IDS if a < b]:
                for name in NAMES:
                    found = graph.do("GET", f"property/{'/'.join(map(str, owner))}/{name}")
                    assert found == model.properties.get((owner, name), b"")


steps = st.lists(st.tuples(st.sampled_from([*ACTIONS, *ACTIONS, "child", "branch"]), st.integers(0, 100)), max_size=25)


@settings(max_examples=60, deadline=None)
@given(steps=steps, seed=st.integers(0, 2**32))
def test_any_changes_over_versions_and_branches(steps: list[tuple[str, int]], seed: int) -> None:
    rng = Random(seed)
    with Database.open({"main": Memory()}, OneStore("main")) as database:
        world = World(database)
        for action, number in steps:
            if action in ("child", "branch"):
                world.grow(number % len(world.graphs), "" if action == "child" else f"b{len(world.graphs)}")
            else:
                world.change(sorted(world.open)[number % len(world.open)], action, rng)
        world.check()
        reopened = Client(again(database))
        for graph in world.graphs:
            graph.client = reopened
        world.check()


def test_many_changes_in_leveldb(tmp_path: Path) -> None:
    rng = Random(5)
    with Database.open({"main": LevelDB.open(str(tmp_path / "db"))}) as database:
        world = World(database)
        for number in range(150):
            if number % 30 == 29:
                world.grow(rng.randrange(len(world.graphs)), f"b{number}" if rng.random() < 0.5 else "")
            else:
                world.change(rng.choice(sorted(world.open)), rng.choice(ACTIONS), rng)
        world.check()


# -- side by side ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [1, 2])
def test_parallel_edits_of_the_same_and_of_distinct_edges_lose_nothing(tmp_path: Path, processes: int) -> None:
    """Four clients add to weights, of their own edges and of shared ones; readers see both sides of every edge alike."""
    with Database.open({"main": LevelDB.open(str(tmp_path / "db"))}) as database:
        graph = Graph.create(database)
        databases = [database, again(database)][:processes]
        clients = [Graph(Client(databases[k % processes]), graph.path) for k in range(4)]
        graph.post([1, 2, 3])
        rounds = 15

        def edit(k: int) -> None:
            here, own = clients[k], 10 + k
            for n in range(rounds):
                here.post([(own, 1), (1, 1)], [(1, own, 1), (1, 2, 1), (2, 3, 0.5)], path="weight")
                here.post([100 * own + n], [(100 * own + n, 3, n)])
                if n % 3 == 0:
                    here.do("DELETE", "subgraph", body([100 * own + n]))
                if n % 3 == 1:
                    here.do("POST", f"property/3/{100 * own + n}/k", b"%d" % n)

        def read() -> None:
            vertices, edges = graph.get()
            there = {v for v, _ in vertices}
            assert all(a in there and b in there for a, b, _ in edges)
            weight = dict(vertices)
            assert sum(w for a, b, w in edges if a == 1 and b > 9) == weight[1]
            assert {w for a, b, w in edges if (a, b) == (1, 2)} <= {weight[1]}

        with beside(read), ThreadPoolExecutor(4) as pool:
            list(pool.map(edit, range(4)))
        vertices, edges = graph.get()
        weights = {(a, b): w for a, b, w in edges}
        assert dict(vertices)[1] == weights[1, 2] == 4 * rounds and weights[2, 3] == 2 * rounds
        for k in range(4):
            assert weights[1, 10 + k] == dict(vertices)[10 + k] == rounds
            left = {100 * (10 + k) + n: n for n in range(rounds) if n % 3}
            assert {v: w for v, w in vertices if v // 100 == 10 + k} == dict.fromkeys(left, 0)
            for vertex, n in left.items():
                assert weights[3, vertex] == n
                expected = b"%d" % n if n % 3 == 1 else b""
                assert graph.do("GET", f"property/{vertex}/3/k") == expected


def test_a_failing_store_leaves_all_or_nothing() -> None:
    """Every write of a large and of a small change fails once; what is there afterwards is the state before."""
    engine = Failing()
    with Database.open({"main": engine}) as database:
        graph = Graph.create(database)
        graph.post([(1, 1), (2, 2), (3, 3)], [(1, 2, 1), (2, 3, 2)])
        graph.do("POST", "property/1/2/k", b"p")
        record = next(iter(database.repos.values())).instances["graph"]
        before = list(engine.scan(*instance_range(record.id)))
        for verb, path, given in (
            ("POST", "subgraph", body([4], [(4, 1)])),
            ("POST", "weight", body([1], [(1, 2, 1)])),
            ("POST", "merge", body([1, 2])),
            ("DELETE", "subgraph", body([1])),
            ("DELETE", "subgraph", None),
            ("POST", "property/1/k", b"x"),
        ):
            engine.left = 0
            assert graph.ask(verb, path, given).status == 500
            engine.left = None
            assert list(engine.scan(*instance_range(record.id))) == before
