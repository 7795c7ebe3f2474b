"""Down-sampling label blocks to the next coarser scale."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference_labels as reference
from dvidcore import blocks

OCTANTS = [(z, y, x) for z in (0, 1) for y in (0, 1) for x in (0, 1)]


def octant(volume, number):
    """A view of one octant of a volume."""
    return volume[
        tuple(slice(i * n // 2, (i + 1) * n // 2) for i, n in zip(OCTANTS[number], volume.shape, strict=True))
    ]


@pytest.mark.parametrize("name", reference.SAMPLES)
def test_real_volumes(name):
    # The eight octants of a real volume, each taken for a block.
    volume = reference.real_volume(name)
    children = [blocks.encode(octant(volume, k)) for k in range(8)]
    expected = reference.downsample(volume)
    assert blocks.downsample(children) == blocks.encode(expected)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_the_rule_for_any_children_and_parent(data):
    shape = data.draw(reference.EVEN_SHAPES)
    some = reference.strange_blocks(st.just(shape))
    children = data.draw(st.lists(st.one_of(st.none(), some), min_size=8, max_size=8))
    parent = data.draw(st.one_of(st.none(), some))
    expected = np.zeros(shape, np.uint64) if parent is None else reference.decode(parent)
    for k, child in enumerate(children):
        if child is not None:
            octant(expected, k)[:] = reference.downsample(reference.decode(child))
    block = blocks.downsample(children, parent, shape)
    assert block == reference.encode(expected)


@settings(max_examples=25, deadline=None)
@given(st.lists(reference.volumes(st.just((16, 16, 16))), min_size=8, max_size=8))
def test_the_rule_for_segmentations(volumes):
    expected = np.zeros((16, 16, 16), np.uint64)
    for k, volume in enumerate(volumes):
        octant(expected, k)[:] = reference.downsample(volume)
    assert blocks.downsample([blocks.encode(v) for v in volumes]) == reference.encode(expected)


@pytest.mark.parametrize(
    ("eight", "winner"),
    [
        ([0, 0, 0, 0, 0, 0, 0, 0], 0),
        ([0, 0, 0, 0, 0, 0, 0, 9], 9),
        ([5, 5, 5, 5, 5, 5, 5, 5], 5),
        ([7, 7, 7, 7, 3, 3, 3, 3], 3),
        ([3, 3, 3, 3, 7, 7, 7, 7], 3),
        ([0, 0, 0, 0, 2, 2, 1, 1], 1),
        ([8, 7, 6, 5, 4, 3, 2, 1], 1),
        ([2**64 - 1, 2**64 - 1, 2**63, 2**63, 2**32, 0, 0, 0], 2**63),
        ([1, 2, 2, 3, 3, 3, 0, 0], 3),
    ],
)
def test_votes(eight, winner):
    rng = np.random.default_rng(0)
    volume = np.zeros((16, 16, 16), np.uint64)
    for z, y, x in np.ndindex(8, 8, 8):
        volume[2 * z : 2 * z + 2, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2] = rng.permutation(
            np.array(eight, np.uint64)
        ).reshape(2, 2, 2)
    block = blocks.downsample([blocks.encode(volume)] * 8)
    assert (blocks.decode(block) == winner).all()
    assert len(block) == 24


@pytest.mark.parametrize(
    ("eight", "winner"),
    [
        ([0, 0, 0, 0, 0, 0, 0, 9], 0),
        ([0, 0, 0, 0, 9, 9, 9, 9], 9),
        ([0, 0, 0, 9, 9, 9, 9, 9], 9),
        ([0, 0, 0, 0, 0, 0, 0, 0], 0),
        ([7, 7, 7, 7, 3, 3, 3, 3], 7),
        ([0, 0, 0, 0, 2, 2, 1, 1], 0),
        ([0, 0, 2, 2, 1, 1, 3, 4], 2),
        ([7, 6, 5, 4, 3, 2, 1, 0], 7),
        ([2**64 - 1, 2**64 - 1, 2**63, 2**63, 2**32, 0, 0, 0], 0),
    ],
)
def test_votes_where_zero_counts_and_the_larger_label_wins_a_tie(eight, winner):
    rng = np.random.default_rng(0)
    volume = np.zeros((16, 16, 16), np.uint64)
    for z, y, x in np.ndindex(8, 8, 8):
        cell = rng.permutation(np.array(eight, np.uint64)).reshape(2, 2, 2)
        volume[2 * z : 2 * z + 2, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2] = cell
    assert (blocks.decode(blocks.downsample([blocks.encode(volume)] * 8, zeros=True)) == winner).all()


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_that_rule_for_any_children_and_parent(data):
    shape = data.draw(reference.EVEN_SHAPES)
    some = reference.strange_blocks(st.just(shape))
    children = data.draw(st.lists(st.one_of(st.none(), some), min_size=8, max_size=8))
    parent = data.draw(st.one_of(st.none(), some))
    expected = np.zeros(shape, np.uint64) if parent is None else reference.decode(parent)
    for k, child in enumerate(children):
        if child is not None:
            octant(expected, k)[:] = reference.downsample(reference.decode(child), zeros=True)
    assert blocks.downsample(children, parent, shape, zeros=True) == reference.encode(expected)


def test_votes_for_a_label_that_the_palette_repeats_count_together():
    # Two entries for label 9 with three votes each beat label 4 with two; then 0 is listed twice too.
    values = [0, 1, 2, 3, 0, 1, 2, 3]
    volume = np.zeros((16, 16, 16), np.int64)
    for k, (z, y, x) in enumerate(OCTANTS):
        volume[z::2, y::2, x::2] = values[k]
    lists = [[0, 1, 2, 3]] * 8
    numbers = [volume[z : z + 8, y : y + 8, x : x + 8].ravel().tolist() for z, y, x in reference.corners((16, 16, 16))]
    for palette, winner in (([9, 9, 4, 4], 4), ([9, 4, 9, 9], 9), ([9, 0, 9, 4], 9), ([0, 0, 0, 4], 4)):
        block = reference.write((16, 16, 16), palette, lists, numbers)
        assert (blocks.decode(blocks.downsample([block] * 8)) == winner).all()


def test_without_children():
    parent = reference.write(
        (16, 16, 16), [4, 4, 0], [[], [1], [0, 1], [2]] * 2, [[0] * 512, [0] * 512, [0, 1] * 256, [0] * 512] * 2
    )
    expected = reference.encode(reference.decode(parent))
    assert blocks.downsample([None] * 8, parent) == expected
    assert blocks.downsample([None] * 8, shape=(16, 32, 48)) == blocks.encode(np.zeros((16, 32, 48), np.uint64))


def test_what_does_not_fit():
    cube = blocks.encode(np.zeros((16, 16, 16), np.uint64))
    long = blocks.encode(np.zeros((16, 16, 32), np.uint64))
    odd = blocks.encode(np.zeros((16, 16, 24), np.uint64))
    for arguments in (
        ([cube] * 7,),
        ([cube] * 9,),
        ([None] * 8,),
        ([cube] * 7 + [long],),
        ([cube] * 8, long),
        ([cube] * 8, None, (16, 16, 32)),
        ([odd] * 8,),
        ([None] * 8, None, (16, 16, 24)),
        ([None] * 8, None, (16, 16)),
        ([None] * 8, None, (0, 16, 16)),
        ([None] * 8, None, (-16, 16, 16)),
        ([None] * 8, None, (16, 16, 2048)),
        ([cube] * 7 + [cube[:-1]],),
    ):
        with pytest.raises(ValueError, match=r"."):
            blocks.downsample(*arguments)
