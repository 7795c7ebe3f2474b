"""Locked means locked: on a committed version no verb of any endpoint of any data type changes a row of the store.

And where a version is open, only the verbs that an endpoint declares do anything (core.md, §14, 24).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from apiclient import Answer, Client
from dvidcore.datatypes.base import Endpoint
from dvidcore.datatypes.registry import datatype, type_names
from dvidcore.repos import Database

VERBS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
EXAMPLES = {
    "int": "1",
    "uint64": "5",
    "label": "5",
    "point": "0_0_0",
    "size": "64_64_64",
    "text": "a",
    "any": "png",
}
WORDS = {"dims": "0_1_2", "size": "64_64_64", "first": "1", "last": "9"}
BODIES: tuple[Any, ...] = (
    b"",
    [1, 5],
    {"MinPoint": [0, 0, 0], "MaxPoint": [5, 5, 5]},
    {"sync": "", "k": "v"},
    np.ones((64, 64, 64), np.uint8).tobytes(),
    np.ones((64, 64, 64), np.uint64).tobytes(),
)


def example(endpoint: Endpoint) -> str:
    """A path that the endpoint takes."""
    return "/".join(
        WORDS.get(part.name, EXAMPLES[part.kind.name] if part.kind else "a" if part.rest else part.name)
        if part.kind or part.rest
        else part.name
        for part in endpoint.parts
    )


def rows(database: Database) -> dict[bytes, bytes]:
    return {bytes(key): bytes(value) for key, value in database.stores["main"].scan(b"", b"\xff" * 8)}


def ask(client: Client, verb: str, path: str, body: Any) -> Answer:
    answer = client(verb, path, body)
    assert answer.status < 500, (verb, path, answer.status, answer.body[:200])
    return answer


@pytest.fixture(params=type_names())
def typename(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def client(database: Database) -> Client:
    return Client(database)


def test_a_committed_version_never_changes(database: Database, client: Client, typename: str) -> None:
    root = client.repo()
    node = client.instance(root, "data", typename)
    client.commit(root)
    before = rows(database)
    harmless = {(e.verb, example(e)) for e in datatype(typename).endpoints() if not e.writes}
    for path in sorted({example(e) for e in datatype(typename).endpoints()}):
        for verb in VERBS:
            for body in BODIES:
                if verb in ("POST", "DELETE") and (verb, path) in harmless:
                    continue
                answer = ask(client, verb, f"{node}/{path}", body)
                assert answer.status >= 400 or verb in ("GET", "HEAD", "OPTIONS"), (verb, path)
    assert rows(database) == before


def test_an_open_version_is_changed_by_declared_verbs_alone(database: Database, client: Client, typename: str) -> None:
    root = client.repo()
    node = client.instance(root, "data", typename)
    before = rows(database)
    declared = {(e.verb, e.keyword) for e in datatype(typename).endpoints()}
    for endpoint in datatype(typename).endpoints():
        path = example(endpoint)
        for verb in VERBS:
            if (verb, endpoint.keyword) in declared and verb not in ("GET", "HEAD"):
                continue
            for body in BODIES:
                answer = ask(client, verb, f"{node}/{path}", body)
                assert answer.status >= 400 or verb in ("GET", "HEAD", "OPTIONS"), (verb, path)
    assert rows(database) == before


@pytest.mark.parametrize("typename", ["keyvalue", "labelmap", "roi", "uint8blk"])
def test_an_administrator_may_write_to_a_committed_version(client: Client, typename: str) -> None:
    root = client.repo()
    node = client.instance(root, "data", typename)
    client.commit(root)
    assert client.post(f"{node}/tags", {"a": "b"}).status == 400
    assert client.admin("POST", f"{node}/tags", {"a": "b"}).status == 200
    assert client.get(f"{node}/tags").json() == {"Tags": {"a": "b"}}
