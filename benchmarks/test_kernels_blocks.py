"""The kernels of ``dvidcore.blocks``: ``pytest benchmarks/test_kernels_blocks.py``.

The labels are those of the folder that DVIDCORE_BENCH_DATA names (``labels512.npy``, ``gray512.npy``: the benchmark
volume of the project), or a volume that is made here; and the real crops of ``../shared/data/labels`` where they are at
hand. Every benchmark adds the nanoseconds per voxel of its best round to its ``extra_info``. What bounds each kernel is
in ``docs/kernels.md``.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dvidcore import blocks

BLOCK, REGION = 64, 256
REAL = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "labels"

Volume = NDArray[np.uint64]
Benchmark = Any


def generated(side: int) -> Volume:
    """A power diagram of points evaluated at warped coordinates: cells of some 10^4 voxels with curved borders."""
    spatial = pytest.importorskip("scipy.spatial")
    rng = np.random.default_rng(0)
    points = np.column_stack(
        [rng.uniform(-10, side + 10, (side**3 // 20_000, 3)), rng.uniform(0, 24, side**3 // 20_000)]
    )
    tree = spatial.cKDTree(points)
    labels = 1_000_000_000 + rng.permutation(3 * len(points))[: len(points)].astype(np.uint64)
    out = np.empty((side, side, side), np.uint64)
    y, x = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    for z in range(side):
        warp = [5 * np.sin(a / 17) * np.cos(b / 23) for a, b in ((y, x), (x, z), (z, y))]
        at = np.stack([z + warp[0], y + warp[1], x + warp[2], np.zeros_like(x)], -1)
        out[z] = labels[tree.query(at.reshape(-1, 4))[1]].reshape(side, side)
        out[z][z + y + x < side * 0.45] = 0
    return out


def cut(volume: NDArray[Any]) -> list[NDArray[Any]]:
    """Contiguous blocks, eight in a row being the octants of one block of the next scale."""
    corners = [(z, y, x) for z in (0, 1) for y in (0, 1) for x in (0, 1)]
    octants = range(0, volume.shape[0], 2 * BLOCK)
    starts = [
        tuple(corner + BLOCK * step for corner, step in zip(base, offset, strict=True))
        for base in product(octants, repeat=3)
        for offset in corners
    ]
    return [np.ascontiguousarray(volume[z : z + BLOCK, y : y + BLOCK, x : x + BLOCK]) for z, y, x in starts]


def stored(name: str) -> NDArray[Any] | None:
    """The middle of a benchmark volume."""
    path = Path(os.environ.get("DVIDCORE_BENCH_DATA", "")) / name
    if not path.is_file():
        return None
    whole = np.load(path, mmap_mode="r")
    low = (whole.shape[0] - REGION) // 2
    return np.array(whole[(slice(low, low + REGION),) * 3])


def real_crops() -> list[Volume]:
    paths = [path for path in sorted(REAL.glob("*.dat.gz")) if "block" not in path.name]
    if not paths:
        pytest.skip("needs the real crops")
    return [np.frombuffer(gzip.decompress(path.read_bytes()), "<u8").reshape(64, 64, 64) for path in paths] * 8


@pytest.fixture(scope="module", params=["synthetic", "real"])
def volumes(request: pytest.FixtureRequest) -> list[Volume]:
    if request.param == "real":
        return real_crops()
    volume = stored("labels512.npy")
    return cut(generated(REGION // 2) if volume is None else volume)


@pytest.fixture(scope="module")
def coded(volumes: list[Volume]) -> list[bytes]:
    return [blocks.encode(volume) for volume in volumes]


@pytest.fixture(scope="module")
def chosen(volumes: list[Volume]) -> Volume:
    """Every other label."""
    return np.unique(np.concatenate([np.unique(volume) for volume in volumes]))[::2].copy()


def timed(benchmark: Benchmark, call: Callable[[], object], voxels: int) -> None:
    benchmark(call)
    if benchmark.disabled:
        return
    benchmark.extra_info["ns/voxel"] = round(benchmark.stats["min"] / voxels * 1e9, 4)


def over_all(benchmark: Benchmark, items: list[Any], call: Callable[[Any, int], object], voxels: int) -> None:
    """Calls with each item and the number of the thread, in one thread and, as `ns/voxel x2`, in two."""
    timed(benchmark, lambda: [call(item, 0) for item in items], voxels * len(items))
    if benchmark.disabled:
        return
    half = len(items) // 2
    with ThreadPoolExecutor(2) as pool:

        def both() -> None:
            parts = (items[:half], items[half:])
            list(pool.map(lambda k: [call(item, k) for item in parts[k]], (0, 1)))

        best = min(_seconds(both) for _ in range(5))
    benchmark.extra_info["ns/voxel x2"] = round(best / (voxels * len(items)) * 1e9, 4)


def _seconds(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def test_encode(benchmark: Benchmark, volumes: list[Volume]) -> None:
    over_all(benchmark, volumes, lambda volume, _: blocks.encode(volume), BLOCK**3)


def test_decode(benchmark: Benchmark, coded: list[bytes]) -> None:
    out = [np.empty((BLOCK, BLOCK, BLOCK), np.uint64) for _ in range(2)]
    over_all(benchmark, coded, lambda block, thread: blocks.decode(block, out[thread]), BLOCK**3)


def test_decode_a_plane(benchmark: Benchmark, coded: list[bytes]) -> None:
    timed(
        benchmark,
        lambda: [blocks.decode_box(block, (31, 0, 0), (32, BLOCK, BLOCK)) for block in coded],
        len(coded) * BLOCK**2,
    )


def test_check(benchmark: Benchmark, coded: list[bytes]) -> None:
    over_all(benchmark, coded, lambda block, _: blocks.check(block), BLOCK**3)


def test_counts(benchmark: Benchmark, coded: list[bytes]) -> None:
    over_all(benchmark, coded, lambda block, _: blocks.counts(block), BLOCK**3)


def test_count_in(benchmark: Benchmark, coded: list[bytes], chosen: Volume) -> None:
    over_all(benchmark, coded, lambda block, _: blocks.count_in(block, chosen), BLOCK**3)


def test_mask(benchmark: Benchmark, coded: list[bytes], chosen: Volume) -> None:
    out = [np.empty((BLOCK, BLOCK, BLOCK), np.uint8) for _ in range(2)]
    over_all(benchmark, coded, lambda block, thread: blocks.mask(block, chosen, out[thread]), BLOCK**3)


def test_with_palette(benchmark: Benchmark, coded: list[bytes]) -> None:
    palettes = {block: blocks.palette(block) + np.uint64(1) for block in coded}
    over_all(benchmark, coded, lambda block, _: blocks.with_palette(block, palettes[block]), BLOCK**3)


def test_lookup_1000_points(benchmark: Benchmark, coded: list[bytes]) -> None:
    points = np.random.default_rng(0).integers(0, BLOCK, (1000, 3), np.int32)
    timed(benchmark, lambda: [blocks.lookup(block, points) for block in coded], len(coded) * len(points))


def test_downsample(benchmark: Benchmark, coded: list[bytes]) -> None:
    groups = [coded[i : i + 8] for i in range(0, len(coded), 8)]
    over_all(benchmark, groups, lambda children, _: blocks.downsample(children), 8 * BLOCK**3)


def test_relabel_runs(benchmark: Benchmark, volumes: list[Volume], coded: list[bytes]) -> None:
    """Splits the largest label of each block at the middle."""
    runs = np.array([(0, y, z, BLOCK) for z in range(BLOCK // 2) for y in range(BLOCK)], np.int32)
    largest = [int(labels[voxels.argmax()]) for labels, voxels in map(blocks.counts, coded)]
    items = list(zip(coded, largest, strict=True))
    over_all(benchmark, items, lambda item, _: blocks.relabel_runs(item[0], runs, item[1], 7), BLOCK**3)


def test_split_runs(benchmark: Benchmark, volumes: list[Volume], coded: list[bytes]) -> None:
    """The same, with another label for the rest."""
    runs = np.array([(0, y, z, BLOCK) for z in range(BLOCK // 2) for y in range(BLOCK)], np.int32)
    largest = [labels[voxels.argmax()] for labels, voxels in map(blocks.counts, coded)]
    changes = [np.array([[label], [7], [8]], np.uint64) for label in largest]
    items = list(zip(coded, changes, strict=True))
    over_all(benchmark, items, lambda item, _: blocks.split_runs(item[0], runs, *item[1]), BLOCK**3)


def test_compressed_segmentation(benchmark: Benchmark, volumes: list[Volume]) -> None:
    over_all(benchmark, volumes, lambda volume, _: blocks.compressed_segmentation(volume), BLOCK**3)


@pytest.mark.parametrize("side", [32, 64])
def test_gather_and_scatter(benchmark: Benchmark, side: int) -> None:
    """256^3 voxels of uint8 from blocks; the time of `scatter` is in ``extra_info`` too."""
    gray = stored("gray512.npy")
    volume = np.random.default_rng(0).integers(0, 255, (REGION,) * 3, np.uint8) if gray is None else gray
    coords = np.array(list(product(range(REGION // side), repeat=3)), np.int32)
    where = coords.tolist()

    def scatter() -> list[bytes]:
        return [blocks.scatter(volume, (0, 0, 0), (side,) * 3, coord) for coord in where]

    data = scatter()
    out = np.empty_like(volume)
    timed(benchmark, lambda: blocks.gather(out, (0, 0, 0), (side,) * 3, coords, data), volume.size)
    best = min(_seconds(scatter) for _ in range(5))
    benchmark.extra_info["ns/voxel scatter"] = round(best / volume.size * 1e9, 4)
    np.testing.assert_array_equal(out, volume)
