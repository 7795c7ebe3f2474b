"""Coded blocks to runs and binary blocks, against masks of the decoded volume."""

import gzip
import threading
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dvidcore import labels
from reference_runs import Runs, Volume, binary_block, encode_block, examples, mask_to_runs

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "labels"
SAMPLES = sorted(DATA.glob("*64x64x64-sample?.dat.gz"))

sides = st.sampled_from([16, 24, 72, 80])
label_sets = st.lists(st.integers(0, 9) | st.integers(0, 700), max_size=9).map(lambda s: np.array(s, np.uint64))


def u64(*values: int) -> NDArray[np.uint64]:
    return np.array(values, np.uint64)


@st.composite
def volumes(draw: st.DrawFn, shape: tuple[int, int, int] | None = None) -> Volume:
    """A volume (z, y, x) whose sub-blocks hold from 1 to 512 labels each."""
    if shape is None:
        shape = draw(st.tuples(st.sampled_from([16, 24]), st.sampled_from([16, 24]), sides))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    out = np.empty(shape, np.uint64)
    kinds = draw(
        st.lists(st.sampled_from([1, 1, 2, 3, 4, 5, 8, 9, 17, 40, 80, 129, 256, 300, 512]), min_size=1, max_size=4)
    )
    for z, y, x in product(*(range(0, side, 8) for side in shape)):
        n = int(rng.choice(kinds))
        pool = rng.permutation(600)[:n] if n > 9 else rng.integers(0, 10, n)
        cut = rng.integers(1, 9)
        pattern = rng.integers(0, n, (8, 8, 8 // cut + 1)).repeat(cut, axis=2)[:, :, :8]
        out[z : z + 8, y : y + 8, x : x + 8] = pool[pattern]
    return out


def mask_of(volume: Volume, wanted: NDArray[np.uint64]) -> NDArray[np.bool_]:
    return np.isin(volume, wanted)


@examples
@given(volumes(), label_sets, st.tuples(*[st.integers(-1000, 1000)] * 3))
def test_runs_of_a_block(volume: Volume, wanted: NDArray[np.uint64], origin: tuple[int, int, int]) -> None:
    got = labels.runs(encode_block(volume), wanted, origin)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, mask_to_runs(mask_of(volume, wanted), origin[::-1]))


@examples
@given(volumes(), label_sets)
def test_binary_block(volume: Volume, wanted: NDArray[np.uint64]) -> None:
    assert labels.binary_block(encode_block(volume), wanted) == binary_block(mask_of(volume, wanted))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 9, 16, 17, 32, 33, 64, 65, 128, 129, 256, 257, 511, 512])
def test_sub_blocks_of_any_number_of_labels(n: int) -> None:
    rng = np.random.default_rng(n)
    volume = (rng.integers(0, n, (16, 16, 16)) * 2**40 + 1).astype(np.uint64)
    volume[:8, :8, :8].flat = np.arange(512) % n * 2**40 + 1
    block = encode_block(volume)
    for some in ({0}, {n - 1}, set(range(0, n, 2)), set(range(1, n)), set(range(n))):
        wanted = u64(*(v * 2**40 + 1 for v in some), 7)
        np.testing.assert_array_equal(labels.runs(block, wanted), mask_to_runs(mask_of(volume, wanted)))
        assert labels.binary_block(block, wanted) == binary_block(mask_of(volume, wanted))


@examples
@given(st.data(), st.sets(st.tuples(*[st.integers(-2, 1)] * 3), max_size=7), label_sets)
def test_runs_continue_through_neighbouring_blocks(
    data: st.DataObject, at: set[tuple[int, int, int]], wanted: NDArray[np.uint64]
) -> None:
    shape = data.draw(st.sampled_from([(16, 16, 16), (16, 24, 16), (24, 16, 72)]))
    some = [data.draw(volumes(shape)) for _ in range(2)] + [np.full(shape, 3, np.uint64)]
    whole = np.zeros([4 * side for side in shape], np.uint64)
    seen = np.zeros(whole.shape, bool)
    coords, blocks = sorted(at), []
    for coord in coords:
        volume = data.draw(st.sampled_from(some))
        blocks.append(encode_block(volume))
        box = tuple(slice((c + 2) * side, (c + 3) * side) for c, side in zip(coord, shape, strict=True))
        whole[box], seen[box] = volume, True
    start = tuple(-2 * side for side in shape)
    expected = mask_to_runs(mask_of(whole, wanted) & seen, (start[0], start[1], start[2]))
    got = labels.runs_of_blocks(blocks, np.array(coords, np.int32).reshape(-1, 3), shape, wanted)
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(labels.join(got), got)


def test_palettes_with_repeated_unused_and_zero_entries() -> None:
    volume = np.ones((16, 16, 16), np.uint64)
    volume[:, 3:9, 5:] = 2
    volume[4, 4, 4] = 3
    block = bytearray(encode_block(volume))
    block[16:40] = np.array([0, 5, 5], "<u8").tobytes()  # what a merge in place leaves
    np.testing.assert_array_equal(labels.runs(block, u64(5)), mask_to_runs(volume > 1))
    np.testing.assert_array_equal(labels.runs(block, u64(0)), mask_to_runs(volume == 1))
    assert labels.binary_block(block, u64(0, 5)) == b"\x01"
    unused = bytearray(encode_block(volume))
    unused[16:24] = np.array([9], "<u8").tobytes()
    assert len(labels.runs(unused, u64(1))) == 0 and labels.binary_block(unused, u64(1)) == b"\x00"


def block_without_lists(ns: int, positions: list[int], values: bytes) -> bytes:
    """16x16x16 with a palette of 7 and 8: one sub-block as given, seven without any label."""
    counts = np.array([ns] + [0] * 7, "<u2").tobytes()
    head = np.array([2, 2, 2, 2], "<u4").tobytes() + np.array([7, 8], "<u8").tobytes()
    return head + counts + np.array(positions, "<u4").tobytes() + values


def test_sub_blocks_without_labels_are_zero() -> None:
    volume = np.zeros((16, 16, 16), np.uint64)
    volume[:8, :8, :8] = 8
    block = block_without_lists(1, [1], b"")
    for wanted in (u64(8), u64(0), u64(0, 8), u64(7)):
        np.testing.assert_array_equal(labels.runs(block, wanted), mask_to_runs(mask_of(volume, wanted)))
        assert labels.binary_block(block, wanted) == binary_block(mask_of(volume, wanted))


def test_a_uniform_sub_block_that_lists_two_labels_is_said_in_one_byte() -> None:
    block = block_without_lists(2, [0, 1], bytes(64))
    assert labels.binary_block(block, u64(7)) == b"\x02\x01" + bytes(7)
    assert labels.binary_block(block, u64(8)) == b"\x00"
    assert labels.runs(block, u64(8)).shape == (0, 4)


def solid(shape: tuple[int, int, int], label: int) -> bytes:
    return encode_block(np.full(shape, label, np.uint64))


def test_solid_blocks_join_to_one_run_a_row() -> None:
    coords = np.array([[0, 0, x] for x in range(-3, 4)], np.int32)
    got = labels.runs_of_blocks([solid((16, 16, 16), 5)] * 7, coords, (16, 16, 16), u64(5))
    assert got.shape == (256, 4) and (got[:, 0] == -48).all() and (got[:, 3] == 7 * 16).all()
    assert labels.runs_of_blocks([solid((16, 16, 16), 5)] * 7, coords, (16, 16, 16), u64(6)).shape == (0, 4)
    assert labels.runs_of_blocks([], np.empty((0, 3), np.int32), (16, 16, 16), u64(5)).shape == (0, 4)


def test_no_labels_asked_for() -> None:
    block = encode_block(np.arange(4096, dtype=np.uint64).reshape(16, 16, 16) % np.uint64(3))
    assert labels.runs(block, u64()).shape == (0, 4)
    assert labels.binary_block(block, u64()) == b"\x00"


def test_blocks_at_the_ends_of_int32() -> None:
    block = solid((16, 16, 16), 1)
    last = 2**31 - 16
    got = labels.runs(block, u64(1), (last, last, last))
    assert got[-1].tolist() == [last, 2**31 - 1, 2**31 - 1, 16]
    np.testing.assert_array_equal(
        labels.runs_of_blocks([block], np.full((1, 3), last // 16, np.int32), (16,) * 3, u64(1)), got
    )
    lowest = labels.runs(block, u64(1), (-(2**31),) * 3)
    assert lowest[0].tolist() == [-(2**31)] * 3 + [16]
    for axis in range(3):
        origin = [0, 0, 0]
        for origin[axis] in (last + 1, 2**31, 2**70, -(2**31) - 1):
            with pytest.raises(ValueError, match="int32"):
                labels.runs(block, u64(1), origin)
        coord = np.zeros((1, 3), np.int32)
        for coord[0, axis] in (2**27, -(2**27) - 1, 2**31 - 1, -(2**31)):
            with pytest.raises(ValueError, match="int32"):
                labels.runs_of_blocks([block], coord, (16, 16, 16), u64(1))


def test_malformed_calls() -> None:
    block, coords, shape = solid((16, 16, 16), 1), np.array([[0, 0, 0], [0, 0, 1]], np.int32), (16, 16, 16)
    for blocks, at, of, message in (
        ([block], coords, shape, "1 blocks"),
        ([block] * 2, coords[:, :2].copy(), shape, "2 blocks"),
        ([block] * 2, coords[::-1].copy(), shape, "ascending"),
        ([block] * 2, coords[[0, 0]], shape, "ascending"),
        ([block] * 2, coords, (16, 16, 24), "among blocks of"),
        ([block] * 2, coords, (16, 16, 20), "multiples of 8"),
        ([block] * 2, coords, (16, 16, 2**40), "multiples of 8"),
        ([block] * 2, coords, (4, 16, 16), "multiples of 8"),
        ([block, block[:-1]], coords, shape, "24 at least"),
        ([block, block + b"1"], coords, shape, "after a solid"),
    ):
        with pytest.raises(ValueError, match=message):
            labels.runs_of_blocks(blocks, at, of, u64(1))
    with pytest.raises(ValueError):
        labels.runs(block, np.array([1]))
    with pytest.raises(ValueError):
        labels.binary_block(block, u64(1).reshape(1, 1))
    with pytest.raises(ValueError, match="contiguous"):
        labels.runs(np.zeros((8, 8), np.uint8)[:, ::2], u64(1))
    with pytest.raises(TypeError):
        labels.runs("text", u64(1))  # type: ignore[arg-type]


def test_values_beyond_the_labels_of_a_sub_block_are_refused() -> None:
    volume = np.ones((16, 16, 16), np.uint64)
    volume[0, 0, :3] = (5, 6, 7)
    volume[0, 0, 4] = 8
    block = bytearray(encode_block(volume))  # five labels: values of 3 bits
    block[-1] |= 7
    for call in (labels.runs, labels.binary_block):
        with pytest.raises(ValueError, match="voxel value"):
            call(block, u64(5))


@examples
@given(volumes((16, 16, 24)), label_sets, st.data())
def test_damaged_blocks_are_refused_or_answered_within_bounds(
    volume: Volume, wanted: NDArray[np.uint64], data: st.DataObject
) -> None:
    block = bytearray(encode_block(volume))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(len(block) - 1, 300)) | st.integers(0, len(block) - 1))
        block[at] = data.draw(st.sampled_from([0, 1, 2, 3, 127, 255]) | st.integers(0, 255))
    cut = data.draw(st.just(len(block)) | st.integers(0, len(block)))
    try:
        runs = labels.runs(block[:cut], wanted)
    except ValueError:
        return
    assert (runs[:, :3] >= 0).all() and (runs[:, 3] > 0).all()
    assert (runs[:, 0] + runs[:, 3] <= 1024).all()


def test_many_threads_give_the_same_runs() -> None:
    rng = np.random.default_rng(3)
    volume = rng.integers(0, 6, (16, 32, 72)).repeat(2, axis=0).astype(np.uint64)
    block = encode_block(volume)
    coords = np.array([[z, y, x] for z in range(2) for y in range(2) for x in range(3)], np.int32)
    expected = labels.runs_of_blocks([block] * 12, coords, volume.shape, u64(2, 4))
    got: list[Runs] = []

    def work() -> None:
        for _ in range(5):
            got.append(labels.runs_of_blocks([block] * 12, coords, volume.shape, u64(4, 2)))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 30
    for runs in got:
        np.testing.assert_array_equal(runs, expected)


@pytest.mark.skipif(not SAMPLES, reason="needs the sample segmentations")
def test_real_segmentations() -> None:
    for path in SAMPLES:
        volume = np.frombuffer(gzip.decompress(path.read_bytes()), "<u8").reshape(64, 64, 64)
        coded = [encode_block(volume)]
        by_dvid = path.with_name(path.name.replace(".dat", "-block.dat"))
        if by_dvid.exists():
            coded.append(gzip.decompress(by_dvid.read_bytes()))
        found = np.unique(volume)
        for block, wanted in product(coded, (found[:1], found[::2], found[-1:], found)):
            mask = mask_of(volume, wanted)
            np.testing.assert_array_equal(labels.runs(block, wanted), mask_to_runs(mask))
            assert labels.binary_block(block, wanted) == binary_block(mask)
