"""What several test modules need: stores and databases that are thrown away, and that no server outlives its tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dvidcore.repos import Database, OneStore, Repo
from dvidcore.storage import Engine, open_engine
from dvidcore.storage.memory import Memory
from repo_model import again, check_consistent, opened, picture
from server_process import ServerProcess


@pytest.fixture(scope="module", autouse=True)
def no_server_is_left() -> Iterator[None]:
    yield
    ServerProcess.kill_all()


@pytest.fixture(params=["leveldb", "lmdb", "memory"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An empty store of each kind."""
    with open_engine(request.param, str(tmp_path / "db")) as opened:
        yield opened


@pytest.fixture
def database() -> Iterator[Database]:
    """A database in memory."""
    with Database.open({"main": Memory.open("")}, OneStore("main")) as opened:
        yield opened


@pytest.fixture
def db() -> Iterator[Database]:
    """A database in memory that is checked at the end: consistent, and the same when it is opened again."""
    with opened(Memory()) as database:
        yield database
        check_consistent(database)
        assert picture(again(database)) == picture(database)


@pytest.fixture
def repo(db: Database) -> Repo:
    """A repo of ``db`` whose root is committed."""
    made = db.new_repo("test")
    db.commit(made, made.dag.root)
    return made
