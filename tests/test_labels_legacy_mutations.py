"""Merges and splits of labelvol and labelarray: what they answer and log, and what they refuse without a change."""

from __future__ import annotations

import json
import threading
from typing import Any

import numpy as np
import pytest

from dvidcore.mutations import log
from dvidcore.repos import Database
from legacy_labels import SIDE, Legacy, Volume, blocks_of, cells, halved, pack, picture, runs_of

SHAPE = (32, 48, 64)
ORIGIN = (-16, -16, -32)
NAMES = {"vol": ("blk", "vol", "half", "quarter"), "arr": ("arr",)}


class Bodies(Legacy):
    """A labelvol with its labelblk, or a labelarray, that holds ``volume``."""

    def __init__(self, database: Database, name: str) -> None:
        super().__init__(database)
        self.name, self.voxels = name, "blk" if name == "vol" else name
        if name == "vol":
            self.pair()
        else:
            self.array()
        self.volume: Volume = cells(31, SHAPE, [1, 2, 3, 4, 5, 9])
        self.volume[self.volume == 9] = 0
        self.volume[:, :, :16][self.volume[:, :, :16] == 5] = 0
        self.write(self.volume, ORIGIN, self.voxels)

    def agree(self) -> None:
        if self.name == "vol":
            self.pair_is(self.volume, ORIGIN)
        else:
            self.array_is(self.volume, ORIGIN)
        assert self.findings() == []

    def mutate(self, path: str, body: object, node: str = "") -> object:
        return self.done(f"{self.name}/{path}", body, node)

    def logged(self) -> list[Any]:
        """The mutation log of the root. A labelarray has no endpoint for it: it is in the files of a configured log."""
        if self.name == "vol":
            found: list[Any] = self.get(f"{self.name}/mutations").json()
            return found
        assert self.get(f"{self.name}/mutations").status == 400
        repo, node = self.database.resolve(self.root)
        record = repo.instances[self.name]
        with self.database.engine_of(record).snapshot() as snapshot:
            return [json.loads(row) for row in log.records(snapshot, record.id, node.id)]

    def next(self) -> int:
        return self.number("nextlabel", self.name)

    def largest(self) -> int:
        return self.number("maxlabel", self.name)


@pytest.fixture(params=["vol", "arr"])
def bodies(request: pytest.FixtureRequest, database: Database) -> Bodies:
    return Bodies(database, request.param)


def upper(volume: Volume, label: int) -> Volume:
    """The mask of a part of a label."""
    mask = volume == label
    mask[: len(mask) // 2] = False
    return mask


def test_a_merge_answers_nothing_and_its_header_what_was_missing(bodies: Bodies) -> None:
    answer = bodies.done(f"{bodies.name}/merge", [1, 2, 2, 77, 3, 78])
    assert (answer.body, answer.headers["missing-labels"]) == (b"", "77,78")
    bodies.volume[np.isin(bodies.volume, [2, 3])] = 1
    bodies.agree()
    (record,) = bodies.logged()
    assert record["Action"] == "merge-complete" and (record["Target"], record["Labels"]) == (1, [2, 3])
    assert record["UUID"] == bodies.root and record["MutationID"] and record["Timestamp"]


def test_splits_are_logged_with_their_runs(bodies: Bodies) -> None:
    mask = upper(bodies.volume, 1)
    runs = runs_of(mask, ORIGIN)
    assert bodies.done(f"{bodies.name}/split/1", pack(runs)).json() == {"label": 6}
    bodies.volume[mask] = 6
    some = blocks_of(bodies.volume == 2, ORIGIN)[:1]
    assert bodies.done(f"{bodies.name}/split-coarse/2", pack(some)).json() == {"label": 7}
    fine, coarse = bodies.logged()
    assert (fine["Action"], fine["Target"], fine["NewLabel"]) == ("split-complete", 1, 6)
    assert (coarse["Action"], coarse["Target"], coarse["NewLabel"]) == ("splitcoarse-complete", 2, 7)
    for record, sent in ((fine, runs), (coarse, some)):
        blob = bodies.get(f"{bodies.name}/blobstore/{record['Split']}").body
        assert np.frombuffer(blob, "<i4").reshape(-1, 4).tolist() == sent
    assert (bodies.largest(), bodies.next()) == (7, 8)


def test_a_target_that_does_not_exist(bodies: Bodies) -> None:
    bodies.mutate("merge", [5000, 1, 2])
    bodies.volume[np.isin(bodies.volume, [1, 2])] = 5000
    bodies.agree()
    assert (bodies.largest(), bodies.next()) == (5, 6), "labels that are given out go on"
    bodies.mutate("merge", [7, 3])
    bodies.volume[bodies.volume == 3] = 7
    for expected in (6, 8):
        mask = upper(bodies.volume, 5000)
        mask &= np.indices(SHAPE)[2] % 3 == expected // 8
        assert bodies.done(f"{bodies.name}/split/5000", pack(runs_of(mask, ORIGIN))).json() == {"label": expected}
        bodies.volume[mask] = expected
    bodies.agree()
    bodies.write(np.full((16, 16, 16), 6000, np.uint64), ORIGIN, bodies.voxels)
    assert bodies.next() == 6001


def test_a_whole_label_is_split_away(bodies: Bodies) -> None:
    bodies.mutate("split/1", pack(runs_of(bodies.volume == 1, ORIGIN)))
    bodies.mutate("split-coarse/2", pack(blocks_of(bodies.volume == 2, ORIGIN)))
    bodies.volume[bodies.volume == 1] = 6
    bodies.volume[bodies.volume == 2] = 7
    bodies.agree()
    assert bodies.runs(1, name=bodies.name) is None and bodies.runs(2, name=bodies.name) is None


def test_bytes_1_to_7_of_posted_runs_are_not_looked_at(bodies: Bodies) -> None:
    """labelvol.md: DVID reads the first byte and the number of runs."""
    body = pack(runs_of(bodies.volume == 1, ORIGIN))
    bodies.mutate("split/1", bytes([0, 0, 7, 9, 1, 2, 3, 4]) + body[8:])
    bodies.volume[bodies.volume == 1] = 6
    bodies.agree()


def test_a_merge_counts_the_votes_of_both_labels(bodies: Bodies) -> None:
    """Coarser voxels are voted from the merged labels, not merged themselves."""
    bodies.volume = np.random.default_rng(3).choice(np.array([1, 2, 3], np.uint64), SHAPE)
    bodies.write(bodies.volume, ORIGIN, bodies.voxels)
    bodies.mutate("merge", [3, 2])
    bodies.volume[bodies.volume == 2] = 3
    level = halved(bodies.volume, zeros=bodies.name == "vol")
    name, query = ("half", "") if bodies.name == "vol" else ("arr", "?scale=1")
    assert np.array_equal(bodies.read(level.shape, (-8, -8, -16), name, query), level)


def test_split_labels_that_are_given_and_exist(bodies: Bodies) -> None:
    """labelvol: what is split off joins it, as in a coarse split that a fine one completes. labelarray refuses."""
    some = blocks_of(bodies.volume == 3, ORIGIN)[:2]
    assert bodies.done(f"{bodies.name}/split-coarse/3?splitlabel=40", pack(some)).json() == {"label": 40}
    assert bodies.largest() == 40
    now = bodies.read(SHAPE, ORIGIN, bodies.voxels)
    rest = pack(runs_of(upper(now, 3), ORIGIN))
    if bodies.name == "arr":
        assert bodies.next() == 41
        assert "exists" in bodies.refused("POST", "arr/split/3?splitlabel=40", rest)
        assert "exists" in bodies.refused("POST", "arr/split-coarse/3?splitlabel=2", pack(blocks_of(now == 3, ORIGIN)))
        return
    bodies.done("vol/split/3?splitlabel=40", rest)
    bodies.volume = np.where((now == 40) | upper(now, 3), np.uint64(40), now)
    bodies.agree()


def test_given_labels_are_never_given_out(bodies: Bodies) -> None:
    first = bodies.next()
    mask = upper(bodies.volume, 1)
    bodies.mutate(f"split/1?splitlabel={first}", pack(runs_of(mask, ORIGIN)))
    bodies.mutate(f"split/2?splitlabel={first + 2}", pack(runs_of(upper(bodies.volume, 2), ORIGIN)))
    made = [
        bodies.done(f"{bodies.name}/split/{label}", pack(runs_of(upper(bodies.volume, label), ORIGIN))).json()["label"]
        for label in (3, 4)
    ]
    assert not {first, first + 2} & set(made) and len(set(made)) == 2
    assert bodies.next() > max(made)
    assert bodies.findings() == []


def outside(volume: Volume, label: int) -> list[list[int]]:
    """Runs of which the last voxel is another label's."""
    mask = upper(volume, label)
    z, y, x = np.argwhere((volume != label) & (volume != 0))[-1]
    mask[z, y, x] = True
    return runs_of(mask, ORIGIN)


def test_other_voxels_in_a_split(bodies: Bodies) -> None:
    """labelvol refuses it before anything changes; labelarray leaves them alone."""
    runs = pack(outside(bodies.volume, 1))
    if bodies.name == "vol":
        before = picture(bodies, NAMES["vol"])
        bodies.refused("POST", "vol/split/1", runs)
        assert picture(bodies, NAMES["vol"]) == before
        assert bodies.next() == 6
    else:
        bodies.mutate("split/1", runs)
        bodies.volume[upper(bodies.volume, 1)] = 6
    bodies.agree()


def test_voxels_that_are_listed_twice(bodies: Bodies) -> None:
    mask = upper(bodies.volume, 1)
    runs = runs_of(mask, ORIGIN)
    if bodies.name == "vol":
        before = picture(bodies, NAMES["vol"])
        bodies.refused("POST", "vol/split/1", pack([*runs, runs[0]]))
        assert picture(bodies, NAMES["vol"]) == before
    else:
        bodies.mutate("split/1", pack([*runs, *runs[::2]]))
        bodies.volume[mask] = 6
    bodies.agree()


ONE = [[0, 0, 0, 1]]
MERGES = [
    [],
    [5],
    [5, 5],
    [1, 2, 1],
    [0, 3],
    [3, 0],
    [1.5, 2],
    ["1", "2"],
    [-1, 2],
    [2**64, 1],
    b"null",
    b"x",
    b"",
    {"a": 1},
]
RUNS = [
    *(
        b"",
        b"1234567",
        pack([]),
        pack(ONE)[:-4],
        pack(ONE)[:-16],
        pack(ONE, header=(1, 3, 0, 0, 0)),
        pack(ONE, count=2),
    ),
    *(pack(ONE, count=2**32 - 1), pack([[0, 0, 0, -1]]), pack([[0, 0, 0, 0]]), pack([[2**31 - 1, 0, 0, 2]])),
    *(pack([[0, 0, 0, 2 * 10**9]] * 3), pack([[5000, 5000, 5000, 1]])),
]


def test_bad_merges_and_splits_change_nothing_and_use_no_label(bodies: Bodies) -> None:
    names = NAMES[bodies.name]
    before, at = picture(bodies, names), bodies.name
    for listed in MERGES:
        bodies.refused("POST", f"{at}/merge", listed)
    bodies.refused("POST", f"{at}/merge", [5, 100, 101], status=404)
    for kind in ("split", "split-coarse"):
        good = pack((runs_of if kind == "split" else blocks_of)(bodies.volume == 3, ORIGIN)[:2])
        for path in (
            "0",
            "x",
            "-3",
            "",
            "100",
            "3?splitlabel=x",
            "3?splitlabel=0",
            "3?splitlabel=-1",
            "3?splitlabel=3",
        ):
            bodies.refused("POST", f"{at}/{kind}/{path}", good)
        for body in RUNS:
            if (kind, at, body) != ("split", "arr", RUNS[-2]):  # which names voxels of the label, thrice
                bodies.refused("POST", f"{at}/{kind}/3", body)
    beyond = [[-(2**31), 0, 0, 2**31 - 1], [-1, 0, 0, 2**31 - 1]]
    bodies.refused("POST", f"{at}/split/3", pack(beyond))
    first = blocks_of(bodies.volume == 3, ORIGIN)[0]
    for runs in ([first, first], [first, [30, 30, 30, 1]]):
        bodies.refused("POST", f"{at}/split-coarse/3", pack(runs))
    miss = runs_of(bodies.volume == 2, ORIGIN)[:3]
    bodies.refused("POST", f"{at}/split/3", pack(miss))
    for path in ("cleave/3", "split-supervoxel/3", "renumber", "mappings", "nextlabel", "maxlabel"):
        bodies.refused("POST", f"{at}/{path}", [1])
    bodies.refused("GET", f"{at}/merge")
    bodies.refused("GET", f"{at}/split/3")
    assert picture(bodies, names) == before
    assert bodies.next() == 6


def test_the_huge_run_of_a_labelarray_costs_no_more_than_its_blocks(database: Database) -> None:
    bodies = Bodies(database, "arr")
    (z, y), _ = np.unravel_index(int((bodies.volume == 3).sum(2).argmax()), SHAPE[:2]), None
    mask = np.zeros(SHAPE, bool)
    mask[z, y] = bodies.volume[z, y] == 3
    low = int(ORIGIN[2])
    bodies.mutate("split/3", pack([[low, int(y) + ORIGIN[1], int(z) + ORIGIN[0], 2 * 10**9]] * 2))
    bodies.volume[mask] = 6
    bodies.agree()


def test_a_locked_version_and_its_children(bodies: Bodies) -> None:
    bodies.client.commit(bodies.root)
    for path, body in (("merge", [1, 2]), ("split/3", pack(ONE)), ("split-coarse/3", pack(ONE))):
        bodies.refused("POST", f"{bodies.name}/{path}", body)
    left = bodies.client.child(bodies.root)
    right = bodies.client.post(f"/api/node/{bodies.root}/branch", {"branch": "b"}).json()["child"]
    bodies.mutate("merge", [1, 2], left)
    mask = upper(bodies.volume, 3)
    made = [
        bodies.mutate(f"split/{label}", pack(runs_of(upper(bodies.volume, label), ORIGIN)), node)
        for label, node in ((3, right), (4, left))
    ]
    assert [answer.json()["label"] for answer in made] == [6, 7], "new labels are unique over branches"  # type: ignore[attr-defined]
    assert bodies.runs(7, name=bodies.name, node=right) is None
    assert np.array_equal(bodies.read(SHAPE, ORIGIN, bodies.voxels, node=right) == 6, mask)
    bodies.agree()


def test_writers_side_by_side(bodies: Bodies) -> None:
    """Posts, merges and splits in threads: each region is as its own thread left it."""
    errors: list[Exception] = []
    origins = [(32 + 32 * k, 0, 0) for k in range(4)]
    volumes = [np.zeros((32, 32, 32), np.uint64) for _ in origins]

    def work(k: int) -> None:
        try:
            volume, base = volumes[k], 1000 * (k + 1)
            for turn in range(4):
                volume[:] = cells(100 * k + turn, (32, 32, 32), [base + n for n in range(4)])
                bodies.write(volume, origins[k], bodies.voxels)
                bodies.mutate("merge", [base, base + 1])
                volume[volume == base + 1] = base
                mask = upper(volume, base)
                answer = bodies.done(f"{bodies.name}/split/{base}", pack(runs_of(mask, origins[k])))
                volume[mask] = answer.json()["label"]
        except Exception as e:
            errors.append(e)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(origins))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    whole = np.concatenate(volumes)
    if bodies.name == "vol":
        bodies.pair_is(whole, origins[0], chain=("half", "quarter"))
    else:
        bodies.array_is(whole, origins[0])
    assert bodies.findings() == []
    assert SIDE == 16
