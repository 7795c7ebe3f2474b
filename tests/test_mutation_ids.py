"""Mutation ids: they grow by one, and nothing repeats them."""

from __future__ import annotations

import threading

import pytest

from dvidcore.errors import BadRequest, StoreError
from dvidcore.repos import Database, Repo
from dvidcore.storage.memory import Memory
from repo_model import again, opened


def test_mutation_ids_go_up_by_one_and_jump_at_a_restart(db: Database) -> None:
    repo, other = db.new_repo(), db.new_repo()
    assert [repo.next_mutation_id() for _ in range(250)] == list(range(1_000_000_000, 1_000_000_250))
    assert (repo.mutation_id, repo.saved_mutation_id) == (1_000_000_250, 1_000_000_300)
    assert other.next_mutation_id() == 1_000_000_000
    restarted = again(db).repos[repo.root]
    assert (restarted.mutation_id, restarted.saved_mutation_id) == (1_000_000_300, 1_000_000_300)
    assert restarted.next_mutation_id() == 1_000_000_300
    assert [repo.next_mutation_id() for _ in range(60)][-10:] == list(range(1_000_000_400, 1_000_000_410))


def test_mutation_ids_of_threads_and_processes_are_never_the_same() -> None:
    engine = Memory()
    first = opened(engine)
    root = first.new_repo().root
    taken: list[int] = []

    def take(database: Database) -> None:
        taken.extend([database.repos[root].next_mutation_id() for _ in range(500)])

    databases = [first, again(first), again(first)]
    threads = [threading.Thread(target=take, args=(database,)) for database in databases * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(taken)) == len(taken) == 3000
    for database in databases:
        database.close()


def test_mutation_ids_may_start_higher() -> None:
    engine = Memory()
    repo = opened(engine).new_repo()
    assert repo.next_mutation_id() == 1_000_000_000
    higher = opened(engine, min_mutation_id_start=5_000_000_000)
    assert higher.repos[repo.root].next_mutation_id() == 5_000_000_000
    assert higher.new_repo().next_mutation_id() == 5_000_000_000
    with pytest.raises(StoreError):
        opened(engine, min_mutation_id_start=2**40)


def test_a_deleted_repo_gives_no_mutation_ids(db: Database, repo: Repo) -> None:
    db.delete_repo(repo)
    with pytest.raises(BadRequest, match="deleted"):
        for _ in range(101):
            repo.next_mutation_id()
