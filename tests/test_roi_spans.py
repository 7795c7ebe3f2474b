"""Sets of blocks as spans: the index against a plain set, at any coordinate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvidcore.datatypes.roi.region import Region, _Kept
from dvidcore.datatypes.roi.spans import Spans, sorted_spans
from dvidcore.errors import BadRequest, StoreError
from dvidcore.geometry import INT32_MAX, INT32_MIN, ZYX, BlockBox
from roi_model import blocks_of, spans_of, voxels

SMALL = st.integers(-4, 4)
SPANS = st.lists(
    st.tuples(SMALL, SMALL, SMALL, st.integers(0, 5)).map(lambda s: [s[0], s[1], s[2], s[2] + s[3]]), max_size=25
)


def of(spans: list[list[int]]) -> Spans:
    return sorted_spans(np.array(spans, np.int64).reshape(-1, 4))


@settings(max_examples=60, deadline=None)
@given(SPANS)
def test_sorted_without_duplicates_and_joined(spans):
    found = of(spans)
    assert found.rows.tolist() == sorted(map(list, set(map(tuple, spans))))
    assert found.joined.tolist() == spans_of(blocks_of(spans))
    zs = [z for z, *_ in spans]
    assert found.z_range == ((min(zs), max(zs)) if zs else (INT32_MAX, INT32_MIN))
    assert Spans.unpack(found.pack()).rows.tolist() == found.rows.tolist()


@settings(max_examples=60, deadline=None)
@given(SPANS, st.lists(st.tuples(SMALL, SMALL, st.integers(-6, 12)), max_size=20))
def test_contains(spans, asked):
    inside = blocks_of(spans)
    points = np.array(asked, np.int64).reshape(-1, 3)
    assert of(spans).contains(points).tolist() == [p in inside for p in asked]


@settings(max_examples=60, deadline=None)
@given(SPANS, st.tuples(SMALL, SMALL, SMALL), st.tuples(*[st.integers(1, 7)] * 3))
def test_inside_of_a_box(spans, low, size):
    box = BlockBox(ZYX(*low), ZYX(*(a + n - 1 for a, n in zip(low, size, strict=True))))
    inside = blocks_of(spans)
    found = of(spans).inside(box)
    assert found.dtype == bool and found.shape == size
    assert found.ravel().tolist() == [c in inside for c in box.coords()]


@settings(max_examples=40, deadline=None)
@given(SPANS, st.tuples(*[st.integers(-20, 20)] * 3), st.tuples(*[st.integers(1, 20)] * 3))
def test_layers_of_voxels(spans, offset, size):
    block = ZYX(5, 3, 2)
    region = Region(of(spans), block)
    out = np.full(size, 7, np.uint16)
    reached = []
    for layer, inside in region.layers(ZYX(*offset), size):
        out[layer] = inside
        reached += range(layer.start, layer.stop)
    assert reached == list(range(size[0]))
    wanted = voxels(spans, offset, size, block)
    assert out.tolist() == wanted.astype(int).tolist()
    colours = np.full((*size, 3), 9, np.uint8)
    region.blank(ZYX(*offset), colours, 2)
    assert (colours == np.where(wanted[..., None], 9, 2)).all()
    points = np.argwhere(np.ones(size, bool)) + offset
    assert region.contains(points).tolist() == wanted.ravel().tolist()


def test_the_ends_of_the_lattice():
    low, high = INT32_MIN, INT32_MAX
    spans = [[z, y, x, x] for z in (low, high) for y in (low, high) for x in (low, high)]
    found = of(spans)
    assert found.joined.tolist() == spans
    asked = np.array([[z, y, x] for z, y, x, _ in spans], np.int64)
    assert found.contains(asked).all()
    assert not found.contains(np.where(asked < 0, asked + 1, asked - 1)).any()
    box = BlockBox(ZYX(high - 1, high - 1, high - 1), ZYX(high, high, high))
    assert found.inside(box).ravel().tolist() == [False] * 7 + [True]
    whole = of([[0, 0, low, high]])
    assert whole.contains(np.array([[0, 0, low], [0, 0, 0], [0, 0, high], [0, 1, low]])).tolist() == [True] * 3 + [
        False
    ]


def test_many_spans():
    inside = np.random.default_rng(3).random((40, 50, 60)) < 0.4
    z, y, x = np.nonzero(inside)
    found = sorted_spans(np.stack((z, y, x, x), 1)[np.random.default_rng(4).permutation(len(z))])
    assert (found.inside(BlockBox(ZYX(0, 0, 0), ZYX(39, 49, 59))) == inside).all()
    assert (found.inside(BlockBox(ZYX(7, 11, 13), ZYX(20, 30, 33))) == inside[7:21, 11:31, 13:34]).all()
    assert (found.contains(np.argwhere(np.ones_like(inside))) == inside.ravel()).all()


def test_writes_need_blocks_of_one_size():
    region = Region(of([[0, 0, 0, 0]]), ZYX(32, 32, 32))
    assert region.blocks(ZYX(0, 0, -32), (32, 32, 64), ZYX(32, 32, 32)).tolist() == [[[False, True]]]
    with pytest.raises(BadRequest, match=r"\[32, 32, 32\].*\[64, 64, 64\]"):
        region.blocks(ZYX(0, 0, 0), (64, 64, 64), ZYX(64, 64, 64))


def test_damaged_spans_are_an_error_of_the_store():
    with pytest.raises(StoreError, match="damaged"):
        Spans.unpack(b"\x00" * 20)


def test_what_is_kept_is_bounded():
    spans = [of([[z, 0, 0, x] for x in range(100)]) for z in range(5)]
    kept = _Kept(3 * spans[0].nbytes)
    for k, some in enumerate(spans[:3]):
        kept.put(bytes([k]), some)
    assert kept.get(b"\x00") is spans[0]
    kept.put(b"\x00", spans[4])
    assert kept.get(b"\x00") is spans[0], "equal digests are equal spans"
    kept.put(b"\x03", spans[3])
    assert [k for k in range(5) if kept.get(bytes([k]))] == [0, 2, 3], "the one asked for longest ago goes"
    kept.put(b"\x09", of([[0, 0, 0, x] for x in range(1000)]))
    assert [k for k in range(10) if kept.get(bytes([k]))] == [9], "a single large one stays"
