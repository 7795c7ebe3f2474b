"""Annotations and counts at random: elements, labels and versions change, everything agrees with a plain model."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from annotation_model import SHAPE, World, cells, step
from dvidcore.repos import Database
from dvidcore.storage import open_engine


@pytest.fixture(params=["memory", "leveldb"])
def database(request: pytest.FixtureRequest, tmp_path: object) -> Iterator[Database]:
    with Database.open({"main": open_engine(request.param, f"{tmp_path}/store")}) as opened:
        yield opened


@pytest.mark.parametrize("seed", range(3))
def test_random_changes_in_one_version(database: Database, seed: int) -> None:
    world, random = World(database), Random(seed)
    world.write(cells(random, SHAPE), mutate=False)
    for count in range(50):
        step(world, random)
        if count % 5 == 4:
            world.agree()
    assert world.findings() == []


@pytest.mark.parametrize("seed", range(3))
def test_random_changes_in_a_tree_of_versions(database: Database, seed: int) -> None:
    world, random = World(database), Random(100 + seed)
    world.write(cells(random, SHAPE), mutate=False)
    for number in range(6):
        for _ in range(10):
            step(world, random)
        world.agree()
        world.node = random.choice(sorted(world.states))
        world.branch(f"branch{number}")
    for node in world.states:
        world.agree(node)
    assert world.findings() == []
