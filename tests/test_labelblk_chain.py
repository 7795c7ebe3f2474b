"""labelblks that are another one at half the resolution, and instances that follow each other in other ways."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from dvidcore.repos import Database, OneStore
from dvidcore.storage.memory import Memory
from legacy_labels import Legacy, Volume, cells, halved, pack, picture, runs_of

ORIGIN = (-48, -16, -64)
SHAPE = (64, 64, 96)
CHAIN = ("half", "quarter")


@pytest.fixture
def legacy(database: Database) -> Legacy:
    return Legacy(database).pair()


@pytest.fixture
def volume(legacy: Legacy) -> Volume:
    made = cells(5, SHAPE, [1, 2, 3, 4, 2**50])
    legacy.write(made, ORIGIN)
    return made


def test_negative_blocks_are_halved_too(legacy: Legacy, volume: Volume) -> None:
    assert np.array_equal(legacy.read(SHAPE, ORIGIN), volume)
    level = halved(volume, zeros=True)
    at = tuple(c // 2 for c in ORIGIN)
    assert np.array_equal(legacy.read(level.shape, at, "half"), level)
    shown = legacy.get("half/info").json()["Extended"]
    assert (shown["MinPoint"], shown["MaxPoint"]) == ([-32, -8, -24], [15, 23, 7])


def test_every_tie_goes_to_the_larger_label_and_zero_counts(legacy: Legacy) -> None:
    rng = np.random.default_rng(7)
    noise = rng.integers(0, 4, (32, 32, 32)).astype(np.uint64) * np.uint64(2**40)
    legacy.write(noise)
    legacy.pair_is(noise, chain=CHAIN)


def test_octants_that_were_not_touched_stay(legacy: Legacy, volume: Volume) -> None:
    """What is posted to a coarser instance itself stays where nothing finer changes."""
    other = cells(8, (16, 16, 16), [70, 71])
    legacy.write(other, (0, 0, 0), "half")
    legacy.write(np.full((16, 16, 16), 9, np.uint64), (0, 0, 0))
    expected = other.copy()
    expected[:8, :8, :8] = 9
    assert np.array_equal(legacy.read((16, 16, 16), (0, 0, 0), "half"), expected)
    assert (legacy.read((4, 4, 4), (0, 0, 0), "quarter") == 9).all()


def test_merges_and_splits_reach_all_levels(legacy: Legacy, volume: Volume) -> None:
    legacy.write(new := np.zeros((64, 64, 64), np.uint64), (0, 0, 0))
    new[:32] = cells(9, (32, 64, 64), [1, 2, 3])
    legacy.write(new, (0, 0, 0))
    legacy.done("vol/merge", [1, 3])
    new[new == 3] = 1
    mask = (new == 1) & (np.indices(new.shape)[2] % 3 == 0)
    made = legacy.done("vol/split/1", pack(runs_of(mask))).json()["label"]
    new[mask] = made
    for name, level in (("half", 1), ("quarter", 2)):
        expected = new
        for _ in range(level):
            expected = halved(expected, zeros=True)
        assert np.array_equal(legacy.read(expected.shape, (0, 0, 0), name), expected)


def test_children_and_branches(legacy: Legacy, volume: Volume) -> None:
    legacy.client.commit(legacy.root)
    child = legacy.client.child(legacy.root)
    legacy.write(np.full((16, 16, 32), 77, np.uint64), ORIGIN, node=child)
    at = tuple(c // 2 for c in ORIGIN)
    assert (legacy.read((8, 8, 16), at, "half", node=child) == 77).all()
    assert np.array_equal(legacy.read((32, 32, 48), at, "half"), halved(volume, zeros=True))


def test_octants_that_merged_versions_changed_are_voted_together(legacy: Legacy) -> None:
    """Both change the same coarse blocks, through different finer ones."""
    volume = cells(14, (64, 64, 64), [1, 2, 3])
    legacy.write(volume)
    legacy.client.commit(legacy.root)
    left = legacy.client.child(legacy.root)
    right = legacy.client.post(f"/api/node/{legacy.root}/branch", {"branch": "b"}).json()["child"]
    for k, node in enumerate((left, right)):
        volume[16 * k : 16 * k + 16] = cells(15 + k, (16, 64, 64), [1, 4 + k])
        legacy.write(volume[16 * k : 16 * k + 16], (16 * k, 0, 0), node=node)
        legacy.client.commit(node)
    merge = {"mergeType": "conflict-free", "parents": [left, right], "note": ""}
    child = legacy.client.post(f"/api/repo/{legacy.root}/merge", merge).json()["child"]
    legacy.pair_is(volume, node=child, chain=CHAIN)
    legacy.done("vol/merge", [1, 4], child)
    volume[volume == 4] = 1
    legacy.pair_is(volume, node=child, chain=CHAIN)
    assert legacy.findings() == []


def test_instances_that_follow_each_other_in_a_ring(database: Database) -> None:
    """Nobody is told of what it said itself."""
    legacy = Legacy(database)
    for name in "abc":
        legacy.client.instance(legacy.root, name, "labelblk", BlockSize="16,16,16")
    for name, source in ("ab", "bc", "ca"):
        legacy.done(f"{name}/sync", {"sync": source})
    volume = cells(10, (32, 32, 32), [1, 2, 3])
    legacy.write(volume, name="a")
    once = halved(volume, zeros=True)
    assert np.array_equal(legacy.read((32, 32, 32), name="a"), volume)
    assert np.array_equal(legacy.read((16, 16, 16), name="c"), once)
    assert np.array_equal(legacy.read((8, 8, 8), name="b"), halved(once, zeros=True))


def test_two_labelvols_of_one_labelblk(legacy: Legacy) -> None:
    legacy.client.instance(legacy.root, "other", "labelvol", BlockSize="16,16,16")
    legacy.done("other/sync", {"sync": "blk"})
    legacy.done("blk/sync", {"sync": "other"})
    volume = cells(11, (32, 32, 32), [1, 2, 3])
    legacy.write(volume)
    legacy.done("vol/merge", [1, 2])
    legacy.done("other/merge", [1, 3])
    volume[volume > 0] = 1
    legacy.pair_is(volume, chain=CHAIN)
    assert legacy.runs(1, name="other") == legacy.runs(1)
    assert legacy.runs(2, name="other") is None and legacy.runs(3) is None
    assert legacy.findings() == []


def test_a_labelblk_with_other_voxels_changes_those_of_the_label_alone(legacy: Legacy) -> None:
    """The labelvol was synced after some voxels were posted, and does not know of them."""
    legacy.done("vol/sync?replace=true", {"sync": ""})
    volume = cells(12, (16, 16, 32), [1, 2])
    legacy.write(volume)
    legacy.done("vol/sync", {"sync": "blk"})
    legacy.write(new := cells(13, (16, 16, 16), [1, 2]), (0, 0, 16))
    volume[:, :, 16:] = new
    legacy.write(new[::-1], (0, 0, 16), "half")
    legacy.done("vol/merge", [1, 2])
    volume[:, :, 16:][new == 2] = 1
    assert np.array_equal(legacy.read(volume.shape), volume)
    assert legacy.runs(1) == runs_of(volume[:, :, 16:] > 0, (0, 0, 16))


# -- what cannot be followed -------------------------------------------------------------------------------------------


def test_a_locked_version_of_a_follower_refuses_what_is_posted_to_an_unversioned_instance(database: Database) -> None:
    legacy = Legacy(database)
    legacy.client.instance(legacy.root, "blk", "labelblk", BlockSize="16,16,16", versioned="false")
    legacy.client.instance(legacy.root, "vol", "labelvol", BlockSize="16,16,16")
    legacy.done("vol/sync", {"sync": "blk"})
    legacy.write(np.full((16, 16, 16), 3, np.uint64))
    legacy.client.commit(legacy.root)
    before = picture(legacy, ("blk", "vol"))
    assert "locked" in legacy.refused("POST", "blk/raw/0_1_2/16_16_16/0_0_0", bytes(8 * 16**3))
    assert picture(legacy, ("blk", "vol")) == before
    child = legacy.client.child(legacy.root)
    legacy.write(np.full((16, 16, 16), 4, np.uint64), node=child)
    assert legacy.runs(3, node=child) is None and legacy.runs(3) is not None


class _ByType(OneStore):
    """labelvols are kept in a store of their own."""

    def store_for(self, typename: str, tags: Mapping[str, str], name_uuid: str, data_uuid: str) -> str:
        return "other" if typename == "labelvol" else "main"


@pytest.fixture
def two_stores() -> Iterator[Legacy]:
    with Database.open({"main": Memory.open(""), "other": Memory.open("")}, _ByType("main")) as database:
        yield Legacy(database)


def test_a_follower_in_another_store_is_refused(two_stores: Legacy) -> None:
    client, root = two_stores.client, two_stores.root
    client.instance(root, "blk", "labelblk", BlockSize="16,16,16")
    client.instance(root, "vol", "labelvol", BlockSize="16,16,16")
    assert "another store" in two_stores.refused("POST", "vol/sync", {"sync": "blk"})
    client.instance(root, "born", "labelvol", BlockSize="16,16,16", sync="blk")
    body = np.ones((16, 16, 16), np.uint64).tobytes()
    assert "another store" in two_stores.refused("POST", "blk/raw/0_1_2/16_16_16/0_0_0", body)
    assert not two_stores.read((16, 16, 16)).any()
