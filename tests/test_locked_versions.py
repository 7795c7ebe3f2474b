"""Locked means locked: on a committed version no verb of any endpoint of any data type changes a row of the store.

And where a version is open, only the verbs that an endpoint declares do anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apiclient import TOKEN, Answer, Client
from dvidcore.config import RemoteConfig
from dvidcore.datatypes.endpoints import Endpoint
from dvidcore.datatypes.registry import datatype, type_names
from dvidcore.repos import Database, DatabaseOptions
from dvidcore.storage.memory import Memory
from remote_tools import precomputed, write

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


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a volume that instances may show."""
    folder = tmp_path_factory.mktemp("volume")
    write(precomputed(np.ones((64, 64, 64, 1), np.uint8), offset=(0, 0, 0)), np.ones((64, 64, 64, 1), np.uint8), folder)
    return folder


@pytest.fixture
def database(volume: Path) -> Iterator[Database]:
    options = DatabaseOptions(remote=RemoteConfig(allowed=(f"file://{volume}",)))
    with Database.open({"main": Memory.open("")}, options=options) as opened:
        yield opened


@pytest.fixture
def client(database: Database) -> Client:
    return Client(database)


@pytest.fixture
def settings(typename: str, volume: Path) -> dict[str, str]:
    """What an instance of the type cannot be created without."""
    needed = {
        "googlevoxels": {"volumeid": f"file://{volume}"},
        "remotevolume": {"URL": f"file://{volume}"},
        "tarsupervoxels": {"Extension": "drc"},
    }
    return needed.get(typename, {})


def test_a_committed_version_never_changes(
    database: Database, client: Client, typename: str, settings: dict[str, str]
) -> None:
    root = client.repo()
    node = client.instance(root, "data", typename, **settings)
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


def test_an_open_version_is_changed_by_declared_verbs_alone(
    database: Database, client: Client, typename: str, settings: dict[str, str]
) -> None:
    root = client.repo()
    node = client.instance(root, "data", typename, **settings)
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


@pytest.mark.parametrize("typename", ["labelarray", "labelblk", "labelmap", "labelvol"])
def test_an_administrator_changes_what_children_inherit_only_if_he_says_so(
    database: Database, client: Client, typename: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An explicit flag, and a line in the log."""
    root = client.repo()
    node = client.instance(root, "data", typename, BlockSize="64,64,64")
    if typename == "labelvol":
        volume, node = node, client.instance(root, "voxels", "labelblk", BlockSize="64,64,64")
        assert client.post(f"{node}/sync", {"sync": "data"}).status == 200
        assert client.post(f"{volume}/sync", {"sync": "voxels"}).status == 200
    labels = np.repeat(np.arange(1, 9, dtype=np.uint64), 8)[None, None].repeat(64, 0).repeat(64, 1)
    assert client.post(f"{node}/raw/0_1_2/64_64_64/0_0_0", labels.tobytes()).status == 200
    if typename == "labelvol":
        node = volume
    client.commit(root)
    cells = np.ascontiguousarray(labels[::-1, ::-1, ::-1]).tobytes()

    def seen() -> list[bytes]:
        reads = [f"sparsevol/{label}" for label in range(1, 9)] + ["raw/0_1_2/64_64_64/0_0_0", "mappings"]
        return [client.get(f"{node}/{read}").body for read in reads]

    before = seen()
    for endpoint in datatype(typename).endpoints():
        if endpoint.verb in ("POST", "DELETE") and endpoint.writes:
            for body in (*BODIES, cells, [2, 1], [5, 6]):
                ask(client, endpoint.verb, f"{node}/{example(endpoint)}?admintoken={TOKEN}", body)
    assert seen() == before
    merge = client.admin("POST", f"{node}/merge", [1, 2])
    if typename != "labelblk":  # which has none
        assert (merge.status, "writelocked=true" in merge.text) == (400, True)
        assert client.admin("POST", f"{node}/merge?writelocked=true", [1, 2]).status == 200
        assert client.post(f"{node}/merge?writelocked=true", [3, 4]).status == 400
        assert seen() != before
        assert f"a write to the committed version {root}: POST data/merge" in caplog.text


def test_an_administrator_needs_no_flag_for_what_is_only_counted_of_labels(client: Client) -> None:
    root = client.repo()
    node = client.instance(root, "data", "labelmap", BlockSize="32,32,32")
    client.commit(root)
    assert client.post(f"{node}/maxlabel/7").status == 400
    assert client.admin("POST", f"{node}/maxlabel/7").status == 200
    assert client.get(f"{node}/maxlabel").json() == {"maxlabel": 7}
    assert client.admin("POST", f"{node}/nextlabel/2").json() == {"start": 8, "end": 9}
    assert client.admin("POST", f"{node}/set-nextlabel/20").status == 200
    assert client.get(f"{node}/nextlabel").json() == {"nextlabel": 21}
    box = {"MinPoint": [0, 0, 0], "MaxPoint": [5, 6, 7]}
    assert client.admin("POST", f"{node}/extents", box).status == 200
    assert client.get(f"{node}/info").json()["Extents"] == box
