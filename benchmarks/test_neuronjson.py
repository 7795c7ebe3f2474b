"""Queries over 200,000 annotations of 30 fields, through the WSGI app: ``pytest benchmarks/test_neuronjson.py``.

Each annotation also has the user and the time of each field, so the store holds 90 fields of it. The fields are of all
kinds: a few values, thousands, a different one for each body, numbers, lists, and some that most bodies lack. Filling
the store takes about a minute.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from dvidcore import wire
from dvidcore.api.app import create_app
from dvidcore.api.start import opened_server
from dvidcore.config import from_folder
from wsgi import call

COUNT = 200_000
BATCH = 5_000
FEW = ["Traced", "Roughly traced", "Anchor", "Orphan", "Leaves", "Glia", "Cervical", "PRT Orphan"]


def annotation(body: int, dice: random.Random) -> dict[str, Any]:
    """An annotation of some 30 fields."""
    number = dice.randrange
    found: dict[str, Any] = {
        "bodyid": body,
        "status": FEW[number(len(FEW))],
        "class": FEW[number(4)],
        "type": f"T{number(6000)}",
        "instance": f"T{number(6000)}_{body}",
        "group": number(50_000),
        "size": number(10**9),
        "soma_position": [number(40_000), number(40_000), number(40_000)],
        "tags": [FEW[number(8)], FEW[number(8)]],
        "score": number(1000) / 1000,
        "reviewed": number(2) == 1,
    }
    for i in range(12):
        found[f"label_{i}"] = f"value {number(10 ** (i % 4 + 1))}"
    for i in range(7):
        found[f"count_{i}"] = number(10 ** (i % 5 + 1))
    if number(20) == 0:
        found["description"] = f"seen in {number(100_000)} by someone, to be looked at again"
    return found


class Served:
    """The application over a filled store."""

    def __init__(self, application: Any) -> None:
        self.application = application
        root = orjson.loads(self("POST", "/api/repos", b"{}"))["root"]
        self("POST", f"/api/repo/{root}/instance", b'{"typename":"neuronjson","dataname":"nj"}')
        self.path = f"/api/node/{root}/nj"
        dice = random.Random(1)
        bodies = iter(sorted({dice.randrange(1, 10**12) for _ in range(COUNT)}))
        while some := list(itertools.islice(bodies, BATCH)):
            pairs = [(str(body), orjson.dumps(annotation(body, dice))) for body in some]
            self.first = some[0]
            self("POST", f"{self.path}/keyvalues", wire.encode_key_values(pairs), f"u=user{dice.randrange(20)}")

    def __call__(self, verb: str, path: str, body: bytes = b"", query: str = "") -> bytes:
        """One request; its answer, which must be a success."""
        return call(self.application, verb, path, body, query)

    def query(self, asked: Any, options: str = "") -> bytes:
        return self("POST", f"{self.path}/query", orjson.dumps(asked), options)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("store")
    with opened_server(from_folder(folder).with_server(sync=False), admin_token="") as server:
        yield Served(create_app(server))


def test_first_query(benchmark: Any, served: Served) -> None:
    """The columns are made of all annotations."""
    benchmark.pedantic(served.query, ({"type": "T17"},), rounds=1)


QUERIES: dict[str, tuple[Any, str]] = {
    "text": ({"type": "T17"}, ""),
    "two fields": ({"status": "Traced", "type": ["T1", "T2", "T3"]}, ""),
    "unique number": ({"size": 12345}, ""),
    "member of a list": ({"soma_position": 12345}, ""),
    "expression, few values": ({"type": "re/^T12[0-9]$"}, ""),
    "expression, unique values": ({"instance": "re/_123456[0-9]*$"}, ""),
    "absent and present": ({"description": "exists/1", "status": "Orphan", "class": "Anchor"}, ""),
    "any of five": ([{"type": f"T{i}"} for i in range(5)], ""),
    "one eighth, bodies": ({"status": "Orphan"}, "onlyid=true"),
    "one eighth, two fields": ({"status": "Orphan"}, "fields=type,instance"),
    "one eighth, all fields": ({"status": "Orphan"}, ""),
    "by body": ({"bodyid": [1, 2, 3]}, ""),
}


@pytest.mark.parametrize("name", QUERIES)
def test_query(benchmark: Any, served: Served, name: str) -> None:
    served.query(*QUERIES[name])
    benchmark.extra_info["bytes"] = len(benchmark(served.query, *QUERIES[name]))


def test_query_after_a_change(benchmark: Any, served: Served) -> None:
    numbers = itertools.count()

    def change() -> None:
        body = orjson.dumps({"bodyid": served.first, "note": f"number {next(numbers)}"})
        served("POST", f"{served.path}/key/{served.first}", body, "u=me")

    benchmark.pedantic(served.query, ({"type": "T17"},), setup=change, rounds=20)


def test_query_after_a_new_body(benchmark: Any, served: Served) -> None:
    numbers = itertools.count(1)

    def change() -> None:
        number = next(numbers)
        served("POST", f"{served.path}/key/{number}", orjson.dumps({"bodyid": number, "type": "new"}), "u=me")

    benchmark.pedantic(served.query, ({"type": "T17"},), setup=change, rounds=20)


@pytest.mark.parametrize("path", ["keys", "all", "all?fields=type,status", "fields", "fieldtimes", "key/{}"])
def test_read(benchmark: Any, served: Served, path: str) -> None:
    path, _, query = path.format(served.first).partition("?")
    benchmark.pedantic(served, ("GET", f"{served.path}/{path}", b"", query), rounds=5, warmup_rounds=1)


def test_post(benchmark: Any, served: Served) -> None:
    numbers = itertools.count()

    def post() -> None:
        body = orjson.dumps({"bodyid": served.first, "note": f"number {next(numbers)}"})
        served("POST", f"{served.path}/key/{served.first}", body, "u=me")

    benchmark(post)
