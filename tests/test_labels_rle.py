"""Set operations on runs against sets of voxels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvidcore import labels
from reference_runs import Runs, examples, mask_to_runs, runs_to_set, set_to_runs

HIGHEST = 2**31 - 1
small = st.integers(-3, 3)
run_arrays = st.lists(st.tuples(st.integers(-9, 9), small, small, st.integers(1, 8)), max_size=30).map(
    lambda rows: np.array(rows, np.int32).reshape(-1, 4)
)
boxes = st.tuples(*[st.none() | st.integers(-6, 6)] * 3)


def rows(*given: tuple[int, int, int, int]) -> Runs:
    return np.array(given, np.int32).reshape(-1, 4)


@examples
@given(run_arrays)
def test_join_is_the_canonical_form_of_the_union(runs: Runs) -> None:
    joined = labels.join(runs)
    assert joined.dtype == np.int32
    np.testing.assert_array_equal(joined, set_to_runs(runs_to_set(runs)))
    np.testing.assert_array_equal(labels.join(joined), joined)
    assert labels.voxels(joined) == len(runs_to_set(runs))


@examples
@given(run_arrays, run_arrays)
def test_intersect_and_subtract_are_those_of_the_voxels(a: Runs, b: Runs) -> None:
    p, q = runs_to_set(a), runs_to_set(b)
    np.testing.assert_array_equal(labels.intersect(a, b), set_to_runs(p & q))
    np.testing.assert_array_equal(labels.subtract(a, b), set_to_runs(p - q))
    both = np.concatenate([labels.intersect(a, b), labels.subtract(a, b)])
    np.testing.assert_array_equal(labels.join(both), labels.join(a))


@examples
@given(run_arrays, boxes, boxes)
def test_clip_keeps_what_is_within_inclusive_bounds(
    runs: Runs, minimum: tuple[int | None, ...], maximum: tuple[int | None, ...]
) -> None:
    low = [-99 if bound is None else bound for bound in minimum]
    high = [99 if bound is None else bound for bound in maximum]
    kept = {v for v in runs_to_set(runs) if all(lo <= c <= hi for lo, c, hi in zip(low, v[::-1], high, strict=True))}
    assert runs_to_set(labels.clip(runs, minimum, maximum)) == kept


def test_clip_without_bounds_changes_nothing() -> None:
    runs = rows((3, 0, 0, 2), (-(2**31), 5, 1, HIGHEST), (3, 0, 0, 2))
    np.testing.assert_array_equal(labels.clip(runs), runs)
    np.testing.assert_array_equal(labels.clip(runs, None, (2**40, None, None)), runs)
    assert len(labels.clip(runs, (2**40, None, None))) == 0
    assert len(labels.clip(runs, None, (None, -(2**70), None))) == 0


@examples
@given(run_arrays, st.tuples(small, small, small), st.tuples(*[st.integers(0, 9)] * 3))
def test_masks_and_runs_say_the_same(runs: Runs, start: tuple[int, int, int], shape: tuple[int, int, int]) -> None:
    mask = labels.to_mask(runs, start, shape)
    assert mask.shape == shape and mask.dtype == np.uint8
    voxels = runs_to_set(runs)
    expected = {at for at in np.ndindex(*shape) if tuple(a + b for a, b in zip(at, start, strict=True)) in voxels}
    assert set(map(tuple, np.argwhere(mask).tolist())) == expected
    np.testing.assert_array_equal(labels.from_mask(mask, start), mask_to_runs(mask != 0, start))


@examples
@given(st.binary(min_size=2 * 3 * 41, max_size=2 * 3 * 41), st.integers(0, 4))
def test_from_mask_takes_any_bytes_and_views(data: bytes, shift: int) -> None:
    mask = np.frombuffer(data, np.uint8).reshape(2, 3, 41)
    mask = np.where(mask < 40 * shift, 0, mask).astype(np.uint8)
    view = mask[::-1, ::2, shift:]
    np.testing.assert_array_equal(labels.from_mask(view), mask_to_runs(view != 0))
    np.testing.assert_array_equal(labels.from_mask(view != 0), mask_to_runs(view != 0))
    across = mask.transpose(2, 0, 1)
    np.testing.assert_array_equal(labels.from_mask(across), mask_to_runs(across != 0))


@examples
@given(st.lists(st.tuples(small, small, small), max_size=40))
def test_coarse_gives_runs_of_blocks(blocks: list[tuple[int, int, int]]) -> None:
    coords = np.array(blocks, np.int32).reshape(-1, 3)
    np.testing.assert_array_equal(labels.coarse(coords), set_to_runs(set(blocks)))


def test_random_large_arrays_are_sorted() -> None:
    rng = np.random.default_rng(1)
    runs = np.column_stack([rng.integers(-(2**31), 2**31 - 10, (20_000, 3)), rng.integers(1, 9, 20_000)]).astype(
        np.int32
    )
    np.testing.assert_array_equal(labels.join(runs), runs[np.lexsort((runs[:, 0], runs[:, 1], runs[:, 2]))])
    assert len(labels.subtract(runs, runs)) == 0
    np.testing.assert_array_equal(labels.intersect(runs, runs), labels.join(runs))


def test_empty_runs() -> None:
    none = rows()
    one = rows((1, 2, 3, 4))
    for answer in (labels.join(none), labels.intersect(none, one), labels.intersect(one, none), labels.clip(none)):
        assert answer.shape == (0, 4)
    np.testing.assert_array_equal(labels.subtract(one, none), one)
    assert labels.voxels(none) == 0
    assert labels.coarse(np.empty((0, 3), np.int32)).shape == (0, 4)
    assert labels.from_mask(np.empty((0, 4, 4), np.uint8)).shape == (0, 4)


def test_views_of_any_strides() -> None:
    runs = rows(*((9 * x, 0, 0, 2) for x in range(6)))
    np.testing.assert_array_equal(labels.join(runs[::-2]), runs[1::2])
    np.testing.assert_array_equal(labels.subtract(np.asfortranarray(runs), runs[::2]), runs[1::2])
    np.testing.assert_array_equal(labels.coarse(runs[:, 2::-1]), labels.coarse(runs[:, 2::-1].copy()))


def test_the_last_voxel_may_be_the_last_of_int32() -> None:
    edge = rows((HIGHEST, 0, 0, 1), (HIGHEST - 3, 0, 0, 3))
    np.testing.assert_array_equal(labels.join(edge), rows((HIGHEST - 3, 0, 0, 4)))
    np.testing.assert_array_equal(labels.clip(edge, (HIGHEST, None, None)), rows((HIGHEST, 0, 0, 1)))
    mask = labels.to_mask(edge, (0, 0, HIGHEST - 4), (1, 1, 5))
    assert mask.ravel().tolist() == [0, 1, 1, 1, 1]
    np.testing.assert_array_equal(labels.from_mask(mask, (0, 0, HIGHEST - 4)), labels.join(edge))
    np.testing.assert_array_equal(labels.subtract(edge, rows((HIGHEST - 1, 0, 0, 2))), rows((HIGHEST - 3, 0, 0, 2)))


BAD_RUNS = [
    (rows((0, 0, 0, 0)), "length 0"),
    (rows((0, 0, 0, 1), (0, 0, 0, -1)), "run 1 has length -1"),
    (rows((2, 0, 0, HIGHEST)), "beyond x"),
    (rows((0, 0, 0, 1)).astype(np.int64), "dtype"),
    (rows((0, 0, 0, 1))[:, :3].copy(), "4 columns"),
    (rows((0, 0, 0, 1)).ravel(), "dimensions"),
]


@pytest.mark.parametrize(("runs", "message"), BAD_RUNS)
def test_malformed_runs_are_refused_by_all(runs: Runs, message: str) -> None:
    good = rows((0, 0, 0, 1))
    for call in (
        lambda: labels.join(runs),
        lambda: labels.clip(runs),
        lambda: labels.voxels(runs),
        lambda: labels.intersect(runs, good),
        lambda: labels.intersect(good, runs),
        lambda: labels.subtract(runs, good),
        lambda: labels.subtract(good, runs),
        lambda: labels.to_mask(runs, (0, 0, 0), (1, 1, 1)),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_union_that_no_row_can_say_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than"):
        labels.join(rows((-(2**31), 0, 0, HIGHEST), (-1, 0, 0, HIGHEST)))


def test_other_malformed_arguments() -> None:
    with pytest.raises(ValueError, match="3 columns"):
        labels.coarse(rows((0, 0, 0, 0)))
    with pytest.raises(ValueError, match="uint8 or bool"):
        labels.from_mask(np.zeros((2, 2, 2), np.uint16))
    with pytest.raises(ValueError, match="3-d"):
        labels.from_mask(np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match="int32"):
        labels.from_mask(np.zeros((1, 1, 2), np.uint8), (0, 0, HIGHEST))
    with pytest.raises(ValueError, match="int32"):
        labels.to_mask(rows(), (0, 0, 2**40), (1, 1, 1))
    with pytest.raises(ValueError, match="negative"):
        labels.to_mask(rows(), (0, 0, 0), (1, -1, 1))
    with pytest.raises(ValueError):
        labels.clip(rows(), (1, 2))
