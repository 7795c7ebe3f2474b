"""Requests to the WSGI application in the same process, with as little around them as there can be."""

from __future__ import annotations

import io
import sys
from typing import Any

Application = Any


def environ(verb: str, path: str, body: bytes = b"", query: str = "") -> dict[str, Any]:
    """The WSGI environment of a request, as waitress makes it."""
    found = {
        "REMOTE_ADDR": "127.0.0.1",
        "REQUEST_METHOD": verb,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "HTTP_HOST": "localhost:8000",
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
        "wsgi.input": io.BytesIO(body),
    }
    if body:
        found["CONTENT_LENGTH"] = str(len(body))
    return found


def call(application: Application, verb: str, path: str, body: bytes = b"", query: str = "") -> bytes:
    """One request; its answer, which must be a success."""
    seen: list[str] = []
    pieces = application(environ(verb, path, body, query), lambda status, headers, error=None: seen.append(status))
    try:
        answer = b"".join(pieces)
    finally:
        if hasattr(pieces, "close"):
            pieces.close()
    assert seen[0].startswith("200"), (seen, answer[:300])
    return answer
