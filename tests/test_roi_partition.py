"""roi partition: the boxes against a plain walk through the blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiclient import Client
from dvidcore.datatypes.roi.partition import MOST, boxes
from dvidcore.datatypes.roi.spans import sorted_spans
from dvidcore.errors import BadRequest
from roi_model import blocks_of, some_spans, spans_of

COORDINATE = st.integers(-9, 9)
BLOCKS = st.sets(st.tuples(COORDINATE, COORDINATE, COORDINATE), max_size=40)


def simple_edges(values: list[int], step: int, past: bool) -> list[tuple[int, int]]:
    """(first, last) of the pieces of a range, what they are too long divided between its two ends."""
    low, high = min(values), max(values)
    rest = (high - low + 1) % step
    start, stop = low - rest // 2, high + (rest - rest // 2 if past else 0)
    return [(a, a + step - 1) for a in range(start, stop + 1, step)]


def optimized_edges(values: list[int], step: int, late: bool) -> list[tuple[int, int]]:
    """(first, last) of the pieces of a range from its start, the first ones longer; with ``late`` those after the first."""
    low, high = min(values), max(values)
    rest = (high - low + 1) % step
    out: list[tuple[int, int]] = []
    while low <= high:
        longer = len(out) - late in range(rest)
        out.append((low, low + step - 1 + longer))
        low = out[-1][1] + 1
    return out


def reference(blocks: set[tuple[int, int, int]], step: int, optimized: bool):
    """([(low, high, active)], blocks of all boxes), low and high as [x, y, z]."""
    listed, total = [], 0

    def edges(values, axis):
        return optimized_edges(values, step, axis == "z") if optimized else simple_edges(values, step, axis != "z")

    for z0, z1 in edges([z for z, _, _ in blocks], "z") if blocks else []:
        layer = [b for b in blocks if z0 <= b[0] <= z1]
        for y0, y1 in edges([y for _, y, _ in layer], "y") if layer else []:
            row = [b for b in layer if y0 <= b[1] <= y1]
            for x0, x1 in edges([x for _, _, x in row], "x") if row else []:
                total += (z1 - z0 + 1) * (y1 - y0 + 1) * (x1 - x0 + 1)
                active = sum(x0 <= x <= x1 for _, _, x in row)
                if active:
                    listed.append(([x0, y0, z0], [x1, y1, z1], active))
    return listed, total


@settings(max_examples=120, deadline=None)
@given(BLOCKS, st.integers(1, 7), st.booleans())
def test_boxes(blocks, step, optimized):
    found = boxes(sorted_spans(np.array(spans_of(blocks), np.int64).reshape(-1, 4)).joined, step, optimized)
    listed, total = reference(blocks, step, optimized)
    assert list(zip(found.low.tolist(), found.high.tolist(), found.active.tolist(), strict=True)) == listed
    assert found.total == total
    assert int(found.active.sum()) == len(blocks), "each block is in one box"


@pytest.fixture
def client(database):
    return Client(database)


def create(client: Client, spans: list[list[int]], **settings_: str) -> str:
    path = client.instance(client.repo(), "area", "roi", **settings_)
    assert client.post(f"{path}/roi", spans).status == 200
    return f"{path}/partition"


def test_the_answer(client):
    path = create(client, [[0, 0, 0, 0], [0, 1, 9, 9], [1, 2, 4, 5]], BlockSize="16,32,8")
    answer = client.get(f"{path}?batchsize=2")
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert list(found) == ["NumTotalBlocks", "NumActiveBlocks", "NumSubvolumes", "ROI", "Subvolumes"]
    assert found["ROI"] == {"MinChunk": [0, 0, 0], "MaxChunk": [9, 2, 1]}
    assert (found["NumTotalBlocks"], found["NumActiveBlocks"], found["NumSubvolumes"]) == (48, 4, 3)
    assert found["Subvolumes"][1] == {
        "MinPoint": [128, 0, 0],
        "MaxPoint": [159, 63, 15],
        "MinChunk": [8, 0, 0],
        "MaxChunk": [9, 1, 1],
        "TotalBlocks": 8,
        "ActiveBlocks": 1,
    }


def test_eight_blocks_a_side_where_nothing_is_said(client):
    path = create(client, some_spans(1, (9, 9, 9)))
    assert client.get(path).json() == client.get(f"{path}?batchsize=8").json()
    assert client.get(f"{path}?optimized=on").json() == client.get(f"{path}?batchsize=8&optimized=true").json()
    assert client.get(f"{path}?optimized=no").json() == client.get(path).json()


@pytest.mark.parametrize("size", ["0", "-1", "-8", "", "x", "2.5", "10001", "99999999999999999999"])
def test_batchsizes_that_are_none(client, size):
    path = create(client, [[0, 0, 0, 5]])
    answer = client.get(f"{path}?batchsize={size}")
    assert answer.status == 400 and "batchsize" in answer.text


def test_an_empty_roi(client):
    path = create(client, [])
    for query in ("", "?optimized=true"):
        assert client.get(path + query).json() == {
            "NumTotalBlocks": 0,
            "NumActiveBlocks": 0,
            "NumSubvolumes": 0,
            "ROI": {"MinChunk": [0, 0, 0], "MaxChunk": [0, 0, 0]},
            "Subvolumes": [],
        }


@pytest.mark.parametrize("optimized", [False, True])
def test_a_gap_of_whole_layers(client, optimized):
    """Each block is reported in a box that holds it, also where several layers before are empty."""
    spans = [[0, 0, 0, 1], [20, 0, 0, 1], [41, 3, 2, 2]]
    path = create(client, spans)
    found = client.get(f"{path}?batchsize=4&optimized={str(optimized).lower()}").json()
    for z, y, x in blocks_of(spans):
        holding = [
            box
            for box in found["Subvolumes"]
            if all(a <= c <= b for a, c, b in zip(box["MinChunk"], (x, y, z), box["MaxChunk"], strict=True))
        ]
        assert len(holding) == 1
    assert found["NumActiveBlocks"] == 5 and found["ROI"]["MaxChunk"][2] == 41


def test_overlapping_spans_count_once(client):
    path = create(client, [[0, 0, 0, 5], [0, 0, 3, 9], [0, 0, 4, 4]])
    found = client.get(f"{path}?batchsize=10").json()
    assert found["NumActiveBlocks"] == 10 and found["Subvolumes"][0]["ActiveBlocks"] == 10


def test_an_optimized_partition_with_holes(client):
    """Empty columns of blocks, in the first box as well as between others."""
    spans = [[0, 0, 5, 5], [0, 3, 0, 0], [0, 3, 12, 13], [3, 0, 6, 6]]
    found = client.get(create(client, spans) + "?batchsize=2&optimized=true").json()
    assert sum(box["ActiveBlocks"] for box in found["Subvolumes"]) == len(blocks_of(spans))
    for box in found["Subvolumes"]:
        sides = [b - a + 1 for a, b in zip(box["MinChunk"], box["MaxChunk"], strict=True)]
        assert box["TotalBlocks"] == np.prod(sides) and set(sides) <= {2, 3}
        assert box["MinPoint"] == [32 * c for c in box["MinChunk"]]
        assert box["MaxPoint"] == [32 * c + 31 for c in box["MaxChunk"]]


def test_the_extent_of_the_lattice(client):
    path = create(client, [[-(2**31), 0, -(2**31), -(2**31)], [2**31 - 1, 0, 2**31 - 1, 2**31 - 1]])
    found = client.get(f"{path}?batchsize=10000").json()
    assert found["NumActiveBlocks"] == found["NumSubvolumes"] == 2
    assert found["ROI"]["MinChunk"][2] == -(2**31) and found["ROI"]["MaxChunk"][2] == 2**31 - 1


def test_too_many_boxes_are_refused(client):
    path = create(client, [[0, 0, 0, MOST]])
    answer = client.get(f"{path}?batchsize=1")
    assert answer.status == 400 and "batchsize" in answer.text
    assert client.get(f"{path}?batchsize=1000").status == 200
    with pytest.raises(BadRequest):
        boxes(np.array([[0, 0, -(2**31), 2**31 - 1]]), 1, True)


def test_a_long_answer_is_one_json_object(client):
    path = create(client, [[0, y, 0, 99] for y in range(100)])
    found = client.get(f"{path}?batchsize=1").json()
    assert len(found["Subvolumes"]) == found["NumSubvolumes"] == 10_000
    assert [box["MinChunk"] for box in found["Subvolumes"]] == [[x, y, 0] for y in range(100) for x in range(100)]
