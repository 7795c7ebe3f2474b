"""Annotations and counts below merges of versions."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest

from annotation_model import SHAPE, SIDE, World, cells, element, in_order, reload
from dvidcore.repos import Database


@pytest.fixture
def world(database: Database) -> World:
    """Labels 1 to 6, 16 voxels each along x; a committed root with an element on each."""
    made = World(database)
    made.write(np.broadcast_to(np.arange(SHAPE[2], dtype=np.uint64) // 16 + 1, SHAPE))
    made.put(*(element((16 * k, 1, 1), "PreSyn", ["a"]) for k in range(6)))
    return made


def sides(world: World) -> tuple[str, str]:
    """Two children of the root; the first is the one that is changed."""
    root = world.node
    world.branch()
    one = world.node
    world.node = root
    world.branch("side")
    two, world.node = world.node, one
    return one, two


def merged(world: World, one: str, two: str, data: list[str] | None = None) -> str:
    """A version that merges two, with their conflicts settled for the first in the instances of ``data``."""
    for node in (one, two):
        world.client.commit(node)
    body: dict[str, Any] = {"mergeType": "conflict-free", "parents": [one, two], "note": ""}
    answer = world.client.post(f"/api/repo/{one}/merge", body)
    if data is not None:
        body = {"data": data, "parents": [one, two], "note": ""}
        answer = world.client.post(f"/api/repo/{one}/resolve", body)
    assert answer.status == 200, answer.text
    child: str = answer.json()["child"]
    return child


def test_elements_of_one_side_lie_on_bodies_of_the_other(world: World) -> None:
    one, two = sides(world)
    world.merge(1, 2)
    world.node = two
    world.put(element((20, 40, 1), "Gap", ["b"]), element((17, 50, 20), "PreSyn"))
    world.delete((80, 1, 1))
    child = merged(world, one, two)
    world.states[child] = world.states[two]
    world.states[child].body_of = dict(world.states[one].body_of)
    world.agree(child)
    world.node = child
    world.move((20, 40, 1), (1, 1, 20))
    world.merge(1, 3)
    world.agree()
    assert world.findings() == []


def test_a_block_that_both_sides_changed_is_a_conflict_until_it_is_posted(world: World) -> None:
    one, two = sides(world)
    world.put(element((2, 2, 2), "PreSyn", ["a"]), element((40, 2, 2)))
    world.node = two
    world.put(element((3, 3, 3), "Gap", ["a"]))
    child = merged(world, one, two)
    world.node = child
    assert "block 0,0,0" in world.refused("GET", "ann/elements/9_9_9/0_0_0", status=409)
    assert "block 0,0,0" in world.refused("POST", "ann/elements", [element((5, 5, 5))], status=409)
    assert world.get("ann/elements/9_9_9/35_0_0") == [element((40, 2, 2))]
    world.post("ann/blocks", {"0,0,0": [element((2, 2, 2), "PreSyn", ["a"]), element((3, 3, 3), "Gap", ["a"])]})
    reload(world, "ann")
    reload(world, "sizes")
    world.states[child] = world.states[one]
    state = world.states[child]
    state.elements = {p: e for p, e in state.elements.items() if p[0] >= 32}
    state.elements |= {
        (2, 2, 2): element((2, 2, 2), "PreSyn", ["a"]),
        (3, 3, 3): element((3, 3, 3), "Gap", ["a"]),
    }
    world.agree(child)


def on_body(world: World, body: int) -> list[list[int]]:
    return sorted(one["Pos"] for one in world.get(f"ann/label/{body}"))


def count(world: World, body: int) -> int:
    found: int = world.get(f"sizes/count/{body}/PreSyn")["PreSyn"]
    return found


def test_voxels_in_conflict_put_their_elements_on_no_body_until_they_are_written(world: World) -> None:
    one, two = sides(world)
    block = np.empty((SIDE, SIDE, SIDE), np.uint64)
    for node, label in ((one, 77), (two, 88)):
        world.node = node
        block[...] = label
        world.write(block)
    world.put(element((SIDE + 1, 1, 1), "PreSyn", ["b"]))
    world.node = merged(world, one, two)
    world.refused("GET", "seg/label/1_1_1", status=409)
    inside = [k for k in range(6) if 16 * k < SIDE]
    for body in (*(k + 1 for k in inside), 77, 88):
        assert on_body(world, body) == [] and count(world, body) == 0
    beyond = SIDE // 16 + 1
    assert [SIDE + 1, 1, 1] in on_body(world, beyond) and count(world, beyond) == len(on_body(world, beyond))
    assert len(world.get("ann/tag/a")) == 6 and len(world.get("ann/tag/b")) == 1
    assert world.findings() == []
    block[...] = 99
    query = f"seg/raw/0_1_2/{SIDE}_{SIDE}_{SIDE}/0_0_0?mutate=true"
    world.post(query, block.tobytes())
    assert on_body(world, 99) == [[16 * k, 1, 1] for k in inside] and count(world, 99) == len(inside)
    assert world.findings() == []


def test_mappings_in_conflict_put_their_elements_on_no_body(world: World) -> None:
    one, two = sides(world)
    for node, target in ((one, 1), (two, 2)):
        world.node = node
        world.merge(target, 3)
    world.node = merged(world, one, two)
    assert [on_body(world, body) for body in (1, 2, 3, 4)] == [[[0, 1, 1]], [[16, 1, 1]], [], [[48, 1, 1]]]
    assert [count(world, body) for body in (1, 2, 3, 4)] == [1, 1, 0, 1]
    assert world.findings() == []
    world.post("seg/merge", [1, 2])
    reload(world, "ann")
    assert on_body(world, 1) == [[0, 1, 1], [16, 1, 1], [32, 1, 1]] and count(world, 1) == 3
    assert world.findings() == []


def test_resolve_takes_blocks_of_the_first_parent(world: World) -> None:
    one, two = sides(world)
    world.put(element((2, 2, 2), "PreSyn", ["a"]))
    world.delete((16, 1, 1))
    world.node = two
    world.put(element((3, 3, 3), "Gap", ["b"]), element((40, 3, 3), "Gap", ["b"]))
    world.merge(5, 1)
    child = merged(world, one, two, ["ann"])
    state = world.states[child] = world.states[one]
    state.elements[40, 3, 3] = element((40, 3, 3), "Gap", ["b"])
    state.body_of = dict(world.states[two].body_of)
    world.agree(child)
    world.node = child
    world.put(element((1, 1, 1), "Note", ["a"]))
    world.agree()
    assert world.findings() == []


@pytest.mark.parametrize("seed", range(4))
def test_random_sides_that_change_different_blocks(database: Database, seed: int) -> None:
    world, random = World(database), Random(seed)
    world.write(cells(random, SHAPE), mutate=False)
    for _ in range(10):
        world.put(_element(random, range(3)))
    one, two = sides(world)
    for node, columns in ((one, (0, 2)), (two, (1,))):
        world.node = node
        for _ in range(12):
            pos = random.choice(sorted(p for p in world.state.elements if p[0] // SIDE in columns) or [None])
            if pos is not None and random.random() < 0.4:
                item = world.state.elements[pos]
                if not item["Rels"]:
                    world.delete(pos)
            else:
                world.put(_element(random, columns))
        if node == two:
            bodies = sorted(world.state.bodies())
            world.merge(bodies[0], bodies[1])
    child = merged(world, one, two)
    state = world.states[child] = world.states[two]
    other = world.states[one].elements
    state.elements = {p: e for p, e in state.elements.items() if p[0] // SIDE == 1}
    state.elements |= {p: e for p, e in other.items() if p[0] // SIDE != 1}
    world.agree(child)
    for node in (one, child):
        assert in_order(world.get("ann/tag/a", node=node)) == in_order(
            [{k: v for k, v in e.items() if k != "Rels"} for e in world.states[node].tagged("a")]
        )
    assert world.findings() == []


def _element(random: Random, columns: Any) -> dict[str, Any]:
    pos = (SIDE * random.choice(list(columns)) + random.randrange(0, SIDE, 4), random.randrange(0, 64, 4), 1)
    return element(pos, random.choice(("PreSyn", "Gap", "Note")), random.sample(["a", "b"], random.randrange(3)))
