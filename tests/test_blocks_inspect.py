"""Palettes, points, counts and masks of label blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference_labels as reference
from dvidcore import blocks


@st.composite
def blocks_and_labels(draw):
    block = draw(reference.strange_blocks())
    own = blocks.palette(block).tolist()
    labels = draw(st.lists(st.one_of(st.sampled_from(own), reference.LABELS), max_size=60))
    if draw(st.booleans()):
        labels.sort()
    return block, np.array(labels, np.uint64)


@pytest.mark.parametrize("name", reference.SAMPLES)
def test_real_volumes(name):
    volume = reference.real_volume(name)
    block = blocks.encode(volume)
    labels, voxels = blocks.counts(block)
    expected, number = np.unique(volume, return_counts=True)
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(voxels, number)
    assert sorted(blocks.palette(block)) == expected.tolist()
    points = np.random.default_rng(0).integers(0, 64, (1000, 3))
    np.testing.assert_array_equal(blocks.lookup(block, points), volume[tuple(points.T)])
    some = expected[::3]
    np.testing.assert_array_equal(blocks.mask(block, some), np.isin(volume, some))
    assert blocks.count_in(block, some) == number[::3].sum()


@settings(max_examples=40, deadline=None)
@given(reference.strange_blocks())
def test_counts_are_those_of_the_voxels(block):
    labels, voxels = blocks.counts(block)
    expected, number = np.unique(reference.decode(block), return_counts=True)
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(voxels, number)
    assert labels.dtype == voxels.dtype == np.uint64


@settings(max_examples=40, deadline=None)
@given(blocks_and_labels())
def test_masks_are_those_of_the_voxels(case):
    block, labels = case
    expected = np.isin(reference.decode(block), labels)
    mask = blocks.mask(block, labels)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, expected)
    assert blocks.count_in(block, labels) == expected.sum()
    out = np.full((64, 64, 64), 9, np.uint8)
    view = out[1 : 1 + mask.shape[0], 2 : 2 + mask.shape[1], 3 : 3 + mask.shape[2]]
    assert blocks.mask(block, labels, view) is view
    np.testing.assert_array_equal(view, expected)
    view[:] = 9
    assert (out == 9).all()


@settings(max_examples=30, deadline=None)
@given(reference.strange_blocks(), st.data())
def test_points_are_those_of_the_voxels(block, data):
    volume = reference.decode(block)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    points = rng.integers(0, volume.shape, (300, 3))
    expected = volume[tuple(points.T)]
    np.testing.assert_array_equal(blocks.lookup(block, points), expected)
    np.testing.assert_array_equal(blocks.lookup(block, points.astype(np.int32)), expected)
    np.testing.assert_array_equal(blocks.lookup(block, np.asfortranarray(points)), expected)


@settings(max_examples=30, deadline=None)
@given(reference.strange_blocks(), st.data())
def test_another_palette_maps_the_voxels(block, data):
    old = blocks.palette(block)
    new = np.array(data.draw(st.lists(reference.LABELS, min_size=old.size, max_size=old.size)), np.uint64)
    mapped = blocks.with_palette(block, new)
    np.testing.assert_array_equal(blocks.palette(mapped), new)
    assert blocks.with_palette(mapped, old) == block
    # An entry's position tells it apart even where labels repeat.
    where = reference.decode(blocks.with_palette(block, np.arange(old.size, dtype=np.uint64) + np.uint64(1)))
    table = np.concatenate([np.zeros(1, np.uint64), new])
    np.testing.assert_array_equal(
        reference.decode(mapped), table[where] if old.size > 1 else np.full_like(where, new[0])
    )


def test_a_palette_is_a_copy():
    block = blocks.encode(np.arange(4096, dtype=np.uint64).reshape(16, 16, 16))
    before = bytes(block)
    blocks.palette(block)[:] = 0
    assert block == before


def test_points_that_are_not_in_the_block():
    block = blocks.encode(np.zeros((16, 24, 32), np.uint64))
    assert blocks.lookup(block, np.array([[15, 23, 31]])).tolist() == [0]
    assert blocks.lookup(block, np.empty((0, 3), np.int64)).tolist() == []
    bad = [[-1, 0, 0], [0, -1, 0], [0, 0, -1], [16, 0, 0], [0, 24, 0], [0, 0, 32], [2**62, 0, 0], [0, 0, -(2**63)]]
    for point in bad:
        with pytest.raises(ValueError, match="not within the block"):
            blocks.lookup(block, np.array([[0, 0, 0], point], np.int64))
    for points in (np.zeros((2, 2), np.int64), np.zeros(3, np.int64), np.zeros((1, 3), np.uint64), np.zeros((1, 3))):
        with pytest.raises(ValueError, match="points must be"):
            blocks.lookup(block, points)


def test_labels_of_the_wrong_kind():
    block = blocks.encode(np.arange(4096, dtype=np.uint64).reshape(16, 16, 16))
    for labels in (np.zeros(2, np.int64), np.zeros((2, 2), np.uint64), np.zeros(2, ">u8"), np.zeros(2)):
        with pytest.raises(ValueError, match="uint64"):
            blocks.mask(block, labels)
        with pytest.raises(ValueError, match="uint64"):
            blocks.count_in(block, labels)
        with pytest.raises(ValueError, match="uint64"):
            blocks.with_palette(block, labels)
    with pytest.raises(ValueError, match="palette"):
        blocks.with_palette(block, np.zeros(4095, np.uint64))
    for out in (
        np.zeros((16, 16, 16), np.uint16),
        np.zeros((16, 16, 8), np.uint8),
        np.zeros((16, 16, 32), np.uint8)[:, :, ::2],
    ):
        with pytest.raises(ValueError, match=r"."):
            blocks.mask(block, np.zeros(1, np.uint64), out)
