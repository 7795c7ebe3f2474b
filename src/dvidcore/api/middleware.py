"""What holds for every request: refusals before it is looked at, headers and accounts after it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import falcon

from dvidcore.api.body import drain
from dvidcore.api.core import MEASURED
from dvidcore.api.memory import LARGE
from dvidcore.api.state import Server
from dvidcore.datatypes.routing import parse_query
from dvidcore.errors import BadRequest, Unavailable

slow = logging.getLogger("dvidcore.slow")

_BEGAN = "dvidcore.began"
_EXEMPT = frozenset(f"/api/{word}" for word in MEASURED)
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, DELETE, HEAD",
    "Access-Control-Allow-Headers": "Authorization, Content-Type",
    "Access-Control-Max-Age": "3600",
}


class Gate:
    """Falcon middleware: shutdown, block list, CORS, counters and the log of slow requests."""

    def __init__(self, server: Server) -> None:
        self.server = server
        config = server.config.server
        self._any_origin = "*" in config.cors_domains
        self._origins = frozenset(config.cors_domains)
        self._slow = config.slow_request
        self._limit = config.max_body_size

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Before the dispatch; what it raises is the answer."""
        environ = req.env
        server = self.server
        environ[_BEGAN] = time.perf_counter()
        server.load.begin()
        if server.stopping:
            raise Unavailable("the server is shutting down")
        path = req.path
        if not path.isascii() and "\ufffd" in path:
            _check_utf8(environ["PATH_INFO"])
        if server.block_list and path not in _EXEMPT:
            server.block_list.check(parse_query(req.query_string).get("u", ""), environ)
        if self._origins and self._is_preflight(environ):
            resp.set_headers(_PREFLIGHT)
            resp.status = 204
            resp.complete = True

    def process_response(self, req: falcon.Request, resp: falcon.Response, resource: Any, succeeded: bool) -> None:
        """After it: nothing here depends on whether the request succeeded."""
        environ = req.env
        if self._origins:
            self._add_origin(environ.get("HTTP_ORIGIN", ""), resp)
        if environ.get("CONTENT_LENGTH") or "HTTP_TRANSFER_ENCODING" in environ:
            drain(environ, self._limit)
        seconds = time.perf_counter() - environ[_BEGAN]
        data = resp.data
        bytes_out = len(data) if data is not None else int(resp.get_header("content-length") or 0)
        length = environ.get("CONTENT_LENGTH")
        bytes_in = int(length) if length and length.isdecimal() else 0
        status = resp.status_code
        self.server.load.end(req.method, status, bytes_in, bytes_out, seconds)
        if data is None or bytes_in + bytes_out >= LARGE:
            self.server.trimmer.used()
        if seconds > self._slow:
            slow.warning(
                "slow request: %s %r status=%d seconds=%.3f bytes_in=%d bytes_out=%d",
                *(req.method, req.path, status, seconds, bytes_in, bytes_out),
            )

    def _is_preflight(self, environ: Mapping[str, Any]) -> bool:
        """Whether a browser asks, for a page of an origin that is allowed, if it may send a request."""
        asked = environ["REQUEST_METHOD"] == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ
        return asked and (self._any_origin or environ.get("HTTP_ORIGIN") in self._origins)

    def _add_origin(self, origin: str, resp: falcon.Response) -> None:
        if self._any_origin:
            resp.set_header("Access-Control-Allow-Origin", "*")
            return
        resp.append_header("Vary", "Origin")
        if origin in self._origins:
            resp.set_header("Access-Control-Allow-Origin", origin)


def _check_utf8(path_info: str) -> None:
    try:
        path_info.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        raise BadRequest("the path is not valid UTF-8 when percent-decoded") from None
