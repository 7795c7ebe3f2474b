"""Relabelling runs of voxels in label blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference_labels as reference
from dvidcore import blocks


@st.composite
def runs_in(draw, shape):
    """Runs within a block, in any order, overlapping too."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(0, 300))
    z, y, x = (rng.integers(0, side, n) for side in shape)
    length = 1 + rng.integers(0, shape[2] - x)
    return np.stack([x, y, z, length], 1).astype(np.int32)


def relabelled(volume, runs, old, new):
    where = reference.mask_of_runs(runs, volume.shape) & (volume == old)
    out = volume.copy()
    out[where] = new
    return out, int(where.sum()) if old != new else 0


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_encoded_blocks_stay_as_encoded(data):
    volume = data.draw(reference.volumes())
    old = int(volume[tuple(data.draw(st.integers(0, n - 1)) for n in volume.shape)])
    new = data.draw(st.one_of(reference.LABELS, st.sampled_from(np.unique(volume).tolist())))
    runs = data.draw(runs_in(volume.shape))
    expected, changed = relabelled(volume, runs, np.uint64(old), np.uint64(new))
    assert blocks.relabel_runs(blocks.encode(volume), runs, old, new) == (reference.encode(expected), changed)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_strange_blocks(data):
    block = data.draw(reference.strange_blocks())
    volume = reference.decode(block)
    old, new = data.draw(st.sampled_from([0, *blocks.palette(block).tolist()])), data.draw(reference.LABELS)
    runs = data.draw(runs_in(volume.shape))
    expected, changed = relabelled(volume, runs, np.uint64(old), np.uint64(new))
    result, number = blocks.relabel_runs(block, runs, old, new)
    assert number == changed
    blocks.check(result, volume.shape)
    np.testing.assert_array_equal(reference.decode(result), expected)


@pytest.mark.parametrize("name", reference.SAMPLES)
def test_splitting_a_real_label(name):
    volume = reference.real_volume(name)
    labels, voxels = np.unique(volume, return_counts=True)
    old = labels[voxels.argmax()]
    runs = np.array([(0, y, z, 64) for z in range(0, 64, 2) for y in range(64)], np.int32)
    expected, changed = relabelled(volume, runs, old, np.uint64(2**63))
    assert blocks.relabel_runs(blocks.encode(volume), runs, int(old), 2**63) == (blocks.encode(expected), changed)


def test_a_solid_block_can_be_split_and_become_solid_again():
    solid = blocks.encode(np.full((16, 16, 32), 5, np.uint64))
    half = np.array([(0, y, z, 16) for z in range(16) for y in range(16)], np.int32)
    block, changed = blocks.relabel_runs(solid, half, 5, 6)
    assert changed == 16 * 16 * 16
    assert dict(zip(*(a.tolist() for a in blocks.counts(block)), strict=True)) == {5: 4096, 6: 4096}
    assert blocks.relabel_runs(block, half, 6, 5) == (solid, 4096)
    rest = half + np.array([16, 0, 0, 0], np.int32)
    assert blocks.relabel_runs(block, rest, 5, 6)[0] == blocks.encode(np.full((16, 16, 32), 6, np.uint64))
    assert blocks.relabel_runs(block, half, 7, 8) == (block, 0)
    assert blocks.relabel_runs(block, half[:0], 5, 6) == (block, 0)


@pytest.mark.parametrize(
    "run",
    [
        (-1, 0, 0, 1),
        (0, -1, 0, 1),
        (0, 0, -1, 1),
        (0, 0, 0, 0),
        (0, 0, 0, -5),
        (0, 0, 0, 33),
        (31, 0, 0, 2),
        (32, 0, 0, 1),
        (0, 24, 0, 1),
        (0, 0, 16, 1),
        (2**31 - 1, 0, 0, 2**31 - 1),
        (0, 2**31 - 1, 2**31 - 1, 1),
    ],
)
def test_runs_outside(run):
    block = blocks.encode(np.zeros((16, 24, 32), np.uint64))
    with pytest.raises(ValueError, match="not within the block"):
        blocks.relabel_runs(block, np.array([(0, 0, 0, 1), run], np.int32), 0, 1)


def test_arguments_of_the_wrong_kind():
    block = blocks.encode(np.zeros((16, 24, 32), np.uint64))
    for runs in (np.zeros((1, 3), np.int32), np.zeros(4, np.int32), np.zeros((1, 4), np.int64)):
        with pytest.raises(ValueError, match="runs must be"):
            blocks.relabel_runs(block, runs, 0, 1)
    runs = np.array([(0, 0, 0, 1)], np.int32)
    for old, new in ((-1, 0), (0, 2**64)):
        with pytest.raises(OverflowError):
            blocks.relabel_runs(block, runs, old, new)
