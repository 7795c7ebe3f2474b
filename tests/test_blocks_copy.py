"""Copying boxes and blocks of plain voxels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvidcore import blocks

DTYPES = [np.uint8, np.int16, np.float32, np.uint64]


@st.composite
def gatherings(draw):
    """A volume somewhere in space, and blocks around and in it."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from(DTYPES))
    channels = draw(st.sampled_from([(), (1,), (3,)]))
    block_shape = tuple(draw(st.lists(st.sampled_from([1, 2, 5, 8, 16]), min_size=3, max_size=3)))
    shape = tuple(draw(st.lists(st.integers(1, 20), min_size=3, max_size=3)))
    far = draw(st.sampled_from([0, -(2**40), 2**52]))
    origin = tuple(far + draw(st.integers(-20, 20)) for _ in range(3))
    first = [o // b - 1 for o, b in zip(origin, block_shape, strict=True)]
    last = [(o + n) // b + 1 for o, n, b in zip(origin, shape, block_shape, strict=True)]
    n = draw(st.integers(0, 30))
    coords = np.unique(
        np.stack([rng.integers(a, b + 1, n) for a, b in zip(first, last, strict=True)], 1).astype(np.int64), axis=0
    )
    data = [rng.integers(0, 200, (*block_shape, *channels)).astype(dtype) for _ in coords]
    return dtype, channels, block_shape, shape, origin, coords, data


@settings(max_examples=60, deadline=None)
@given(gatherings(), st.booleans())
def test_gather_is_assignment_of_slices(case, strided):
    dtype, channels, block_shape, shape, origin, coords, data = case
    large = np.full(tuple(n + 3 for n in shape[:2]) + shape[2:] + channels, 7, dtype)
    out = large[1:-2, 2:-1] if strided else np.ascontiguousarray(large[1:-2, 2:-1])
    expected = out.copy()
    for coord, block in zip(coords.tolist(), data, strict=True):
        start = [c * b - o for c, b, o in zip(coord, block_shape, origin, strict=True)]
        inner = [(max(s, 0), min(s + b, n)) for s, b, n in zip(start, block_shape, shape, strict=True)]
        if all(a < b for a, b in inner):
            expected[tuple(slice(a, b) for a, b in inner)] = block[
                tuple(slice(a - s, b - s) for (a, b), s in zip(inner, start, strict=True))
            ]
    blocks.gather(out, origin, block_shape, coords, [b.tobytes() for b in data])
    np.testing.assert_array_equal(out, expected)
    if strided:
        large[1:-2, 2:-1] = 7
        assert (large == 7).all()


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(DTYPES), st.sampled_from([(), (2,)]), st.integers(0, 2**32 - 1))
def test_scatter_is_the_inverse(dtype, channels, seed):
    rng = np.random.default_rng(seed)
    block_shape = tuple(int(v) for v in rng.choice([1, 4, 8, 16], 3))
    first = rng.integers(-3, 3, 3)
    grid = rng.integers(1, 4, 3)
    origin = [int(v) for v in first * block_shape]
    volume = rng.integers(0, 200, (*(grid * block_shape), *channels)).astype(dtype)
    coords = np.array([first + at for at in np.ndindex(*grid)], np.int32)
    parts = [blocks.scatter(volume, origin, block_shape, tuple(c)) for c in coords.tolist()]
    out = np.zeros_like(volume)
    blocks.gather(out, origin, block_shape, coords, parts)
    np.testing.assert_array_equal(out, volume)
    buffer = bytearray(len(parts[0]))
    assert blocks.scatter(volume, origin, block_shape, coords[-1], buffer) is buffer
    assert buffer == parts[-1]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(DTYPES), st.sampled_from([(), (3,)]), st.integers(0, 2**32 - 1))
def test_copy_box_is_assignment_of_slices(dtype, channels, seed):
    rng = np.random.default_rng(seed)
    source_shape, target_shape = rng.integers(1, 30, 3), rng.integers(1, 30, 3)
    source = rng.integers(0, 200, (*source_shape, *channels)).astype(dtype)
    target = rng.integers(0, 200, (*target_shape, *channels)).astype(dtype)
    size = [int(rng.integers(0, min(a, b) + 1)) for a, b in zip(source_shape, target_shape, strict=True)]
    start = [int(rng.integers(0, a - n + 1)) for a, n in zip(source_shape, size, strict=True)]
    to = [int(rng.integers(0, b - n + 1)) for b, n in zip(target_shape, size, strict=True)]
    expected = target.copy()
    expected[tuple(slice(a, a + n) for a, n in zip(to, size, strict=True))] = source[
        tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
    ]
    source.flags.writeable = False
    blocks.copy_box(source, start, target, to, size)
    np.testing.assert_array_equal(target, expected)


def test_copy_box_within_one_array():
    volume = np.arange(8 * 8 * 100, dtype=np.uint8).reshape(8, 8, 100)
    expected = volume.copy()
    expected[0, 0, 10:90] = volume[0, 0, 0:80]
    blocks.copy_box(volume, (0, 0, 0), volume, (0, 0, 10), (1, 1, 80))
    np.testing.assert_array_equal(volume, expected)


def test_boxes_outside():
    source, target = np.zeros((4, 5, 6), np.uint8), np.zeros((6, 5, 4), np.uint8)
    for start, to, size in (
        ((-1, 0, 0), (0, 0, 0), (1, 1, 1)),
        ((0, 0, 0), (0, -1, 0), (1, 1, 1)),
        ((0, 0, 0), (0, 0, 0), (1, 1, 5)),
        ((0, 0, 0), (0, 0, 0), (5, 1, 1)),
        ((0, 0, 0), (0, 0, 0), (-1, 1, 1)),
        ((0, 0, 6), (0, 0, 0), (1, 1, 1)),
        ((2**63 - 1, 0, 0), (0, 0, 0), (1, 1, 1)),
        ((0, 0), (0, 0, 0), (1, 1, 1)),
    ):
        with pytest.raises(ValueError, match=r"."):
            blocks.copy_box(source, start, target, to, size)
    with pytest.raises(ValueError, match="differ in size"):
        blocks.copy_box(source, (0, 0, 0), target.astype(np.uint16), (0, 0, 0), (1, 1, 1))
    target.flags.writeable = False
    with pytest.raises(ValueError, match="writable"):
        blocks.copy_box(source, (0, 0, 0), target, (0, 0, 0), (1, 1, 1))


def test_blocks_that_do_not_fit():
    out = np.full((8, 8, 8), 3, np.uint8)
    coords = np.array([[0, 0, 0], [0, 0, 1]])
    good = bytes(64)
    for where, data in (
        (coords, [good]),
        (coords, [good, good[:-1]]),
        (coords, [good, good + b"x"]),
        (coords.astype(np.float64), [good, good]),
        (coords[:, :2], [good, good]),
        (coords.astype(np.uint64), [good, good]),
    ):
        with pytest.raises(ValueError, match=r"."):
            blocks.gather(out, (0, 0, 0), (4, 4, 4), where, data)
    assert (out == 3).all()
    for shape in ((0, 4, 4), (4, -4, 4), (2**31, 2**31, 2**31), (4, 4)):
        with pytest.raises(ValueError, match=r"."):
            blocks.gather(out, (0, 0, 0), shape, coords[:0], [])
        with pytest.raises(ValueError, match=r"."):
            blocks.scatter(out, (0, 0, 0), shape, (0, 0, 0))
    for volume in (
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 8), np.complex128),
        np.zeros((8, 8, 16), np.uint8)[:, :, ::2],
    ):
        with pytest.raises(ValueError, match=r"."):
            blocks.gather(volume, (0, 0, 0), (4, 4, 4), coords[:0], [])
    with pytest.raises(ValueError, match="not within"):
        blocks.scatter(out, (0, 0, 0), (4, 4, 4), (0, 0, 2))
    with pytest.raises(ValueError, match="not within"):
        blocks.scatter(out, (1, 0, 0), (4, 4, 4), (0, 0, 0))
    with pytest.raises(ValueError, match="bytes"):
        blocks.scatter(out, (0, 0, 0), (4, 4, 4), (0, 0, 0), bytearray(63))
    with pytest.raises(ValueError, match="writable"):
        blocks.scatter(out, (0, 0, 0), (4, 4, 4), (0, 0, 0), bytes(64))


def test_blocks_at_the_end_of_the_coordinates_are_ignored():
    out = np.full((4, 4, 4), 3, np.uint8)
    top = 2**63 - 1
    far = np.array([[top, 0, 0], [0, -top - 1, 0], [0, 0, top // 4], [2**60, 2**60, 2**60]])
    for origin in ((0, 0, 0), (top, top, top), (-top - 1, -top - 1, -top - 1)):
        blocks.gather(out, origin, (4, 4, 4), far, [bytes(64)] * 4)
    assert (out == 3).all()
