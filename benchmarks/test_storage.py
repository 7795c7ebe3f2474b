"""What the LevelDB engine takes to write and read blocks, with and without segments beside it.

``pytest benchmarks/test_storage.py``; the figure to look at is the minimum. ``plain`` keeps all values in LevelDB,
``segments`` is the default. Values do not compress. Extra information of a write: milliseconds of processor time for
each batch, with what LevelDB does in the background until a second after the last.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dvidcore.api.memory import keep_memory
from dvidcore.storage import Batch, Engine, keys, open_engine
from dvidcore.storage.versioned import Ancestry, VersionedBatch, View

PREFIX = keys.data_prefix(1, 1)
RANGE = keys.kind_range(1, 1)
SHAPES = [pytest.param((512, 32 << 10), id="512x32KB"), pytest.param((64, 12 << 10), id="64x12KB")]
SMALL = pytest.param((5000, 200), id="5000x200B")


@pytest.fixture(params=["plain", "segments"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    keep_memory()
    options = {"segmentthreshold": 0} if request.param == "plain" else {}
    with open_engine("leveldb", str(tmp_path), **options) as opened:
        yield opened


def prefix_keys(count: int) -> list[bytes]:
    return [PREFIX + keys.zyx_key(number // 64, number // 8 % 8, number % 8) for number in range(count)]


def batch_of(shape: tuple[int, int], version: int) -> Batch:
    count, size = shape
    versioned = VersionedBatch(Batch(), version)
    for key in prefix_keys(count):
        versioned.put(key, os.urandom(size))
    return versioned.batch


@pytest.mark.parametrize("shape", [*SHAPES, SMALL])
def test_write(benchmark: Any, engine: Engine, shape: tuple[int, int]) -> None:
    rounds = 20
    batches = iter([batch_of(shape, version) for version in range(1, rounds + 2)])
    engine.write(next(batches))
    before = time.process_time()
    benchmark.pedantic(engine.write, setup=lambda: ((next(batches),), {}), rounds=rounds)
    time.sleep(1)
    benchmark.extra_info["processor_ms"] = round((time.process_time() - before) * 1000 / rounds, 1)


READS: dict[str, Callable[[View, int], int]] = {
    "get": lambda view, count: len([view.get(key) for key in prefix_keys(count)]),
    "get_many": lambda view, count: len(view.get_many(prefix_keys(count))),
    "scan": lambda view, _: sum(1 for _ in view.scan(*RANGE)),
    "keys": lambda view, _: sum(1 for _ in view.keys(*RANGE)),
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("shape", [*SHAPES, SMALL])
def test_read(benchmark: Any, engine: Engine, shape: tuple[int, int], read: str) -> None:
    for version in (1, 2, 3):
        engine.write(batch_of(shape, version))
    with engine.snapshot() as snapshot:
        view = View(snapshot, Ancestry.from_parents(3, {3: [2], 2: [1]}))
        assert benchmark(READS[read], view, shape[0]) == shape[0]
