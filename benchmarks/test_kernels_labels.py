"""The kernels of ``dvidcore.labels``: ``pytest benchmarks/test_kernels_labels.py``.

The volume is 256 x 256 x 256 voxels of jittered cells in 64 blocks; every benchmark adds ns per voxel, entry or run
to its ``extra_info``. What each peer takes is in ``docs/kernels.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dvidcore import blocks, labels

SIDE, BLOCK = 256, 64
COORDS = np.array(list(product(range(SIDE // BLOCK), repeat=3)), np.int32)
ENTRIES = 1_000_000

Volume = NDArray[np.uint64]
Benchmark = Any


def cells(side: int, pitch: int) -> Volume:
    """Cells around jittered points, about ``pitch`` voxels apart: each voxel has the label of the nearest point."""
    rng = np.random.default_rng(0)
    n = side // pitch + 2
    points = (np.indices((n, n, n)).reshape(3, -1).T + rng.uniform(0, 1, (n**3, 3)) - 1) * pitch
    out = np.zeros((side, side, side), np.uint64)
    nearest = np.full(out.shape, np.inf, np.float32)
    for label, point in enumerate(points, 1):
        low = np.maximum(point - 2 * pitch, 0).astype(int)
        high = np.minimum(point + 2 * pitch, side).astype(int)
        if (high <= low).any():
            continue
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        z, y, x = (np.arange(a, b) - p for a, b, p in zip(low, high, point, strict=True))
        distance = (z[:, None, None] ** 2 + y[:, None] ** 2 + x**2).astype(np.float32)
        closer = distance < nearest[box]
        nearest[box][closer] = distance[closer]
        out[box][closer] = label
    return out


@pytest.fixture(scope="module")
def volume() -> Volume:
    return cells(SIDE, 24)


@pytest.fixture(scope="module")
def coded(volume: Volume) -> list[bytes]:
    def block(coord: NDArray[np.int32]) -> bytes:
        return blocks.encode(volume[tuple(slice(c * BLOCK, (c + 1) * BLOCK) for c in coord.tolist())])

    return [block(coord) for coord in COORDS]


@pytest.fixture(scope="module")
def body(volume: Volume) -> Volume:
    """A third of the supervoxels."""
    return np.unique(volume)[::3].copy()


def timed(benchmark: Benchmark, call: Callable[[], object], items: int) -> None:
    benchmark(call)
    benchmark.extra_info["ns per item"] = benchmark.stats["min"] / items * 1e9


@pytest.mark.parametrize("threads", [1, 2])
def test_runs_of_a_body(benchmark: Benchmark, coded: list[bytes], body: Volume, threads: int) -> None:
    def one(_: int) -> object:
        return labels.runs_of_blocks(coded, COORDS, (BLOCK, BLOCK, BLOCK), body)

    with ThreadPoolExecutor(threads) as pool:
        timed(benchmark, lambda: list(pool.map(one, range(threads))), threads * SIDE**3)


def test_runs_of_one_label_in_each_block(benchmark: Benchmark, coded: list[bytes]) -> None:
    middle = [np.sort(blocks.palette(block))[len(blocks.palette(block)) // 2 :][:1].copy() for block in coded]
    timed(benchmark, lambda: [labels.runs(b, one) for b, one in zip(coded, middle, strict=True)], SIDE**3)


def test_runs_of_one_label_in_numpy(benchmark: Benchmark, volume: Volume) -> None:
    def runs() -> object:
        padded = np.zeros((*volume.shape[:2], SIDE + 2), np.int8)
        padded[:, :, 1:-1] = volume == 500
        step = np.diff(padded, axis=2)
        return np.nonzero(step == 1), np.nonzero(step == -1)

    timed(benchmark, runs, SIDE**3)


def test_binary_blocks(benchmark: Benchmark, coded: list[bytes], body: Volume) -> None:
    timed(benchmark, lambda: [labels.binary_block(block, body) for block in coded], SIDE**3)


def test_from_mask(benchmark: Benchmark, volume: Volume, body: Volume) -> None:
    mask = np.isin(volume, body)
    timed(benchmark, lambda: labels.from_mask(mask), SIDE**3)


@pytest.fixture(scope="module")
def runs(coded: list[bytes], body: Volume) -> NDArray[np.int32]:
    return labels.runs_of_blocks(coded, COORDS, (BLOCK, BLOCK, BLOCK), body)


def test_join_of_shuffled_runs(benchmark: Benchmark, runs: NDArray[np.int32]) -> None:
    shuffled = np.random.default_rng(0).permutation(runs)
    timed(benchmark, lambda: labels.join(shuffled), len(runs))


def test_subtract_of_runs(benchmark: Benchmark, runs: NDArray[np.int32]) -> None:
    timed(benchmark, lambda: labels.subtract(runs, runs[::2].copy()), len(runs))


@pytest.fixture(scope="module")
def pairs() -> tuple[Volume, Volume]:
    rng = np.random.default_rng(0)
    return rng.permutation(np.arange(1, ENTRIES + 1, dtype=np.uint64)), rng.integers(1, 9999, ENTRIES).astype(np.uint64)


def test_mapping_load(benchmark: Benchmark, pairs: tuple[Volume, Volume]) -> None:
    timed(benchmark, lambda: labels.Mapping().update(1, *pairs), ENTRIES)


@pytest.mark.parametrize("distinct", [500, ENTRIES])
def test_mapping_lookup(benchmark: Benchmark, pairs: tuple[Volume, Volume], distinct: int) -> None:
    mapping = labels.Mapping(ENTRIES)
    mapping.update(1, *pairs)
    rank = np.array([1, 2], np.uint32)
    asked = np.resize(np.random.default_rng(1).permutation(pairs[0])[:distinct], 200_000)
    out = np.empty_like(asked)
    timed(benchmark, lambda: mapping.lookup(asked, rank, out), len(asked))


def test_mapping_items(benchmark: Benchmark, pairs: tuple[Volume, Volume]) -> None:
    mapping = labels.Mapping(ENTRIES)
    mapping.update(1, *pairs)
    timed(benchmark, lambda: mapping.items(np.array([1, 2], np.uint32)), ENTRIES)


Index = tuple[NDArray[np.int32], NDArray[np.uint64], NDArray[np.uint32]]


@pytest.fixture(scope="module")
def index() -> Index:
    """A body of 10,000 blocks with 10 supervoxels each."""
    coords = np.array(list(product(range(100), range(10), range(10))), np.int32).repeat(10, 0)
    rng = np.random.default_rng(0)
    supervoxels = np.sort(rng.integers(1, 2**40, (10_000, 10)).astype(np.uint64), 1).ravel()
    return coords, supervoxels, rng.integers(1, 2**18, 100_000).astype(np.uint32)


def test_encode_index(benchmark: Benchmark, index: Index) -> None:
    timed(benchmark, lambda: labels.encode_index(7, *index), len(index[0]))


def test_decode_index(benchmark: Benchmark, index: Index) -> None:
    data = labels.encode_index(7, *index)
    timed(benchmark, lambda: labels.decode_index(data), len(index[0]))


def test_unpack_rows(benchmark: Benchmark, index: Index) -> None:
    coords, supervoxels, counts = index
    keys = [(c.astype(np.int64) + 2**31).astype(">u4").tobytes() for c in coords[::10]]
    values = labels.pack_rows(supervoxels, counts, np.arange(0, len(coords), 10))
    timed(benchmark, lambda: labels.unpack_rows(keys, values, 0), len(coords))
