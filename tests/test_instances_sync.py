"""The generic setting ``Sync`` at creation, and the configurable limit on answers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from apiclient import Client
from dvidcore.repos import Database, DatabaseOptions
from dvidcore.storage.memory import Memory


@pytest.fixture
def client() -> Iterator[Client]:
    options = DatabaseOptions(max_data_request=64 * 64 * 64 * 8)
    with Database.open({"main": Memory.open("")}, options=options) as database:
        yield Client(database)


@pytest.mark.parametrize(("sync", "message"), [("nosuch", "no instance"), ("kv", "can follow no type")])
def test_sync_at_creation_is_checked(client: Client, sync: str, message: str) -> None:
    node = client.repo()
    client.instance(node, "kv", "keyvalue")
    answer = client.post(f"/api/repo/{node}/instance", {"typename": "keyvalue", "dataname": "other", "Sync": sync})
    assert answer.status == 400 and message in answer.text
    assert client.get(f"/api/node/{node}/other/info").status == 400


def test_an_empty_sync_at_creation_is_none(client: Client) -> None:
    node = client.repo()
    answer = client.post(f"/api/repo/{node}/instance", {"typename": "keyvalue", "dataname": "other", "sync": ""})
    assert answer.status == 200
    assert client.get(f"/api/node/{node}/other/info").json()["Base"]["Syncs"] == []


@pytest.mark.parametrize("typename", ["uint64blk", "labelmap"])
def test_answers_beyond_the_configured_limit_are_refused(client: Client, typename: str) -> None:
    node = client.repo()
    client.instance(node, "vol", typename)
    assert client.get(f"/api/node/{node}/vol/raw/0_1_2/64_64_64/0_0_0").status == 200
    answer = client.get(f"/api/node/{node}/vol/raw/0_1_2/65_64_64/0_0_0")
    assert answer.status == 400 and "size" in answer.text
