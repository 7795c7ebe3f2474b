"""Annotations, the labels under them and their counts over the HTTP API, beside a plain model of what they hold."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

import numpy as np

from apiclient import Answer, Client
from dvidcore.datatypes.checks import Examination, Finding
from dvidcore.repos import Database

KINDS = ("Unknown", "PostSyn", "PreSyn", "Gap", "Note")
RELATIONS = ("UnknownRelationship", "PostSynTo", "PreSynTo", "ConvergentTo", "GroupedWith")
TAGS = ("a", "b", "user:someone@place.org")
INDEX_TYPES = ("PostSyn", "PreSyn", "Gap", "Note", "AllSyn")
SIDE = 32
SHAPE = (32, 64, 96)
"""Voxels z, y, x of the labels, 2 x 3 blocks; elements lie beyond them, too."""
XYZ = tuple[int, int, int]
Element = dict[str, Any]


def element(pos: Any, kind: str = "Note", tags: Any = (), prop: Any = None, rels: Any = ()) -> Element:
    """``rels``: (relation, position) of each."""
    return {
        "Pos": [int(p) for p in pos],
        "Kind": kind,
        "Tags": list(tags),
        "Prop": dict(prop or {}),
        "Rels": [{"Rel": rel, "To": [int(p) for p in to]} for rel, to in rels],
    }


def bare(one: Element) -> Element:
    return {key: value for key, value in one.items() if key != "Rels"}


def in_order(elements: Any) -> list[Element]:
    assert isinstance(elements, list)
    return sorted(elements, key=lambda e: e["Pos"])


def underscored(pos: Any) -> str:
    return "_".join(map(str, pos))


class State:
    """What one version holds."""

    def __init__(self) -> None:
        self.elements: dict[XYZ, Element] = {}
        self.voxels = np.zeros(SHAPE, np.uint64)
        self.body_of: dict[int, int] = {}

    def supervoxel(self, pos: XYZ) -> int:
        x, y, z = pos
        inside = 0 <= x < SHAPE[2] and 0 <= y < SHAPE[1] and 0 <= z < SHAPE[0]
        return int(self.voxels[z, y, x]) if inside else 0

    def body(self, pos: XYZ) -> int:
        supervoxel = self.supervoxel(pos)
        return self.body_of.get(supervoxel, supervoxel)

    def bodies(self) -> dict[int, list[int]]:
        """The supervoxels of each body."""
        found: dict[int, list[int]] = {}
        for supervoxel in np.unique(self.voxels).tolist():
            if supervoxel:
                found.setdefault(self.body_of.get(supervoxel, supervoxel), []).append(supervoxel)
        return found

    def on(self, body: int) -> list[Element]:
        return [e for pos, e in self.elements.items() if self.body(pos) == body]

    def tagged(self, tag: str) -> list[Element]:
        return [e for e in self.elements.values() if tag in e["Tags"]]

    def redirect(self, item: Element, new: XYZ | None) -> None:
        """What becomes of relationships to an element that left."""
        redirect(self.elements, item, new)

    def ranking(self, index_type: str) -> list[dict[str, int]]:
        return ranking(self.elements.values(), self.body, index_type)


def redirect(elements: dict[XYZ, Element], item: Element, new: XYZ | None, side: int = SIDE) -> None:
    """What becomes of relationships to an element that left: those in its block and in those of its partners."""
    old = tuple(item["Pos"])
    blocks = {block_of(old, side), *(block_of(tuple(rel["To"]), side) for rel in item["Rels"])}
    for pos in [pos for pos in elements if block_of(pos, side) in blocks]:
        other = elements[pos]
        kept = []
        for rel in other["Rels"]:
            if tuple(rel["To"]) != old:
                kept.append(rel)
            elif new is not None:
                kept.append({**rel, "To": list(new)})
        elements[pos] = {**other, "Rels": kept}


def move(elements: dict[XYZ, Element], old: XYZ, new: XYZ, side: int = SIDE) -> None:
    """Puts an element where there is none."""
    item = elements.pop(old)
    rels = [{**rel, "To": list(new)} if tuple(rel["To"]) == old else rel for rel in item["Rels"]]
    elements[new] = {**item, "Pos": list(new), "Rels": rels}
    redirect(elements, item, new, side)


def ranking(elements: Iterable[Element], body: Callable[[XYZ], int], index_type: str) -> list[dict[str, int]]:
    """The bodies with elements of an index type, as ``top`` answers them."""
    kinds = ("PostSyn", "PreSyn", "Gap") if index_type == "AllSyn" else (index_type,)
    sizes = Counter(body(tuple(e["Pos"])) for e in elements if e["Kind"] in kinds)
    del sizes[0]
    return [{"Label": label, "Size": size} for label, size in sorted(sizes.items(), key=lambda one: (-one[1], one[0]))]


def block_of(pos: XYZ, side: int = SIDE) -> XYZ:
    x, y, z = (p // side for p in pos)
    return x, y, z


class World:
    """A labelmap ``seg``, an annotation ``ann`` that follows it, a labelsz ``sizes`` that follows that."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.client = Client(database)
        self.root = self.node = self.client.repo()
        side = f"{SIDE},{SIDE},{SIDE}"
        self.client.instance(self.root, "seg", "labelmap", BlockSize=side, MaxDownresLevel="1")
        self.client.instance(self.root, "ann", "annotation")
        self.client.instance(self.root, "sizes", "labelsz")
        self.post("ann/sync", {"sync": "seg"})
        self.post("sizes/sync", {"sync": "ann"})
        self.states = {self.node: State()}
        self.locked: set[str] = set()

    @property
    def state(self) -> State:
        return self.states[self.node]

    # -- requests ------------------------------------------------------------------------------------------------------

    def ask(self, verb: str, path: str, body: Any = None, node: str = "") -> Answer:
        return self.client(verb, f"/api/node/{node or self.node}/{path}", body)

    def get(self, path: str, body: Any = None, node: str = "") -> Any:
        answer = self.ask("GET", path, body, node)
        assert answer.status == 200, (path, answer.text)
        return answer.json()

    def post(self, path: str, body: Any = None) -> Answer:
        answer = self.ask("POST", path, body)
        assert answer.status == 200, (path, answer.text)
        return answer

    def refused(self, verb: str, path: str, body: Any = None, status: int = 400) -> str:
        answer = self.ask(verb, path, body)
        assert answer.status == status, (path, answer.status, answer.body[:200])
        return answer.text

    # -- changes -------------------------------------------------------------------------------------------------------

    def put(self, *elements: Element) -> None:
        self.post("ann/elements", list(elements))
        for one in elements:
            self.state.elements[tuple(one["Pos"])] = one

    def delete(self, pos: XYZ) -> None:
        answer = self.ask("DELETE", f"ann/element/{underscored(pos)}")
        assert answer.status == 200, answer.text
        self.state.redirect(self.state.elements.pop(pos), None)

    def move(self, old: XYZ, new: XYZ) -> None:
        self.post(f"ann/move/{underscored(old)}/{underscored(new)}")
        move(self.state.elements, old, new)

    def write(self, volume: np.ndarray[Any, Any], block: XYZ = (0, 0, 0), mutate: bool = True) -> None:
        """Labels of whole blocks, from a block x, y, z on."""
        x, y, z = (SIDE * b for b in block)
        d, h, w = volume.shape
        query = "?mutate=true" if mutate else ""
        self.post(f"seg/raw/0_1_2/{w}_{h}_{d}/{x}_{y}_{z}{query}", volume.astype("<u8").tobytes())
        self.state.voxels[z : z + d, y : y + h, x : x + w] = volume

    def merge(self, target: int, *merged: int) -> None:
        members = [s for body in merged for s in self.state.bodies()[body]]
        self.post("seg/merge", [target, *merged])
        self.state.body_of |= dict.fromkeys(members, target)

    def cleave(self, body: int, supervoxels: list[int]) -> int:
        new: int = self.post(f"seg/cleave/{body}", supervoxels).json()["CleavedLabel"]
        self.state.body_of |= dict.fromkeys(supervoxels, new)
        return new

    def renumber(self, old: int, new: int) -> None:
        members = self.state.bodies()[old]
        self.post("seg/renumber", [new, old])
        self.state.body_of |= dict.fromkeys(members, new)

    def branch(self, name: str = "") -> None:
        """A child of the version, which becomes the one that is changed."""
        if self.node not in self.locked:
            self.client.commit(self.node)
            self.locked.add(self.node)
        before = self.state
        path = f"/api/node/{self.node}/" + ("branch" if name else "newversion")
        answer = self.client.post(path, {"branch": name} if name else None)
        assert answer.status == 200, answer.text
        self.node = answer.json()["child"]
        self.states[self.node] = copy.deepcopy(before)

    # -- comparison ----------------------------------------------------------------------------------------------------

    def agree(self, node: str = "") -> None:
        """Everything that a version answers is what the model says."""
        node = node or self.node
        state = self.states[node]
        found = self.get("ann/all-elements", node=node)
        assert in_order([e for part in found.values() for e in part]) == in_order(list(state.elements.values()))
        for key, part in found.items():
            assert all(",".join(map(str, block_of(tuple(e["Pos"])))) == key for e in part)
        for tag in TAGS:
            self._same(f"ann/tag/{tag}", state.tagged(tag), node)
        known = set(state.bodies()) | set(range(1, 9)) | set(state.body_of.values())
        for body in known - {0}:
            self._same(f"ann/label/{body}", state.on(body), node)
        for index_type in INDEX_TYPES:
            assert self.get(f"sizes/top/1000/{index_type}", node=node) == state.ranking(index_type), index_type
        labels = sorted(known)
        sizes = {one["Label"]: one["Size"] for one in state.ranking("AllSyn")}
        counts = self.get("sizes/counts/AllSyn", labels, node)
        assert counts == [{"Label": label, "AllSyn": sizes.get(label, 0)} for label in labels]

    def _same(self, path: str, expected: list[Element], node: str) -> None:
        assert in_order(self.get(path, node=node)) == in_order([bare(e) for e in expected]), path
        assert in_order(self.get(f"{path}?relationships=true", node=node)) == in_order(expected), path

    def findings(self, repair: bool = False, node: str = "") -> list[Finding]:
        """What the check of the store finds in annotations and counts."""
        out: list[Finding] = []
        repo = self.database.repo_of(node or self.root)
        for name in ("ann", "sizes"):
            data = self.client.server.instances.named(repo, name)
            with data.engine.snapshot() as snapshot:
                data.check(Examination(data, snapshot, out.append, repair=repair))
        return out


def reload(world: World, name: str) -> None:
    world.post(f"{name}/reload")
    wait(world, name)
    assert "Reload" not in world.get(f"{name}/info")["Extended"]


def wait(world: World, name: str) -> None:
    repo, node = world.database.resolve(world.node)
    data = world.client.server.instances.named(repo, name)
    assert data.reloads.wait(node.id, 120)  # type: ignore[attr-defined]


def labelled(database: Database) -> World:
    """Labels 1 to 6, 16 voxels each along x."""
    made = World(database)
    labels = np.arange(SHAPE[2], dtype=np.uint64) // 16 + 1
    made.write(np.broadcast_to(labels, SHAPE), mutate=False)
    return made


def everything(world: World, name: str = "ann") -> list[dict[str, Any]]:
    return in_order([e for part in world.get(f"{name}/all-elements").values() for e in part])


# -- at random ---------------------------------------------------------------------------------------------------------


def cells(random: Random, shape: tuple[int, int, int]) -> np.ndarray[Any, Any]:
    """Labels 0 to 8 in cells of 16 voxels."""
    size = [n // 16 for n in shape]
    coarse = np.array([random.randrange(9) for _ in range(int(np.prod(size)))], np.uint64).reshape(size)
    return coarse.repeat(16, 0).repeat(16, 1).repeat(16, 2)


def position(random: Random) -> XYZ:
    """One of few positions, so that they meet; some of them where there are no labels."""
    return random.randrange(-8, 104, 8), random.randrange(0, 64, 8), random.choice((1, 17, 40))


def some_elements(random: Random) -> list[Element]:
    return [
        element(
            pos,
            random.choice(KINDS),
            random.sample(TAGS, random.randrange(3)),
            {"conf": f"0.{random.randrange(100)}"} if random.random() < 0.5 else None,
            [(random.choice(RELATIONS), position(random)) for _ in range(random.randrange(3))],
        )
        for pos in {position(random): None for _ in range(random.randrange(1, 6))}
    ]


def step(world: World, random: Random) -> None:
    """One change at random, where it can be made."""
    state = world.state
    kind = random.choice(("put",) * 5 + ("delete", "move", "merge", "cleave", "renumber", "write", "write"))
    bodies = state.bodies()
    if kind == "put":
        world.put(*some_elements(random))
    elif kind in ("delete", "move") and state.elements:
        old = random.choice(sorted(state.elements))
        if kind == "delete":
            world.delete(old)
        elif (new := position(random)) not in state.elements:
            world.move(old, new)
    elif kind == "merge" and len(bodies) > 2:
        world.merge(*random.sample(sorted(bodies), random.randrange(2, 4)))
    elif kind == "cleave" and (able := [b for b, members in bodies.items() if len(members) > 1]):
        body = random.choice(sorted(able))
        world.cleave(body, random.sample(bodies[body], random.randrange(1, len(bodies[body]))))
    elif kind == "renumber" and bodies:
        world.renumber(random.choice(sorted(bodies)), random.randrange(1000, 10**12))
    elif kind == "write":
        block = (random.randrange(3), random.randrange(2), 0)
        world.write(cells(random, (SIDE, SIDE, SIDE)), block, mutate=random.random() < 0.8)
