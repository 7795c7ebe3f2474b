"""kill -9 while voxels are posted, merged and split: afterwards all that follows them is as they are.

Each step follows from the voxels before it, so the voxels of the store tell whether the last one was done. A labelvol,
two coarser labelblks and an annotation must then be those of these voxels, and the check of the store finds nothing.
"""

from __future__ import annotations

from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

import numpy as np
import pytest

from dvidcore.repos import Database
from dvidcore.storage import open_engine
from legacy_labels import Legacy, Volume, blocks_of, cells, pack, runs_of
from victims import kill_after

ENGINE = "leveldb"
SHAPE = (32, 32, 64)
POINTS = [(z, y, x) for z in (3, 30) for y in (9, 20) for x in (0, 17, 40, 63)]


def step(volume: Volume, number: int) -> tuple[str, bytes | list[int], Volume]:
    """(path, body, the voxels after it) of a step, which depends on its number and the voxels alone."""
    random, after = Random(number), volume.copy()
    labels = [int(label) for label in np.unique(volume[volume > 0])]
    kind = "post" if len(labels) < 3 else random.choice(("post", "merge", "split", "split-coarse"))
    if kind == "post":
        after[:, :, :32] = cells(number, (32, 32, 32), random.sample(range(1, 40), 5))
        return "blk/raw/0_1_2/32_32_32/0_0_0", after[:, :, :32].tobytes(), after
    target, other = random.sample(labels, 2)
    if kind == "merge":
        after[volume == other] = target
        return "vol/merge", [target, other], after
    new = 1000 + number
    if kind == "split":
        mask = (volume == target) & (np.indices(SHAPE)[random.randrange(3)] % 2 == 0)
        if mask.any():
            after[mask] = new
            return f"vol/split/{target}?splitlabel={new}", pack(runs_of(mask)), after
    blocks = blocks_of(volume == target)
    x, y, z, _ = random.choice(blocks)
    part = after[16 * z : 16 * z + 16, 16 * y : 16 * y + 16, 16 * x : 16 * x + 16]
    part[part == target] = new
    return f"vol/split-coarse/{target}?splitlabel={new}", pack([[x, y, z, 1]]), after


def victim(folder: Path, root: str, volume: Volume, number: int, pipe: Connection) -> None:
    """Does step after step, and reports each through the pipe."""
    with Database.open({"default": open_engine(ENGINE, str(folder))}) as database:
        legacy = Legacy(database, root)
        pipe.send(("ready",))
        while True:
            path, body, volume = step(volume, number)
            legacy.done(path, body)
            number += 1
            pipe.send((number,))


def compare(legacy: Legacy, volume: Volume) -> None:
    legacy.pair_is(volume, chain=("half", "quarter"))
    for label in np.unique(volume[volume > 0])[:6].tolist():
        found = legacy.get(f"syn/label/{label}").json() or []
        places = sorted(tuple(element["Pos"][::-1]) for element in found)
        assert places == sorted(point for point in POINTS if volume[point] == label)
    assert legacy.findings() == []


@pytest.mark.parametrize("kills", [15, pytest.param(200, marks=pytest.mark.slow)])
def test_a_process_is_killed_while_labels_change(tmp_path: Path, kills: int) -> None:
    folder, random = tmp_path / "data", Random(kills)
    volume, number, done = np.zeros(SHAPE, np.uint64), 0, 0
    with Database.open({"default": open_engine(ENGINE, str(folder))}) as database:
        legacy = Legacy(database).pair()
        root = legacy.root
        legacy.client.instance(root, "syn", "annotation", BlockSize="16,16,16")
        legacy.done("syn/sync", {"sync": "blk,vol"})
        legacy.done("syn/elements", [{"Pos": [x, y, z], "Kind": "Note"} for z, y, x in POINTS])
    for kill in range(kills):
        reached = number

        def receive(at: int) -> bool:
            nonlocal reached
            reached = at
            return True

        kill_after(victim, (folder, root, volume, number), receive, random.uniform(0, 0.2), kill % 2 == 0)
        while number < reached:
            _, _, volume = step(volume, number)
            number, done = number + 1, done + 1
        with Database.open({"default": open_engine(ENGINE, str(folder))}) as database:
            legacy = Legacy(database, root)
            _, _, after = step(volume, number)
            if np.array_equal(legacy.read(SHAPE), after):
                volume, number = after, number + 1
            compare(legacy, volume)
    assert done >= kills // 2
