"""labelarray: coarser scales and index after posts, where DVID's go wrong, and what needs an index."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from dvidcore.repos import Database
from legacy_labels import Legacy, cells, pack

ORIGIN = (-32, -48, -16)
SHAPE = (64, 64, 64)


@pytest.fixture
def legacy(database: Database) -> Legacy:
    return Legacy(database).array()


@pytest.mark.parametrize("query", ["", "?mutate=true"])
def test_a_block_of_zeros_leaves_its_neighbours_at_coarser_scales(legacy: Legacy, query: str) -> None:
    volume = cells(41, SHAPE, [1, 2, 3])
    legacy.write(volume, ORIGIN, "arr", query)
    legacy.write(np.zeros((16, 16, 16), np.uint64), (-16, -32, 0), "arr", query)
    volume[16:32, 16:32, 16:32] = 0
    legacy.array_is(volume, ORIGIN)
    assert legacy.findings() == []


def test_bodies_at_negative_blocks_are_merged(legacy: Legacy) -> None:
    volume = cells(42, SHAPE, [1, 2, 3])
    legacy.write(volume, ORIGIN, "arr")
    legacy.done("arr/merge", [3, 1])
    volume[volume == 1] = 3
    legacy.array_is(volume, ORIGIN)


def test_labels_that_vanish_from_blocks_leave_the_index(legacy: Legacy) -> None:
    legacy.write(cells(43, SHAPE, [1, 2, 3]), ORIGIN, "arr")
    volume = cells(44, SHAPE, [3, 4])
    legacy.write(volume, ORIGIN, "arr")
    legacy.array_is(volume, ORIGIN)
    assert legacy.runs(1, name="arr") is None and legacy.coarse(1, "arr") is None


def test_size_of_a_label(legacy: Legacy) -> None:
    legacy.write(np.full((16, 32, 16), 7, np.uint64), (-16, 0, 16), "arr")
    answer = legacy.get("arr/sparsevol-size/7")
    assert answer.json() == {"numblocks": 2, "minvoxel": [16, 0, -16], "maxvoxel": [31, 31, -1]}
    assert answer.headers["content-type"] == "application/json"
    assert legacy.get("arr/sparsevol-size/8").status == 404


def test_coarse_volumes_within_bounds(legacy: Legacy) -> None:
    legacy.write(np.full((16, 16, 64), 7, np.uint64), (0, 0, 0), "arr")
    body = legacy.get("arr/sparsevols-coarse/1/9?minx=16&maxx=47").body
    assert struct.unpack("<Qi4i", body) == (7, 1, 1, 0, 0, 2)


def test_without_an_index(database: Database) -> None:
    legacy = Legacy(database).array(IndexedLabels="false")
    volume = cells(45, (32, 32, 32), [1, 2])
    legacy.write(volume, name="arr")
    assert np.array_equal(legacy.read((32, 32, 32), name="arr"), volume)
    for path in ("sparsevol/1", "sparsevol-by-point/3_3_3", "sparsevol-coarse/1", "sparsevol-size/1"):
        assert "IndexedLabels=false" in legacy.refused("GET", f"arr/{path}")
    for path in ("sparsevols-coarse/1/9", "maxlabel", "nextlabel"):
        assert "IndexedLabels=false" in legacy.refused("GET", f"arr/{path}")
    for path, body in (("merge", [1, 2]), ("split/1", pack([[0, 0, 0, 1]])), ("split-coarse/1", pack([[0, 0, 0, 1]]))):
        assert "IndexedLabels=false" in legacy.refused("POST", f"arr/{path}", body)


@pytest.mark.parametrize(
    "config",
    [
        {"MaxDownresLevel": "-1"},
        {"MaxDownresLevel": "256"},
        {"IndexedLabels": "maybe"},
        {"CountLabels": "2"},
        {"BlockSize": "24,16,16"},
    ],
)
def test_settings_that_are_refused(legacy: Legacy, config: dict[str, str]) -> None:
    whole = {"typename": "labelarray", "dataname": "other", **config}
    assert legacy.client.post(f"/api/repo/{legacy.root}/instance", whole).status == 400
    assert legacy.get("other/info").status == 400
