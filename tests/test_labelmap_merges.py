"""Labels below a merge of versions: what each parent changed alone is there, the rest is a conflict that says so."""

from __future__ import annotations

import numpy as np
import pytest

from dvidcore.repos import Database
from labelmap_client import BLOCK, Seg


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


def test_resolve_refuses_labels_and_changes_nothing(fork: Fork) -> None:
    fork.a.write(np.full(BLOCK, 7, np.uint64), (0, 0, 0))
    fork.b.write(np.full(BLOCK, 9, np.uint64), (0, 0, 0))
    fork.merged()
    before = fork.client.get(f"/api/repo/{fork.seg.node}/info").json()["DAG"]
    answer = fork.client.post(
        f"/api/repo/{fork.seg.node}/resolve", {"data": ["seg"], "parents": [fork.a.node, fork.b.node]}
    )
    assert answer.status == 400 and '"seg"' in answer.text
    assert fork.client.get(f"/api/repo/{fork.seg.node}/info").json()["DAG"] == before
