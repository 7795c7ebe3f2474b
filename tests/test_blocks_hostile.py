"""What corrupt blocks do: they raise ValueError, and nothing else."""

import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference_labels as reference
from dvidcore import blocks

POINTS = np.random.default_rng(0).integers(0, 16, (50, 3))
RUNS = np.array([(0, y, 3, 16) for y in range(16)], np.int32)
READERS = {
    "shape": blocks.shape,
    "check": blocks.check,
    "decode": blocks.decode,
    "decode_box": lambda block: blocks.decode_box(block, (1, 1, 1), (9, 15, 16)),
    "palette": blocks.palette,
    "lookup": lambda block: blocks.lookup(block, POINTS),
    "counts": blocks.counts,
    "mask": lambda block: blocks.mask(block, np.array([1, 2, 3], np.uint64)),
    "count_in": lambda block: blocks.count_in(block, np.array([3, 1, 2], np.uint64)),
    "with_palette": lambda block: blocks.with_palette(block, blocks.palette(block)),
    "relabel_runs": lambda block: blocks.relabel_runs(block, RUNS, 1, 9),
    "split_runs": lambda block: blocks.split_runs(block, RUNS, *np.array([[1], [9], [8]], np.uint64)),
    "labels_in_runs": lambda block: blocks.labels_in_runs(block, RUNS),
    "downsample": lambda block: blocks.downsample([block] * 8),
    "parent": lambda block: blocks.downsample([None] * 8, block),
}


def corrupted(block: bytes, random: random.Random) -> bytes:
    """A block with some of its bytes or its length changed."""
    data = bytearray(block)
    for _ in range(random.randint(1, 4)):
        kind, at = random.randrange(5), random.randrange(max(len(data), 1))
        if kind == 0 and data:
            data[at] ^= 1 << random.randrange(8)
        elif kind == 1 and data:
            data[at] = random.choice((0, 1, 127, 255))
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            data[at:at] = bytes(random.randrange(256) for _ in range(random.choice((1, 2, 8, 64))))
        elif len(data) >= 16:
            word = random.choice((0, 1, 2, 3, 128, 129, 2**16, 2**29, 2**31, 2**32 - 1))
            struct.pack_into("<I", data, 4 * random.randrange(4), word)
    return bytes(data)


@settings(max_examples=60, deadline=None)
@given(reference.strange_blocks(), st.randoms(use_true_random=False))
def test_corrupt_blocks_raise_or_are_valid(block, random):
    data = corrupted(block, random)
    failed = set()
    for name, read in READERS.items():
        try:
            read(data)
        except ValueError:
            failed.add(name)
    if "check" in failed:
        # These read every voxel value; the others may not come upon a wrong one.
        assert {"decode", "counts"} <= failed
    else:
        shape = blocks.shape(data)
        odd = any(n % 16 for n in shape)
        if min(shape) < 16:  # what these ask for may lie outside
            failed -= {"decode_box", "lookup", "relabel_runs", "split_runs", "labels_in_runs"}
        assert failed == ({"downsample", "parent"} if odd else set())
        np.testing.assert_array_equal(blocks.decode(data), reference.decode(data))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes(data):
    for read in READERS.values():
        with pytest.raises(ValueError, match=r"."):
            read(data)


def parts():
    """A valid block whose every part can be made wrong: 8 sub-blocks of 3 labels."""
    return {
        "shape": (16, 16, 16),
        "palette": [5, 6, 7, 8],
        "lists": [[0, 1, 2]] * 8,
        "values": [[0, 1, 2, 1] * 128] * 8,
    }


def test_every_truncation():
    block = reference.write(**parts())
    blocks.check(block)
    for size in range(len(block)):
        with pytest.raises(ValueError, match=r"."):
            blocks.decode(block[:size])
    with pytest.raises(ValueError, match=r"."):
        blocks.decode(block + b"\0")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lists": [[0, 1, 2]] * 7 + [[0, 1, 4]]}, "position 4 of a palette of 4"),
        ({"lists": [[2**32 - 1, 1, 2]] + [[0, 1, 2]] * 7}, "position 4294967295"),
        ({"values": [[0, 1, 2, 3] * 128] * 8}, "voxel value of 3"),
        ({"values": [[0, 1, 2, 1] * 128] * 7 + [[0] * 511 + [3]]}, "voxel value of 3"),
        ({"lists": [[0, 1, 2] * 171] + [[0]] * 7, "values": [[0] * 512] * 8}, "lists 513 labels"),
    ],
)
def test_parts_that_are_wrong(change, message):
    block = reference.write(**{**parts(), **change})
    for read in (blocks.check, blocks.decode):
        with pytest.raises(ValueError, match=message):
            read(block)


@pytest.mark.parametrize("count", [3, 5, 6, 9, 100, 257, 511])
def test_values_beyond_the_labels_of_any_width(count):
    values = [count] + [0] * 511
    block = reference.write((16, 16, 16), list(range(count)), [list(range(count))] * 8, [values] * 8)
    for name in ("check", "decode", "counts", "downsample", "parent"):
        with pytest.raises(ValueError, match="voxel value"):
            READERS[name](block)
    with pytest.raises(ValueError, match="voxel value"):
        blocks.lookup(block, np.zeros((1, 3), np.int64))


@pytest.mark.parametrize("side", [0, 129, 2**16, 2**31, 2**32 - 1])
def test_sides_that_are_not_allowed(side):
    for axis in range(3):
        grid = [2, 2, 2]
        grid[axis] = side
        for n in (0, 1, 2, 2**32 - 1):
            block = struct.pack("<4I", *grid, n) + bytes(8 * min(n, 2))
            with pytest.raises(ValueError, match=r"."):
                blocks.shape(block)


def test_a_block_without_labels():
    with pytest.raises(ValueError, match="without labels"):
        blocks.check(struct.pack("<4I", 2, 2, 2, 0) + bytes(64))


def test_lengths_that_overflow():
    # Every length that 32-bit arithmetic would wrap.
    for n in (2**28, 2**29, 2**29 + 1, 2**30, 2**31, 2**32 - 1):
        with pytest.raises(ValueError, match="too short"):
            blocks.check(struct.pack("<4I", 128, 128, 128, n) + bytes(4096))


def test_buffers_that_are_not_contiguous():
    block = blocks.encode(np.zeros((16, 16, 16), np.uint64))
    spread = np.zeros(2 * len(block), np.uint8)[::2]
    spread[:] = np.frombuffer(block, np.uint8)
    for read in READERS.values():
        with pytest.raises(ValueError, match="contiguous"):
            read(spread)
