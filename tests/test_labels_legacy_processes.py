"""A labelblk and its labelvol while several processes write one store: two databases over one LMDB."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from dvidcore.repos import Database
from dvidcore.storage import open_engine
from legacy_labels import Legacy, Volume, cells, pack, runs_of
from side_by_side import run

SHAPE = (32, 32, 32)


def checked(folder: Path, root: str) -> None:
    """The check, by a process of its own, finds nothing."""
    with Database.open({"main": open_engine("lmdb", str(folder))}) as database:
        assert Legacy(database, root).findings() == []


def test_one_process_posts_while_another_merges_and_splits(tmp_path: Path) -> None:
    """They write the same tiles, of which the blocks differ: each block ends as its own writer left it."""
    with Database.open({"main": open_engine("lmdb", str(tmp_path))}) as one:
        first = Legacy(one).pair()
        start = cells(51, SHAPE, [1, 2, 3, 4])
        first.write(start)
        with Database.open(one.stores, one.assign) as two:
            second = Legacy(two, first.root)
            posted: Volume = np.zeros(SHAPE, np.uint64)
            changed = start.copy()

            def post() -> None:
                for turn in range(8):
                    posted[:] = cells(60 + turn, SHAPE, [100, 101, 102])
                    first.write(posted, (0, 0, 32))

            def mutate() -> None:
                for target, merged in ((1, 2), (3, 4)):
                    second.done("vol/merge", [target, merged])
                    changed[changed == merged] = target
                    mask = (changed == target) & (np.indices(SHAPE)[0] % 3 == 0)
                    new = second.done(f"vol/split/{target}", pack(runs_of(mask))).json()["label"]
                    changed[mask] = new

            run(post, mutate)
            whole = np.concatenate([changed, posted], axis=2)
            for legacy in (first, second):
                legacy.pair_is(whole, chain=("half", "quarter"))
    checked(tmp_path, first.root)


def test_both_processes_merge_and_post_the_same_blocks(tmp_path: Path) -> None:
    """Whatever the order, voxels, sparse volumes and levels agree."""
    with Database.open({"main": open_engine("lmdb", str(tmp_path))}) as one:
        first = Legacy(one).pair()
        first.write(cells(52, SHAPE, [1, 2, 3, 4, 5]))
        with Database.open(one.stores, one.assign) as two:
            second = Legacy(two, first.root)

            def work(legacy: Legacy, other: int) -> Callable[[], None]:
                def turns() -> None:
                    for turn in range(6):
                        legacy.write(cells(turn + other, (16, 32, 32), [1, 2, 3, 4, 5]), (16 * (turn % 2), 0, 0))
                        answer = legacy.post("vol/merge", [1, 2 + turn % 3])
                        assert answer.status in (200, 404), answer.text

                return turns

            run(work(first, 70), work(second, 90))
            voxels = first.read(SHAPE)
            for legacy in (first, second):
                legacy.pair_is(voxels, chain=("half", "quarter"))
                for label in range(1, 6):
                    assert (legacy.runs(label) is None) == (label not in voxels)
    checked(tmp_path, first.root)
