"""What is told of mutations: the log and its ranges, splits, history, former indices."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvidcore.config import parse
from dvidcore.repos import Database, DatabaseOptions, OneStore
from dvidcore.storage.leveldb import LevelDB
from dvidcore.storage.memory import Memory
from labelmap_client import BLOCK, Seg, pack_index, pack_mappings

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ [+-]\d{4} \S")
ACCEPT = {"Accept": "*/*"}


def filled(database: Database) -> Seg:
    """Supervoxels 1 to 8, each four layers thick."""
    made = Seg.create(database)
    volume = np.empty(BLOCK, np.uint64)
    volume[:] = (np.arange(BLOCK[0]) // 4 + 1)[:, None, None]
    made.write(volume, (0, 0, 0))
    return made


@pytest.fixture
def seg(database: Database) -> Seg:
    return filled(database)


def split(seg: Seg, supervoxel: int) -> dict[str, int]:
    """Splits off the first layer."""
    z = 4 * (supervoxel - 1)
    runs = np.array([[0, y, z, BLOCK[2]] for y in range(BLOCK[1])], "<i4")
    answer: dict[str, int] = seg.post(
        f"split-supervoxel/{supervoxel}", struct.pack("<4B2I", 0, 3, 0, 0, 0, len(runs)) + runs.tobytes()
    ).json()
    return answer


def branch(seg: Seg, name: str) -> Seg:
    return seg.at(seg.client.post(f"/api/node/{seg.node}/branch", {"branch": name}).json()["child"])


def history(seg: Seg, label: int, first: Seg, last: Seg) -> list[dict[str, Any]]:
    answer = seg.client("GET", f"/api/node/{seg.node}/seg/history/{label}/{first.node}/{last.node}", headers=ACCEPT)
    assert answer.status == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


# -- the log -----------------------------------------------------------------------------------------------------------


def test_records_have_their_keys(seg):
    assert seg.json("mutations") == []
    merged = seg.post("merge?u=ann&app=kit", [3, 5, 4, 5]).json()
    cleaved = seg.post("cleave/3?u=%22q%22%20%C3%A9", [5, 4, 5]).json()
    seg.post("renumber?app=kit", [40, 3, 41, 6])
    seg.post("mappings", pack_mappings((50, [51])))
    seg.post("nextlabel/3")
    seg.refused("merge", [1, 99], "POST")
    layer = BLOCK[1] * BLOCK[2]
    records = seg.json("mutations")
    assert [record.pop("UUID") for record in records] == [seg.node] * 4
    assert all(TIMESTAMP.match(record.pop("Timestamp")) for record in records)
    ids = [record.pop("MutationID") for record in records]
    assert ids[:2] == [merged["MutationID"], cleaved["MutationID"]] and ids == sorted(set(ids))
    assert records == [
        {"Action": "merge-complete", "Target": 3, "Labels": [5, 4], "User": "ann", "App": "kit"},
        {
            "Action": "cleave-complete",
            "OrigLabel": 3,
            "CleavedLabel": cleaved["CleavedLabel"],
            "CleavedSupervoxels": [5, 4, 5],
            "CleavedSize": 8 * layer,
            "RemainSize": 4 * layer,
            "User": '"q" é',
        },
        {"Action": "renumber-complete", "NewLabel": 40, "OrigLabel": 3, "App": "kit"},
        {"Action": "renumber-complete", "NewLabel": 41, "OrigLabel": 6, "App": "kit"},
    ]
    assert seg.json("mutations?userid=ann")[0]["User"] == "ann"
    assert [len(seg.json(f"mutations?userid={who}")) for who in ("ann", "%22q%22%20%C3%A9", "bob", "")] == [1, 1, 0, 4]


def test_ranges_of_versions(seg):
    seg.merge(1, 2)
    child, side = seg.child(), branch(seg, "side")
    child.merge(1, 3)
    child.merge(1, 4)
    side.merge(5, 6)
    grand = child.child()
    grand.merge(1, 5)

    def told(first: str, last: str) -> list[int]:
        return [record["Labels"][0] for record in seg.json(f"mutations-range/{first}/{last}")]

    assert told(seg.node, grand.node) == [5, 3, 4, 2]
    assert told(child.node, grand.node) == [5, 3, 4]
    assert told(seg.node, seg.node) == [2]
    assert told(seg.node[:12], side.node[:12]) == [6, 2]
    for path in (
        f"{side.node}/{grand.node}",
        f"{grand.node}/{seg.node}",
        f"{seg.node}/fffffffffff",
        f"{seg.node}",
        "",
    ):
        seg.refused(f"mutations-range/{path}")
    seg.refused(f"mutations-range/{seg.node}/{seg.node}", b"", "POST")
    other = Seg.create(seg.client.server.database)
    assert "another repo" in seg.refused(f"mutations-range/{other.node}/{seg.node}")


def test_ranges_pass_merges_of_versions(seg):
    seg.client.commit(seg.node)
    sides = [branch(seg, name) for name in "ab"]
    for side, labels_ in zip(sides, ([1, 2], [3, 4]), strict=True):
        side.merge(*labels_)
        side.client.commit(side.node)
    parents = [side.node for side in sides]
    body = {"mergeType": "conflict-free", "parents": parents}
    both = seg.at(seg.client.post(f"/api/repo/{seg.node}/merge", body).json()["child"])
    both.merge(5, 6)
    for side, label in zip(sides, (2, 4), strict=True):
        found = seg.json(f"mutations-range/{side.node}/{both.node}")
        assert [record["Labels"] for record in found] == [[6], [label]]
    both.body_of.update({2: 1, 4: 3, 6: 5})
    assert both.json("mapping", list(range(1, 9))) == [1, 1, 3, 3, 5, 5, 7, 8]
    assert both.json("existing-labels") == [1, 3, 5, 7, 8]


def test_an_unversioned_instance_has_one_log(database):
    seg = Seg.create(database, versioned="false")
    seg.write(np.full(BLOCK, 1, np.uint64), (0, 0, 0))
    seg.post("index/2", pack_index(2, {(0, 0, 0): {2: 5}}))
    child = seg.child()
    child.merge(1, 2)
    for version in (seg, child):
        assert [record["UUID"] for record in version.json("mutations")] == [seg.node]
        assert len(version.json(f"mutations-range/{seg.node}/{child.node}")) == 1
        assert len(history(version, 1, seg, child)) == 1
        assert version.json(f"mutations-range/{child.node}/{child.node}") == []
        assert history(version, 1, child, child) == []
        version.refused(f"mutations-range/{child.node}/{seg.node}")


def test_everything_is_there_after_a_restart(tmp_path):
    def asked(seg: Seg) -> list[bytes]:
        paths = ("mutations", "mappings", "supervoxel-splits", "existing-labels", "nextlabel", "lastmod/3")
        return [seg.get(path) for path in paths]

    with Database.open({"main": LevelDB.open(str(tmp_path))}, OneStore("main")) as database:
        seg = filled(database)
        seg.merge(3, 4)
        split(seg, 5)
        seg.post("cleave/3", [4])
        node, before = seg.node, asked(seg)
    with Database.open({"main": LevelDB.open(str(tmp_path))}, OneStore("main")) as database:
        again = Seg(type(seg.client)(database), node)
        assert asked(again) == before


# -- splits and history ------------------------------------------------------------------------------------------------


def test_splits_are_listed_once_and_the_nearest_version_first(seg):
    first = split(seg, 1)
    child = seg.child()
    second, third = split(child, 2), split(child, 3)
    grand = child.child()

    def listed(answer: dict[str, int], old: int) -> list[int]:
        return [answer["MutationID"], old, answer["RemainSupervoxel"], answer["SplitSupervoxel"]]

    root = [seg.node, [listed(first, 1)]]
    assert seg.json("supervoxel-splits") == root
    assert grand.json("supervoxel-splits") == [child.node, [listed(second, 2), listed(third, 3)], *root]
    assert branch(seg, "side").json("supervoxel-splits") == root


def test_history_tells_all_that_happened_to_a_body(seg):
    seg.merge(1, 2)
    child = seg.child()
    parts = split(child, 2)
    child.merge(1, 3)
    child.post("cleave/1", [3])
    child.post("renumber", [50, 1])
    child.merge(5, 6)
    grand = child.child()
    grand.merge(50, 7)
    names = ("Supervoxel", "SplitSupervoxel", "RemainSupervoxel")
    split_event = dict(zip(names, (2, parts["SplitSupervoxel"], parts["RemainSupervoxel"]), strict=True))
    cleaved = child.json("mutations")[2]["CleavedLabel"]
    later = [
        {"Action": "split-supervoxel", **split_event},
        {"Action": "merge", "Target": 1, "Labels": [3]},
        {"Action": "cleave", "OrigLabel": 1, "CleavedLabel": cleaved, "CleavedSupervoxels": [3]},
        {"Action": "renumber", "NewLabel": 50, "OrigLabel": 1},
        {"Action": "merge", "Target": 50, "Labels": [7]},
    ]
    assert history(seg, 50, seg, grand) == [{"Action": "merge", "Target": 1, "Labels": [2]}, *later]
    assert history(seg, 50, child, grand)[-2:] == later[-2:]
    assert history(seg, 999, seg, grand) == []
    assert history(seg, 8, seg, grand) == []
    plain = seg.get(f"history/50/{seg.node}/{grand.node}")
    assert plain.startswith(b'{"Action":"merge"') and b"renumber" not in plain
    assert seg.get(f"history/999/{seg.node}/{grand.node}") == b""


def test_history_refuses_what_it_cannot_answer(seg):
    node = seg.node
    for path in (f"0/{node}/{node}", f"x/{node}/{node}", f"1/{node}", "1", f"1/{node}/ffffffffffff", ""):
        seg.refused(f"history/{path}")
    seg.refused(f"history/1/{node}/{node}", b"", "POST")


# -- former indices ----------------------------------------------------------------------------------------------------


def test_configured_instances_keep_former_indices():
    config = parse('[mutcache.seg]\npath = "x"\n[store.main]\nengine = "memory"', Path())
    options = DatabaseOptions(former_indices=config.former_indices)
    with Database.open({"main": Memory.open("")}, OneStore("main"), options=options) as database:
        seg = filled(database)
        before = {body: seg.get(f"index/{body}") for body in (3, 4)}
        merge = seg.post("merge", [3, 4]).json()["MutationID"]
        merged = seg.get("index/3")
        cleave = seg.post("cleave/3", [4]).json()["MutationID"]
        child = seg.child()
        left = child.get("index/3")
        child.post("renumber", [30, 3])
        number = child.json("mutations")[-1]["MutationID"]
        whole = child.get("index/5")
        cut = split(child, 5)["MutationID"]
        for version in (seg, child):
            assert [version.get(f"index/{body}?mutid={merge}") for body in (3, 4)] == list(before.values())
            assert version.get(f"index/3?mutid={cleave}") == merged
            version.refused(f"index/3?mutid={merge - 1}", status=404)
            version.refused(f"index/8?mutid={cut}", status=404)
        assert child.get(f"index/3?mutid={number}") == left
        assert child.get(f"index/5?mutid={cut}") == child.get(f"index/5?mutid={2**64 - 1}") == whole
        assert seg.get(f"index/3?mutid={cut}") == merged
        seg.refused("index/3?mutid=x")
        child.refused("renumber", b"[60, 99]", "POST")
        pairs = [child.get(f"index/{body}") for body in (1, 2)]
        child.post("renumber", [31, 1, 32, 2])
        first, second = (record["MutationID"] for record in child.json("mutations")[-2:])
        assert [child.get(f"index/{body}?mutid={second}") for body in (1, 2)] == pairs
        assert child.get(f"index/1?mutid={first}") == pairs[0]
        child.refused(f"index/2?mutid={first}", status=404)


def test_others_keep_none(seg):
    merge = seg.post("merge", [3, 4]).json()["MutationID"]
    seg.refused(f"index/3?mutid={merge}", status=404)


def test_metadata_is_json_whatever_the_user_is_called(seg):
    seg.post("merge?u=a%22b%5C&app=%C3%A9", [3, 4])
    found = json.loads(seg.get("index/3?metadata-only=true"))
    last = seg.json("lastmod/3")
    assert (found["last_mod_user"], found["last_mod_app"], found["num_voxels"]) == (
        'a"b\\',
        "é",
        8 * BLOCK[1] * BLOCK[2],
    )
    assert list(last.values()) == [found["last_mutid"], 'a"b\\', "é", found["last_mod_time"]]
