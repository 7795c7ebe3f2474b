"""Annotations, and counts of them, in other stores than what they follow: what is recorded is carried out, once or again."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np
import pytest

from annotation_model import SHAPE, World, cells, element, step
from apiclient import Client
from dvidcore.checking import Finding, check
from dvidcore.datatypes.following import INTENT
from dvidcore.datatypes.labelsz import counts
from dvidcore.repos import Database, OneStore
from dvidcore.storage.keys import data_prefix, prefix_range
from dvidcore.storage.memory import Memory
from test_annotation_follow import Breaking, Overtaking, copied, slabs


class Apart(OneStore):
    """Labels, annotations and counts in stores of their own."""

    def store_for(self, typename: str, tags: Any, name_uuid: str, data_uuid: str) -> str:
        return {"annotation": "ann", "labelsz": "sizes"}.get(typename, self.metadata)


@pytest.fixture
def stores() -> dict[str, Breaking]:
    return {name: Breaking(name) for name in ("main", "ann", "sizes")}


@pytest.fixture
def apart(stores: dict[str, Breaking]) -> Iterator[World]:
    with Database.open(stores, Apart("main")) as database:
        yield World(database)


def intents(world: World) -> int:
    """How many are recorded and not carried out."""
    found = 0
    for record in world.database.repo_of(world.root).instances.values():
        start, stop = prefix_range(data_prefix(record.id, INTENT))
        found += sum(1 for _ in world.database.engine_of(record).scan(start, stop, keys_only=True))
    return found


@pytest.mark.parametrize("seed", range(2))
def test_followers_in_other_stores_agree_whenever_they_are_asked(apart: World, seed: int) -> None:
    random = Random(seed)
    apart.write(cells(random, SHAPE), mutate=False)
    for number in range(4):
        for _ in range(10):
            step(apart, random)
        apart.agree()
        assert intents(apart) == 0
        apart.node = random.choice(sorted(apart.states))
        apart.branch(f"branch{number}")
    for node in apart.states:
        apart.agree(node)


def test_intents_are_carried_out_after_a_restart(stores: dict[str, Breaking]) -> None:
    with Database.open(stores, Apart("main")) as database:
        world = World(database)
        world.write(slabs())
        world.put(*(element((x, 1, 1), "PreSyn", ["a"]) for x in range(0, 96, 5)))
        world.agree()
        world.merge(1, 2, 3)
        world.write(np.full((32, 32, 32), 50, np.uint64), (1, 0, 0))
        assert intents(world) == 2
        world.branch()
        world.merge(50, 1)
        kept = {name: copied(engine) for name, engine in stores.items()}
    with Database.open(kept, Apart("main")) as database:
        world.database, world.client = database, Client(database)
        assert intents(world) == 3
        for node in world.states:
            world.agree(node)
        assert intents(world) == 0


@pytest.mark.parametrize("writes", range(4))
@pytest.mark.parametrize("store", ["main", "ann", "sizes"])
def test_carrying_out_may_fail_anywhere_and_is_done_again(
    apart: World, stores: dict[str, Breaking], store: str, writes: int
) -> None:
    apart.write(slabs())
    apart.put(*(element((x, 1, 1), "PreSyn", ["a"]) for x in range(0, 96, 5)))
    apart.agree()
    apart.merge(1, 2, 3)
    apart.cleave(1, [2])
    stores[store].left = writes
    apart.ask("GET", "sizes/top/5/PreSyn")  # fails, or not
    stores[store].left = -1
    apart.agree()


# -- other processes ---------------------------------------------------------------------------------------------------


def test_a_post_is_overtaken_by_a_process_that_followed_the_labels_in_another_store() -> None:
    """It finds nothing to move, since the elements are not there yet; but what they were to be put on is gone."""
    engine = Overtaking()
    stores = {"main": Memory("main"), "ann": engine, "sizes": Memory("sizes")}
    with Database.open(stores, Apart("main")) as database:
        world = World(database)
        world.write(slabs())
        world.put(element((1, 1, 1)))
        world.agree()
        with Database.open(stores, Apart("main")) as another:

            def overtake() -> None:
                world.merge(3, 2)
                assert Client(another).get(f"/api/node/{world.root}/ann/label/3").json() == []
                assert intents(world) == 0

            engine.before = [overtake]
            world.put(element((9, 1, 1), "PreSyn"), element((17, 1, 1), "PreSyn"))
            assert not engine.before
            world.agree()
            assert world.findings() == []


def test_counting_is_overtaken_by_a_process_that_finds_the_count_right_again() -> None:
    engine = Overtaking(counts.GENERATION)
    stores = {"main": Memory("main"), "ann": Memory("ann"), "sizes": engine}
    with Database.open(stores, Apart("main")) as database:
        world = World(database)
        world.write(slabs())
        world.put(element((1, 1, 1), "Gap"))
        world.agree()
        with Database.open(stores, Apart("main")) as another:

            def overtake() -> None:
                world.delete((2, 1, 1))
                sizes = f"/api/node/{world.root}/sizes"
                assert Client(another).get(f"{sizes}/count/1/Gap").json() == {"Label": 1, "Gap": 1}
                assert intents(world) == 0

            world.put(element((2, 1, 1), "Gap"))
            engine.before = [overtake]
            assert world.get("sizes/count/1/Gap") == {"Label": 1, "Gap": 1}
            assert not engine.before
            world.agree()


# -- the check ---------------------------------------------------------------------------------------------------------


def test_the_check_follows_first_what_is_still_to_be_followed(apart: World) -> None:
    apart.write(slabs())
    apart.put(*(element((x, 1, 1), "PreSyn", ["a"]) for x in range(0, 96, 5)))
    apart.agree()
    apart.merge(1, 2, 3)
    apart.write(np.full((32, 32, 32), 50, np.uint64), (1, 0, 0))
    assert intents(apart) == 2
    found: list[Finding] = []
    assert check(apart.database, found.append, strict=True, instance="sizes").clean and not found
    assert intents(apart) == 0
    assert check(apart.database, found.append, strict=True).clean and not found
    apart.agree()


def test_the_check_tells_of_what_cannot_be_followed(apart: World, stores: dict[str, Breaking]) -> None:
    apart.write(slabs())
    apart.put(element((1, 1, 1), "PreSyn"))
    apart.merge(2, 1)
    stores["ann"].left = 0
    found: list[Finding] = []
    assert not check(apart.database, found.append).clean
    assert [(f.instance, f.kind, f.stored) for f in found if f.serious] == [("ann", "following", "the disk is full")]
    assert check(apart.database, strict=True).clean
    apart.agree()
