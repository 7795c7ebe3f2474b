"""What lies outside ``/api/``: the files of a web client, the metrics, and an old version path."""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import Any
from urllib.parse import quote

import falcon

from dvidcore.api.errors import fill, translate
from dvidcore.api.state import Server
from dvidcore.errors import NotFound


class WebSink:
    """Serves single files of the folder ``webClient``: no listings, no dot-files, nothing outside the folder."""

    def __init__(self, server: Server) -> None:
        self.server = server
        config = server.config.server
        self._root = config.web_client.resolve() if config.web_client is not None else None
        self._redirect = config.web_redirect_path
        self._default = config.web_default_file

    def respond(self, req: falcon.Request, resp: falcon.Response, **_: Any) -> None:
        """Falcon's entry: answers one request."""
        try:
            if req.method not in ("GET", "HEAD"):
                raise NotFound("404 page not found")
            if req.path == "/metrics":
                from dvidcore.api.metrics import exposition

                resp.data, resp.content_type = exposition(self.server)
            elif req.path == "/interface/version":
                resp.content_type = "text/plain"
                resp.data = b"v1\n"
            else:
                self._web_client(req, resp)
        except Exception as error:
            fill(resp, *translate(error, req.path))

    def _web_client(self, req: falcon.Request, resp: falcon.Response) -> None:
        if self._root is None or req.path == "/api":
            raise NotFound("404 page not found")
        file = self._file(req.path)
        if file is not None:
            self._send(req, resp, file)
        elif self._redirect and req.path.strip("/") != self._redirect.strip("/"):
            resp.status = 308
            resp.set_header("Location", quote("/" + self._redirect.lstrip("/"), safe="/#?&=%:"))
        elif self._default and (file := self._file(self._default)) is not None:
            self._send(req, resp, file)
        else:
            raise NotFound("404 page not found")

    def _file(self, path: str) -> Path | None:
        """The file of a URL path, ``index.html`` for a folder; None where there is none that may be served."""
        assert self._root is not None
        parts = [part for part in path.split("/") if part]
        if "\0" in path or "\\" in path or any(part.startswith(".") for part in parts):
            return None
        try:
            # Resolved, so that no link leads out of the folder.
            found = self._root.joinpath(*parts).resolve()
            if found.is_dir():
                found = (found / "index.html").resolve()
            inside = found.relative_to(self._root)
        except (OSError, ValueError, RuntimeError):  # RuntimeError: links in a circle
            return None
        if any(part.startswith(".") for part in inside.parts) or not found.is_file():
            return None
        return found

    def _send(self, req: falcon.Request, resp: falcon.Response, file: Path) -> None:
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        resp.content_type = kind
        if req.method == "HEAD":
            resp.content_length = file.stat().st_size
            resp.data = b""
        else:
            resp.data = file.read_bytes()
