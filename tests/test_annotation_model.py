"""Annotations and counts at random: elements, labels and versions change, everything agrees with a plain model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from annotation_model import SHAPE, World, cells, step
from dvidcore.repos import Database
from dvidcore.storage import open_engine


@pytest.fixture
def leveldb(tmp_path: Path) -> Iterator[Database]:
    with Database.open({"main": open_engine("leveldb", str(tmp_path))}) as opened:
        yield opened


@pytest.mark.parametrize("seed", range(2))
def test_random_changes_in_one_version(leveldb: Database, seed: int) -> None:
    world, random = World(leveldb), Random(seed)
    world.write(cells(random, SHAPE), mutate=False)
    for count in range(40):
        step(world, random)
        if count % 8 == 7:
            world.agree()
    assert world.findings() == []


@pytest.mark.parametrize("seed", range(2))
def test_random_changes_in_a_tree_of_versions(database: Database, seed: int) -> None:
    world, random = World(database), Random(100 + seed)
    world.write(cells(random, SHAPE), mutate=False)
    for number in range(5):
        for _ in range(10):
            step(world, random)
        world.agree()
        world.node = random.choice(sorted(world.states))
        world.branch(f"branch{number}")
    for node in world.states:
        world.agree(node)
    assert world.findings() == []
