"""Annotations in versions and on bodies: indices, reload, what follows labels; and where that is better than DVID."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pytest

from annotation_model import World, bare, element, everything, in_order, labelled, reload
from dvidcore.mutations import log
from dvidcore.repos import Database
from dvidcore.storage.engine import Batch
from dvidcore.storage.keys import version_bytes, zyx_key


@pytest.fixture
def world(database: Database) -> World:
    return labelled(database)


@pytest.fixture
def plain(database: Database) -> World:
    """Without labels: blocks of 64 voxels."""
    made = World(database)
    made.client.instance(made.root, "alone", "annotation")
    return made


# -- versions ----------------------------------------------------------------------------------------------------------


def test_locked_versions_take_no_change(world: World) -> None:
    world.put(element((1, 1, 1)))
    world.client.commit(world.node)
    for verb, path, body in (
        ("POST", "elements", []),
        ("POST", "blocks", {}),
        ("POST", "labels", {}),
        ("POST", "reload", None),
        ("POST", "move/1_1_1/2_1_1", None),
        ("DELETE", "element/1_1_1", None),
        ("POST", "sync", {"sync": ""}),
    ):
        assert "committed" in world.refused(verb, f"ann/{path}", body)
    world.agree()


def test_emptied_rows_leave_no_tombstones_in_a_root(world: World, database: Database) -> None:
    engine = database.stores["main"]
    before = {key for key, _ in engine.scan(b"\x01", b"\x02")}
    world.put(*(element((k, 1, 1), "PreSyn", ["a"]) for k in range(20)))
    for k in range(20):
        world.delete((k, 1, 1))
    extra = {key[5] for key, _ in engine.scan(b"\x01", b"\x02") if key not in before}
    assert extra == {0x20}  # the block size; the generations were there


# -- size of blocks ----------------------------------------------------------------------------------------------------


def test_the_first_write_fixes_the_block_size(plain: World) -> None:
    plain.post("alone/elements", [element((70, 70, 70), tags=["a"])])
    assert list(plain.get("alone/all-elements")) == ["1,1,1"]
    plain.write(np.full((32, 64, 96), 7, np.uint64))
    plain.post("alone/sync", {"sync": "seg"})
    assert list(plain.get("alone/all-elements")) == ["1,1,1"]
    plain.post("alone/elements", [element((40, 5, 5)), element((95, 63, 31), "Gap")])
    assert list(plain.get("alone/blocks/1_1_1/0_0_0")) == ["0,0,0"]
    assert {tuple(e["Pos"]) for e in plain.get("alone/label/7")} == {(40, 5, 5), (95, 63, 31)}
    half = np.full((32, 32, 32), 8, np.uint64)
    plain.write(half, (2, 1, 0))
    assert [e["Pos"] for e in plain.get("alone/label/8")] == [[95, 63, 31]]
    assert [e["Pos"] for e in plain.get("alone/label/7")] == [[40, 5, 5]]


def test_before_the_first_write_the_block_size_is_that_of_the_labels(plain: World) -> None:
    client, root = plain.client, plain.root
    client.instance(root, "fine", "labelmap", BlockSize="16,32,64")
    client.instance(root, "late", "annotation")
    plain.post("late/sync", {"sync": "fine"})
    plain.post("late/elements", [element((17, 33, 65))])
    assert list(plain.get("late/all-elements")) == ["1,1,1"]


# -- as they are -------------------------------------------------------------------------------------------------------


def test_posted_blocks_replace_and_reload_makes_tags_and_bodies_follow(world: World) -> None:
    old = element((1, 1, 1), "PreSyn", ["a"])
    world.put(old, element((40, 1, 1), "Gap", ["a"]))
    new = [element((2, 1, 1), "Note", ["b"]), element((3, 1, 1), "PostSyn", ["a"])]
    world.post("ann/blocks", {"0,0,0": new})
    assert world.get("ann/tag/b") == []
    assert [e["Pos"] for e in in_order(world.get("ann/tag/a"))] == [[1, 1, 1], [40, 1, 1]]
    assert world.get("sizes/count/1/PreSyn") == {"Label": 1, "PreSyn": 1}
    assert [f.kind for f in world.findings()] and not any(f.serious for f in world.findings())
    reload(world, "ann")
    del world.state.elements[1, 1, 1]
    world.state.elements |= {tuple(e["Pos"]): e for e in new}
    world.agree()
    assert world.findings() == []


def test_posted_labels_replace_entries_and_nothing_else(world: World) -> None:
    world.put(element((1, 1, 1), "PreSyn"), element((2, 1, 1), "Gap"))
    given = [{"Pos": [2, 1, 1], "Kind": "Gap", "Tags": [], "Prop": {}}, {"Pos": [700, 1, 1], "Kind": "Note"}]
    world.post("ann/labels", {"1": json.dumps(given), "77": json.dumps(given[1:]), "0": json.dumps(given)})
    assert [e["Pos"] for e in in_order(world.get("ann/label/1"))] == [[2, 1, 1], [700, 1, 1]]
    assert world.get("ann/label/77") == [bare(element((700, 1, 1)))]
    assert world.get("ann/label/77?relationships=true") == []
    assert len(everything(world)) == 2
    for bad in (
        {"x": "[]"},
        {"-5": "[]"},
        {"+5": "[]"},
        {"5": []},
        {"5": "x"},
        {"5": "{}"},
        {"5": ""},
        [],
        {str(2**64): "[]"},
    ):
        world.refused("POST", "ann/labels", bad)
    assert "label 6" in world.refused("POST", "ann/labels", {"5": "[]", "6": "[1]"})
    reload(world, "ann")
    world.agree()


# -- following ---------------------------------------------------------------------------------------------------------


def test_a_mutated_block_on_merged_bodies_moves_elements_between_bodies(world: World) -> None:
    world.put(*(element((x, 1, 1), "PreSyn") for x in (1, 20, 40, 60)))
    world.merge(1, 2, 3)
    world.agree()
    block = np.full((32, 32, 32), 2, np.uint64)
    block[:, :, 16:] = 9
    world.write(block)
    world.agree()
    assert [e["Pos"] for e in in_order(world.get("ann/label/1"))] == [[1, 1, 1], [40, 1, 1]]
    assert world.get("ann/label/2") == []


def test_blocks_written_anew_take_elements_from_their_old_bodies(world: World) -> None:
    world.put(element((1, 1, 1), "PreSyn"), element((1, 40, 1), "PreSyn"))
    world.write(np.full((32, 32, 32), 50, np.uint64), mutate=False)
    world.agree()
    world.write(np.zeros((32, 32, 32), np.uint64), mutate=False)
    world.agree()
    assert world.get("ann/label/50") == []


def test_elements_from_before_a_sync_are_indexed_by_voxel_writes_and_by_reload(world: World) -> None:
    world.client.instance(world.root, "late", "annotation")
    world.post("late/elements", [element((1, 1, 1)), element((90, 1, 1))])
    world.post("late/sync", {"sync": "seg"})
    assert world.get("late/label/1") == []
    world.merge(4, 1)
    assert world.get("late/label/4") == []
    world.write(np.full((32, 32, 32), 60, np.uint64))
    assert [e["Pos"] for e in world.get("late/label/60")] == [[1, 1, 1]]
    reload(world, "late")
    assert [e["Pos"] for e in world.get("late/label/6")] == [[90, 1, 1]]


def test_without_a_sync_nothing_follows_and_edits_still_find_old_entries(world: World) -> None:
    world.put(element((1, 1, 1), "PreSyn"), element((20, 1, 1), "PreSyn"))
    world.post("ann/sync?replace=true", {"sync": ""})
    world.post("seg/merge", [5, 1])
    assert len(world.get("ann/label/1")) == 1
    assert world.ask("DELETE", "ann/element/1_1_1").status == 200
    assert world.get("ann/label/1") == []
    world.post("ann/elements", [element((20, 1, 1), "PreSyn")])
    assert world.get("ann/label/2") == []


def test_only_label_types_can_be_followed(world: World) -> None:
    for bad in ({"sync": "nosuch"}, {"sync": "ann"}, {"sync": "seg,sizes"}, {"x": "seg"}, "x", {"sync": 1}):
        world.refused("POST", "ann/sync", bad)
    assert world.get("ann/info")["Base"]["Syncs"] == ["seg"]


# -- the log -----------------------------------------------------------------------------------------------------------


def records(world: World) -> Iterator[dict[str, Any]]:
    repo, node = world.database.resolve(world.node)
    data = world.client.server.instances.named(repo, "ann")
    with data.engine.snapshot() as snapshot:
        for record in log.records(snapshot, data.record.id, node.id):
            yield orjson.loads(record)


def test_changes_are_logged_with_their_user_unless_told_off(world: World) -> None:
    world.post("ann/elements?u=ann", [element((1, 1, 1)), element((2, 1, 1))])
    world.post("ann/move/1_1_1/5_1_1?u=ann")
    world.ask("DELETE", "ann/element/5_1_1")
    world.post("ann/blocks", {"0,0,0": []})
    world.post("ann/elements?kafkalog=off", [element((1, 1, 1))])
    world.ask("DELETE", "ann/element/1_1_1?kafkalog=off")
    found = list(records(world))
    assert [r["Action"] for r in found] == ["element-post", "element-move", "element-delete", "blocks-post"]
    assert found[0]["User"] == "ann" and found[0]["UUID"] == world.node and found[0]["Elements"] == 2
    assert (found[1]["From"], found[1]["To"], found[2]["Point"]) == ([1, 1, 1], [5, 1, 1], [5, 1, 1])
    assert "User" not in found[2]


# -- the check ---------------------------------------------------------------------------------------------------------


def test_rows_that_disagree_are_found_and_mended(world: World, database: Database) -> None:
    world.put(element((1, 1, 1), "PreSyn", ["a"]), element((20, 1, 1), "Gap", ["a", "b"]), element((40, 1, 1)))
    engine, node = database.stores["main"], database.resolve(world.node)[1]
    rows = world.client.server.instances.named(database.repo_of(world.root), "ann").rows  # type: ignore[attr-defined]
    suffix, origin = version_bytes(node.id), zyx_key(0, 0, 0)
    tagged = engine.get(rows.of_tag("a") + origin + suffix)
    on_one = engine.get(rows.of_body(1) + origin + suffix)
    assert tagged is not None and on_one is not None
    batch = Batch()
    batch.delete(rows.of_tag("b") + origin + suffix)
    batch.put(rows.of_tag("c") + origin + suffix, tagged)
    batch.put(rows.of_body(9) + origin + suffix, on_one)
    batch.delete(rows.of_body(2) + origin + suffix)
    engine.write(batch)
    found = {f.what: (f.stored, f.expected, f.serious) for f in world.findings() if f.kind == "elements"}
    assert found == {
        'the elements with the tag "b" in block 0,0,0': ("0 elements", "1 elements", False),
        'the elements with the tag "c" in block 0,0,0': ("2 elements", "0 elements", False),
        "the elements on body 9 in block 0,0,0": ("1 elements", "0 elements", True),
        "the elements on body 2 in block 0,0,0": ("0 elements", "1 elements", False),
    }
    assert all(f.repaired for f in world.findings(repair=True))
    world.agree()
    assert world.findings() == []
