"""Requests to the server's own endpoints: everything under ``/api/`` that is no data instance's."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import falcon

from dvidcore.api.answers import send
from dvidcore.api.body import EMPTY, body_of
from dvidcore.api.errors import fill, translate
from dvidcore.api.instances import check_read_only, send_options
from dvidcore.api.nodes import NodeEndpoints
from dvidcore.api.repos import RepoEndpoints
from dvidcore.api.request import Request
from dvidcore.api.server import ServerEndpoints
from dvidcore.api.state import Server
from dvidcore.datatypes.endpoints import Endpoint
from dvidcore.datatypes.routing import Table, endpoints_of, parse_query
from dvidcore.errors import NotFound

PREFIX = "/api/"
GROUPS = (ServerEndpoints, RepoEndpoints, NodeEndpoints)
MEASURED = frozenset({"load", "heartbeat", "user-latencies"})
"""Endpoints whose times are kept by user; the block list does not hold for them."""


def core_endpoints() -> list[Endpoint]:
    """All endpoints that are no datatype's, in the order of the documentation."""
    return [endpoint for group in GROUPS for endpoint in endpoints_of(group)]


def node_words() -> frozenset[str]:
    """The words that in the place of an instance's name mean the version itself."""
    return frozenset(endpoint.parts[2].name for endpoint in endpoints_of(NodeEndpoints))


class CoreSink:
    """Dispatches to the three groups of core endpoints."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.table = Table(core_endpoints())
        self._methods: dict[tuple[str, str], Callable[..., Any]] = {}
        for group in GROUPS:
            owner = group(server)
            for endpoint in endpoints_of(group):
                self._methods[endpoint.verb, endpoint.path] = getattr(owner, endpoint.handler)
        self._limit = server.config.server.max_body_size

    def respond(self, req: falcon.Request, resp: falcon.Response, **_: Any) -> None:
        """Falcon's entry: answers one request."""
        began = time.perf_counter()
        environ = req.env
        body = EMPTY
        try:
            verb = environ["REQUEST_METHOD"]
            query = parse_query(environ["QUERY_STRING"])
            parts = req.path[len(PREFIX) :].split("/")
            admin = self.server.is_admin(query)
            if self.server.read_only and parts[0] in ("repo", "repos", "node"):
                check_read_only(self.server, verb, admin)
            route = self.table.find(verb, parts)
            if route is None:
                if verb == "OPTIONS" and (verbs := self.table.verbs(parts)):
                    send_options(resp, verbs)
                    return
                raise NotFound("404 page not found")
            arguments = route.arguments(parts, query)
            body = body_of(environ, self._limit)
            request = Request(verb, req.path, query, environ, body, admin)
            endpoint = route.endpoint
            result = self._methods[endpoint.verb, endpoint.path](request, **arguments)
            send(resp, result, endpoint.answers, environ, _nothing)
            if parts[0] in MEASURED and query.get("u"):
                self.server.latencies.add(query["u"], time.perf_counter() - began)
        except Exception as error:
            fill(resp, *translate(error, req.path, has_body=body.length > 0))


def _nothing() -> None:
    pass
