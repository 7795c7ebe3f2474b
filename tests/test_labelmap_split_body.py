"""POST split: voxels of a body become another body, across its supervoxels, where the configuration allows it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from dvidcore import labels
from dvidcore.config import parse
from dvidcore.mutations import log
from dvidcore.repos import Database, DatabaseOptions, OneStore
from dvidcore.storage.memory import Memory
from split_model import BLOCK, SplitSeg, chopped, sparse
from test_labelmap_split_model import ORIGINS, SHAPE, some_volume


@pytest.fixture
def database() -> Iterator[Database]:
    options = DatabaseOptions(allow_labelmap_split=True)
    with Database.open({"main": Memory.open("")}, OneStore("main"), options=options) as opened:
        yield opened


def eight_supervoxels() -> np.ndarray:
    rng = np.random.default_rng(11)
    coarse = rng.integers(0, 9, [n // 8 for n in SHAPE]).astype(np.uint64)
    return coarse.repeat(8, 0).repeat(8, 1).repeat(8, 2)


@pytest.fixture
def seg(database: Database) -> SplitSeg:
    """Supervoxels 1 to 8; 1, 2, 3 and 4 are body 1."""
    seg = SplitSeg.create(database, eight_supervoxels(), ORIGINS[1])
    seg.merge(1, 2, 3, 4)
    return seg


def met_in_order(seg: SplitSeg, runs: np.ndarray) -> list[int]:
    """The supervoxels of the runs, blocks in Z, Y, X order, in each the runs as given."""
    found: dict[tuple[int, ...], list[int]] = {}
    for x, y, z, n in runs.tolist():
        for k in range(x, x + n):
            block = tuple(c // b for c, b in zip((z, y, k), BLOCK, strict=True))
            label = int(seg.levels[0][tuple(c - o for c, o in zip((z, y, k), seg.origin, strict=True))])
            found.setdefault(block, []).append(label)
    return list(dict.fromkeys(label for block in sorted(found) for label in found[block] if label))


def split(seg: SplitSeg, body: int, mask: np.ndarray, runs: np.ndarray, query: str = "") -> dict[int, tuple[int, int]]:
    """Splits a body and changes the model; answers what each supervoxel became."""
    met = met_in_order(seg, runs)
    answer = seg.post(f"split/{body}?{query}", sparse(runs)).json()
    assert answer["label"] == seg.next
    change = {supervoxel: (seg.next + 1 + 2 * k, seg.next + 2 + 2 * k) for k, supervoxel in enumerate(met)}
    seg.apply(change, mask, downres=True)
    for supervoxel, (inside, outside) in change.items():
        seg.body_of |= {inside: answer["label"], outside: body, supervoxel: 0}
    seg.next += 1 + 2 * len(met)
    return change


def of_body(seg: SplitSeg, body: int) -> np.ndarray:
    members = [s for s in np.unique(seg.levels[0]).tolist() if s and seg.body(s) == body]
    return np.isin(seg.levels[0], np.array(members, np.uint64))


def test_a_body_is_split_across_its_supervoxels(seg: SplitSeg) -> None:
    mask = of_body(seg, 1)
    mask[:, :, 40:] = False
    change = split(seg, 1, mask, labels.from_mask(mask, seg.origin), "u=ann&app=kit&splitlabel=77")
    assert sorted(change) == [1, 2, 3, 4]
    seg.check()
    for body in (1, 9):
        last = seg.json(f"lastmod/{body}")
        assert (last["last mod user"], last["last mod app"]) == ("ann", "kit")
    assert not labels.decode_index(seg.get("index/9"))[4].any()


def test_a_supervoxel_that_lies_inside_as_a_whole_leaves_an_empty_one(seg: SplitSeg) -> None:
    mask = seg.levels[0] == 2
    change = split(seg, 1, mask, labels.from_mask(mask, seg.origin))
    assert change == {2: (10, 11)}
    seg.check()
    assert seg.json("mapping?nolookup=true", [2, 10, 11]) == [0, 9, 1]
    assert seg.json("supervoxels/9") == [10]


def test_background_is_left_alone(seg: SplitSeg) -> None:
    mask = of_body(seg, 1) & (np.arange(SHAPE[2]) < 20)
    background = (seg.levels[0] == 0) & (np.arange(SHAPE[2]) < 9)
    split(seg, 1, mask, labels.from_mask(mask | background, seg.origin))
    seg.check()


def test_so_is_what_no_block_holds(seg: SplitSeg) -> None:
    mask = seg.levels[0] == 5
    mask[16:] = False
    far = np.array([[2**30, -(2**30), 5, 9]], np.int32)
    seg.post("split/5", sparse(np.concatenate((labels.from_mask(mask, seg.origin), far))))
    assert seg.json(f"size/{seg.next}") == {"voxels": int(mask.sum())}


@pytest.mark.parametrize("seed", range(4))
def test_random_splits(database: Database, seed: int) -> None:
    rng = np.random.default_rng(seed)
    seg = SplitSeg.create(database, some_volume(rng, 8), ORIGINS[seed % 3])
    bodies = [int(s) for s in np.unique(seg.levels[0]) if s]
    seg.merge(*bodies[:5])
    for body in (bodies[0], bodies[5], bodies[0]):
        mine = of_body(seg, body)
        mask = mine & (rng.random(SHAPE) < rng.choice([0.02, 0.5])) & (np.arange(SHAPE[2]) < rng.integers(30, 65))
        if mask.any():
            split(seg, body, mask, chopped(mask, seg.origin, rng))
    seg.check()


def test_a_body_of_many_supervoxels(database: Database) -> None:
    """Labels are found together: to look for each of them among all those found before took minutes."""
    shape = tuple(2 * n for n in BLOCK)
    volume = (np.arange(np.prod(shape), dtype=np.uint64) // np.uint64(np.prod(shape) // 1024) + 1).reshape(shape)
    seg = SplitSeg.create(database, volume, (0, 0, 0))
    seg.merge(*range(1, 1025))
    mask = np.zeros(shape, bool)
    mask[:, :, 1:] = True
    split(seg, 1, mask, labels.from_mask(mask, seg.origin))
    seg.check()


def test_the_log_says_what_became_of_each_supervoxel(seg: SplitSeg, database: Database) -> None:
    mask = of_body(seg, 1) & (np.arange(SHAPE[2]) < 30)
    runs = labels.from_mask(mask, seg.origin)
    change = split(seg, 1, mask, runs)
    repo, node = database.resolve(seg.node)
    record = repo.instances["seg"]
    with database.engine_of(record).snapshot() as snapshot:
        *_, last = log.records(snapshot, record.id, node.id)
    written: dict[str, Any] = json.loads(last)
    assert {k: written[k] for k in ("Action", "Target", "NewLabel", "SVSplits")} == {
        "Action": "split-complete",
        "Target": 1,
        "NewLabel": 9,
        "SVSplits": {str(s): {"Split": inside, "Remain": rest} for s, (inside, rest) in change.items()},
    }
    assert seg.get("blobstore/" + quote(written["Split"])) == runs.tobytes()


def test_refusals_change_nothing(seg: SplitSeg) -> None:
    one = labels.from_mask(seg.levels[0] == 1, seg.origin)
    other = labels.from_mask(seg.levels[0] == 6, seg.origin)
    nothing = labels.from_mask(seg.levels[0] == 0, seg.origin)
    whole = labels.from_mask(of_body(seg, 1), seg.origin)
    assert "not of body 1" in seg.refused("split/1", sparse(np.concatenate((one, other[:1]))))
    assert "no voxel of body 1" in seg.refused("split/1", sparse(nothing))
    assert "some must stay" in seg.refused("split/1", sparse(whole))
    assert "not a body" in seg.refused("split/2", sparse(one))
    assert "not a body" in seg.refused("split/999", sparse(one))
    assert "more than once" in seg.refused("split/1", sparse(np.repeat(one[:3], 2, axis=0)))
    assert "no runs" in seg.refused("split/1", sparse([]))
    assert "announces" in seg.refused("split/1", sparse(one)[:-3])
    for label in ("0", "x", ""):
        seg.refused(f"split/{label}", sparse(one))


def test_it_is_off_unless_the_configuration_allows_it(tmp_path: Any) -> None:
    with Database.open({"main": Memory.open("")}, OneStore("main")) as database:
        seg = SplitSeg.create(database, eight_supervoxels(), ORIGINS[1])
        mask = (seg.levels[0] == 1) & (np.arange(SHAPE[2]) < 30)
        assert "allowLabelmapSplit" in seg.refused("split/1", sparse(labels.from_mask(mask, seg.origin)))
    store = '[store.main]\nengine = "leveldb"\npath = "x"\n[backend.default]\nstore = "main"\n'
    assert not parse(store, tmp_path).server.allow_labelmap_split
    assert parse(store + "[server]\nallowLabelmapSplit = true\n", tmp_path).server.allow_labelmap_split


def test_annotations_move_with_the_voxels_that_they_are_at(seg: SplitSeg) -> None:
    client = seg.client
    client.instance(seg.node, "notes", "annotation")
    assert client.post(f"/api/node/{seg.node}/notes/sync", {"sync": "seg"}).status == 200
    mask = of_body(seg, 1) & (np.arange(SHAPE[2]) < 30)
    inside, outside = np.argwhere(mask)[[0, -1]], np.argwhere(of_body(seg, 1) & ~mask)[[0, -1]]
    points = [(at + seg.origin)[::-1].tolist() for at in (*inside, *outside)]
    elements = [{"Pos": point, "Kind": "Note", "Tags": [], "Prop": {}, "Rels": []} for point in points]
    assert client.post(f"/api/node/{seg.node}/notes/elements", elements).status == 200

    def at_body(body: int) -> list[list[int]]:
        found = client.get(f"/api/node/{seg.node}/notes/label/{body}").json() or []
        return sorted(element["Pos"] for element in found)

    assert at_body(1) == sorted(points)
    split(seg, 1, mask, labels.from_mask(mask, seg.origin))
    assert at_body(9) == sorted(points[:2])
    assert at_body(1) == sorted(points[2:])
