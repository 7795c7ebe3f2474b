"""Requests to the WSGI application in the same process, for tests of the API."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from dvidcore.api.app import create_app
from dvidcore.api.state import Server
from dvidcore.config import from_folder
from dvidcore.repos import Database

TOKEN = "secret"


@dataclass
class Answer:
    """What a request was answered; ``pieces`` is the body as the application gave it, for streams."""

    status: int
    headers: dict[str, str]
    pieces: Any
    _body: bytes | None = field(default=None, repr=False)

    @property
    def body(self) -> bytes:
        if self._body is None:
            try:
                self._body = b"".join(bytes(piece) for piece in self.pieces)
            finally:
                if hasattr(self.pieces, "close"):
                    self.pieces.close()
        return self._body

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """An application over a database, and the ways to ask it. Paths are as in a URL, percent-encoded."""

    def __init__(self, database: Database, token: str = TOKEN, **settings: Any) -> None:
        self.server = Server(from_folder(Path("unused")).with_server(**settings), database, token)
        self.app = create_app(self.server)

    def __call__(
        self,
        verb: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        **environ: Any,
    ) -> Answer:
        path, _, query = path.partition("?")
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
        env: dict[str, Any] = {
            "REMOTE_ADDR": "127.0.0.1",
            "REQUEST_METHOD": verb,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "8000",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": query,
            "wsgi.url_scheme": "http",
            "wsgi.errors": sys.stderr,
            "wsgi.input": io.BytesIO(data),
        }
        if body is not None:
            env["CONTENT_LENGTH"] = str(len(data))
        for name, value in (headers or {}).items():
            key = name.upper().replace("-", "_")
            env[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + key] = value
        env.update(environ)
        started: list[Any] = []

        def start_response(status: str, fields: Iterable[tuple[str, str]], error: Any = None) -> None:
            started[:] = [int(status.split(maxsplit=1)[0]), {name.lower(): value for name, value in fields}]

        pieces = self.app({key: value for key, value in env.items() if value is not None}, start_response)
        return Answer(started[0], started[1], pieces)

    def get(self, path: str, **kw: Any) -> Answer:
        return self("GET", path, **kw)

    def post(self, path: str, body: Any = None, **kw: Any) -> Answer:
        return self("POST", path, body, **kw)

    def admin(self, verb: str, path: str, body: Any = None, **kw: Any) -> Answer:
        return self(verb, f"{path}{'&' if '?' in path else '?'}admintoken={TOKEN}", body, **kw)

    # -- what most tests need first ----------------------------------------------------------------------------------

    def repo(self, **config: str) -> str:
        answer = self.admin("POST", "/api/repos", config)
        assert answer.status == 200, answer.text
        root: str = answer.json()["root"]
        return root

    def instance(self, uuid: str, name: str, typename: str = "keyvalue", **settings: str) -> str:
        answer = self.post(f"/api/repo/{uuid}/instance", {"typename": typename, "dataname": name, **settings})
        assert answer.status == 200, answer.text
        return f"/api/node/{uuid}/{name}"

    def commit(self, uuid: str) -> None:
        answer = self.post(f"/api/node/{uuid}/commit", {"note": ""})
        assert answer.status == 200, answer.text

    def child(self, uuid: str) -> str:
        answer = self.post(f"/api/node/{uuid}/newversion")
        assert answer.status == 200, answer.text
        found: str = answer.json()["child"]
        return found
