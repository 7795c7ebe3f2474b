"""What several test modules need: a database that is thrown away."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dvidcore.repos import Database, OneStore
from dvidcore.storage.memory import Memory


@pytest.fixture
def database() -> Iterator[Database]:
    """A database in memory."""
    with Database.open({"main": Memory.open("")}, OneStore("main")) as opened:
        yield opened
