"""The mutation log as files, when the configuration asks for it: the same records as in the store, in DVID's format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from apiclient import Client
from dvidcore.mutations.jsonlog import JsonLog, read_records
from dvidcore.repos import Database, DatabaseOptions
from dvidcore.storage.memory import Memory


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    options = DatabaseOptions(json_log=JsonLog(tmp_path / "log"))
    with Database.open({"main": Memory.open("")}, options=options) as database:
        yield Client(database)


def test_each_mutation_is_in_the_file_of_its_instance_and_version(client: Client, tmp_path: Path) -> None:
    node = client.repo()
    client.instance(node, "kv", "keyvalue")
    client.post(f"/api/node/{node}/kv/key/a", b"1")
    client.post(f"/api/node/{node}/kv/key/b", b"22")
    client("DELETE", f"/api/node/{node}/kv/key/a")
    assert client.post(f"/api/node/{node}/kv/key/%00", b"refused").status == 400
    data_uuid = client.get(f"/api/node/{node}/kv/info").json()["Base"]["DataUUID"]
    records = [orjson.loads(r) for r in read_records(tmp_path / "log" / f"{data_uuid}-{node}.plog")]
    assert [(r["Action"], r["Key"]) for r in records] == [("postkv", "a"), ("postkv", "b"), ("delete", "a")]
    assert [r["Key"] for r in client.get(f"/api/node/{node}/kv/mutations").json()] == ["a", "b", "a"]
