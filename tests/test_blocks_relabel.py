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


def split_volume(volume, runs, change):
    """(the volume after it, voxels of each old label in the runs and elsewhere, voxels of the runs)."""
    inside = reference.mask_of_runs(runs, volume.shape)
    out, voxels = volume.copy(), []
    for old, within, without in change:
        at = volume == old
        out[at & inside], out[at & ~inside] = within, without
        voxels.append([int((at & inside).sum()), int((at & ~inside).sum())])
    return out, voxels, int(inside.sum())


def draw_change(data, present):
    """Up to four labels, most of them of the block, and what they become: new labels, old ones, the same one."""
    label = st.one_of(reference.LABELS, st.sampled_from(present))
    old = data.draw(st.lists(label, max_size=4, unique=True))
    return [(np.uint64(v), np.uint64(data.draw(label)), np.uint64(data.draw(label))) for v in old]


def columns(change):
    return [np.array([row[k] for row in change], np.uint64) for k in range(3)]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_splitting_encoded_blocks(data):
    volume = data.draw(reference.volumes())
    change = draw_change(data, np.unique(volume).tolist())
    runs = data.draw(runs_in(volume.shape))
    expected, voxels, marked = split_volume(volume, runs, change)
    block, counts, seen = blocks.split_runs(blocks.encode(volume), runs, *columns(change))
    assert (block, counts.tolist(), seen) == (reference.encode(expected), voxels, marked)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_splitting_strange_blocks(data):
    coded = data.draw(reference.strange_blocks())
    volume = reference.decode(coded)
    change = draw_change(data, [0, *blocks.palette(coded).tolist()])
    runs = data.draw(runs_in(volume.shape))
    expected, voxels, marked = split_volume(volume, runs, change)
    block, counts, seen = blocks.split_runs(coded, runs, *columns(change))
    assert (counts.tolist(), seen) == (voxels, marked)
    blocks.check(block, volume.shape)
    np.testing.assert_array_equal(reference.decode(block), expected)


def test_splitting_a_block_of_many_labels():
    volume = np.random.default_rng(5).integers(0, 600, (16, 24, 32), np.uint64)
    change = [(np.uint64(k), np.uint64(1000 + k // 2), np.uint64(2000 + k)) for k in range(0, 600, 3)]
    runs = np.array([(5, y, z, 20) for z in range(3, 16) for y in range(24)], np.int32)
    expected, voxels, marked = split_volume(volume, runs, change)
    block, counts, seen = blocks.split_runs(blocks.encode(volume), runs, *columns(change))
    assert (block, counts.tolist(), seen) == (blocks.encode(expected), voxels, marked)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_labels_of_the_voxels_in_runs(data):
    coded = data.draw(reference.strange_blocks())
    volume = reference.decode(coded)
    runs = data.draw(runs_in(volume.shape))
    expected = {}
    for x, y, z, n in runs.tolist():
        for label in volume[z, y, x : x + n].tolist():
            expected[label] = expected.get(label, 0) + 1
    labels, voxels = blocks.labels_in_runs(coded, runs)
    assert list(zip(labels.tolist(), voxels.tolist(), strict=True)) == list(expected.items())


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
    runs, label = np.array([(0, 0, 0, 1), run], np.int32), np.zeros(1, np.uint64)
    for call in (
        lambda: blocks.relabel_runs(block, runs, 0, 1),
        lambda: blocks.split_runs(block, runs, label, label, label),
        lambda: blocks.labels_in_runs(block, runs),
    ):
        with pytest.raises(ValueError, match="not within the block"):
            call()


def test_arguments_of_the_wrong_kind():
    block = blocks.encode(np.zeros((16, 24, 32), np.uint64))
    for runs in (np.zeros((1, 3), np.int32), np.zeros(4, np.int32), np.zeros((1, 4), np.int64)):
        with pytest.raises(ValueError, match="runs must be"):
            blocks.relabel_runs(block, runs, 0, 1)
        with pytest.raises(ValueError, match="runs must be"):
            blocks.labels_in_runs(block, runs)
    runs = np.array([(0, 0, 0, 1)], np.int32)
    for old, new in ((-1, 0), (0, 2**64)):
        with pytest.raises(OverflowError):
            blocks.relabel_runs(block, runs, old, new)
    one, two = np.zeros(1, np.uint64), np.zeros(2, np.uint64)
    for wrong in ((one, one, two), (one.astype(np.int64), one, one), (one.reshape(1, 1),) * 3, (two,) * 3):
        with pytest.raises(ValueError, match=r"uint64 of one length|twice in old"):
            blocks.split_runs(block, runs, *wrong)
