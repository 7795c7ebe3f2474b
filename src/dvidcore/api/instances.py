"""Requests to data instances, ``/api/node/{uuid}/{name}/…``: the hot path, from a URL to a datatype's method and back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

import falcon

from dvidcore.api.answers import send
from dvidcore.api.body import EMPTY, body_of
from dvidcore.api.errors import fill, translate
from dvidcore.api.state import Server
from dvidcore.datatypes.base import DataType
from dvidcore.datatypes.call import Call
from dvidcore.datatypes.routing import Table, parse_query
from dvidcore.errors import BadRequest, Locked, NotFound
from dvidcore.storage.versioned import KeyConflict

_log = logging.getLogger("dvidcore.api")

PREFIX = "/api/node/"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_NOTHING: dict[str, str] = {}


class Headers(Mapping[str, str]):
    """The headers of a request by lower-case name, looked up in the WSGI environment only when asked for."""

    __slots__ = ("_environ",)

    def __init__(self, environ: Mapping[str, Any]) -> None:
        self._environ = environ

    def __getitem__(self, name: str) -> str:
        key = name.upper().replace("-", "_")
        value: str = self._environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + key]
        return value

    def __iter__(self) -> Iterator[str]:
        for key in self._environ:
            if key.startswith("HTTP_"):
                yield key[5:].lower().replace("_", "-")
            elif key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
                yield key.lower().replace("_", "-")

    def __len__(self) -> int:
        return sum(1 for _ in self)


class InstanceSink:
    """Dispatches to datatypes by what they declare; ``core`` gets the words that belong to the version itself."""

    def __init__(self, server: Server, core: Callable[..., None], node_words: frozenset[str]) -> None:
        self.server = server
        self.core = core
        self.node_words = node_words
        self._tables: dict[type[DataType], Table] = {}
        self._limit = server.config.server.max_body_size
        self._timing = server.config.server.allow_timing

    def respond(self, req: falcon.Request, resp: falcon.Response, **_: Any) -> None:
        """Falcon's entry: answers one request."""
        environ = req.env
        parts = req.path[len(PREFIX) :].split("/")
        if len(parts) > 1 and parts[1] in self.node_words:
            self.core(req, resp)
            return
        body, call = EMPTY, None
        try:
            verb = environ["REQUEST_METHOD"]
            text = environ["QUERY_STRING"]
            query = parse_query(text) if text else _NOTHING
            server = self.server
            admin = bool(query) and server.is_admin(query)
            if server.read_only:
                check_read_only(server, verb, admin)
            words = parts[2:]
            if not words or words == [""]:
                raise NotFound("404 page not found")
            database = server.database
            repo, node = database.resolve(parts[0])
            record, number = repo.instances.get(parts[1]), None
            if record is None:
                found = server.instances.numbered(repo, parts[1])
                if found is None:
                    raise BadRequest(f'there is no data instance "{parts[1][:60]}" in repo {repo.root}')
                record, number = found
            instance = server.instances.of(repo, record)
            cls = instance.__class__
            table = self._tables.get(cls)
            if table is None:
                table = self._tables[cls] = Table(cls.endpoints(), cls.strict_verbs)
            route = table.find(verb, words)
            if self._timing:
                resp.set_header("Timing-Allow-Origin", "*")
            if route is None:
                if verb == "OPTIONS" and (verbs := table.verbs(words)):
                    send_options(resp, verbs)
                    return
                refusal = table.refusal(verb, words, f"/api/help/{record.typename}")
                if refusal.status == HTTPStatus.METHOD_NOT_ALLOWED:
                    resp.set_header("Allow", ", ".join(table.verbs(words)))
                raise refusal
            endpoint = route.endpoint
            history = server.full_write
            if endpoint.writes and node.locked and record.versioned and not (history or endpoint.only_reads(query)):
                if not admin:
                    raise Locked(f"version {node.uuid} is committed: it takes no {verb} {words[0]}")
                history = query.get("writelocked") == "true"
                _log.warning(
                    "administrator %s sends a write to the committed version %s: %s %s",
                    query.get("u", "(no name)"),
                    node.uuid,
                    verb,
                    "/".join(parts[1:]),
                )
            arguments = route.arguments(words, query)
            if environ.get("CONTENT_LENGTH") or environ.get("HTTP_TRANSFER_ENCODING"):
                body = body_of(environ, self._limit)
            call = Call(
                instance.engine,
                node,
                database.ancestry_for(repo, node, record),
                method=verb,
                body=body,
                headers=Headers(environ),
                user=query.get("u", ""),
                app=query.get("app", ""),
                admin=admin,
                history=history,
                number=number,
            )
            close = call.close
            if endpoint.throttled(query, arguments):
                close = _throttled(server, call)
            try:
                result = getattr(instance, route.handler)(call, **arguments)
                send(resp, result, endpoint.answers, environ, close)
            except KeyConflict as conflict:
                close()
                raise instance.explained(conflict) from None
            except BaseException:
                close()
                raise
        except Exception as error:
            fill(resp, *translate(error, req.path, has_body=body.length > 0))


def _throttled(server: Server, call: Call) -> Callable[[], None]:
    """Takes a throttle slot for a call; what is returned closes the call and gives the slot back, once."""
    server.throttle.take()
    give = [server.throttle.give]

    def close() -> None:
        call.close()
        if give:
            give.pop()()

    return close


def check_read_only(server: Server, verb: str, admin: bool) -> None:
    """BadRequest where a read-only server is asked to change a repo or a version."""
    if verb not in SAFE and not admin:
        raise BadRequest(f"the server is read-only: it takes no {verb}")


def send_options(resp: falcon.Response, verbs: list[str]) -> None:
    """The answer to OPTIONS."""
    resp.set_header("Allow", ", ".join(verbs))
    resp.content_type = "text/plain"
    resp.data = b""
