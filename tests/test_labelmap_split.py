"""POST split-supervoxel: voxels at every scale, index, mapping, ids, versions; whole or not at all."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import numpy as np
import pytest

from dvidcore import labels
from dvidcore.mutations import log
from dvidcore.repos import Database, DatabaseOptions, OneStore
from dvidcore.storage.memory import Memory
from labelmap_client import pack_mappings, pack_stream
from split_model import BLOCK, SplitSeg, sparse

SHAPE = (32, 64, 64)
ORIGIN = (-64, 0, -128)


def half_spaces(seed: int = 0) -> np.ndarray:
    """Supervoxels 1 to 6, each in many blocks, with background and single voxels of others strewn over them."""
    rng = np.random.default_rng(seed)
    seeds = rng.random((6, 3)) * SHAPE
    at = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    volume = 1 + ((at[..., None, :] - seeds) ** 2).sum(-1).argmin(-1).astype(np.uint64)
    speckle = rng.random(SHAPE)
    volume = np.where(speckle < 0.01, rng.integers(1, 7, SHAPE, np.uint64), volume)
    return np.where(speckle > 0.97, np.uint64(0), volume)


VOLUME = half_spaces()


@pytest.fixture
def seg(database: Database) -> SplitSeg:
    return SplitSeg.create(database, VOLUME, ORIGIN)


def box(z: slice, y: slice, x: slice) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[z, y, x] = True
    return mask


ALL = slice(None)
LEFT = box(ALL, ALL, slice(0, 40))


def part(seg: SplitSeg, supervoxel: int, mask: np.ndarray = LEFT) -> np.ndarray:
    return mask & (seg.levels[0] == supervoxel)


def runs_of(seg: SplitSeg, supervoxel: int, mask: np.ndarray = LEFT) -> np.ndarray:
    return labels.from_mask(part(seg, supervoxel, mask), seg.origin)


# -- what a split does -------------------------------------------------------------------------------------------------


def test_the_voxels_listed_are_one_supervoxel_and_the_others_another(seg: SplitSeg) -> None:
    assert seg.split(3, part(seg, 3)) == (7, 8)
    seg.check()
    assert seg.json("supervoxels/3") == [7, 8]
    assert seg.json("size/7?supervoxels=true") == {"voxels": int((part(seg, 7)).sum())}
    assert seg.json("sizes?supervoxels=true", [3]) == [0]
    seg.refused("split-supervoxel/3", sparse(runs_of(seg, 7)))


def test_supervoxels_of_a_merged_body(seg: SplitSeg) -> None:
    seg.merge(3, 4, 5)
    seg.split(3, part(seg, 3))
    seg.split(5, part(seg, 5), "split=100")
    assert seg.split(100, part(seg, 100, box(ALL, slice(0, 30), ALL)), "remain=90") == (102, 90)
    seg.check()
    assert seg.json("supervoxels/3") == [4, 7, 8, 90, 101, 102]


def test_a_split_of_whole_blocks_codes_no_voxel_anew(seg: SplitSeg) -> None:
    blocks = box(slice(0, 2 * BLOCK[0]), ALL, slice(0, BLOCK[2]))
    seg.split(2, part(seg, 2, blocks))
    seg.check()


def test_one_voxel(seg: SplitSeg) -> None:
    mask = np.zeros(SHAPE, bool)
    mask[tuple(np.argwhere(VOLUME == 1)[1234])] = True
    seg.split(1, mask)
    seg.check()


def test_all_but_one_voxel(seg: SplitSeg) -> None:
    mask = VOLUME == 1
    mask[tuple(np.argwhere(VOLUME == 1)[1234])] = False
    seg.split(1, mask)
    seg.check()


def test_without_downres_coarser_scales_keep_the_old_id(seg: SplitSeg) -> None:
    seg.split(3, part(seg, 3), "downres=false")
    seg.check()
    size, offset = "32_32_16", "-64_0_-32"
    at_scale_1 = np.frombuffer(seg.get(f"raw/0_1_2/{size}/{offset}?scale=1"), "<u8")
    assert 3 not in at_scale_1, "there the old id is no body's"
    seg.split(4, part(seg, 4), "split=200&remain=201")
    seg.check()


@pytest.mark.parametrize(("split", "remain"), [(10, 20), (20, 10)])
def test_the_smaller_id_wins_a_tie(database: Database, split: int, remain: int) -> None:
    seg = SplitSeg.create(database, np.full(SHAPE, 3, np.uint64))
    mask = np.zeros(SHAPE, bool)
    mask[:, :, ::2] = True
    seg.split(3, mask, f"split={split}&remain={remain}")
    seg.check()
    assert (seg.levels[1] == 10).all()


def test_the_index_keeps_what_it_knows_of_the_surface(seg: SplitSeg) -> None:
    seg.post("merge", [3, 4])
    seg.body_of[4] = 3
    before = labels.decode_index(seg.get("index/3"))
    seg.split(3, part(seg, 3))
    after = labels.decode_index(seg.get("index/3"))

    def surface(index: tuple[object, ...]) -> dict[tuple[int, ...], int]:
        return {tuple(at): m for at, m in zip(index[1].tolist(), index[4].tolist(), strict=True)}  # type: ignore[attr-defined]

    assert surface(after) == surface(before)


def test_the_last_mutation_of_the_body_is_the_split(seg: SplitSeg) -> None:
    answer = seg.post("split-supervoxel/3?u=ann&app=kit", sparse(runs_of(seg, 3))).json()
    last = seg.json("lastmod/3")
    assert last["mutation id"] == answer["MutationID"]
    assert (last["last mod user"], last["last mod app"]) == ("ann", "kit")
    assert last["last mod time"].endswith("Z")


def test_the_log_says_what_was_split(seg: SplitSeg, database: Database) -> None:
    seg.merge(2, 3)
    runs = runs_of(seg, 3)[::-1].copy()
    answer = seg.post("split-supervoxel/3?u=ann", sparse(runs)).json()
    repo, node = database.resolve(seg.node)
    record = repo.instances["seg"]
    with database.engine_of(record).snapshot() as snapshot:
        *_, last = log.records(snapshot, record.id, node.id)
    written = dict(json.loads(last))
    assert written.pop("Timestamp")
    reference = written.pop("Split")
    size, whole = int(part(seg, 3).sum()), int((VOLUME == 3).sum())
    assert written == {
        "Action": "split-supervoxel-complete",
        "Supervoxel": 3,
        "Body": 2,
        "SplitSupervoxel": 7,
        "RemainSupervoxel": 8,
        "SplitSize": size,
        "RemainSize": whole - size,
        "UUID": seg.node,
        "MutationID": answer["MutationID"],
        "User": "ann",
    }
    assert seg.get("blobstore/" + quote(reference)) == runs.tobytes()


def test_the_index_before_a_split_is_kept_where_it_is_wanted() -> None:
    options = DatabaseOptions(former_indices=frozenset({"seg"}))
    with Database.open({"main": Memory.open("")}, OneStore("main"), options=options) as database:
        seg = SplitSeg.create(database, VOLUME, ORIGIN)
        before = seg.get("index/3")
        first = seg.post("split-supervoxel/3", sparse(runs_of(seg, 3))).json()
        seg.apply({3: (7, 8)}, part(seg, 3), downres=True)
        between = seg.get("index/3")
        second = seg.post("split-supervoxel/8", sparse(runs_of(seg, 8, box(ALL, slice(0, 30), ALL)))).json()
        assert seg.get(f"index/3?mutid={first['MutationID']}") == before
        assert seg.get(f"index/3?mutid={second['MutationID']}") == between


# -- versions ----------------------------------------------------------------------------------------------------------


def test_a_split_is_seen_below_its_version_alone(seg: SplitSeg) -> None:
    seg.client.commit(seg.node)
    children = [
        seg.at(seg.client.post(f"/api/node/{seg.node}/branch", {"branch": name}).json()["child"]) for name in "ab"
    ]
    a, b = children
    a.split(3, part(a, 3))
    b.next = seg.next = a.next
    b.split(3, part(b, 3, box(slice(0, 20), ALL, ALL)))
    a.next = seg.next = b.next
    for each in (seg, a, b):
        each.check()
    seg.client.commit(a.node)
    below = a.at(seg.client.child(a.node))
    below.split(7, part(below, 7, box(ALL, slice(0, 40), ALL)))
    a.next = below.next
    below.check()
    a.check()


def test_a_split_below_a_merge_of_versions(seg: SplitSeg) -> None:
    """One parent split the supervoxel's left side off, the other wrote nothing of it; so the child goes on from both."""
    seg.client.commit(seg.node)
    a, b = (seg.at(seg.client.post(f"/api/node/{seg.node}/branch", {"branch": n}).json()["child"]) for n in "ab")
    a.split(3, part(a, 3))
    for each in (a, b):
        seg.client.commit(each.node)
    merge = {"mergeType": "conflict-free", "parents": [a.node, b.node]}
    child = a.at(seg.client.post(f"/api/repo/{seg.node}/merge", merge).json()["child"])
    child.split(7, part(child, 7, box(ALL, slice(0, 30), ALL)))
    child.check()


def test_a_locked_version_refuses(seg: SplitSeg) -> None:
    seg.client.commit(seg.node)
    assert "committed" in seg.refused("split-supervoxel/3", sparse(runs_of(seg, 3)))


# -- ids ---------------------------------------------------------------------------------------------------------------


def test_given_ids_raise_the_largest_before_the_other_is_chosen(seg: SplitSeg) -> None:
    assert seg.split(3, part(seg, 3), "split=100") == (100, 101)
    assert seg.split(2, part(seg, 2), "remain=500") == (102, 500)
    assert seg.split(1, part(seg, 1), "split=50") == (50, 501)
    seg.check()
    assert seg.json("maxlabel") == {"maxlabel": 501}


def test_an_id_that_is_given_is_not_given_to_the_other_too(seg: SplitSeg) -> None:
    seg.post("split-supervoxel/3?remain=7", sparse(runs_of(seg, 3)))
    assert seg.json("supervoxels/3") == [7, 8]


@pytest.mark.parametrize("name", ["split", "remain"])
@pytest.mark.parametrize("label", [3, 4, 5])
def test_ids_that_exist_are_refused(seg: SplitSeg, name: str, label: int) -> None:
    """A supervoxel that is its own body, one of another body, and an id that was a body."""
    seg.merge(4, 5)
    assert f"{name}: {label}" in seg.refused(f"split-supervoxel/3?{name}={label}", sparse(runs_of(seg, 3)))


def test_ids_of_other_versions_are_refused(seg: SplitSeg) -> None:
    seg.client.commit(seg.node)
    a, b = (seg.at(seg.client.post(f"/api/node/{seg.node}/branch", {"branch": n}).json()["child"]) for n in "ab")
    a.split(3, part(a, 3), "split=100")
    for label in (100, 101):
        assert "exists already" in b.refused(f"split-supervoxel/2?remain={label}", sparse(runs_of(b, 2)))


def test_an_id_that_a_mapping_names_is_refused(seg: SplitSeg) -> None:
    seg.post("mappings", pack_mappings((90, [91])))
    for label in (90, 91):
        assert "exists already" in seg.refused(f"split-supervoxel/3?split={label}", sparse(runs_of(seg, 3)))
    seg.merge(4, 5)
    seg.split(5, part(seg, 5), "split=100&remain=101")
    for label in (5, 100, 101):
        seg.refused(f"split-supervoxel/3?split={label}", sparse(runs_of(seg, 3)))


@pytest.mark.parametrize(
    "query", ["split=90&remain=90", "split=0", "remain=0", "split=x", "remain=-1", f"split={2**64}"]
)
def test_ids_that_cannot_be(seg: SplitSeg, query: str) -> None:
    name = query.partition("=")[0] if "&" not in query else "remain"
    assert name in seg.refused(f"split-supervoxel/3?{query}", sparse(runs_of(seg, 3)))


def test_new_ids_are_ones_that_do_not_exist(seg: SplitSeg) -> None:
    assert seg.client.admin("POST", f"/api/node/{seg.node}/seg/set-nextlabel/4").status == 200
    answer = seg.post("split-supervoxel/3", sparse(runs_of(seg, 3))).json()
    assert (answer["SplitSupervoxel"], answer["RemainSupervoxel"]) == (7, 8)


def test_an_id_beyond_the_ceiling_is_refused(seg: SplitSeg) -> None:
    assert seg.client.admin("POST", f"/api/node/{seg.node}/seg/set-nextlabel/10?ceiling=11").status == 200
    assert "ceiling" in seg.refused("split-supervoxel/3", sparse(runs_of(seg, 3)))
    assert seg.post("split-supervoxel/3?split=100", sparse(runs_of(seg, 3))).json()["RemainSupervoxel"] == 11


def test_a_label_that_only_voxels_have_is_not_given(seg: SplitSeg) -> None:
    """Voxels that a bulk load stored without an index: no row tells of them, but the block does."""
    seg.post("split-supervoxel/2", sparse(runs_of(seg, 2)))
    stray = VOLUME[-BLOCK[0] :, -BLOCK[1] :, -BLOCK[2] :].copy()
    stray[0, 0, 0] = 900
    at = tuple((o + n) // b - 1 for o, n, b in zip(ORIGIN, SHAPE, BLOCK, strict=True))
    seg.post("ingest-supervoxels?scale=0", pack_stream({at: stray}))
    supervoxel = next(int(v) for v in np.unique(stray[1:]) if v and v != 2)
    runs = runs_of(seg, supervoxel)[:1]
    assert "900" in seg.refused(f"split-supervoxel/{supervoxel}?split=900", sparse(runs))


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_what_is_not_within_the_supervoxel(seg: SplitSeg) -> None:
    good = runs_of(seg, 3)
    inside = np.argwhere(part(seg, 3))[0] + ORIGIN
    other = np.argwhere(part(seg, 2))[0] + ORIGIN
    far = [(2**31 - 1, -(2**31), 2**31 - 1, 1), (-(2**31), 0, 0, 2)]
    for run in (*far, (*other[::-1], 1), (10**6, 0, 0, 1)):
        text = seg.refused("split-supervoxel/3", sparse([*good.tolist(), run]))
        assert "supervoxel 3" in text
    assert "more than once" in seg.refused("split-supervoxel/3", sparse([*good.tolist(), (*inside[::-1], 1)]))
    assert "more than once" in seg.refused("split-supervoxel/3", sparse(np.repeat(good[:9], 2, axis=0)))


def test_all_of_it_or_more(seg: SplitSeg) -> None:
    everything = labels.from_mask(VOLUME == 3, ORIGIN)
    assert "some must stay" in seg.refused("split-supervoxel/3", sparse(everything))
    assert "some must stay" in seg.refused("split-supervoxel/3", sparse([(-(2**31), 0, 0, 2**31 - 1)] * 1000))


@pytest.mark.parametrize("supervoxel", ["0", "x", "-1", "", str(2**64)])
def test_numbers_that_are_no_supervoxel(seg: SplitSeg, supervoxel: str) -> None:
    seg.refused(f"split-supervoxel/{supervoxel}", sparse(runs_of(seg, 3)))


def test_supervoxels_that_are_not_there(seg: SplitSeg) -> None:
    seg.merge(3, 4)
    assert "no supervoxel 99" in seg.refused("split-supervoxel/99", sparse([(0, 0, 0, 1)]))
    seg.split(4, part(seg, 4))
    assert "was split" in seg.refused("split-supervoxel/4", sparse(runs_of(seg, 3)))


def test_without_an_index_there_is_nothing_to_split(database: Database) -> None:
    seg = SplitSeg.create(database, VOLUME, ORIGIN, IndexedLabels="false")
    answer = seg.ask("split-supervoxel/3", sparse(runs_of(seg, 3)), "POST")
    assert answer.status == 400 and "IndexedLabels" in answer.text


def test_a_split_is_not_read(seg: SplitSeg) -> None:
    assert seg.ask("split-supervoxel/3").status in (400, 405)


# -- side by side ------------------------------------------------------------------------------------------------------


def test_splits_of_supervoxels_that_share_blocks(seg: SplitSeg) -> None:
    """Sent together they are as good as one after the other, whichever ids each gets."""

    def send(supervoxel: int) -> dict[str, int]:
        return dict(seg.post(f"split-supervoxel/{supervoxel}", sparse(runs_of(seg, supervoxel))).json())

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(send, range(1, 7)))
    assert sorted(a[k] for a in answers for k in ("SplitSupervoxel", "RemainSupervoxel")) == list(range(7, 19))
    for supervoxel, answer in enumerate(answers, 1):
        split, remain = answer["SplitSupervoxel"], answer["RemainSupervoxel"]
        seg.apply({supervoxel: (split, remain)}, part(seg, supervoxel), downres=True)
        seg.body_of |= {split: supervoxel, remain: supervoxel, supervoxel: 0}
    seg.next = 19
    seg.check()


def test_an_id_that_two_give_goes_to_one(seg: SplitSeg) -> None:
    bodies = {supervoxel: sparse(runs_of(seg, supervoxel)) for supervoxel in range(1, 7)}
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda s: seg.ask(f"split-supervoxel/{s}?split=100", bodies[s], "POST"), bodies))
    assert sorted(answer.status for answer in answers) == [200, 400, 400, 400, 400, 400]
