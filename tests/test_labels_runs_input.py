"""Binary sparse volumes in the bodies of requests."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvidcore.datatypes.call import BytesBody
from dvidcore.datatypes.labels.mutations.runs_input import PostedRuns, blocks_met, cut, read_runs
from dvidcore.errors import BadRequest
from split_model import sparse

GOOD = [(5, -6, 7, 3), (-(2**31), 0, 0, 1), (2**31 - 1, 2**31 - 1, -(2**31), 1)]


def test_runs_are_taken_as_they_come() -> None:
    posted = read_runs(BytesBody(sparse(GOOD)))
    assert (posted.runs.tolist(), posted.voxels) == ([list(run) for run in GOOD], 5)
    assert posted.blob() == sparse(GOOD)[12:]


def test_the_reserved_byte_and_the_number_of_voxels_are_not_looked_at() -> None:
    assert read_runs(BytesBody(sparse(GOOD, b"\0\3\0\x63\xff\xff\xff\xff"))).voxels == 5


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "has 0 bytes"),
        (sparse(GOOD)[:11], "has 11 bytes"),
        (b"\1" + sparse(GOOD)[1:], "byte 0 of its header is 1"),
        (sparse(GOOD, b"\0\2\0\0\0\0\0\0"), "2 dimensions"),
        (sparse(GOOD, b"\0\3\1\0\0\0\0\0"), "axis 1"),
        (sparse([]), "no runs"),
        (sparse(GOOD)[:-1], "announces 3 runs of 16 bytes, but 47"),
        (sparse(GOOD)[:-16], "announces 3 runs of 16 bytes, but 32"),
        (sparse(GOOD) + b"\0", "announces 3 runs of 16 bytes, but 49"),
        (sparse(GOOD)[:8] + struct.pack("<I", 2**32 - 1) + sparse(GOOD)[12:], "announces 4294967295 runs"),
        (sparse([(0, 0, 0, 0)]), "run 0 has length 0"),
        (sparse([*GOOD, (0, 0, 0, -5)]), "run 3 has length -5"),
        (sparse([(2**31 - 1, 0, 0, 2)]), "ends beyond x"),
        (sparse([(2**31 - 2, 0, 0, 2**31 - 1)]), "ends beyond x"),
    ],
)
def test_refused(body: bytes, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        read_runs(BytesBody(body))


@given(
    st.lists(st.tuples(*[st.integers(-300, 300)] * 3, st.integers(1, 200)), min_size=1, max_size=30),
    st.tuples(*[st.sampled_from([16, 24, 64])] * 3),
)
def test_the_blocks_that_runs_meet_hold_all_of_them(runs: list[tuple[int, ...]], block: tuple[int, int, int]) -> None:
    rows = np.array(runs, np.int32)
    posted = PostedRuns(rows, int(rows[:, 3].sum()))
    met = blocks_met(posted, block)
    expected = {
        (z // block[0], y // block[1], k)
        for x, y, z, n in runs
        for k in range(x // block[2], (x + n - 1) // block[2] + 1)
    }
    assert [tuple(at) for at in met.tolist()] == sorted(expected)
    pieces, outside = cut(posted, met, block)
    assert pieces.touched().all() and not len(outside)
    assert int(pieces.runs[:, 3].sum()) == posted.voxels
