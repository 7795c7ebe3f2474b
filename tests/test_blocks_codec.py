"""Encoding and decoding of label blocks."""

import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference_labels as reference
from dvidcore import blocks


@pytest.mark.parametrize("name", reference.SAMPLES)
def test_real_volumes_round_trip(name):
    volume = reference.real_volume(name)
    block = blocks.encode(volume)
    assert block == reference.encode(volume)
    blocks.check(block, (64, 64, 64))
    assert blocks.shape(block) == (64, 64, 64)
    np.testing.assert_array_equal(blocks.decode(block), volume)


def test_a_block_as_dvid_stores_it():
    block = reference.real_bytes("fib19-64x64x64-sample1-block.dat.gz")
    volume = reference.real_volume("fib19-64x64x64-sample1.dat.gz")
    blocks.check(block)
    np.testing.assert_array_equal(blocks.decode(block), volume)
    # Its palette is in another order than ours, so the same labels come in another one; nothing else differs.
    assert len(blocks.encode(volume)) == len(block)
    assert sorted(blocks.palette(block)) == sorted(blocks.palette(blocks.encode(volume)))


@settings(max_examples=40, deadline=None)
@given(reference.volumes())
def test_encoding_is_the_reference_encoding(volume):
    block = blocks.encode(volume)
    assert block == reference.encode(volume)
    blocks.check(block, volume.shape)
    np.testing.assert_array_equal(blocks.decode(block), volume)


@settings(max_examples=40, deadline=None)
@given(reference.strange_blocks())
def test_every_valid_block_decodes(block):
    volume = reference.decode(block)
    blocks.check(block, volume.shape)
    np.testing.assert_array_equal(blocks.decode(block), volume)
    # What an encoder never writes is read as what it would have written.
    assert blocks.encode(volume) == reference.encode(volume)


@pytest.mark.parametrize("label", [0, 1, 2**64 - 1])
def test_a_solid_block_is_24_bytes(label):
    block = blocks.encode(np.full((16, 24, 1024), label, np.uint64))
    assert block == struct.pack("<4IQ", 128, 3, 2, 1, label)
    assert blocks.shape(block) == (16, 24, 1024)
    assert (blocks.decode(block) == label).all()


@pytest.mark.parametrize(
    "count", [1, 2, 3, 4, 5, 8, 9, 16, 17, 24, 25, 26, 32, 33, 64, 65, 128, 129, 256, 257, 511, 512]
)
def test_every_width_of_values(count):
    rng = np.random.default_rng(count)
    labels = rng.integers(0, 2**64, count, np.uint64)
    volume = np.zeros((16, 16, 16), np.uint64)
    volume[:8, :8, :8] = labels[rng.permutation(512) % count].reshape(8, 8, 8)
    volume[8:, 8:, 8:] = labels[rng.integers(0, count, 512)].reshape(8, 8, 8)
    block = blocks.encode(volume)
    assert block == reference.encode(volume)
    np.testing.assert_array_equal(blocks.decode(block), volume)


@settings(max_examples=30, deadline=None)
@given(reference.strange_blocks(), st.data())
def test_a_box_is_the_box_of_the_whole(block, data):
    volume = reference.decode(block)
    bounds = [sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in volume.shape]
    start, stop = [b[0] for b in bounds], [b[1] for b in bounds]
    box = volume[tuple(slice(a, b) for a, b in bounds)]
    np.testing.assert_array_equal(blocks.decode_box(block, start, stop), box)
    out = np.full((40, 50, 60), 7, np.uint64)
    view = out[3 : 3 + box.shape[0], 5 : 5 + box.shape[1], 1 : 1 + box.shape[2]]
    assert blocks.decode_box(block, start, stop, view) is view
    expected = np.full_like(out, 7)
    expected[3 : 3 + box.shape[0], 5 : 5 + box.shape[1], 1 : 1 + box.shape[2]] = box
    np.testing.assert_array_equal(out, expected)


def test_boxes_of_a_large_volume_are_coded_where_they_lie():
    rng = np.random.default_rng(1)
    large = rng.integers(0, 3, (40, 48, 56), np.uint64)
    box = large[8:32, 3:19, 5:45]
    block = blocks.encode(box)
    assert block == blocks.encode(np.ascontiguousarray(box))
    np.testing.assert_array_equal(blocks.decode(blocks.encode(box[::-1, ::-1])), box[::-1, ::-1])
    out = np.zeros_like(large)
    view = out[8:32, 3:19, 5:45]
    assert blocks.decode(block, view) is view
    np.testing.assert_array_equal(view, box)
    view[:] = 0
    assert not out.any()


PORTABLE = """
import sys
import numpy as np
from dvidcore import blocks
volume = np.frombuffer(sys.stdin.buffer.read(), np.uint64).reshape(32, 32, 32)
block = blocks.encode(volume)
assert (blocks.decode(block) == volume).all()
sys.stdout.buffer.write(block)
"""


def test_machines_without_vector_instructions_give_the_same_bytes():
    rng = np.random.default_rng(2)
    volume = rng.integers(0, 2**64, (4, 4, 4), np.uint64).repeat(8, 0).repeat(8, 1).repeat(8, 2)
    for count, (z, y, x) in enumerate(reference.corners(volume.shape)[::3]):
        volume[z : z + 8, y : y + 8, x : x + 8] = rng.integers(0, count + 1, (8, 8, 8), np.uint64)
    result = subprocess.run(
        [sys.executable, "-c", PORTABLE],
        input=volume.tobytes(),
        env={**os.environ, "DVIDCORE_PORTABLE": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=True,
    )
    assert result.stdout == blocks.encode(volume) == reference.encode(volume)


def test_read_only_input_of_every_kind():
    volume = np.arange(4096, dtype=np.uint64).reshape(16, 16, 16)
    volume.flags.writeable = False
    block = blocks.encode(volume)
    read_only = np.frombuffer(block, np.uint8)
    for form in (block, bytearray(block), memoryview(block), read_only, memoryview(read_only)):
        np.testing.assert_array_equal(blocks.decode(form), volume)


@pytest.mark.parametrize(
    "volume",
    [
        np.zeros((16, 16), np.uint64),
        np.zeros((16, 16, 16, 1), np.uint64),
        np.zeros((16, 16, 20), np.uint64),
        np.zeros((16, 12, 16), np.uint64),
        np.zeros((4, 16, 16), np.uint64),
        np.zeros((0, 16, 16), np.uint64),
        np.zeros((16, 16, 1032), np.uint64),
        np.zeros((16, 16, 16), np.int64),
        np.zeros((16, 16, 16), np.float64),
        np.zeros((16, 16, 16), np.uint32),
        np.zeros((16, 16, 16), ">u8"),
        np.zeros((16, 16, 32), np.uint64)[:, :, ::2],
        np.zeros((16, 16, 16), np.uint64).T,
    ],
)
def test_volumes_that_are_no_block(volume):
    with pytest.raises(ValueError, match=r"."):
        blocks.encode(volume)


def test_outputs_that_do_not_fit():
    block = blocks.encode(np.zeros((16, 24, 16), np.uint64))
    read_only = np.zeros((16, 24, 16), np.uint64)
    read_only.flags.writeable = False
    outputs = [
        np.zeros((16, 16, 24), np.uint64),
        np.zeros((16, 24, 16), np.int64),
        np.zeros((16, 24, 32), np.uint64)[:, :, ::2],
        np.zeros(16 * 24 * 16, np.uint64),
        read_only,
    ]
    for out in outputs:
        with pytest.raises(ValueError, match=r"."):
            blocks.decode(block, out)
        with pytest.raises(ValueError, match=r"."):
            blocks.decode_box(block, (0, 0, 0), (16, 24, 16), out)
    with pytest.raises(TypeError):
        blocks.decode("text")
    with pytest.raises(TypeError):
        blocks.decode(None)


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        ((-1, 0, 0), (1, 1, 1)),
        ((0, 0, 0), (17, 1, 1)),
        ((0, 5, 0), (1, 4, 1)),
        ((0, 0), (1, 1)),
        ((0, 0, 0), (1, 1, 2**70)),
    ],
)
def test_boxes_outside(start, stop):
    with pytest.raises(ValueError, match=r"."):
        blocks.decode_box(blocks.encode(np.zeros((16, 16, 16), np.uint64)), start, stop)


def test_check_compares_the_shape():
    block = blocks.encode(np.zeros((16, 24, 32), np.uint64))
    blocks.check(block, (16, 24, 32))
    with pytest.raises(ValueError, match="expected"):
        blocks.check(block, (32, 24, 16))
    with pytest.raises(ValueError, match="3 numbers"):
        blocks.check(block, (32, 24))
