"""Keys sort as their parts do, and come apart again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvidcore import errors
from dvidcore.storage import keys

COORDINATE = st.integers(-(2**31), 2**31 - 1)
POINT = st.tuples(COORDINATE, COORDINATE, COORDINATE)
U32 = st.integers(0, 2**32 - 1)
TEXT = st.text(st.characters(blacklist_characters="\x00", blacklist_categories=["Cs"]), max_size=6)


@settings(max_examples=60)
@given(st.lists(POINT, max_size=8))
def test_blocks_sort_by_z_y_x(points: list[tuple[int, int, int]]) -> None:
    encoded = [keys.zyx_key(*point) for point in points]
    assert sorted(encoded) == [keys.zyx_key(*point) for point in sorted(points)]
    assert [keys.zyx_of(key, 0) for key in encoded] == points
    array = np.array(points, np.int64).reshape(-1, 3)
    assert keys.zyx_keys(array) == encoded
    prefix = keys.data_prefix(7, 1)
    with_prefix = keys.zyx_keys(array.astype(np.int32), prefix)
    assert with_prefix == [prefix + key for key in encoded]
    assert [keys.zyx_of(key) for key in with_prefix] == points
    back = keys.zyx_array(with_prefix)
    assert back.dtype == np.int32
    assert np.array_equal(back, array)


def test_neighbouring_blocks_at_zero() -> None:
    assert keys.zyx_key(0, 0, -1) < keys.zyx_key(0, 0, 0) < keys.zyx_key(0, 0, 1) < keys.zyx_key(0, 1, -5)
    assert keys.zyx_key(0, 0, 0) == b"\x80\0\0\0" * 3


@pytest.mark.parametrize("point", [(2**31, 0, 0), (0, -(2**31) - 1, 0)])
def test_coordinates_beyond_32_bits_are_refused(point: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="32 bits"):
        keys.zyx_key(*point)
    with pytest.raises(ValueError, match="32 bits"):
        keys.zyx_keys(np.array([point]))


@pytest.mark.parametrize("array", [np.zeros((3, 2), int), np.zeros(3, int), np.zeros((2, 3))])
def test_arrays_of_another_form_are_refused(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="shape"):
        keys.zyx_keys(array)


@settings(max_examples=60)
@given(st.lists(st.tuples(TEXT, U32), min_size=1, max_size=8))
def test_versions_of_a_text_stay_side_by_side(entries: list[tuple[str, int]]) -> None:
    prefix = keys.data_prefix(3, 9)
    encoded = [prefix + keys.text_key(text) + keys.version_bytes(version) for text, version in entries]
    by_text = sorted(entries, key=lambda entry: (entry[0].encode(), entry[1]))
    parts = [keys.split(key) for key in sorted(encoded)]
    assert [(keys.text_of(type_key), version) for type_key, version in parts] == by_text
    assert all(keys.version_of(key) == version for key, (_, version) in zip(encoded, entries, strict=True))
    assert all(keys.text_of(keys.type_key_of(key[: -keys.VERSION_BYTES])) in dict(entries) for key in encoded)


@pytest.mark.parametrize("text", ["a\x00b", "\x00", "\ud800"])
def test_texts_that_would_break_the_order_are_refused(text: str) -> None:
    with pytest.raises(errors.BadRequest):
        keys.text_key(text)


@settings(max_examples=60)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_numbers_sort_as_numbers(one: int, other: int) -> None:
    assert (keys.u64_key(one) < keys.u64_key(other)) == (one < other)
    assert keys.u64_of(keys.data_prefix(1, 1) + keys.u64_key(one)) == one
    several = np.array([one, other, one], np.uint64)
    assert keys.u64_keys(several) == [keys.u64_key(n) for n in several.tolist()]
    assert keys.u64_keys(several[::2], b"p") == [b"p" + keys.u64_key(one)] * 2
    with pytest.raises(ValueError, match="64 bits"):
        keys.u64_key(one + 2**64)


@settings(max_examples=60)
@given(st.sampled_from([0, 1, 255, 256, 2**31, 2**32 - 2, 2**32 - 1]), st.integers(0, 255), st.binary(max_size=5), U32)
def test_ranges_are_exact(instance: int, kind: int, type_key: bytes, version: int) -> None:
    key = keys.data_prefix(instance, kind) + type_key + keys.version_bytes(version)
    assert keys.split(key) == (type_key, version)
    start, stop = keys.instance_range(instance)
    kind_start, kind_stop = keys.kind_range(instance, kind)
    assert start <= kind_start <= key < kind_stop <= stop
    if instance:
        assert keys.data_prefix(instance - 1, 255) + b"\xff" * 30 < start
        assert keys.instance_range(instance - 1)[1] <= key
    if instance < 2**32 - 1:
        assert stop <= keys.data_prefix(instance + 1, 0)
    log = keys.log_key(instance, version, 2**64 - 1)
    for start, stop in (keys.log_range(instance), keys.log_range(instance, version)):
        assert start <= log < stop
    if instance:
        assert keys.log_range(instance - 1)[1] <= log
    assert keys.split_log(log) == (instance, version, 2**64 - 1)


def test_ids_that_do_not_fit_are_refused() -> None:
    for instance, kind in ((-1, 0), (2**32, 0), (0, 256), (0, -1)):
        with pytest.raises(ValueError, match="must fit"):
            keys.data_prefix(instance, kind)


@settings(max_examples=100)
@given(st.binary(min_size=1, max_size=4), st.binary(max_size=6))
def test_the_end_of_a_prefix_is_exact(prefix: bytes, key: bytes) -> None:
    if not prefix.strip(b"\xff"):
        with pytest.raises(ValueError, match="nothing sorts after"):
            keys.prefix_end(prefix)
    else:
        start, stop = keys.prefix_range(prefix)
        assert (start <= key < stop) == key.startswith(prefix)
