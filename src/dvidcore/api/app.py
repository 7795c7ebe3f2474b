"""The Falcon application: plain WSGI over a ``Server``."""

from __future__ import annotations

from typing import Any

import falcon

from dvidcore.api import errors
from dvidcore.api.core import PREFIX as CORE_PREFIX
from dvidcore.api.core import CoreSink, node_words
from dvidcore.api.instances import PREFIX as NODE_PREFIX
from dvidcore.api.instances import InstanceSink
from dvidcore.api.middleware import Gate
from dvidcore.api.state import Server
from dvidcore.api.webclient import WebSink


def create_app(server: Server) -> falcon.App[Any, Any]:
    """The WSGI application that serves ``server``.

    Paths are dispatched by our own tables, compiled from the declarations, behind three of Falcon's sinks: Falcon's
    router would try instances one by one and knows nothing of datatypes that are found at run time.
    """
    app = falcon.App(middleware=[Gate(server)])
    app.resp_options.default_media_type = "text/plain"
    app.add_error_handler(Exception, errors.handle)
    app.add_error_handler(falcon.HTTPError, errors.handle)
    core = CoreSink(server)
    # Of several sinks that fit, Falcon takes the one that was added last.
    app.add_sink(WebSink(server).respond, "/")
    app.add_sink(core.respond, CORE_PREFIX)
    app.add_sink(InstanceSink(server, core.respond, node_words()).respond, NODE_PREFIX)
    return app
