"""What is fuzzed of ``dvidcore.blocks``."""

import random
from collections.abc import Callable, Iterator

import numpy as np
from target import Target

from dvidcore import blocks

RNG = np.random.default_rng(0)


def _seeds() -> Iterator[bytes]:
    """Blocks of all kinds of sub-blocks: of one label, of few and of many, and of every width of values."""
    for shape in ((16, 16, 16), (16, 24, 32), (32, 32, 32)):
        yield blocks.encode(np.full(shape, 7, np.uint64))
        for count in (2, 3, 5, 20, 100, 600):
            volume = RNG.integers(0, count, [n // 4 for n in shape], np.uint64)
            volume = volume.repeat(4, 0).repeat(4, 1).repeat(4, 2)
            volume[:8, :8, :8] = RNG.integers(0, count, (8, 8, 8), np.uint64)
            volume[8:, 8:, :8] = 3
            yield blocks.encode(volume)


SEEDS = list(_seeds())
LABELS = np.array([3, 1, 2**63, 7], np.uint64)


def _exactly(data: bytes) -> np.ndarray:
    """A copy at an address and of a length that nothing rounds up, unlike those of bytes, which end in a zero."""
    return np.array(bytearray(data), np.uint8)


def _over(read: Callable[[np.ndarray], object]) -> Callable[[bytes], object]:
    return lambda data: read(_exactly(data))


def _decode_box(data: np.ndarray) -> object:
    z, y, x = blocks.shape(data)
    rng = random.Random(len(data))
    low = [rng.randrange(n) for n in (z, y, x)]
    return blocks.decode_box(data, low, [rng.randint(a, n) for a, n in zip(low, (z, y, x), strict=True)])


def _lookup(data: np.ndarray) -> object:
    return blocks.lookup(data, np.random.default_rng(data.size).integers(0, blocks.shape(data), (40, 3)))


def _relabel(data: np.ndarray) -> object:
    z, y, x = blocks.shape(data)
    runs = np.array([(i, j, k, x - i) for i, j, k in ((0, 0, 0), (x - 1, y - 1, z - 1), (3, y // 2, 5))], np.int32)
    return blocks.relabel_runs(data, runs, int(blocks.palette(data)[0]), 99)


def _split(data: np.ndarray) -> object:
    """Labels of the palette change, one of them to another that the block has."""
    z, y, x = blocks.shape(data)
    rng = np.random.default_rng(data.size)
    at = rng.integers(0, (x, y, z), (20, 3))
    runs = np.column_stack([at, rng.integers(1, x + 1 - at[:, 0])]).astype(np.int32)
    old = np.unique(blocks.palette(data)[:5])
    blocks.labels_in_runs(data, runs)
    block, voxels, marked = blocks.split_runs(data, runs, old, old[::-1].copy(), old + np.uint64(100))
    assert int(voxels[:, 0].sum()) <= marked
    blocks.check(block)
    return block


def _with_palette(data: np.ndarray) -> object:
    block = blocks.with_palette(data, blocks.palette(data)[::-1].copy())
    return blocks.counts(block)


def _children(data: np.ndarray) -> object:
    return blocks.downsample([data, None, data, data, None, data, data, data], data)


def _gather(data: np.ndarray) -> object:
    """The bytes are the numbers of a call: where the volume lies, how large blocks are, and where each lies."""
    numbers = np.frombuffer(data.tobytes()[: data.size // 8 * 8], np.int64)
    if numbers.size < 12:
        return None
    block_shape = (numbers[3:6] % 9).tolist()
    coords = numbers[6 : 6 + (numbers.size - 6) // 3 * 3].reshape(-1, 3)
    blocks_of_bytes = [bytes(int(np.prod(block_shape)))] * len(coords)
    out = np.zeros((5, 6, 7), np.uint8)
    return blocks.gather(out, numbers[:3].tolist(), block_shape, coords, blocks_of_bytes)


def _copy_box(data: np.ndarray) -> object:
    numbers = np.frombuffer(data.tobytes()[:9], np.int8).tolist()
    if len(numbers) < 9:
        return None
    source, target = np.zeros((5, 6, 7), np.uint16), np.zeros((7, 6, 5), np.uint16)
    blocks.copy_box(source, [n % 9 - 1 for n in numbers[:3]], target, [n % 9 - 1 for n in numbers[3:6]], numbers[6:9])
    return blocks.scatter(source, numbers[:3], [n % 5 for n in numbers[3:6]], numbers[6:9])


def _encode(data: np.ndarray) -> object:
    """The bytes are voxels, at most 24 x 16 x 32 of them and strided."""
    voxels = np.zeros(24 * 20 * 40, np.uint64)
    n = min(voxels.size, data.size // 8)
    voxels[:n] = np.frombuffer(data.tobytes()[: 8 * n], np.uint64)
    volume = voxels.reshape(24, 20, 40)[:, 2:18, 8:]
    block = blocks.encode(volume)
    blocks.compressed_segmentation(volume)
    np.testing.assert_array_equal(blocks.decode(block), volume)
    return block


GATHERED = [
    np.array([*origin, 4, 5, 3, *RNG.integers(-2, 3, 60)], np.int64).tobytes()
    for origin in ((0, 0, 0), (-3, 7, 1), (2**63 - 1, -(2**63), 2**62))
]

TARGETS = [
    Target("check", _over(blocks.check), SEEDS),
    Target("decode", _over(blocks.decode), SEEDS),
    Target("decode_box", _over(_decode_box), SEEDS),
    Target("lookup", _over(_lookup), SEEDS),
    Target("counts", _over(blocks.counts), SEEDS),
    Target("mask", _over(lambda data: blocks.mask(data, LABELS)), SEEDS),
    Target("count_in", _over(lambda data: blocks.count_in(data, np.sort(LABELS))), SEEDS),
    Target("with_palette", _over(_with_palette), SEEDS),
    Target("relabel_runs", _over(_relabel), SEEDS),
    Target("split_runs", _over(_split), SEEDS),
    Target("downsample", _over(_children), [s for s in SEEDS if blocks.shape(s)[1] % 16 == 0]),
    Target("gather", _over(_gather), GATHERED),
    Target("copy_box", _over(_copy_box), [bytes([1, 1, 1, 1, 1, 1, 2, 2, 2])]),
    Target("encode", _over(_encode), [RNG.integers(0, k, 8000, np.uint64).tobytes() for k in (2, 30, 2**60)]),
]
