"""``dvidcore check`` beyond labels: which version sees what, other types, what is in a store beside rows, the command."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from apiclient import Client
from dvidcore.checking import check
from dvidcore.cli import cli
from dvidcore.datatypes.checks import CONFLICT, Lineage
from dvidcore.datatypes.imageblk.properties import COARSE
from dvidcore.datatypes.labels.rows import INDEX
from dvidcore.geometry import ZYX
from dvidcore.repos import Database
from dvidcore.storage import open_engine
from dvidcore.storage.engine import Batch
from dvidcore.storage.keys import STAGE, data_prefix, instance_range, kind_range, log_key, u64_key, version_bytes
from dvidcore.storage.versioned import KeyConflict, View
from dvidcore.versions import DAG, Node
from test_check import found, more_voxels
from test_labelmap_writes import SIDE, World

# -- versions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_a_lineage_sees_what_a_view_sees(seed: int) -> None:
    rng = np.random.default_rng(seed)
    nodes = [Node(1, f"{1:032x}")]
    for version in range(2, 10):
        parents = sorted(rng.choice(np.arange(1, version), min(version - 1, int(rng.integers(1, 3))), replace=False))
        nodes.append(Node(version, f"{version:032x}", branch=str(version), parents=[int(p) for p in parents]))
    dag = DAG(nodes)
    lineage = Lineage(dag)
    with open_engine("memory", "") as engine:
        for _ in range(30):
            writers = sorted(int(v) for v in rng.choice(np.arange(1, 10), rng.integers(1, 5), replace=False))
            pattern = tuple(v if rng.random() < 0.7 else -v for v in writers)
            prefix = rng.bytes(8)
            batch = Batch()
            for place, version in enumerate(pattern):
                batch.put(prefix + version_bytes(abs(version)), b"%d" % place if version > 0 else b"")
            engine.write(batch)
            with engine.snapshot() as snapshot:
                seen: dict[int, int] = {}
                for version in range(1, 10):
                    try:
                        value = View(snapshot, dag.ancestry(version)).get(prefix)
                    except KeyConflict:
                        seen[version] = CONFLICT
                        continue
                    if value is not None:
                        seen[version] = int(bytes(value))
            assert dict(lineage.seen(pattern)) == seen
            state: dict[int, int | None] = {}
            changes = {c.version: c for c in lineage.changes(pattern)}
            for version in range(1, 10):
                above = lineage.first_parent(version)
                before = None if above is None else state[above]
                now = before
                if version in changes:
                    assert changes[version].before == before
                    now = changes[version].now
                state[version] = now
                assert now == (None if seen.get(version, CONFLICT) == CONFLICT else seen[version])


# -- the rest of a store -----------------------------------------------------------------------------------------------


def test_values_images_and_regions_that_do_not_unpack_are_told(database: Database) -> None:
    client = Client(database)
    uuid = client.repo()
    keyvalue = client.instance(uuid, "kv", "keyvalue", checksum="crc32")
    image = client.instance(uuid, "grey", "uint8blk", BlockSize="16,16,16")
    region = client.instance(uuid, "area", "roi", BlockSize="16,16,16")
    assert client.post(f"{keyvalue}/key/name", b"value").status == 200
    assert client.post(f"{image}/raw/0_1_2/16_16_16/0_0_0", bytes(range(256)) * 16).status == 200
    assert client.post(f"{region}/roi", [[0, 0, 0, 5]]).status == 200
    assert found(database) == []
    engine = database.stores["main"]
    records = {record.name: record.id for repo in database.repos.values() for record in repo.instances.values()}
    batch = Batch()
    for name, kind in (("kv", 1), ("grey", 1)):
        ((key, value),) = engine.scan(*kind_range(records[name], kind))
        batch.put(key, bytes(value)[:-1])
    ((key, value),) = engine.scan(*kind_range(records["area"], 1))
    batch.put(key, bytes(24))
    engine.write(batch)
    assert {(f.instance, f.kind) for f in found(database)} == {("kv", "value"), ("grey", "block"), ("area", "summary")}
    outcome = check(database, repair=True)
    assert (outcome.serious, outcome.left) == (3, 2)
    assert client.get(f"{region}/roi").json() == [[0, 0, 0, 5]]


def test_files_of_supervoxels_that_do_not_unpack_or_have_keys_of_none_are_told(database: Database) -> None:
    client = Client(database)
    meshes = client.instance(client.repo(), "meshes", "tarsupervoxels", Extension="drc", checksum="crc32")
    for number in (5, 2**64 - 1):
        assert client.post(f"{meshes}/supervoxel/{number}", b"a mesh").status == 200
    assert client.post(f"{meshes}/info", {"Extension": "obj.gz"}).status == 200
    assert client.post(f"{meshes}/supervoxel/7", b"").status == 200
    assert found(database, strict=True) == []
    engine = database.stores["main"]
    files = [(key, bytes(value)) for key, value in engine.scan(*instance_range(1))]
    assert len(files) == 3
    batch = Batch()
    batch.put(files[0][0], files[0][1][:-1] + b"?")
    batch.put(files[1][0][:-4] + version_bytes(1), files[1][1])
    batch.put(data_prefix(1, 2) + files[1][0][6:], files[1][1])
    batch.put(data_prefix(1, 1) + b"drc\0" + bytes(8) + version_bytes(0), files[1][1])
    batch.put(data_prefix(1, 1) + b".drc\0" + u64_key(1) + version_bytes(0), files[1][1])
    batch.put(data_prefix(1, 1), b"")
    engine.write(batch)
    told = [(f.kind, f.what) for f in found(database)]
    assert told.count(("file", "the file 5.drc")) == 1 and ("key", f"the file {2**64 - 1}.drc") in told
    assert sum(kind == "key" and what.startswith("row ") for kind, what in told) == 4
    assert {kind for kind, _ in told} == {"file", "key"}


def test_large_values_are_not_in_memory_together(tmp_path: Path) -> None:
    with Database.open({"main": open_engine("leveldb", str(tmp_path))}) as database:
        client = Client(database)
        path = client.instance(client.repo(), "kv", Compression="none")
        for k in range(24):
            assert client.post(f"{path}/key/{k}", bytes(2 << 20)).status == 200
        tracemalloc.start()
        assert check(database).clean
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 16 << 20


def test_annotations_that_are_damaged_or_of_another_body_are_told(database: Database) -> None:
    client = Client(database)
    root = client.repo()
    path = client.instance(root, "nj", "neuronjson", Checksum="crc32")
    for body in (7, 8, 9):
        assert client.post(f"{path}/key/{body}?u=ann", {"bodyid": body, "a": "x"}).status == 200
    assert client.post(f"{path}/schema", {"any": 1}).status == 200
    assert found(database) == []
    data = client.server.instances.named(database.repo_of(root), "nj")
    rows = {
        data.row_name(key[:-4]): (key, bytes(value)) for key, value in data.engine.scan(*instance_range(data.record.id))
    }
    batch = Batch()
    batch.put(rows["the annotation of body 7"][0], rows["the annotation of body 8"][1])
    for name in ("the annotation of body 9", "the schema"):
        key, value = rows[name]
        batch.put(key, value[:-1] + bytes([value[-1] ^ 1]))
    data.engine.write(batch)
    findings = found(database)
    assert sorted(f.what for f in findings) == ["the annotation of body 7", "the annotation of body 9", "the schema"]
    assert {f.kind for f in findings} == {"value"} and "of body 8" in str(findings[0])


def test_rows_that_no_client_sees_have_a_name_too(database: Database) -> None:
    """Damage of any row is told by what it holds."""
    client = Client(database)
    root = client.repo()
    path = client.instance(root, "nj", "neuronjson")
    for what in ("key/7?u=ann", "schema"):
        assert client.post(f"{path}/{what}", {"bodyid": 7}).status == 200
    data = client.server.instances.named(database.repo_of(root), "nj")
    names = {data.row_name(key[:-4]) for key, _ in data.engine.scan(*instance_range(data.record.id))}
    assert names == {"the annotation of body 7", "the schema", "what is remembered of writes"}


def test_images_are_checked_at_all_scales_and_their_extents_noted(database: Database) -> None:
    client = Client(database)
    uuid = client.repo()
    image = client.instance(uuid, "grey", "uint8blk", BlockSize="16,16,16", MaxDownresLevel="1")
    assert client.post(f"{image}/raw/0_1_2/32_16_16/0_0_16", bytes(range(256)) * 32).status == 200
    assert found(database, strict=True) == []
    assert client.post(f"{image}/extents", {"MinPoint": [20, 0, 0], "MaxPoint": [40, 15, 31]}).status == 200
    assert [(f.kind, f.serious) for f in found(database)] == [("extents", False)]
    engine = database.stores["main"]
    (key, value), *_ = engine.scan(*kind_range(1, COARSE))
    batch = Batch()
    batch.put(key, bytes(value)[:-1])
    engine.write(batch)
    assert [f.what for f in found(database) if f.serious] == ["block 0,0,0 of scale 1"]


def test_rows_of_nobody_and_writes_under_way_are_told(database: Database) -> None:
    client = Client(database)
    client.instance(client.repo(), "kv", "keyvalue")
    engine = database.stores["main"]
    batch = Batch()
    batch.put(data_prefix(77, 1) + b"k\0" + version_bytes(1), b"\0v")
    batch.put(log_key(78, 1, 5), b"{}")
    batch.put(log_key(1, 1, 2**60), b"{")
    batch.put(STAGE + bytes(8) + bytes(4), b"I")
    engine.write(batch)
    assert sorted(f.kind for f in found(database)) == ["instance", "instance", "log", "log", "stage"]
    check(database, repair=True)
    assert sorted(f.kind for f in found(database)) == ["log", "log", "stage"]


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_answers_by_its_exit_code(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    run = CliRunner()
    assert run.invoke(cli, ["check", str(folder)]).exit_code == 2
    assert not folder.exists()
    with Database.open({"default": open_engine("leveldb", str(folder))}) as database:
        world = World(database)
        world.post_raw(world.open[0], ZYX(0, 0, 0), np.full((SIDE,) * 3, 5, np.uint64))
        assert run.invoke(cli, ["check", str(folder)]).exit_code == 2  # it is in use
    answer = run.invoke(cli, ["check", str(folder)])
    assert (answer.exit_code, answer.stdout) == (0, "all agrees\n")
    with Database.open({"default": open_engine("leveldb", str(folder))}) as database:
        (label,) = (record for repo in database.repos.values() for record in repo.instances.values())
        engine = database.stores["default"]
        ((key, value),) = engine.scan(*kind_range(label.id, INDEX))
        batch = Batch()
        batch.put(key, more_voxels(bytes(value)))
        engine.write(batch)
    answer = run.invoke(cli, ["check", str(folder)])
    assert answer.exit_code == 1 and "body 5 in block 0,0,0" in answer.stdout
    answer = run.invoke(cli, ["check", str(folder), "--repair"])
    assert answer.exit_code == 0 and "0 of them left" in answer.stdout
    answer = run.invoke(cli, ["check", str(folder), "--strict"])
    assert (answer.exit_code, answer.stdout) == (0, "all agrees\n")


def test_the_command_takes_a_configuration_and_the_name_of_an_instance(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with Database.open({"default": open_engine("leveldb", str(folder))}) as database:
        World(database)
    config = tmp_path / "server.toml"
    config.write_text(f'[store.default]\nengine = "leveldb"\npath = "{folder}"\n')
    run = CliRunner()
    assert run.invoke(cli, ["check", str(config)]).exit_code == 0
    assert run.invoke(cli, ["check", str(config), "--instance", "seg"]).exit_code == 0
    answer = run.invoke(cli, ["check", str(config), "--instance", "other"])
    assert answer.exit_code == 2 and "only seg" in answer.stderr
    config.write_text("[store")
    assert run.invoke(cli, ["check", str(config)]).exit_code == 2


def test_an_lmdb_store_that_a_process_has_open_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with Database.open({"default": open_engine("lmdb", str(folder))}) as database:
        database.new_repo()
        assert CliRunner().invoke(cli, ["check", str(folder)]).exit_code == 2
    assert CliRunner().invoke(cli, ["check", str(folder)]).exit_code == 0
