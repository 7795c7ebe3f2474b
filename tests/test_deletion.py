"""Deleted instances: gone at once, their data soon and exactly, and also after a crash in between."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from dvidcore.repos import Database, InstanceRecord, OneStore, Repo, deletion
from dvidcore.storage.engine import Batch, Engine
from dvidcore.storage.keys import DATA, LOG, META, instance_range, log_range, prefix_range
from dvidcore.storage.memory import Memory
from repo_model import Failing, again, get, keyvalue, opened, picture, put, put_rows


@pytest.fixture
def db() -> Iterator[Database]:
    with opened(Memory()) as database:
        yield database


def rows(engine: Engine, record: InstanceRecord) -> int:
    return sum(
        len(list(engine.scan(*part, keys_only=True))) for part in (instance_range(record.id), log_range(record.id))
    )


def records_left(engine: Engine) -> int:
    return len(list(engine.scan(*prefix_range(META + b"D"), keys_only=True)))


def filled(db: Database, repo: Repo, *names: str, count: int = 30) -> list[InstanceRecord]:
    made = []
    for name in names:
        record = keyvalue(db, repo, name)
        put_rows(db, record, repo.dag.root, count)
        made.append(record)
    return made


@pytest.mark.parametrize("first_id", [1, 254, 255, 65535, 2**32 - 4])
def test_a_deletion_ends_exactly_at_its_neighbours(first_id: int) -> None:
    with opened(Memory(), instance_id_start=first_id) as db:
        engine = db.stores["main"]
        repo = db.new_repo()
        before, gone, after = filled(db, repo, "before", "gone", "after")
        assert [r.id - first_id for r in (before, gone, after)] == [0, 1, 2]
        kept = [row for row in engine.scan(DATA, LOG + b"\xff" * 20) if int.from_bytes(row[0][1:5], "big") != gone.id]
        db.delete_instance(repo, "gone")
        assert db.wait_for_deletions(120)
        assert list(engine.scan(DATA, LOG + b"\xff" * 20)) == kept
        assert (rows(engine, before), rows(engine, gone), rows(engine, after)) == (60, 0, 60)
        assert records_left(engine) == 0


def test_many_neighbours_in_any_order(db: Database) -> None:
    repo = db.new_repo()
    made = filled(db, repo, *(f"i{n}" for n in range(20)), count=8)
    for record in made[1::2]:
        db.delete_instance(repo, record.name)
    assert db.wait_for_deletions(120)
    assert [rows(db.stores["main"], record) for record in made] == [16, 0] * 10


def test_a_deletion_in_several_batches(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletion, "_CHUNK", 7)
    repo = db.new_repo()
    a, b = filled(db, repo, "a", "b", count=50)
    db.delete_instance(repo, "a")
    assert db.wait_for_deletions(120)
    assert (rows(db.stores["main"], a), rows(db.stores["main"], b)) == (0, 100)


def test_a_name_is_free_at_once_and_the_new_instance_empty(db: Database) -> None:
    repo = db.new_repo()
    (old,) = filled(db, repo, "kv", count=2000)
    db.delete_instance(repo, "kv")
    assert "kv" not in repo.instances and old.data_uuid not in repo.by_data_uuid
    new = keyvalue(db, repo)
    assert new.id > old.id and new.data_uuid != old.data_uuid
    assert get(db, new, repo.dag.root, "key00000") is None
    put(db, new, repo.dag.root, x=b"x")
    assert db.wait_for_deletions(120)
    assert get(db, new, repo.dag.root, "x") == b"x"
    assert 'Delete data instance "kv"' in repo.log[-2]


def test_deletion_by_data_uuid_and_of_what_others_follow(db: Database) -> None:
    repo = db.new_repo()
    seg = keyvalue(db, repo, "seg")
    other = keyvalue(db, repo, "other")
    keyvalue(db, repo, "syn", syncs=[seg.data_uuid, other.data_uuid])
    db.delete_instance(repo, seg.data_uuid)
    assert sorted(repo.instances) == ["other", "syn"]
    assert repo.instances["syn"].syncs == (other.data_uuid,)
    assert picture(again(db)) == picture(db)


def test_the_data_of_a_deleted_repo_goes(db: Database) -> None:
    repo, other = db.new_repo(), db.new_repo()
    gone = filled(db, repo, "a", "b")
    (kept,) = filled(db, other, "a")
    db.delete_repo(repo)
    assert db.wait_for_deletions(120)
    assert [rows(db.stores["main"], record) for record in [*gone, kept]] == [0, 0, 60]
    assert records_left(db.stores["main"]) == 0


@pytest.mark.parametrize("writes", range(1, 9))
def test_a_deletion_that_is_interrupted_is_finished_at_the_next_start(
    writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fails after the batch that deletes the instance and some of those that delete its data."""
    monkeypatch.setattr(deletion, "_CHUNK", 10)
    engine = Failing()
    db = opened(engine)
    repo = db.new_repo()
    before, gone, after = filled(db, repo, "before", "gone", "after")
    engine.left = writes
    db.delete_instance(repo, "gone")
    complete = db.wait_for_deletions(120)
    engine.left = None
    assert complete == (rows(engine, gone) == 0 and records_left(engine) == 0)
    restarted = again(db)
    assert sorted(restarted.repos[repo.root].instances) == ["after", "before"]
    assert restarted.wait_for_deletions(120)
    assert (rows(engine, before), rows(engine, gone), rows(engine, after)) == (60, 0, 60)
    assert records_left(engine) == 0


def test_closing_interrupts_a_deletion_and_the_next_start_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletion, "_CHUNK", 1)

    class Slow(Memory):
        begun = threading.Event()
        go_on = threading.Event()
        rows_are_deleted = False

        def write(self, batch: Batch, **options: Any) -> None:
            if self.rows_are_deleted and all(value is None for _, value in batch.operations):
                self.begun.set()
                self.go_on.wait(120)
            super().write(batch, **options)

        def close(self) -> None:
            pass  # the store outlives the database, as a file does

    engine = Slow()
    db = opened(engine)
    repo = db.new_repo()
    (gone,) = filled(db, repo, "gone")
    engine.rows_are_deleted = True
    db.delete_instance(repo, "gone")
    assert engine.begun.wait(120)
    assert not db.wait_for_deletions(0.01)
    closing = threading.Thread(target=db.close)
    closing.start()
    while not db._deleter._closed.is_set():
        pass
    engine.go_on.set()
    closing.join()
    assert rows(engine, gone) == 59  # one batch was under way
    restarted = again(db)
    assert restarted.wait_for_deletions(120)
    assert rows(engine, gone) == records_left(engine) == 0


def test_a_read_only_database_deletes_nothing() -> None:
    engine = Failing()
    db = opened(engine)
    repo = db.new_repo()
    (gone,) = filled(db, repo, "gone")
    engine.left = 1
    db.delete_instance(repo, "gone")
    db.wait_for_deletions(120)
    engine.left = None
    with Database.open({"main": engine}, read_only=True) as reader:
        assert reader.wait_for_deletions(0)
        assert rows(engine, gone) == 60 and records_left(engine) == 1


def test_the_record_waits_for_a_store_that_is_not_configured(caplog: pytest.LogCaptureFixture) -> None:
    class Apart(OneStore):
        def store_for(self, typename: str, tags: Any, name_uuid: str, data_uuid: str) -> str:
            return "data"

    main, data = Memory("main"), Failing("data")
    db = Database.open({"main": main, "data": data}, Apart("main"))
    repo = db.new_repo()
    (gone,) = filled(db, repo, "gone")
    data.left = 0
    db.delete_instance(repo, "gone")
    assert not db.wait_for_deletions(120)
    data.left = None
    without = Database.open({"main": main})
    assert without.wait_for_deletions(120)
    assert 'store "data" is not configured' in caplog.text
    assert records_left(main) == 1 and rows(data, gone) == 60
    assert again(db).wait_for_deletions(120)
    assert records_left(main) == rows(data, gone) == 0
