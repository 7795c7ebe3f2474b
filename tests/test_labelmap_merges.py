"""Labels below a merge of versions: what each parent changed alone is there, the rest is a conflict that says so."""

from __future__ import annotations

import numpy as np
import pytest

from dvidcore.repos import Database
from labelmap_client import BLOCK, ZYX, Seg, volume, xyz
from test_labelmap_writes import downsample, mapping_ops


class Fork:
    """Two blocks of label 1, and two branches that go on from them, ``a`` and ``b``."""

    def __init__(self, database: Database) -> None:
        self.seg = Seg.create(database)
        self.seg.write(np.ones((BLOCK[0], BLOCK[1], 2 * BLOCK[2]), np.uint64), (0, 0, 0))
        self.client = self.seg.client
        self.client.commit(self.seg.node)
        self.a, self.b = (self.seg.at(self._branch(name)) for name in "ab")

    def _branch(self, name: str) -> str:
        child: str = self.client.post(f"/api/node/{self.seg.node}/branch", {"branch": name}).json()["child"]
        return child

    def merged(self) -> Seg:
        parents = [self.a.node, self.b.node]
        for parent in parents:
            self.client.commit(parent)
        answer = self.client.post(
            f"/api/repo/{self.seg.node}/merge", {"mergeType": "conflict-free", "parents": parents}
        )
        return self.seg.at(answer.json()["child"])


@pytest.fixture
def fork(database: Database) -> Fork:
    return Fork(database)


def test_voxels_that_one_parent_wrote_are_there(fork: Fork) -> None:
    fork.a.write(np.full(BLOCK, 7, np.uint64), (0, 0, 0))
    fork.b.write(np.full(BLOCK, 9, np.uint64), (0, 0, BLOCK[2]))
    both = fork.merged()
    found = np.frombuffer(both.get(f"raw/0_1_2/{2 * BLOCK[2]}_{BLOCK[1]}_{BLOCK[0]}/0_0_0"), "<u8")
    assert np.unique(found).tolist() == [7, 9]
    assert both.json("labels", [[0, 0, 0], [BLOCK[2], 0, 0]]) == [7, 9]


def test_a_conflict_names_what_was_changed_and_the_versions(fork: Fork) -> None:
    fork.a.write(np.full(BLOCK, 7, np.uint64), (0, 0, 0))
    fork.b.write(np.full(BLOCK, 9, np.uint64), (0, 0, 0))
    both = fork.merged()
    versions = f"was changed in versions {fork.a.node} and {fork.b.node}, which were merged"
    size = f"{BLOCK[2]}_{BLOCK[1]}_{BLOCK[0]}/0_0_0"
    for path in (
        f"raw/0_1_2/{size}",
        f"blocks/{size}",
        "specificblocks?blocks=0,0,0",
        "label/0_0_0",
        "raw/xy/8_8/0_0_0",
    ):
        assert f"block 0,0,0 of scale 0 {versions}" in both.refused(path, status=409)
    assert f"block 0,0,0 of scale 1 {versions}" in both.refused("label/0_0_0?scale=1", status=409)
    # Both took body 1 out of that block, so what is left of it is not in question.
    assert both.json("size/1") == {"voxels": fork.seg.json("size/1")["voxels"] - int(np.prod(BLOCK))}


def test_a_body_that_both_changed_in_one_block_is_in_conflict(fork: Fork) -> None:
    for side, layers in ((fork.a, 4), (fork.b, 8)):
        voxels = np.full(BLOCK, 1, np.uint64)
        voxels[:layers] = 5
        side.write(voxels, (0, 0, 0))
    both = fork.merged()
    for body in (1, 5):
        assert f"the index of body {body} was changed in versions" in both.refused(f"size/{body}", status=409)


# -- what is derived ---------------------------------------------------------------------------------------------------


def check(seg: Seg, origin: ZYX, shape: ZYX) -> None:
    """Everything derived agrees with the voxels and the mapping that the version shows."""
    box = f"{xyz(shape)}/{xyz(origin)}"
    supervoxels = volume(seg.get(f"raw/0_1_2/{box}?supervoxels=true"), shape)
    mapping = dict(zip(found := np.unique(supervoxels).tolist(), seg.json("mapping?nolookup=true", found), strict=True))
    bodies = np.vectorize(mapping.__getitem__, otypes=[np.uint64])(supervoxels)
    assert (volume(seg.get(f"raw/0_1_2/{box}"), shape) == bodies).all()
    labels, voxels = np.unique(bodies[bodies != 0], return_counts=True)
    assert seg.json("existing-labels") == labels.tolist()
    assert seg.json("sizes", labels.tolist()) == voxels.tolist()
    for label, n in zip(labels.tolist(), voxels.tolist(), strict=True):
        answer = seg.json(f"supervoxel-sizes/{label}")
        expected = np.unique(supervoxels[bodies == label], return_counts=True)
        assert (answer["supervoxels"], answer["sizes"]) == tuple(part.tolist() for part in expected)
        assert int(np.frombuffer(seg.get(f"sparsevol/{label}?format=srles"), "<i4")[3::4].sum()) == n
    level, at = supervoxels, origin
    for scale in range(1, seg.scales + 1):
        level, at = downsample(level), tuple(o // 2 for o in at)
        read = seg.get(f"raw/0_1_2/{xyz(level.shape)}/{xyz(at)}?scale={scale}&supervoxels=true")
        assert (volume(read, level.shape) == level).all(), scale


TWO = (BLOCK[0], BLOCK[1], 2 * BLOCK[2])


def test_bodies_merged_on_both_sides_are_merged_below(database: Database) -> None:
    seg = Seg.create(database)
    rng = np.random.default_rng(5)
    seg.write(rng.integers(1, 9, TWO, np.uint64), (0, 0, 0))
    a, b = sides(seg)
    a.merge(1, 2, 3)
    b.merge(1, 4)
    b.merge(5, 6)
    both = join(seg, a, b)
    assert both.json("mapping", [1, 2, 3, 4, 5, 6, 7]) == [1, 1, 1, 1, 5, 5, 7]
    check(both, (0, 0, 0), TWO)


def test_new_voxels_of_a_body_that_the_other_side_merged_are_counted_there(database: Database) -> None:
    seg = Seg.create(database)
    voxels = np.full(TWO, 1, np.uint64)
    voxels[:8] = 2
    seg.write(voxels, (0, 0, 0))
    a, b = sides(seg)
    a.merge(1, 2)
    fresh = np.full(BLOCK, 2, np.uint64)
    fresh[0] = 7
    b.post(f"raw/0_1_2/{xyz(BLOCK)}/{xyz((0, 0, 2 * BLOCK[2]))}", fresh.tobytes())
    both = join(seg, a, b)
    assert both.json("existing-labels") == [1, 7]
    check(both, (0, 0, 0), (BLOCK[0], BLOCK[1], 4 * BLOCK[2]))
    # What is done from here on starts from the right state.
    both.post("merge", [7, 1])
    check(both, (0, 0, 0), (BLOCK[0], BLOCK[1], 4 * BLOCK[2]))


@pytest.mark.parametrize("seed", range(4))
def test_random_changes_of_two_sides_agree_below(database: Database, seed: int) -> None:
    """Each side writes blocks of its own and merges bodies of its own, which overlap in space."""
    rng = np.random.default_rng(seed)
    shape = (2 * BLOCK[0], 2 * BLOCK[1], 4 * BLOCK[2])
    seg = Seg.create(database)
    seg.write(rng.integers(0, 30, shape, np.uint64), (0, 0, 0))
    a, b = sides(seg)
    for number, side in enumerate((a, b)):
        for _ in range(6):
            if rng.random() < 0.5:
                at = (int(rng.integers(2)), int(rng.integers(2)), int(2 * rng.integers(2) + number))
                offset = tuple(n * k for n, k in zip(BLOCK, at, strict=True))
                written = rng.integers(0, 40, BLOCK, np.uint64)
                side.post(f"raw/0_1_2/{xyz(BLOCK)}/{xyz(offset)}?mutate=true", written.tobytes())
            else:
                mine = [x for x in side.json("existing-labels") if x % 2 == number]
                target, *merged = rng.choice(mine, 3, replace=False).tolist()
                side.post("merge", [target, *merged])
    both = join(seg, a, b)
    check(both, (0, 0, 0), shape)
    below = both.child()
    body, *more = below.json("existing-labels")
    below.post("merge", [body, *more[:3]])
    check(below, (0, 0, 0), shape)


def test_a_write_below_settles_a_conflict(database: Database) -> None:
    seg = Seg.create(database)
    rng = np.random.default_rng(2)
    shape = (2 * BLOCK[0], BLOCK[1], 2 * BLOCK[2])
    seg.write(rng.integers(0, 9, shape, np.uint64), (0, 0, 0))
    a, b = sides(seg)
    a.merge(1, 2)
    b.merge(3, 4)
    for side in (a, b):
        side.post(f"raw/0_1_2/{xyz(TWO)}/0_0_0?mutate=true", rng.integers(0, 12, TWO, np.uint64).tobytes())
    both = join(seg, a, b)
    assert "was changed in versions" in both.refused("size/1", status=409)
    for x in (0, BLOCK[2]):
        both.post(f"raw/0_1_2/{xyz(BLOCK)}/{x}_0_0?mutate=true", rng.integers(0, 12, BLOCK, np.uint64).tobytes())
    check(both, (0, 0, 0), shape)
    both.post("merge", [1, 3])
    check(both.child(), (0, 0, 0), shape)


def test_resolve_lets_the_first_parent_win(fork: Fork) -> None:
    fork.a.write(np.full(BLOCK, 7, np.uint64), (0, 0, 0))
    fork.b.write(np.full(BLOCK, 9, np.uint64), (0, 0, 0))
    fork.b.write(np.full(BLOCK, 11, np.uint64), (0, 0, BLOCK[2]))
    fork.merged()
    before = fork.client.get(f"/api/repo/{fork.seg.node}/info").json()["DAG"]
    for parents, first in (([fork.a, fork.b], 7), ([fork.b, fork.a], 9)):
        answer = fork.client.post(
            f"/api/repo/{fork.seg.node}/resolve", {"data": ["seg"], "parents": [p.node for p in parents]}
        )
        both = fork.seg.at(answer.json()["child"])
        assert both.json("labels", [[0, 0, 0], [BLOCK[2], 0, 0]]) == [first, 11]
        check(both, (0, 0, 0), TWO)
    after = fork.client.get(f"/api/repo/{fork.seg.node}/info").json()["DAG"]
    for uuid, node in before["Nodes"].items():
        assert node["Locked"] == after["Nodes"][uuid]["Locked"]


def test_what_both_mapped_differently_is_a_conflict(database: Database) -> None:
    seg = Seg.create(database)
    voxels = np.full(TWO, 3, np.uint64)
    voxels[:, :, : BLOCK[2]] = np.random.default_rng(1).integers(1, 6, BLOCK, np.uint64)
    seg.write(voxels, (0, 0, 0))
    a, b = sides(seg)
    a.merge(1, 5)
    b.merge(2, 5)
    a.merge(3, 4)
    b.merge(3, 4)
    both = join(seg, a, b)
    both = both.child()
    message = f"the mapping of supervoxel 5 was changed in versions {a.node} and {b.node}, which were merged"
    assert message in both.refused("mapping", [1, 5], status=409)
    assert message in both.refused(f"raw/0_1_2/{xyz(TWO)}/0_0_0", status=409)
    assert both.json("mapping", [1, 2, 3, 4]) == [1, 2, 3, 3]  # of 4 both say the same
    box = f"raw/0_1_2/{xyz(BLOCK)}/{BLOCK[2]}_0_0"
    assert np.unique(volume(both.get(box), BLOCK)).tolist() == [3]
    assert both.ask(f"raw/0_1_2/{xyz(TWO)}/0_0_0?supervoxels=true").status == 200
    both.post("mappings", mapping_ops([(5, 1)]))
    assert both.json("mapping", [1, 5]) == [1, 1]
    assert both.ask(f"raw/0_1_2/{xyz(TWO)}/0_0_0").status == 200


def test_resolve_settles_what_both_mapped(database: Database) -> None:
    seg = Seg.create(database)
    seg.write(np.random.default_rng(1).integers(1, 6, BLOCK, np.uint64), (0, 0, 0))
    a, b = sides(seg)
    a.merge(1, 5)
    b.merge(2, 5)
    for side in (a, b):
        side.client.commit(side.node)
    answer = seg.client.post(f"/api/repo/{seg.node}/resolve", {"data": ["seg"], "parents": [b.node, a.node]})
    both = seg.at(answer.json()["child"])
    assert both.json("mapping", [5]) == [2]
    check(both, (0, 0, 0), BLOCK)


def sides(seg: Seg) -> tuple[Seg, Seg]:
    """Two branches from a version, which is committed."""
    seg.client.commit(seg.node)
    path = f"/api/node/{seg.node}/branch"
    a, b = (seg.at(seg.client.post(path, {"branch": name}).json()["child"]) for name in "ab")
    return a, b


def join(seg: Seg, *parents: Seg) -> Seg:
    """The version that merges others, which are committed."""
    for parent in parents:
        parent.client.commit(parent.node)
    config = {"mergeType": "conflict-free", "parents": [parent.node for parent in parents]}
    return seg.at(seg.client.post(f"/api/repo/{seg.node}/merge", config).json()["child"])
