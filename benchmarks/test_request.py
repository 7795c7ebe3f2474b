"""What a small request costs inside dvidcore: the WSGI application called directly, without a server or a socket.

``pytest benchmarks/test_request.py``; the figure to look at is the minimum.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import falcon
import orjson
import pytest

from dvidcore.api.app import create_app
from dvidcore.api.start import opened_server
from dvidcore.config import from_folder
from wsgi import Application, call, environ


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    folder: Path = tmp_path_factory.mktemp("store")
    with opened_server(from_folder(folder), admin_token="") as server:
        yield create_app(server)


@pytest.fixture(scope="module")
def node(application: Application) -> str:
    """The path of a version with a keyvalue instance ``kv`` that holds the key ``a``."""
    root = orjson.loads(call(application, "POST", "/api/repos"))["root"]
    call(application, "POST", f"/api/repo/{root}/instance", b'{"typename": "keyvalue", "dataname": "kv"}')
    call(application, "POST", f"/api/node/{root}/kv/key/a", b"x" * 100)
    return f"/api/node/{root}"


def requests(application: Application, verb: str, path: str, query: str = "", number: int = 1000) -> None:
    prepared = environ(verb, path, query=query)
    for _ in range(number):
        application(prepared, _start_response)


def _start_response(status: str, headers: list[tuple[str, str]], error: Any = None) -> None:
    pass


PATHS = {
    "key": "/kv/key/a",
    "key-user": "/kv/key/a?u=ann&app=bench",
    "key-missing": "/kv/key/b",
    "info": "/kv/info",
    "note": "/note",
}


@pytest.mark.parametrize("name", PATHS)
def test_get(benchmark: Any, application: Application, node: str, name: str) -> None:
    path, _, query = PATHS[name].partition("?")
    benchmark.extra_info["requests"] = 1000
    benchmark(requests, application, "GET", node + path, query)


def test_falcon_alone(benchmark: Any) -> None:
    """The floor: a Falcon application with one sink that answers the same 100 bytes."""
    app = falcon.App()

    def sink(req: falcon.Request, resp: falcon.Response) -> None:
        resp.data = b"x" * 100
        resp.content_type = "application/octet-stream"

    app.add_sink(sink, "/")
    benchmark(requests, app, "GET", "/api/node/0/kv/key/a")
