"""What is fuzzed of ``dvidcore.labels``."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from target import Target

from dvidcore import blocks, labels

RNG = np.random.default_rng(0)
LABELS = np.array([3, 1, 0, 2**63, 7], np.uint64)


def _exactly(data: bytes) -> NDArray[np.uint8]:
    """A copy of a length that nothing rounds up, unlike that of bytes, which end in a zero."""
    return np.array(bytearray(data), np.uint8)


def _coded_blocks() -> list[bytes]:
    """16 x 16 x 24 voxels in sub-blocks of one label, of few and of many: every width of values."""
    out = [blocks.encode(np.full((16, 16, 24), label, np.uint64)) for label in (0, 3)]
    for count in (2, 3, 5, 9, 17, 40, 100, 200, 600):
        volume = RNG.integers(0, count, (16, 16, 6), np.uint64).repeat(4, 2)
        volume[:8, :8, :8] = RNG.integers(0, count, (8, 8, 8), np.uint64)
        volume[8:, 8:, :8] = 3
        out.append(blocks.encode(volume))
    return out


def _of_blocks(data: bytes) -> object:
    block = _exactly(data)
    coords = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0], [2, 0, 0]], np.int32)
    return labels.runs_of_blocks([block, block, CODED[3], block], coords, (16, 16, 24), LABELS)


def _run_arrays(data: bytes) -> object:
    """The bytes are two arrays of runs, and bounds."""
    numbers = np.frombuffer(data[: len(data) // 32 * 32], np.int32).reshape(-1, 4)
    a, b = np.split(numbers, 2)
    for call in (labels.intersect, labels.subtract):
        joined = call(a, b)
        np.testing.assert_array_equal(labels.join(joined), joined)
    labels.clip(a, b[0, :3].tolist() if len(b) else None, None)
    return labels.from_mask(labels.to_mask(a, (-3, 2, -5), (7, 9, 131)), (-3, 2, -5))


def _cut(data: bytes) -> object:
    """The bytes are the sides of a block, block coordinates, and runs."""
    numbers = np.frombuffer(data[: len(data) // 4 * 4], np.int32)
    if len(numbers) < 13:
        return None
    coords = numbers[3:12].reshape(3, 3)
    runs = numbers[12 : 12 + (len(numbers) - 12) // 4 * 4].reshape(-1, 4)
    return labels.cut(runs, coords, numbers[:3].tolist())


def _masks(data: bytes) -> object:
    """The bytes are voxels, cut at every length from 1 to 80 along x."""
    side = 1 + len(data) % 80
    mask = _exactly(data[: len(data) // (2 * side) * 2 * side]).reshape(2, -1, side)
    runs = labels.from_mask(mask)
    np.testing.assert_array_equal(labels.to_mask(runs, (0, 0, 0), mask.shape), mask != 0)
    return labels.coarse(runs[:, :3].copy())


def _stored_rows(data: bytes) -> object:
    """The bytes are a key of up to 24 bytes and a value."""
    cut = min(len(data), 24)
    for offset in (0, 5, 12):
        labels.unpack_rows([_exactly(data[:cut])] * 3, [_exactly(data[cut:])] * 3, offset)
        labels.join_rows(_exactly(data[cut:]), _exactly(data[cut:]))
    labels.supervoxels_of([_exactly(data[cut:])] * 2)
    return None


def _columns(data: bytes) -> object:
    """The bytes are block coordinates, which also serve as supervoxels and counts."""
    coords = np.frombuffer(data[: len(data) // 12 * 12], np.int32).reshape(-1, 3).copy()
    supervoxels = np.ascontiguousarray(coords[:, 0]).astype(np.uint64)
    labels.divide(coords, supervoxels, supervoxels[::2].copy())
    labels.totals(supervoxels, np.ascontiguousarray(coords[:, 1]).view(np.uint32))
    return labels.find_blocks(coords, coords[::3].copy())


def _index(data: bytes) -> object:
    index = labels.decode_index(_exactly(data))
    got = labels.decode_index(labels.encode_index(*index))
    np.testing.assert_array_equal(got[1], index[1])
    np.testing.assert_array_equal(got[4], index[4])
    return got


def _mapping(data: bytes) -> object:
    """The bytes are supervoxels and bodies, put into three versions by turns."""
    numbers = np.frombuffer(data[: len(data) // 16 * 16], np.uint64).reshape(-1, 2)
    mapping = labels.Mapping(len(data) % 50)
    for version in range(3):
        mapping.update(version, numbers[version::2, 0].copy(), numbers[version::2, 1].copy())
    rank = np.array([1, 3, 2], np.uint32)[: 1 + len(data) % 3]
    mapping.lookup(numbers, rank)
    mapping.mapped(numbers, rank)
    return mapping.items(rank)


def _row(n: int) -> bytes:
    key = RNG.bytes(24)
    supervoxels = np.sort(RNG.choice(99, n, replace=False)).astype(np.uint64)  # as of a row, each once
    counts = RNG.integers(0, 99, n, np.uint32)
    return key + labels.pack_rows(supervoxels, counts, np.zeros(1, np.int64))[0]


def _an_index(n: int) -> bytes:
    coords = np.array(sorted({tuple(c) for c in RNG.integers(-4, 4, (n, 3)).tolist()}), np.int32).reshape(-1, 3)
    supervoxels = RNG.integers(0, 2**50, len(coords), np.uint64)
    return labels.encode_index(
        9, coords, supervoxels, supervoxels.astype(np.uint32), supervoxels, 3, "now", "who", "what"
    )


CODED = _coded_blocks()
INDICES = [_an_index(n) for n in (0, 1, 40)]
RUNS = [
    np.column_stack([RNG.integers(-9, 9, (n, 3)), RNG.integers(1, 9, n)]).astype(np.int32).tobytes() for n in (0, 4, 40)
]
CUTS = [
    np.concatenate([[16, 24, 32], coords, np.frombuffer(runs, np.int32)]).astype(np.int32).tobytes()
    for coords in ((-1, 0, 0, 0, 0, -1, 0, 0, 0), (0, 0, -(2**26), 0, 0, 2**26 - 1, 1, 0, 0))
    for runs in RUNS
]
MAPPING_OPS = bytes.fromhex("0a09080110021a03030405") + bytes.fromhex("0a080801100218031804")
MASKS = [(RNG.integers(0, 5, 1600 + n) == 0).astype(np.uint8).tobytes() for n in range(0, 400, 37)]


def _over(read: Callable[[NDArray[np.uint8]], object]) -> Callable[[bytes], object]:
    return lambda data: read(_exactly(data))


TARGETS = [
    Target("runs", _over(lambda data: labels.runs(data, LABELS)), CODED, 1 << 16),
    Target("runs_of_blocks", _of_blocks, CODED),
    Target("binary_block", _over(lambda data: labels.binary_block(data, LABELS)), CODED, 1 << 16),
    Target("run arrays", _run_arrays, RUNS, 4096),
    Target("cut", _cut, CUTS, 4096),
    Target("masks", _masks, MASKS, 4096),
    Target("columns", _columns, RUNS, 4096),
    Target("unpack_rows", _stored_rows, [_row(n) for n in (1, 2, 30)]),
    Target("index", _index, INDICES, 1 << 14),
    Target("decode_indices", _over(labels.decode_indices), [labels.encode_indices(INDICES)]),
    Target("decode_mapping_ops", _over(labels.decode_mapping_ops), [MAPPING_OPS]),
    Target("mapping", _mapping, [RNG.integers(1, 60, 200, np.uint64).tobytes()], 1 << 14),
]
