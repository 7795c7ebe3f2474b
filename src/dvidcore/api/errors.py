"""How an exception becomes an answer: the one place where ``dvidcore.errors`` meets HTTP.

An error is one readable line of ``text/plain``. What nobody expected is a 500 whose details go to the log, never to
the client.
"""

from __future__ import annotations

import logging

import falcon

from dvidcore.errors import DvidError

log = logging.getLogger("dvidcore.api")

LONGEST_PATH = 300
"""Characters of the path that an error shows."""
INTERNAL = "internal error of the server; its log says more"


def translate(error: BaseException, path: str, *, has_body: bool = False) -> tuple[int, str]:
    """Status and text of the answer to an exception. ``path`` is named in the text, as DVID does.

    A plain ``ValueError`` is a kernel's word about what it was given: 400 where the request had a body.
    """
    if isinstance(error, DvidError):
        status, text = error.status, str(error)
        if status == 500:
            log.error("%r: %s", path, text)
    elif isinstance(error, falcon.HTTPError):
        status, text = error.status_code, error.description or error.title or ""
    elif isinstance(error, ValueError) and has_body:
        status, text = 400, str(error)
    else:
        log.error("unexpected error at %r", path, exc_info=error)
        status, text = 500, INTERNAL
    # Whatever the text and the path hold, the answer is one line, and not a long one.
    if len(path) > LONGEST_PATH:
        path = path[:LONGEST_PATH] + "…"
    return status, " ".join(f"{text or type(error).__name__} ({path}).".split()) + "\n"


def fill(resp: falcon.Response, status: int, text: str) -> None:
    """Makes a response an error, whatever it was before."""
    resp.stream = None
    resp.status = status
    resp.content_type = "text/plain"
    resp.data = text.encode()


def handle(req: falcon.Request, resp: falcon.Response, error: Exception, params: object) -> None:
    """Falcon's handler for what the dispatch itself did not catch."""
    fill(resp, *translate(error, req.path))
