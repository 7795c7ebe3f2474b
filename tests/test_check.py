"""``dvidcore check``: damage of every kind is found, told where it is, and mended where it can be recomputed."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from apiclient import Client
from dvidcore import blocks
from dvidcore.checking import Finding, check
from dvidcore.datatypes.labels import stored
from dvidcore.datatypes.labels.rows import BODY, BODY_OFFSET, EXTENTS, INDEX, MAXLABEL, NEXT, BodyRecord, LabelCounters
from dvidcore.errors import StoreError
from dvidcore.geometry import ZYX
from dvidcore.repos import Database
from dvidcore.storage.engine import Batch
from dvidcore.storage.keys import kind_range, u64_of, version_bytes
from dvidcore.storage.versioned import View
from dvidcore.versions import Node
from test_labelmap_writes import SIDE, World, random_step, random_volume, stream


@pytest.fixture
def world(database: Database) -> Iterator[World]:
    yield World(database)


def found(database: Database, **options: bool) -> list[Finding]:
    out: list[Finding] = []
    check(database, out.append, **options)  # type: ignore[arg-type]
    return out


def kinds(findings: list[Finding]) -> set[str]:
    return {finding.kind for finding in findings}


def put(world: World, key: bytes, value: bytes | None) -> None:
    batch = Batch()
    if value is None:
        batch.delete(key)
    else:
        batch.put(key, value)
    world.label.engine.write(batch)


def rows(world: World, kind: int) -> list[tuple[bytes, bytes]]:
    return [(key, bytes(value)) for key, value in world.label.engine.scan(*kind_range(world.label.record.id, kind))]


def grown(world: World, seed: int, steps: int = 12) -> World:
    rng = np.random.default_rng(seed)
    world.post_raw(world.open[0], ZYX(0, 0, 0), random_volume(rng, (SIDE, 2 * SIDE, SIDE)))
    for k in range(steps):
        random_step(world, rng, k)
    return world


# -- labels ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_what_was_written_agrees_with_itself(world: World, seed: int) -> None:
    grown(world, seed)
    assert found(world.database, strict=True) == []


def _cut(value: bytes) -> bytes:
    return value[:-1]


def more_voxels(value: bytes) -> bytes:
    """Of the last supervoxel of an index row."""
    return value[:-4] + struct.pack("<I", struct.unpack("<I", value[-4:])[0] + 1)


def _other_supervoxel(value: bytes) -> bytes:
    n = (len(value) - 8) // 12
    return (
        value[:8] + struct.pack("<Q", 12345) + value[16:]
        if n == 1
        else value[:8] + value[16 : 8 + 8 * n] + value[-4 * (n - 1) :]
    )


def _more_in_record(value: bytes) -> bytes:
    record = BodyRecord.unpack(value)
    return record._replace(voxels=record.voxels + 1, blocks=record.blocks + 1).pack()


DAMAGE: dict[str, tuple[int, Callable[[bytes], bytes | None]]] = {
    "a row is gone": (INDEX, lambda value: None),
    "a row is a tombstone": (INDEX, lambda value: b""),
    "a row is cut": (INDEX, _cut),
    "a row counts more": (INDEX, more_voxels),
    "a row lacks a supervoxel": (INDEX, _other_supervoxel),
    "a record is gone": (BODY, lambda value: None),
    "a record is a tombstone": (BODY, lambda value: b""),
    "a record is cut": (BODY, _cut),
    "a record counts more": (BODY, _more_in_record),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("seed", range(3))
def test_damage_of_the_index_is_found_and_mended(world: World, damage: str, seed: int) -> None:
    grown(world, seed)
    kind, change = DAMAGE[damage]
    rng = np.random.default_rng(seed)
    there = [(key, value) for key, value in rows(world, kind) if value]
    for place in rng.choice(len(there), min(3, len(there)), replace=False):
        key, value = there[place]
        put(world, key, change(value))
    assert found(world.database)
    assert all(f.repaired and str(f).endswith("(repaired)") for f in found(world.database, repair=True))
    assert found(world.database, strict=True) == []
    world.compare_all()


@pytest.mark.parametrize("seed", range(6))
def test_rows_of_nobody_are_found_and_removed(world: World, seed: int) -> None:
    grown(world, seed)
    rng = np.random.default_rng(seed)
    for key, value in [(k, v) for k, v in rows(world, INDEX) if v][:: max(1, int(rng.integers(5, 20)))]:
        body = int(rng.integers(2**20, 2**30))
        put(world, key[:BODY_OFFSET] + body.to_bytes(8, "big") + key[BODY_OFFSET + 8 :], value)
    assert {"index", "body"} <= kinds(found(world.database))
    check(world.database, repair=True)
    assert found(world.database) == []
    world.compare_all()


def test_an_index_that_was_never_made_is_made(world: World) -> None:
    grown(world, 3, steps=20)
    for kind in (INDEX, BODY, EXTENTS, MAXLABEL):
        for key, _ in rows(world, kind):
            put(world, key, None)
    put(world, world.label.rows.next, LabelCounters(1, 0, 0).pack())
    assert {"index", "extents", "counters"} <= kinds(found(world.database))
    outcome = check(world.database, repair=True)
    assert outcome.serious and outcome.clean
    assert found(world.database, strict=True) == []


def test_a_finding_says_where_what_is_stored_and_what_should_be(world: World) -> None:
    root = world.open[0]
    volume = np.full((SIDE, SIDE, SIDE), 5, np.uint64)
    volume[0, 0, :4] = 7
    world.post_raw(root, ZYX(1, 0, -1), volume)
    key, value = next((k, v) for k, v in rows(world, INDEX) if u64_of(k, BODY_OFFSET) == 7)
    put(world, key, more_voxels(value))
    texts = sorted(str(f) for f in found(world.database))
    where = f"repo {root.uuid} {root.uuid} seg"
    assert texts == [
        f"{where}: body: body 7: is 4 voxels in 1 blocks, should be 5 voxels in 1 blocks",
        f"{where}: index: body 7 in block -1,0,1: is 5 voxels of 7, should be 4 voxels of 7",
    ]


def test_a_disagreement_is_told_where_it_begins_and_not_again_below(world: World) -> None:
    root = world.open[0]
    world.post_raw(root, ZYX(0, 0, 0), np.full((SIDE,) * 3, 5, np.uint64))
    middle = world.child(root)
    world.post_raw(middle, ZYX(1, 0, 0), np.full((SIDE,) * 3, 6, np.uint64))
    for _ in range(3):
        middle = world.child(middle)
    key, value = next((k, v) for k, v in rows(world, INDEX) if u64_of(k, BODY_OFFSET) == 6)
    put(world, key, more_voxels(value))
    assert [f.version for f in found(world.database) if f.kind == "index"] == [world.repo.dag.nodes[2].uuid]


def test_a_supervoxel_in_a_body_that_it_does_not_map_to_is_found_at_the_version_that_maps_it(world: World) -> None:
    root = world.open[0]
    volume = np.full((SIDE, SIDE, SIDE), 5, np.uint64)
    volume[:, :, :8] = 6
    world.post_raw(root, ZYX(0, 0, 0), volume)
    child = world.child(root)
    put(world, world.label.rows.mapping(5) + version_bytes(child.id), struct.pack("<Q", 6))
    put(world, world.label.rows.mapped, struct.pack("<Q", 1000))  # the generation, as a writer raises it
    findings = found(world.database)
    assert {(f.kind, f.version) for f in findings} == {("index", child.uuid)}
    check(world.database, repair=True)
    assert found(world.database) == []
    world.models[child.id].mapping[5] = 6
    world.compare_all()


def test_voxels_of_a_supervoxel_that_maps_to_0_are_noted_and_stay(world: World) -> None:
    root = world.open[0]
    world.post_raw(root, ZYX(0, 0, 0), np.full((SIDE,) * 3, 5, np.uint64))
    put(world, world.label.rows.mapping(5) + version_bytes(root.id), struct.pack("<Q", 0))
    assert {(f.kind, f.serious) for f in found(world.database)} == {("mapping", False), ("index", True)}
    outcome = check(world.database, repair=True)
    assert outcome.clean and outcome.notes == 1
    assert [f.serious for f in found(world.database, strict=True)] == [True]


def test_a_damaged_block_is_told_and_its_rows_are_left(world: World) -> None:
    root = world.open[0]
    world.post_raw(root, ZYX(0, 0, 0), random_volume(np.random.default_rng(1), (SIDE, SIDE, 2 * SIDE)))
    child = world.child(root)
    world.post_raw(child, ZYX(0, 0, 1), random_volume(np.random.default_rng(2), (SIDE, SIDE, SIDE)))
    before = rows(world, INDEX)
    key = world.label.rows.block(0, 0, 0, 0) + version_bytes(root.id)
    value = world.label.engine.get(key)
    assert value is not None
    put(world, key, value[:-5])
    outcome = check(world.database, repair=True)
    assert (outcome.serious, outcome.left) == (1, 1)
    assert [(f.kind, f.what) for f in found(world.database)] == [("block", "block 0,0,0 of scale 0")]
    assert rows(world, INDEX) == before


def test_coarser_scales_that_are_no_vote_are_noted_and_errors_only_where_asked_for(world: World) -> None:
    root = world.open[0]
    world.post_raw(root, ZYX(0, 0, 0), np.full((SIDE,) * 3, 5, np.uint64))
    key = world.label.rows.block(1, 0, 0, 0) + version_bytes(root.id)
    put(world, key, stored.store(blocks.encode(np.full((SIDE,) * 3, 6, np.uint64))))
    assert [(f.kind, f.serious) for f in found(world.database)] == [("scale", False), ("scale", False)]
    outcome = check(world.database)
    assert outcome.clean and outcome.notes == 2
    assert not check(world.database, strict=True).clean


def test_extents_must_touch_all_blocks_with_labels(world: World) -> None:
    root = world.open[0]
    world.post_raw(root, ZYX(-1, 0, 0), np.full((2 * SIDE, SIDE, SIDE), 5, np.uint64))
    (key, _) = rows(world, EXTENTS)[0]
    put(world, key, struct.pack("<6q", -3, 2, 3, 2, 2, 9))  # a few voxels of each block
    assert found(world.database) == []
    put(world, key, struct.pack("<6q", 0, 0, 0, SIDE - 1, SIDE - 1, SIDE - 1))
    assert kinds(found(world.database)) == {"extents"}
    assert check(world.database, repair=True).clean
    world.compare_all()


@pytest.mark.parametrize(("kind", "what"), [(MAXLABEL, "counters"), (NEXT, "counters"), (EXTENTS, "extents")])
def test_damaged_counters_and_extents_are_told_and_the_check_goes_on(world: World, kind: int, what: str) -> None:
    root = world.open[0]
    world.post_raw(root, ZYX(0, 0, 0), np.full((SIDE, SIDE, SIDE), 5, np.uint64))
    (key, _) = rows(world, kind)[0]
    put(world, key, b"abc")
    (finding,) = found(world.database)
    assert (finding.kind, finding.repaired) == (what, False) and "3 bytes" in finding.stored
    view = View(world.label.engine.snapshot(), world.label.repo.dag.ancestry(root.id))
    with view.snapshot, pytest.raises(StoreError, match="3 bytes"):
        world.label.extended(view)


def test_an_unversioned_instance_is_checked_once(database: Database) -> None:
    client = Client(database)
    root = client.repo()
    settings = {"BlockSize": f"{SIDE},{SIDE},{SIDE}", "versioned": "false"}
    path = client.instance(root, "seg", "labelmap", **settings)
    client.commit(root)
    child = path.replace(root, client.child(root))
    assert client.post(f"{child}/blocks", stream({ZYX(0, 0, 0): np.full((SIDE,) * 3, 5, np.uint64)})).status == 200
    assert found(database, strict=True) == []
    engine = database.stores["main"]
    ((key, value),) = engine.scan(*kind_range(next(iter(database.repos.values())).instances["seg"].id, INDEX))
    batch = Batch()
    batch.put(key, more_voxels(bytes(value)))
    engine.write(batch)
    assert [(f.kind, f.version) for f in found(database)] == [("body", root), ("index", root)]
    assert check(database, repair=True).clean


def merged_as_they_are(world: World, one: Node, other: Node) -> Node:
    """Two versions merged, and nothing that is derived from both made to agree."""
    for node in (one, other):
        world.database.commit(world.repo, world.repo.dag.nodes[node.id], note="", log=[])
    return world.database.merge(world.repo, [world.repo.dag.nodes[node.id] for node in (one, other)])


def test_what_merged_versions_disagree_on_is_mended_in_the_merge(world: World) -> None:
    root = world.open[0]
    volume = np.full((SIDE, SIDE, SIDE), 5, np.uint64)
    volume[0], volume[1], volume[2] = 6, 7, 8
    world.post_raw(root, ZYX(0, 0, 0), volume)
    one, other = world.child(root), world.child(world.repo.dag.nodes[root.id], "other")
    world.merge(one, 5, [6])
    world.merge(one, 8, [7])
    world.post_raw(other, ZYX(0, 0, 2), volume)
    merged = merged_as_they_are(world, one, other)
    findings = found(world.database)
    assert findings and {f.version for f in findings} == {merged.uuid}
    assert check(world.database, repair=True).clean
    model = world.models[merged.id] = world.models[one.id].copy()
    model.write(ZYX(0, 0, 2), volume)
    world.compare_all()


def test_rows_in_conflict_are_mended_where_their_block_is_not(world: World) -> None:
    root = world.open[0]
    volume = np.full((SIDE, SIDE, SIDE), 5, np.uint64)
    volume[0], volume[1] = 6, 7
    world.post_raw(root, ZYX(0, 0, 0), volume)
    one, other = world.child(root), world.child(world.repo.dag.nodes[root.id], "other")
    world.merge(one, 5, [6])
    world.merge(other, 5, [7])
    merged = merged_as_they_are(world, one, other)
    (finding,) = [f for f in found(world.database) if f.kind == "index"]
    assert finding.version == merged.uuid and "in conflict" in finding.stored
    assert check(world.database, repair=True).clean
    model = world.models[merged.id] = world.models[one.id].copy()
    model.mapping |= {7: 5}
    world.compare_all()


def test_blocks_in_conflict_say_nothing(world: World) -> None:
    root = world.open[0]
    world.post_raw(root, ZYX(0, 0, 0), np.full((SIDE,) * 3, 5, np.uint64))
    one, other = world.child(root), world.child(world.repo.dag.nodes[root.id], "other")
    world.post_raw(one, ZYX(0, 0, 0), np.full((SIDE,) * 3, 6, np.uint64))
    world.post_raw(other, ZYX(0, 0, 0), np.full((SIDE,) * 3, 7, np.uint64))
    merged_as_they_are(world, one, other)
    assert found(world.database) == []
