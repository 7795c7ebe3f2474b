"""Concurrent writers and readers of the same label blocks: nothing is lost, and no reader sees a part of a write."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import orjson
import pytest

from dvidcore.datatypes.labels.labelmap import LabelMap
from dvidcore.datatypes.labels.mutations import merge
from dvidcore.datatypes.labels.writing import ingest
from dvidcore.datatypes.registry import Instances
from dvidcore.geometry import ZYX
from dvidcore.repos import Database
from dvidcore.storage.leveldb import LevelDB
from side_by_side import beside, run
from test_labelmap_writes import SIDE, SPAN, World, compare, downsample, random_volume, stored_volume, stream

LOW = -(SPAN // 2)


@pytest.fixture(params=["memory", "leveldb"])
def world(request: pytest.FixtureRequest, tmp_path: Path, database: Database) -> World:
    if request.param == "memory":
        return World(database)
    opened = Database.open({"main": LevelDB.open(str(tmp_path / "db"))})
    request.addfinalizer(opened.close)
    return World(opened)


def same_instance(world: World) -> LabelMap:
    return world.label


def another_process(world: World) -> LabelMap:
    """The instance without the locks and caches of ``world.label``, as another process on the same store has it."""
    label = Instances(world.database).named(world.repo, "seg")
    assert isinstance(label, LabelMap)
    return label


@pytest.mark.parametrize("writer", [same_instance, another_process])
def test_neighbouring_posts_with_downsampling_lose_nothing(world: World, writer: Callable[[World], LabelMap]) -> None:
    """Each thread owns one octant pattern of blocks, so that all threads write into every coarser block."""
    root = world.open[0]
    labels = [writer(world) for _ in range(4)]
    rng = np.random.default_rng(7)
    jobs: list[list[tuple[ZYX, np.ndarray]]] = [[] for _ in labels]
    for at in np.ndindex(SPAN, SPAN, SPAN):
        coord = ZYX(*(c + LOW for c in at))
        jobs[(coord.z & 1) * 2 + (coord.x & 1)].append((coord, random_volume(rng, (SIDE,) * 3)))

    def work(k: int) -> None:
        for i in range(0, len(jobs[k]), 9):
            placed = dict(jobs[k][i : i + 9])
            call = world.call(root, stream(placed))
            ingest.post_blocks(labels[k], call, 0, downres=True, indexing=True)
            call.close()

    with ThreadPoolExecutor(len(labels)) as pool:
        list(pool.map(work, range(len(labels))))
    for job in jobs:
        for coord, volume in job:
            world.models[root.id].write(coord, volume)
    call = world.call(root)
    compare(another_process(world), call, world.models[root.id])
    call.close()


def test_readers_see_whole_writes_only(world: World) -> None:
    """While two writers replace the same 2x2x2 blocks, every snapshot is one of their volumes, with its index."""
    root = world.open[0]
    shape = (2 * SIDE,) * 3
    volumes = [np.full(shape, label, np.uint64) for label in (3, 4)]
    at, size = ZYX(0, 0, 0), ZYX(*shape)
    world.post_raw(root, at, volumes[0])

    def write(volume: np.ndarray) -> None:
        for _ in range(12):
            call = world.call(root, volume.tobytes())
            ingest.post_raw(world.label, call, at, size, "")
            call.close()

    def read() -> None:
        call = world.call(root)
        whole = stored_volume(world.label, call, 0)[-2 * SIDE - SIDE : -SIDE, 48:80, 48:80]
        label = int(whole[0, 0, 0])
        assert (whole == label).all()
        assert (stored_volume(world.label, call, 1)[24:40, 24:40, 24:40] == label).all()
        records = dict(world.label.index.records(call.view))
        assert {body: r.voxels for body, r in records.items()} == {label: volumes[0].size}
        call.close()

    with beside(read, read):
        run(*(partial(write, volume) for volume in volumes))


@pytest.mark.parametrize("writer", [same_instance, another_process])
def test_parallel_merges_into_one_body_lose_no_supervoxel(world: World, writer: Callable[[World], LabelMap]) -> None:
    root = world.open[0]
    volume = np.arange(1, 65, dtype=np.uint64).reshape(4, 4, 4).repeat(8, 0).repeat(8, 1).repeat(8, 2)
    world.post_raw(root, ZYX(0, 0, 0), volume)
    labels = [writer(world) for _ in range(4)]

    def work(k: int) -> None:
        for body in range(2 + k, 65, 4):
            call = world.call(root, orjson.dumps([1, body]))
            merge.merge(labels[k], call)
            call.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    model = world.models[root.id]
    model.mapping = {body: 1 for body in range(2, 65)}
    call = world.call(root)
    compare(another_process(world), call, model)
    call.close()


@pytest.mark.parametrize("writer", [same_instance, another_process])
def test_posts_beside_merges_count_in_the_right_body(world: World, writer: Callable[[World], LabelMap]) -> None:
    """A post computes its index rows under the mapping that its write is stored with."""
    root = world.open[0]
    model = world.models[root.id]
    volume = np.arange(1, 9, dtype=np.uint64).reshape(2, 2, 2).repeat(8, 0).repeat(8, 1).repeat(8, 2)
    world.post_raw(root, ZYX(0, 0, 0), volume)
    posting, merging = writer(world), writer(world)

    def post() -> None:
        for x in range(1, 3):
            for y in range(3):
                call = world.call(root, volume.tobytes())
                ingest.post_raw(posting, call, ZYX(0, y * SIDE, x * SIDE), ZYX(SIDE, SIDE, SIDE), "")
                call.close()
                model.write(ZYX(0, y, x), volume)

    def join() -> None:
        for body in range(2, 9):
            call = world.call(root, orjson.dumps([1, body]))
            merge.merge(merging, call)
            call.close()

    with ThreadPoolExecutor(2) as pool:
        for job in (pool.submit(post), pool.submit(join)):
            job.result()
    model.mapping = {body: 1 for body in range(2, 9)}
    call = world.call(root)
    compare(another_process(world), call, model)
    call.close()


def test_the_model_downsamples_by_the_rule() -> None:
    """The reference itself: most frequent label that is not 0, of equals the smallest, 0 only for eight zeros."""
    cell = np.array([0, 0, 0, 0, 0, 0, 0, 9], np.uint64)
    assert downsample(cell.reshape(2, 2, 2)).item() == 9
    assert downsample(np.array([5, 5, 3, 3, 0, 0, 0, 0], np.uint64).reshape(2, 2, 2)).item() == 3
    assert downsample(np.zeros((2, 2, 2), np.uint64)).item() == 0
