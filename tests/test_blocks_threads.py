"""The block kernels in many threads at once, over shared read-only blocks."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

import reference_labels as reference
from dvidcore import blocks


def test_many_threads_give_the_same_answers():
    rng = np.random.default_rng(0)
    volumes = []
    for k in range(8):
        volume = rng.integers(0, 2**64, (4, 4, 4), np.uint64).repeat(8, 0).repeat(8, 1).repeat(8, 2)
        volume[k : k + 9, 3:17] = rng.integers(0, 3 + 40 * k, (9, 14, 32), np.uint64)
        volume.flags.writeable = False
        volumes.append(volume)
    runs = np.array([(0, y, z, 32) for z in range(0, 32, 3) for y in range(32)], np.int32)
    points = rng.integers(0, 32, (100, 3))

    def work(k):
        volume = volumes[k % 8]
        block = np.frombuffer(blocks.encode(volume), np.uint8)
        some = np.unique(volume)[::2]
        return (
            bytes(block),
            blocks.decode(block).tobytes(),
            [a.tobytes() for a in blocks.counts(block)],
            blocks.lookup(block, points).tobytes(),
            blocks.mask(block, some).tobytes(),
            blocks.count_in(block, some[::-1]),
            blocks.relabel_runs(block, runs, 0, 12345),
            [bytes(part) for part in blocks.split_runs(block, runs, some, some + 1, some)[:2]],
            [a.tobytes() for a in blocks.labels_in_runs(block, runs)],
            blocks.downsample([block] * 8, block),
            blocks.compressed_segmentation(volume),
        )

    expected = [work(k) for k in range(8)]
    assert expected[3][0] == reference.encode(volumes[3])
    with ThreadPoolExecutor(8) as pool:
        for k, result in enumerate(pool.map(work, range(64))):
            assert result == expected[k % 8]


def test_threads_decode_into_one_volume():
    rng = np.random.default_rng(1)
    volume = rng.integers(0, 5, (64, 64, 64), np.uint64)
    corners = [(z, y, x) for z in range(0, 64, 16) for y in range(0, 64, 16) for x in range(0, 64, 16)]
    out = np.zeros_like(volume)

    def box(array, corner):
        return array[tuple(slice(c, c + 16) for c in corner)]

    with ThreadPoolExecutor(4) as pool:
        coded = list(pool.map(lambda corner: blocks.encode(box(volume, corner)), corners))
        list(pool.map(lambda k: blocks.decode(coded[k], box(out, corners[k])), range(len(corners))))
    np.testing.assert_array_equal(out, volume)
