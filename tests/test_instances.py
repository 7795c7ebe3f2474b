"""Data instances: their names, properties and syncs."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from dvidcore.errors import BadRequest
from dvidcore.repos import Database, Repo
from dvidcore.storage.memory import Memory
from repo_model import again, keyvalue, opened, unchanged


def test_a_new_instance_and_its_record(db: Database, repo: Repo) -> None:
    node = db.new_version(repo, repo.dag.root)
    record = db.new_instance(
        repo,
        node,
        name="seg",
        typename="labelmap",
        versioned=False,
        compression="GZIP:5",
        checksum="CRC32",
        tags={"a": ""},
        settings={"BlockSize": [64, 64, 64], "big": 2**64 - 1},
    )
    assert repo.instances["seg"] is repo.by_data_uuid[record.data_uuid] is record
    assert (record.created_in, record.versioned, record.store) == (node.uuid, False, "main")
    assert (record.compression, record.checksum) == ("gzip:5", "crc32")
    assert (record.tags, record.syncs) == ({"a": ""}, ())
    assert record.settings == {"BlockSize": [64, 64, 64], "big": 2**64 - 1}
    assert 'New data instance "seg" of type "labelmap" with config {' in repo.log[-1]
    assert again(db).repos[repo.root].instances["seg"] == record
    assert db.engine_of(record) is db.stores["main"]


@pytest.mark.parametrize(
    "name",
    [
        *("", "a/b", "a:b", "a b", "a\tb", "a\x00", ".", "..", "é" * 501),
        *("log", "branch", "note", "commit", "newversion", "status", "tag"),
    ],
)
def test_instance_names_that_no_url_could_name(db: Database, repo: Repo, name: str) -> None:
    unchanged(db, BadRequest, lambda: keyvalue(db, repo, name), "dataname")
    keyvalue(db, repo, "fine")
    unchanged(db, BadRequest, lambda: db.rename_instance(repo, "fine", name), "dataname")


def test_instance_names_are_unique_in_the_repo(db: Database, repo: Repo) -> None:
    keyvalue(db, repo)
    unchanged(db, BadRequest, lambda: keyvalue(db, repo), "already")
    child = db.new_version(repo, repo.dag.root)
    unchanged(db, BadRequest, lambda: db.new_instance(repo, child, name="kv", typename="roi"), "already")
    keyvalue(db, db.new_repo())


@pytest.mark.parametrize(
    "given",
    [
        {"compression": bad}
        for bad in ("lzma", "gzip:99", "gzip:10", "gzip:x", "gzip:", "lz4:1", "jpeg:0", "jpeg:101", "")
    ]
    + [{"checksum": "md5"}, {"syncs": ["nosuch"]}],
    ids=str,
)
def test_instance_properties_that_are_refused(db: Database, repo: Repo, given: dict[str, Any]) -> None:
    unchanged(db, BadRequest, lambda: keyvalue(db, repo, **given))


@pytest.mark.parametrize(
    "compression", ["none", "snappy", "lz4", "gzip", "gzip:1", "gzip:9", "jpeg", "jpeg:80", "jpeg:100"]
)
def test_compressions_that_are_taken(db: Database, repo: Repo, compression: str) -> None:
    assert keyvalue(db, repo, compression=compression.upper()).compression == compression


def test_unversioned_instances_are_read_and_written_at_the_root(db: Database, repo: Repo) -> None:
    flat, kv = keyvalue(db, repo, "flat", versioned=False), keyvalue(db, repo)
    child = db.new_version(repo, repo.dag.root)
    assert db.ancestry_for(repo, child, flat).version == repo.dag.root.id
    assert db.ancestry_for(repo, child, kv).version == child.id


def test_a_renamed_instance_keeps_its_data_uuid_and_syncs(db: Database, repo: Repo) -> None:
    seg = keyvalue(db, repo, "seg")
    syn = keyvalue(db, repo, "syn", syncs=[seg.data_uuid])
    renamed = db.rename_instance(repo, "seg", "body")
    assert (renamed.id, renamed.data_uuid, renamed.name) == (seg.id, seg.data_uuid, "body")
    assert sorted(repo.instances) == ["body", "syn"]
    assert repo.by_data_uuid[repo.instances["syn"].syncs[0]].name == "body"
    unchanged(db, BadRequest, lambda: db.rename_instance(repo, "seg", "x"), "seg")
    unchanged(db, BadRequest, lambda: db.rename_instance(repo, "body", "syn"), "already")
    assert db.update_instance(repo, syn, tags={"a": "b"}).tags == {"a": "b"}
    assert db.update_instance(repo, seg, tags={"c": "d"}).name == "body"  # the old record still names it


def test_syncs_are_added_replaced_and_logged(db: Database, repo: Repo) -> None:
    a, b, syn = keyvalue(db, repo, "a"), keyvalue(db, repo, "b"), keyvalue(db, repo, "syn")
    lines = len(repo.log)
    assert db.set_syncs(repo, syn, [a.data_uuid], replace=False).syncs == (a.data_uuid,)
    assert db.set_syncs(repo, syn, [b.data_uuid, a.data_uuid], replace=False).syncs == (a.data_uuid, b.data_uuid)
    assert db.set_syncs(repo, syn, [], replace=False).syncs == (a.data_uuid, b.data_uuid)
    assert db.set_syncs(repo, syn, [b.data_uuid]).syncs == (b.data_uuid,)
    assert db.set_syncs(repo, syn, []).syncs == ()
    assert all('Data instance "syn" set to sync with' in line for line in repo.log[lines:])
    assert len(repo.log) == lines + 4
    unchanged(db, BadRequest, lambda: db.set_syncs(repo, syn, [a.data_uuid, "nosuch"]), "nosuch")


def test_changes_of_properties_do_not_overwrite_each_other(db: Database, repo: Repo) -> None:
    kv = keyvalue(db, repo)

    def add(n: int) -> None:
        for i in range(20):
            db.update_instance(repo, kv, settings=lambda r, key=f"{n}.{i}": {**r.settings, key: 1})

    threads = [threading.Thread(target=add, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(repo.instances["kv"].settings) == 80
    assert db.update_instance(repo, kv, compression="none", tags={}).compression == "none"
    unchanged(db, BadRequest, lambda: db.update_instance(repo, kv, compression="zip"))
    unchanged(db, BadRequest, lambda: db.update_instance(repo, kv, syncs=["nosuch"]))
    unchanged(db, TypeError, lambda: db.update_instance(repo, kv, name="x"))


def test_instance_ids_may_be_random_or_start_higher() -> None:
    with opened(Memory(), instance_id_gen="random") as db:
        repo = db.new_repo()
        assert len({keyvalue(db, repo, f"i{n}").id for n in range(20)}) == 20
    with opened(Memory(), instance_id_start=1000) as db:
        repo = db.new_repo()
        assert [keyvalue(db, repo, f"i{n}").id for n in range(3)] == [1000, 1001, 1002]


def test_an_instance_id_that_was_chosen_at_random_is_not_given_again() -> None:
    """Else two instances would share their rows."""
    store = Memory()
    before = opened(store, instance_id_gen="random")
    chosen = keyvalue(before, before.new_repo(), "a").id
    with opened(store, instance_id_start=chosen) as db:
        (repo,) = db.repos.values()
        assert [keyvalue(db, repo, name).id for name in "bc"] == [chosen + 1, chosen + 2]
