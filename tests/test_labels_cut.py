"""Cutting runs into the pieces that lie in given blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvidcore import labels


def expected(runs, coords, shape):
    """One voxel at a time: (pieces of each block as runs of the volume, first run outside, voxels outside)."""
    side_z, side_y, side_x = shape
    pieces = {tuple(at): [] for at in coords}
    outside, missing = -1, 0
    for i, (x, y, z, n) in enumerate(runs):
        for bx in range(x // side_x, (x + n - 1) // side_x + 1):
            low, high = max(x, bx * side_x), min(x + n, (bx + 1) * side_x)
            at = (z // side_z, y // side_y, bx)
            if at in pieces:
                pieces[at].append([low - bx * side_x, y % side_y, z % side_z, high - low])
                continue
            missing += high - low
            outside = i if outside < 0 else outside
    return pieces, outside, missing


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(-40, 40)] * 3, st.integers(1, 70)), max_size=40),
    st.sets(st.tuples(*[st.integers(-3, 3)] * 3), max_size=60),
    st.tuples(*[st.integers(1, 20)] * 3),
    st.booleans(),
)
def test_pieces_of_runs_in_any_order(runs, at, shape, in_order):
    coords = sorted(at)
    if in_order:
        runs.sort(key=lambda run: run[2::-1])
    given_runs = np.array(runs, np.int32).reshape(-1, 4)
    pieces, starts, outside, missing = labels.cut(given_runs, np.array(coords, np.int32).reshape(-1, 3), shape)
    wanted, first, lost = expected(runs, coords, shape)
    found = {at: pieces[starts[k] : starts[k + 1]].tolist() for k, at in enumerate(coords)}
    assert (found, outside, missing) == (wanted, first, lost)
    assert starts[0] == 0 and starts[-1] == len(pieces)


def test_runs_at_the_ends_of_int32():
    runs = np.array([(-(2**31), -(2**31), 2**31 - 1, 2**31 - 1), (2**31 - 1, 0, 0, 1)], np.int32)
    coords = np.array([(0, 0, 2**25 - 1), (2**25 - 1, -(2**25), -(2**25)), (2**25 - 1, -(2**25), -1)], np.int32)
    pieces, starts, outside, missing = labels.cut(runs, coords, (64, 64, 64))
    assert pieces.tolist() == [[63, 0, 0, 1], [0, 0, 63, 64], [0, 0, 63, 63]]
    assert (starts.tolist(), outside, missing) == ([0, 1, 2, 3], 0, 2**31 - 1 - 127)


@pytest.mark.parametrize(
    ("runs", "coords", "shape", "match"),
    [
        ([(0, 0, 0, 0)], [], (8, 8, 8), "length 0"),
        ([(0, 0, 0, 1), (0, 0, 0, -3)], [], (8, 8, 8), "run 1 has length -3"),
        ([(2**31 - 1, 0, 0, 2)], [], (8, 8, 8), "beyond x"),
        ([(0, 0, 0, 1)], [(0, 0, 1), (0, 0, 1)], (8, 8, 8), "ascend"),
        ([(0, 0, 0, 1)], [(1, 0, 0), (0, 0, 1)], (8, 8, 8), "ascend"),
        ([(0, 0, 0, 1)], [], (8, 0, 8), "block_shape"),
        ([(0, 0, 0, 1)], [], (8, 2**21, 8), "block_shape"),
    ],
)
def test_refused(runs, coords, shape, match):
    with pytest.raises(ValueError, match=match):
        labels.cut(np.array(runs, np.int32), np.array(coords, np.int32).reshape(-1, 3), shape)


def test_columns_are_checked():
    with pytest.raises(ValueError, match="columns"):
        labels.cut(np.zeros((1, 3), np.int32), np.zeros((1, 3), np.int32), (8, 8, 8))
    with pytest.raises(ValueError, match="columns"):
        labels.cut(np.zeros((0, 4), np.int32), np.zeros((1, 4), np.int32), (8, 8, 8))
