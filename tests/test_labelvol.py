"""labelvol: sparse volumes to the run, bounds, points, counters, repairs."""

from __future__ import annotations

import gzip

import lz4.block
import numpy as np
import pytest

from dvidcore.repos import Database
from legacy_labels import SIDE, Legacy, Volume, blocks_of, cells, cut_runs_of, pack, picture, runs_of, unpack

ORIGIN = (-16, -32, -48)
SHAPE = (48, 64, 80)
LABELS = [1, 2, 3, 4, 5, 2**41]


@pytest.fixture
def legacy(database: Database) -> Legacy:
    return Legacy(database).pair(chain=())


@pytest.fixture
def volume(legacy: Legacy) -> Volume:
    made = cells(21, SHAPE, LABELS)
    legacy.write(made, ORIGIN)
    return made


def test_runs_are_cut_at_blocks_and_sorted(legacy: Legacy, volume: Volume) -> None:
    legacy.pair_is(volume, ORIGIN)
    answer = legacy.get("vol/sparsevol/2")
    assert answer.headers["content-type"] == "application/octet-stream"
    packed = legacy.get("vol/sparsevol/2?compression=lz4").body
    assert lz4.block.decompress(packed, uncompressed_size=len(answer.body)) == answer.body
    zipped = legacy.get("vol/sparsevol/2?compression=gzip")
    assert gzip.decompress(zipped.body) == answer.body and "content-encoding" not in zipped.headers


@pytest.mark.parametrize("block", ["8,8,8", "24,8,16"])
def test_other_block_sizes(database: Database, block: str) -> None:
    legacy = Legacy(database).pair(block, chain=())
    volume = cells(22, (32, 32, 48), [1, 2, 3])
    legacy.write(volume)
    legacy.done("vol/merge", [2, 1])
    volume[volume == 1] = 2
    mask = (volume == 3) & (np.indices(volume.shape)[1] < 13)
    new = legacy.done("vol/split/3", pack(runs_of(mask))).json()["label"]
    volume[mask] = new
    assert np.array_equal(legacy.read(volume.shape), volume)
    for label in (2, 3, new):
        found = np.zeros(volume.shape, bool)
        for x, y, z, n in legacy.runs(label) or []:
            assert x // int(block.split(",", maxsplit=1)[0]) == (x + n - 1) // int(block.split(",", maxsplit=1)[0])
            found[z, y, x : x + n] = True
        assert np.array_equal(found, volume == label)


BOUNDS = [
    *({f"{end}{axis}": value} for end in ("min", "max") for axis in "xyz" for value in (-17, -16, -1, 0, 7)),
    {"minx": -30, "maxx": 11, "miny": -9, "maxy": 20, "minz": -5, "maxz": 17},
    {"minx": -1, "maxx": -1, "miny": -1, "maxy": -1, "minz": -1, "maxz": -1},
]


@pytest.mark.parametrize("bounds", BOUNDS)
def test_bounds(legacy: Legacy, volume: Volume, bounds: dict[str, int]) -> None:
    query = "?" + "&".join(f"{name}={value}" for name, value in bounds.items())
    inside, blocks = np.ones(SHAPE, bool), np.ones(SHAPE, bool)
    for axis, (name, indices) in enumerate(zip("zyx", np.indices(SHAPE), strict=True)):
        at = indices + ORIGIN[axis]
        for mask, places, scale in ((inside, at, 1), (blocks, at // SIDE, SIDE)):
            mask &= places >= bounds.get(f"min{name}", -100) // scale
            mask &= places <= bounds.get(f"max{name}", 100) // scale
    for label in (1, 3):
        exact, whole = (volume == label) & inside, (volume == label) & blocks
        assert legacy.runs(label, query) == (cut_runs_of(exact, ORIGIN) if exact.any() else None)
        assert legacy.runs(label, f"{query}&exact=false") == (cut_runs_of(whole, ORIGIN) if whole.any() else None)
        assert legacy.ask("HEAD", f"vol/sparsevol/{label}{query}").status == (200 if whole.any() else 204)


@pytest.mark.parametrize("query", ["?minx=6000", "?maxy=-6000", "?minz=6000"])
def test_bounds_that_miss_everything_are_a_404_along_every_axis(legacy: Legacy, volume: Volume, query: str) -> None:
    assert legacy.runs(1, query) is None
    assert legacy.ask("HEAD", f"vol/sparsevol/1{query}").status == 204


def test_what_does_not_exist(legacy: Legacy, volume: Volume) -> None:
    for path in ("sparsevol/99", "sparsevol-coarse/99"):
        answer = legacy.get(f"vol/{path}")
        assert (answer.status, answer.body) == (404, b"")
    head = legacy.ask("HEAD", "vol/sparsevol/99")
    assert head.status == 204 and head.headers["content-type"] == "text/html"


def test_by_point(legacy: Legacy, volume: Volume) -> None:
    for label in (1, 2**41):
        z, y, x = (int(c + o) for c, o in zip(np.argwhere(volume == label)[7], ORIGIN, strict=True))
        body = legacy.get(f"vol/sparsevol-by-point/{x}_{y}_{z}").body
        assert unpack(body) == cut_runs_of(volume == label, ORIGIN)
    legacy.refused("GET", "vol/sparsevol-by-point/900_0_0")
    legacy.done("vol/sync?replace=true", {"sync": ""})
    assert "not synced" in legacy.refused("GET", f"vol/sparsevol-by-point/{x}_{y}_{z}")


def test_counters(legacy: Legacy) -> None:
    legacy.refused("GET", "vol/maxlabel")
    assert legacy.number("nextlabel") == 1
    legacy.write(np.full((16, 16, 16), 30, np.uint64))
    assert (legacy.number("maxlabel"), legacy.number("nextlabel")) == (30, 31)
    assert legacy.get("vol/info").json()["Extended"] == {
        "VoxelSize": [8, 8, 8],
        "VoxelUnits": ["nanometers"] * 3,
        "BlockSize": [16, 16, 16],
        "MaxLabel": {legacy.root: 30},
    }
    legacy.client.commit(legacy.root)
    child, other = (
        legacy.client.child(legacy.root),
        legacy.client.post(f"/api/node/{legacy.root}/branch", {"branch": "b"}),
    )
    assert legacy.number("maxlabel", node=child) == 30, "a fresh child has its ancestor's"
    legacy.write(np.full((16, 16, 16), 50, np.uint64), node=child)
    assert legacy.number("nextlabel", node=other.json()["child"]) == 51
    assert legacy.number("maxlabel", node=other.json()["child"]) == 30


def test_posts_without_mutate_leave_nothing_behind(legacy: Legacy, volume: Volume) -> None:
    new = cells(23, SHAPE, [4, 5, 6])
    legacy.write(new, ORIGIN)
    legacy.pair_is(new, ORIGIN)
    assert legacy.runs(1) is None and legacy.runs(2**41) is None


def test_a_label_that_only_grows_is_followed(legacy: Legacy, volume: Volume) -> None:
    grown = volume.copy()
    grown[(volume == 0) & (np.indices(SHAPE)[0] % 2 == 0)] = 3
    legacy.write(grown, ORIGIN, query="?mutate=true")
    legacy.pair_is(grown, ORIGIN)


# -- repairs -----------------------------------------------------------------------------------------------------------


def test_area_and_resync(legacy: Legacy, volume: Volume) -> None:
    area = np.zeros(SHAPE, bool)
    area[16:, 16:48, 32:] = True
    assert legacy.ask("DELETE", "vol/area/3/48_32_32/-16_-16_0").status == 200
    left = (volume == 3) & ~area
    assert legacy.runs(3) == cut_runs_of(left, ORIGIN) and legacy.coarse(3) == blocks_of(left, ORIGIN)
    assert np.array_equal(legacy.read(SHAPE, ORIGIN), volume), "the voxels stay"
    assert legacy.runs(2) == cut_runs_of(volume == 2, ORIGIN), "other labels stay"
    some = [[-1, -1, 0, 2]]
    legacy.done("vol/resync/3", pack(some))
    back = area.copy()
    back[:, 32:], back[32:], back[:, :, 64:] = False, False, False
    left |= (volume == 3) & back
    assert legacy.runs(3) == cut_runs_of(left, ORIGIN)
    legacy.done("vol/resync/3", pack(blocks_of(np.ones(SHAPE, bool), ORIGIN)))
    legacy.pair_is(volume, ORIGIN)
    assert legacy.findings() == []


def test_area_of_all_that_a_label_has(legacy: Legacy, volume: Volume) -> None:
    assert legacy.ask("DELETE", "vol/area/3/80_64_48/-48_-32_-16").status == 200
    assert legacy.runs(3) is None
    assert legacy.ask("DELETE", "vol/area/3/80_64_48/-48_-32_-16").status == 200
    legacy.done("vol/merge", [1, 2])
    assert (legacy.read(SHAPE, ORIGIN) == np.where(volume == 2, 1, volume)).all()


def test_resync_of_a_labelvol_that_came_later(legacy: Legacy, volume: Volume) -> None:
    legacy.client.instance(legacy.root, "late", "labelvol", BlockSize="16,16,16")
    legacy.done("late/sync", {"sync": "blk"})
    assert legacy.runs(3, name="late") is None
    huge = [[x, y, z, 2**31 - 1] for x, y, z, _ in blocks_of(np.ones(SHAPE, bool), ORIGIN)]
    legacy.done("late/resync/3", pack(huge))
    assert legacy.runs(3, name="late") == cut_runs_of(volume == 3, ORIGIN)
    assert legacy.runs(2, name="late") is None
    assert legacy.number("nextlabel", "late") == 4
    legacy.done("late/resync/99", pack(huge))
    assert legacy.runs(99, name="late") is None


def test_what_merged_versions_both_changed(legacy: Legacy, volume: Volume) -> None:
    """Blocks that one side changed are seen below the merge, with an index that fits; others are a conflict of both."""
    legacy.client.commit(legacy.root)
    left = legacy.client.child(legacy.root)
    right = legacy.client.post(f"/api/node/{legacy.root}/branch", {"branch": "b"}).json()["child"]
    expected = volume.copy()
    legacy.write(new := cells(24, (16, 32, 80), [1, 2, 77]), ORIGIN, node=left)
    expected[:16, :32] = new
    legacy.write(new := cells(25, (32, 32, 80), [1, 5, 88]), (0, 0, -48), node=right)
    expected[16:, 32:] = new
    merge = {"mergeType": "conflict-free", "parents": [left, right], "note": ""}
    for node in (left, right):
        legacy.client.commit(node)
    child = legacy.client.post(f"/api/repo/{legacy.root}/merge", merge).json()["child"]
    legacy.pair_is(expected, ORIGIN, child)
    legacy.done("vol/merge", [1, 5], child)
    expected[expected == 5] = 1
    legacy.pair_is(expected, ORIGIN, child)
    assert legacy.findings() == []


def test_what_merged_versions_changed_in_the_same_block(legacy: Legacy, volume: Volume) -> None:
    legacy.client.commit(legacy.root)
    left = legacy.client.child(legacy.root)
    right = legacy.client.post(f"/api/node/{legacy.root}/branch", {"branch": "b"}).json()["child"]
    legacy.write(np.full((16, 16, 16), 90, np.uint64), ORIGIN, node=left)
    legacy.write(np.full((16, 16, 16), 91, np.uint64), ORIGIN, node=right)
    for node in (left, right):
        legacy.client.commit(node)
    merge = {"mergeType": "conflict-free", "parents": [left, right], "note": ""}
    child = legacy.client.post(f"/api/repo/{legacy.root}/merge", merge).json()["child"]
    for path in ("blk/raw/0_1_2/16_16_16/-48_-32_-16", "vol/sparsevol/90", "vol/sparsevol/91"):
        assert legacy.get(path, node=child).status == 409
    before = picture(legacy, ("blk", "vol"))
    legacy.refused("POST", "vol/merge", [1, 90], child, status=409)
    assert picture(legacy, ("blk", "vol")) == before
    expected = volume.copy()
    expected[:16, :16, :16] = 92
    legacy.write(expected[:16, :16, :16], ORIGIN, node=child)
    legacy.pair_is(expected, ORIGIN, child)
    assert legacy.runs(90, node=child) is None
    assert legacy.findings() == []


BAD = [
    *(
        ("GET", f"sparsevol/{label}", None)
        for label in ("0", "x", "-4", "", "3?minx=a", "3?maxz=1.5", "3?compression=zip")
    ),
    *(
        ("GET", path, None)
        for path in ("sparsevol-coarse/0", "sparsevol-by-point/1_2", "sparsevol-by-point/a_b_c", "merge")
    ),
    *(
        ("GET", path, None)
        for path in ("area/3/16_16_16/0_0_0", "metadata", "resolution", "raw/0_1_2/1_1_1/0_0_0", "nosuch")
    ),
    *(
        ("GET", path, None)
        for path in ("label/1_1_1", "blocks/16_16_16/0_0_0", "sparsevols-coarse/1/9", "sparsevol-size/3")
    ),
    *(
        ("POST", path, b"")
        for path in ("nextlabel", "maxlabel", "sparsevol/3", "info", "metadata", "resolution", "cleave/3")
    ),
    *(
        ("POST", "raw/0_1_2/16_16_16/0_0_0", bytes(8 * 16**3)),
        ("HEAD", "sparsevol/0", None),
        ("HEAD", "sparsevol/x", None),
    ),
    *(
        ("DELETE", f"area/{path}", None)
        for path in ("0/16_16_16/0_0_0", "3/15_16_16/0_0_0", "3/16_16_16/1_0_0", "3", "3/1_1/0_0_0")
    ),
    *(("DELETE", path, None) for path in ("area/3/0_16_16/0_0_0", "area/x/16_16_16/0_0_0", "sparsevol/3")),
    *(
        ("POST", "resync/3", body)
        for body in (b"", pack([[0, 0, 0, -1]]), pack([[0, 0, 0, 1]])[:-4], pack([[0, 0, 0, 1]], count=2**32 - 1))
    ),
    *(("POST", path, pack([[0, 0, 0, 1]])) for path in ("resync/0", "resync/x", "resync")),
    *(("POST", "sync", body) for body in ({"sync": "vol"}, {"sync": "none"}, b"x", {"sync": 4})),
    *(("PUT", "sparsevol/3", pack([[0, 0, 0, 1]])),),
]


def test_bad_requests_change_nothing(legacy: Legacy, volume: Volume) -> None:
    before = picture(legacy, ("blk", "vol"))
    for verb, path, body in BAD:
        answer = legacy.ask(verb, f"vol/{path}", body)
        assert answer.status == 400, (verb, path, answer.status, answer.text)
    assert picture(legacy, ("blk", "vol")) == before
