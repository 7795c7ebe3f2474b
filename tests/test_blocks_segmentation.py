"""Neuroglancer's compressed_segmentation."""

import numpy as np
import pytest
from hypothesis import given, settings

import reference_labels as reference
from dvidcore import blocks


@settings(max_examples=30, deadline=None)
@given(reference.volumes())
def test_a_decoder_reads_the_volume(volume):
    data = blocks.compressed_segmentation(volume)
    np.testing.assert_array_equal(reference.read_segmentation(data, volume.shape), volume)


@pytest.mark.parametrize("name", reference.SAMPLES)
def test_real_volumes(name):
    volume = reference.real_volume(name)
    np.testing.assert_array_equal(
        reference.read_segmentation(blocks.compressed_segmentation(volume), volume.shape), volume
    )


def test_words():
    # One sub-block of one label, one of two: all words are known.
    volume = np.full((8, 8, 16), 7, np.uint64)
    volume[:, :, 8:] = 2**32 + 1
    volume[0, 0, 9] = 3
    words = np.frombuffer(blocks.compressed_segmentation(volume), "<u4").tolist()
    channel = [4, 4, 22 | 1 << 24, 6, 7, 0, 2, *[0] * 15, 1, 1, 3, 0]
    assert words == [1, *channel]


def test_strided_and_odd_shapes():
    large = np.random.default_rng(0).integers(0, 4, (30, 30, 30), np.uint64)
    box = large[3:11, 4:28, 2:26]
    data = blocks.compressed_segmentation(box)
    assert data == blocks.compressed_segmentation(np.ascontiguousarray(box))
    np.testing.assert_array_equal(reference.read_segmentation(data, box.shape), box)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 16, 17, 256, 257, 512])
def test_every_width_of_values(count):
    labels = np.random.default_rng(count).integers(0, 2**64, count, np.uint64)
    volume = labels[np.arange(512) % count].reshape(8, 8, 8)
    data = blocks.compressed_segmentation(volume)
    np.testing.assert_array_equal(reference.read_segmentation(data, (8, 8, 8)), volume)


def test_a_volume_beyond_24_bit_offsets():
    # 512 labels in each sub-block: 1282 words each, so that the 13,087th table lies beyond word 2^24.
    one = np.arange(512, dtype=np.uint64).reshape(8, 8, 8)
    with pytest.raises(ValueError, match="24 bits"):
        blocks.compressed_segmentation(np.tile(one, (110, 1, 120)))


@pytest.mark.parametrize(
    "volume",
    [
        np.zeros((8, 8, 12), np.uint64),
        np.zeros((8, 4, 8), np.uint64),
        np.zeros((0, 8, 8), np.uint64),
        np.zeros((8, 8), np.uint64),
        np.zeros((8, 8, 8), np.int64),
        np.zeros((8, 8, 16), np.uint64)[:, :, ::2],
    ],
)
def test_volumes_that_do_not_fit(volume):
    with pytest.raises(ValueError, match=r"."):
        blocks.compressed_segmentation(volume)
