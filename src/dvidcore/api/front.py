"""waitress, tuned: large buffers in memory, few system calls, and a loop that can be stopped without losing answers."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from waitress import wasyncore
from waitress.server import create_server

from dvidcore.api.refusals import Channel
from dvidcore.config import ServerConfig

MB = 1 << 20


class Front:
    """A waitress server on a listening socket, run by :meth:`run` in the calling thread."""

    def __init__(self, app: Callable[..., Any], listener: socket.socket, config: ServerConfig) -> None:
        self._map: dict[int, Any] = {}
        self._server = create_server(
            app,
            map=self._map,
            sockets=[listener],
            threads=config.threads,
            ident="dvidcore",
            # The block list looks at what proxies say.
            clear_untrusted_proxy_headers=False,
            recv_bytes=MB,
            # The worker sends at once what it has: waiting for more would hand small answers to the loop's thread.
            send_bytes=1,
            # Bodies up to this size stay in memory, larger ones go to a temporary file.
            inbuf_overflow=64 * MB,
            # A stream waits for its client beyond the watermark, so that its answer never fills memory or disk.
            outbuf_high_watermark=16 * MB,
            outbuf_overflow=64 * MB,
            # waitress refuses bodies of the limit itself.
            max_request_body_size=config.max_body_size + 1,
            connection_limit=4096,
            channel_timeout=300,
            asyncore_use_poll=True,
            log_socket_errors=False,
            expose_tracebacks=False,
        )
        self._server.channel_class = Channel

    def run(self, until: Callable[[], bool]) -> None:
        """Serves until the condition holds; it is looked at after each event and at least each second."""
        while not until():
            wasyncore.poll2(1.0, self._map)

    def wake(self) -> None:
        """Has :meth:`run` look at its condition; may be called from a signal handler."""
        self._server.pull_trigger()

    def busy(self) -> bool:
        """Whether a request is being handled, or an answer has not yet left."""
        dispatcher = self._server.task_dispatcher
        if dispatcher.queue or dispatcher.active_count:
            return True
        return any(channel.requests or channel.total_outbufs_len for channel in self._server.active_channels.values())

    def close(self) -> None:
        """Ends the threads and all connections."""
        self._server.task_dispatcher.shutdown(timeout=1)
        for connection in list(self._map.values()):
            connection.close()
