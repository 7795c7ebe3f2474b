"""Merge, cleave and renumber: which body has which supervoxels, what the index says, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from dvidcore import labels
from dvidcore.repos import Database
from labelmap_client import BLOCK, Seg, pack_index, pack_mappings, rles

EVERY = list(range(30))


@pytest.fixture
def seg(database: Database) -> Seg:
    """Supervoxels 1 to 6, each a slab along z that lies in two blocks, and 7 in the second one alone."""
    made = Seg.create(database)
    volume = np.zeros((BLOCK[0], BLOCK[1], 2 * BLOCK[2]), np.uint64)
    for z in range(BLOCK[0]):
        volume[z] = min(z // 5 + 1, 6)
    volume[:, :4, BLOCK[2] :] = 7
    made.write(volume, (0, 0, 0))
    return made


def state(seg: Seg) -> dict[str, Any]:
    """All that a refused mutation must leave as it is."""
    bodies = seg.json("existing-labels")
    return {
        "bodies": bodies,
        "mappings": seg.get("mappings"),
        "mapping": seg.json("mapping", EVERY),
        "indices": [seg.get(f"index/{body}") for body in bodies],
        "records": seg.json("mutations"),
        "maximum": seg.json("maxlabel"),
        "next": seg.json("nextlabel"),
    }


def check(seg: Seg) -> None:
    """Every answer about every body is what voxels and mapping of the model make of it."""
    bodies = sorted({seg.body_of.get(v, v) for v in seg.present() if v})
    assert seg.json("existing-labels") == bodies
    for body in bodies:
        members = seg.supervoxels(body)
        assert seg.json(f"supervoxels/{body}") == members
        assert rles(seg.get(f"sparsevol/{body}")) == seg.runs(members)
        sizes = {v: int((seg.voxels == v).sum()) for v in members}
        assert seg.json(f"size/{body}") == {"voxels": sum(sizes.values())}
        assert seg.json(f"sparsevol-size/{body}")["numblocks"] == len(seg.blocks(members))
        found = seg.json(f"supervoxel-sizes/{body}")
        assert dict(zip(found["supervoxels"], found["sizes"], strict=True)) == sizes
    size = "_".join(str(n) for n in reversed(seg.voxels.shape))
    volume = np.frombuffer(seg.get(f"raw/0_1_2/{size}/0_0_0"), "<u8").reshape(seg.voxels.shape)
    assert (volume == seg.bodies(seg.voxels)).all()


def mappings(seg: Seg) -> dict[int, int]:
    lines = seg.get("mappings").decode().split("\n")[:-1]
    found = {int(line.split()[0]): int(line.split()[1]) for line in lines}
    assert len(found) == len(lines)
    return found


def cleave(seg: Seg, body: int, *supervoxels: int) -> dict[str, int]:
    answer: dict[str, int] = seg.post(f"cleave/{body}?u=ann&app=test", list(supervoxels)).json()
    for supervoxel in supervoxels:
        seg.body_of[supervoxel] = answer["CleavedLabel"]
    return answer


def renumber(seg: Seg, *pairs: int) -> None:
    seg.post("renumber", list(pairs))
    for new, old in zip(pairs[::2], pairs[1::2], strict=True):
        members = [v for v in seg.present() if seg.body_of.get(v, v) == old]
        seg.body_of.update(dict.fromkeys(members, new))


def surfaces(seg: Seg, body: int) -> dict[tuple[int, ...], int]:
    _, coords, _, _, surface, *_ = labels.decode_index(seg.get(f"index/{body}"))
    return {tuple(at): s for at, s in zip(coords.tolist(), surface.tolist(), strict=True)}


def stamp(seg: Seg, body: int) -> tuple[Any, ...]:
    last = seg.json(f"lastmod/{body}")
    return last["mutation id"], last["last mod user"], last["last mod app"]


# -- the story of the mapping ------------------------------------------------------------------------------------------


def test_what_each_mutation_writes_into_the_mapping(seg):
    seg.merge(3, 4)
    assert mappings(seg) == {4: 3}
    new = cleave(seg, 3, 4)["CleavedLabel"]
    assert (new, mappings(seg)) == (8, {4: 8, 8: 0})
    renumber(seg, 50, 3)
    assert mappings(seg) == {4: 8, 8: 0, 3: 50, 50: 0}
    assert seg.json("mapping", [1, 3, 4, 8, 50, 999]) == [1, 50, 8, 0, 0, 0]
    assert seg.json("mapping?nolookup=true", [999]) == [999]
    renumber(seg, 3, 50)
    assert mappings(seg) == {4: 8, 8: 0, 50: 0}
    check(seg)


def test_complete_mappings_name_every_supervoxel(seg):
    seg.merge(3, 4)
    new = cleave(seg, 3, 3)["CleavedLabel"]
    text = seg.get("mappings?complete=true").decode()
    assert text == f"1 1\n2 2\n3 {new}\n4 3\n5 5\n6 6\n7 7\n{new} 0\n"
    pairs = np.frombuffer(seg.get("mappings?complete=true&format=binary"), "<u8").reshape(-1, 2)
    assert pairs.tolist() == [[int(n) for n in line.split()] for line in text.splitlines()]


# -- merge -------------------------------------------------------------------------------------------------------------


def test_merge_of_several_with_duplicates(seg):
    answer = seg.post("merge?u=ann&app=test", [2, 5, 6, 5, 7]).json()
    seg.body_of.update({5: 2, 6: 2, 7: 2})
    check(seg)
    assert mappings(seg) == {5: 2, 6: 2, 7: 2}
    assert stamp(seg, 2) == (answer["MutationID"], "ann", "test")
    seg.refused("lastmod/5", status=404)
    assert seg.json("nextlabel") == {"nextlabel": 8}


def test_merge_marks_the_blocks_that_a_merged_body_has(seg):
    first = seg.post("merge", [2, 7]).json()["MutationID"]
    assert surfaces(seg, 2) == {(0, 0, 0): 0, (0, 0, 1): first}
    second = seg.post("merge", [2, 1]).json()["MutationID"]
    assert set(surfaces(seg, 2).values()) == {second}


def test_merged_counts_of_one_supervoxel_add_up(seg):
    """Posted indices may put a supervoxel in two bodies."""
    seg.post("index/20", pack_index(20, {(0, 0, 0): {3: 5, 90: 1}}, 2**63))
    mutation = seg.post("merge", [3, 20]).json()["MutationID"]
    _, coords, supervoxels, counts, surface, *_ = labels.decode_index(seg.get("index/3"))
    assert supervoxels.tolist() == [3, 90, 3] and coords.tolist()[0] == [0, 0, 0]
    assert counts[0] == 5 * BLOCK[1] * BLOCK[2] + 5
    assert surface.tolist() == [mutation, mutation, 0]


@pytest.mark.parametrize(
    "body",
    [
        [],
        [3],
        None,
        {"target": 3},
        "3,4",
        [3, "4"],
        [3, 4.5],
        [3, -4],
        [3, 2**64],
        [3, True],
        [3, [4]],
        [3, 0],
        [0, 3],
        [3, 3],
        [3, 4, 3],
        [3, 4, 99],
        [99, 3],
        b"",
        b"[3, 4",
    ],
)
def test_refused_merges_change_nothing(seg, body):
    before = state(seg)
    seg.refused("merge", body if isinstance(body, bytes) else json.dumps(body).encode(), "POST")
    assert state(seg) == before


def test_an_absorbed_body_is_none_any_more(seg):
    seg.merge(3, 4)
    before = state(seg)
    assert "4 is not a body" in seg.refused("merge", [5, 4], "POST")
    seg.refused("merge", [4, 5], "POST")
    seg.refused("merge", [5, 3, 4], "POST")
    seg.refused("merge", [3, 5], "GET")
    assert state(seg) == before


# -- cleave ------------------------------------------------------------------------------------------------------------


def test_cleave_divides_the_index(seg):
    seg.merge(1, 2, 7)
    merged = set(surfaces(seg, 1).values())
    answer = cleave(seg, 1, 7, 7)
    check(seg)
    new, mutation = answer["CleavedLabel"], answer["MutationID"]
    assert surfaces(seg, new) == {(0, 0, 1): mutation}
    assert surfaces(seg, 1)[0, 0, 1] == mutation and surfaces(seg, 1)[0, 0, 0] in merged
    assert stamp(seg, 1) == stamp(seg, new) == (mutation, "ann", "test")
    assert (seg.json("maxlabel"), seg.json("nextlabel")) == ({"maxlabel": 8}, {"nextlabel": 9})


def test_a_body_may_lose_the_supervoxel_of_its_own_number(seg):
    seg.merge(1, 2, 3)
    cleave(seg, 1, 1)
    check(seg)
    assert seg.json("size/1?supervoxels=true") == seg.json("size/8")
    seg.merge(8, 1)
    check(seg)
    assert cleave(seg, 8, 3, 1)["CleavedLabel"] == 9
    check(seg)


@pytest.mark.parametrize(
    ("body", "listed"),
    [
        (1, []),
        (1, None),
        (1, {"supervoxels": [2]}),
        (1, [2.5]),
        (1, [-2]),
        (1, ["2"]),
        (1, [False]),
        (1, [2**64]),
        (1, b""),
        (1, [0]),
        (1, [2, 0]),
        (1, [4]),
        (1, [2, 4]),
        (1, [99]),
        (1, [1, 2]),
        (1, [1, 2, 2]),
        (4, [4]),
        (2, [2]),
        (99, [1]),
        (0, [1]),
        ("x", [1]),
        (-1, [1]),
        ("", [1]),
        (2**64, [1]),
    ],
)
def test_refused_cleaves_change_nothing_and_use_up_no_label(seg, body, listed):
    seg.merge(1, 2)
    before = state(seg)
    seg.refused(f"cleave/{body}", listed if isinstance(listed, bytes) else json.dumps(listed).encode(), "POST")
    assert state(seg) == before


def test_cleave_beyond_the_ceiling(seg):
    seg.merge(1, 2)
    seg.client.admin("POST", f"/api/node/{seg.node}/seg/set-nextlabel/100?ceiling=100")
    before = state(seg)
    assert "ceiling" in seg.refused("cleave/1", [2], "POST")
    assert state(seg) == before
    seg.client.admin("POST", f"/api/node/{seg.node}/seg/set-nextlabel/100?ceiling=101")
    assert cleave(seg, 1, 2)["CleavedLabel"] == 101
    check(seg)


def test_supervoxels_without_voxels_stay_mapped_to_a_body_that_is_merged_or_renumbered(seg):
    """A body is what its index says. Written again, they are the body that they map to."""
    whole = seg.voxels.copy()
    seg.merge(1, 2, 3)
    seg.merge(4, 5, 6)
    volume = whole.copy()
    volume[(volume == 3) | (volume == 6)] = 0
    seg.write(volume, (0, 0, 0))
    seg.merge(7, 1)
    renumber(seg, 50, 4)
    check(seg)
    assert mappings(seg) == {1: 7, 2: 7, 3: 1, 4: 50, 5: 50, 6: 4, 50: 0}
    seg.write(whole, (0, 0, 0))
    check(seg)
    assert seg.json("supervoxels/1") == [3]
    assert seg.json("supervoxels/4") == [6]


def test_supervoxels_without_voxels_are_skipped(seg):
    """They map to the body: mapped there by a client, or erased since."""
    seg.merge(1, 2, 3)
    seg.post("mappings", pack_mappings((1, [90])))
    volume = seg.voxels.copy()
    volume[volume == 3] = 0
    seg.write(volume, (0, 0, 0))
    seg.refused("cleave/1", [90, 3], "POST")
    new = seg.post("cleave/1", [2, 90, 3]).json()["CleavedLabel"]
    seg.body_of[2] = new
    check(seg)
    assert mappings(seg) == {2: new, new: 0, 3: 1, 90: 1}


def test_a_large_cleave_names_a_blob(seg):
    """Supervoxels beyond what a message may have are in the blob that the record refers to."""
    count = 60_000
    members = list(range(10**18, 10**18 + count))
    seg.post("index/20", pack_index(20, {(0, 0, 0): {95: 1}, (0, 0, 1): dict.fromkeys(members, 1)}))
    seg.post("mappings", pack_mappings((20, [95, *members])))
    seg.post("cleave/20", members)
    record = seg.json("mutations")[-1]
    assert "CleavedSupervoxels" not in record and record["CleavedSize"] == count
    assert seg.json(f"blobstore/{record['DataRef']}")["CleavedSupervoxels"] == members
    events = json.loads(
        seg.client("GET", f"/api/node/{seg.node}/seg/history/20/{seg.node}/{seg.node}", headers=JSON).body
    )
    assert events[-1]["CleavedSupervoxels"] == members


JSON = {"Accept": "application/json"}

# -- renumber ----------------------------------------------------------------------------------------------------------


def test_renumber_moves_a_body(seg):
    seg.merge(3, 4, 7)
    before = surfaces(seg, 3)
    seg.post("renumber?u=bob&app=kit", [20, 3])
    seg.body_of.update({3: 20, 4: 20, 7: 20})
    check(seg)
    mutation = seg.json("mutations")[-1]["MutationID"]
    assert (surfaces(seg, 20), stamp(seg, 20)) == (before, (mutation, "bob", "kit"))
    assert seg.json("maxlabel") == {"maxlabel": 20}
    seg.refused("size/3", status=404)


@pytest.mark.parametrize(
    "pairs",
    [
        [20, 1, 21, 2],
        [20, 1, 21, 20, 1, 21],
        [20, 1, 1, 2, 2, 20],
        [4, 3],
        [20, 1, 2**64 - 1, 20],
        [20, 3, 3, 20],
    ],
    ids=["two", "there and back", "exchanged", "onto a supervoxel", "largest", "nothing in the end"],
)
def test_pairs_are_carried_out_in_their_order(seg, pairs):
    seg.merge(3, 4)
    renumber(seg, *pairs)
    check(seg)
    records = [(r["NewLabel"], r["OrigLabel"]) for r in seg.json("mutations")[1:]]
    assert records == list(zip(pairs[::2], pairs[1::2], strict=True))
    ids = [r["MutationID"] for r in seg.json("mutations")]
    assert sorted(set(ids)) == ids


@pytest.mark.parametrize(
    "body",
    [
        None,
        {"new": 20, "old": 3},
        [20],
        [20, 3, 21],
        [20, "3"],
        [20, 3.5],
        [20, -3],
        [2**64, 3],
        [0, 3],
        [20, 0],
        [3, 3],
        [5, 3],
        [20, 99],
        [20, 4],
        [20, 1, 20, 2],
        [20, 1, 21, 1],
        [20, 1, 21, 99],
        [20, 1, 2, 5],
        b"",
        b"20,3",
    ],
)
def test_refused_renumberings_change_nothing(seg, body):
    seg.merge(3, 4)
    before = state(seg)
    seg.refused("renumber", body if isinstance(body, bytes) else json.dumps(body).encode(), "POST")
    assert state(seg) == before


def test_no_pairs_to_renumber_is_a_no_op(seg):
    seg.merge(3, 4)
    before = state(seg)
    seg.post("renumber", [])
    assert state(seg) == before


# -- versions ----------------------------------------------------------------------------------------------------------


def test_each_version_has_its_own_bodies(seg):
    seg.merge(1, 2, 3)
    child = seg.child()
    other = seg.at(seg.client.post(f"/api/node/{seg.node}/branch", {"branch": "side"}).json()["child"])
    cleave(child, 1, 2)
    renumber(child, 30, 4)
    other.merge(5, 4)
    grand = child.child()
    grand.merge(30, 8)
    for version in (seg, child, other, grand):
        check(version)
    assert cleave(other, 1, 3)["CleavedLabel"] == 31
    check(other)
    for path, body in (("merge", [1, 5]), ("cleave/1", [2]), ("renumber", [77, 1])):
        assert "committed" in seg.refused(path, body, "POST")


def test_entries_of_other_branches_do_not_exist(seg):
    """A supervoxel that a sibling merged is indexed where it is written as if nothing had happened."""
    child = seg.child()
    side = seg.at(seg.client.post(f"/api/node/{seg.node}/branch", {"branch": "side"}).json()["child"])
    child.merge(1, 2)
    volume = side.voxels.copy()
    volume[:3] = 2
    side.write(volume, (0, 0, 0))
    check(side)
    check(child)


def test_voxels_written_after_mutations_count_in_their_bodies(seg):
    seg.merge(1, 2, 3)
    cleave(seg, 1, 1)
    renumber(seg, 40, 1)
    volume = seg.voxels.copy()
    volume[volume == 2] = 0
    volume[volume == 3] = 0
    seg.write(volume, (0, 0, 0))
    assert 40 not in seg.json("existing-labels")
    volume[10:12] = 2
    seg.write(volume, (0, 0, 0))
    check(seg)
    volume[12:] = 40
    assert "40 was split or retired" in seg.refused(
        f"raw/0_1_2/{2 * BLOCK[2]}_{BLOCK[1]}_{BLOCK[0]}/0_0_0", volume.tobytes(), "POST"
    )
    check(seg)


def test_without_an_index_there_is_no_mutation(database):
    seg = Seg.create(database, IndexedLabels="false")
    for path, body in (("merge", [1, 2]), ("cleave/1", [2]), ("renumber", [3, 1])):
        assert "IndexedLabels" in seg.refused(path, body, "POST")
