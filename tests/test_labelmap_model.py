"""Long random walks over a labelmap's versions beside a model of numpy and dictionaries.

All requests that change labels take part: voxels, merges, cleaves, renumbers, both splits, mappings and indices,
counters, new versions, branches and merges of versions. Every version is compared whole again and again: voxels of all
scales, bodies and supervoxels, index, sizes, mapping, sparse volumes, counters, extents, splits, log. At last the store
is checked as ``dvidcore check`` does.
"""

from __future__ import annotations

import pytest

from dvidcore.repos import Database, DatabaseOptions
from dvidcore.storage.memory import Memory
from label_walk import STEPS, Walk


def walk(seed: int, steps: int, *, stale: bool) -> dict[str, int]:
    with Database.open({"main": Memory.open("")}, options=DatabaseOptions(allow_labelmap_split=True)) as database:
        walker = Walk(database, seed, stale=stale, base=(seed % 2) << 47)
        for k in range(steps):
            try:
                walker.step()
                if k % 25 == 24:
                    walker.compare(walker.pick_version())
            except Exception as e:
                raise AssertionError(f"seed {seed}, step {k}: {e!r}; so far {walker.done}") from e
        walker.compare_all()
        return walker.done


@pytest.mark.parametrize("seed", range(8))
def test_a_random_walk_agrees_with_the_model(seed: int) -> None:
    done = walk(seed, 500, stale=seed % 3 == 2)
    assert {*STEPS, "merged forks"} == {*done}, f"seed {seed}: only {done}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 120))
def test_a_long_random_walk_agrees_with_the_model(seed: int) -> None:
    walk(seed, 3000, stale=seed % 3 == 2)
