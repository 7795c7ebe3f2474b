"""Running the application: under waitress, or under granian, until a signal says to stop.

Told to stop, a server answers 503 to new requests, gives running ones 20 seconds, and closes its stores.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvidcore.api.memory import Trimmer, keep_memory
from dvidcore.api.start import configure_logging, opened_server
from dvidcore.api.state import Server
from dvidcore.config import Config, ConfigError

log = logging.getLogger("dvidcore.serve")

GRACE = 20.0
"""Seconds that running requests are given when the server stops."""
_BACKLOG = 1024


def serve(config: Config) -> None:
    """Serves until SIGTERM or SIGINT. Raises ``ConfigError`` or ``StoreError`` where it cannot start."""
    configure_logging(config.logging)
    for warning in config.warnings:
        log.warning("%s", warning)
    trim = keep_memory()
    listener = listen(*config.server.address)
    with listener, opened_server(config) as server:
        server.trimmer = Trimmer(trim)
        with pid_file(config.server.pid_file):
            call_webhook(config)
            run = _RUNNERS[config.server.backend]
            run(server, listener)
        log.info("stopped")


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; ``ConfigError`` where the address is in use or not this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(f"cannot listen at {host}:{port}: {error.strerror or error}") from None
    return listener


@contextmanager
def pid_file(path: Path | None) -> Iterator[None]:
    """Holds this process's id in a file while it serves."""
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{os.getpid()}\n")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def call_webhook(config: Config) -> None:
    """Tells ``startWebhook`` that the server is about to serve; ``ConfigError`` unless it answers 200."""
    url = config.server.start_webhook
    if not url:
        return
    said = {
        "Host": config.server.host or socket.gethostname(),
        "Note": config.server.note,
        "HTTP Address": config.server.http_address,
        "RPC Address": config.server.rpc_address,
    }
    request = urllib.request.Request(url, json.dumps(said).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            if answer.status != 200:
                raise ConfigError(f"startWebhook {url} answered {answer.status}, not 200")
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise ConfigError(f"startWebhook {url}: {error}") from None


def _announce(server: Server, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    log.info("serving http://%s:%d (%s)", host, port, server.config.server.backend)


def _on_signals(stop: Callable[[], None]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop())


def run_waitress(server: Server, listener: socket.socket) -> None:
    """Serves under waitress: one thread for the connections, ``threads`` for requests."""
    from dvidcore.api.app import create_app
    from dvidcore.api.front import Front

    front = Front(create_app(server), listener, server.config.server)

    def stop() -> None:
        server.stopping = True
        front.wake()

    _on_signals(stop)
    _announce(server, listener)
    front.run(until=lambda: server.stopping)
    log.info("stopping")
    deadline = time.monotonic() + GRACE
    front.run(until=lambda: time.monotonic() > deadline or not front.busy())
    front.close()


class _Waking(threading.Event):
    """An event whose waiter looks up now and then.

    A signal that the kernel hands to a thread of Rust does not wake up the main thread, and its handler runs only when
    that comes back to Python.
    """

    def wait(self, timeout: float | None = None) -> bool:
        if timeout is not None:
            return super().wait(timeout)
        while not super().wait(0.25):
            pass
        return True


def run_granian(server: Server, listener: socket.socket) -> None:
    """Serves under granian: an event loop in Rust, ``threads`` Python threads for requests, in this one process."""
    try:
        from granian.constants import HTTPModes, Interfaces
        from granian.log import LogLevels
        from granian.server.mt import MTServer
    except ImportError:
        raise ConfigError('granian is not installed: pip install "dvidcore[granian]"') from None
    from dvidcore.api.app import create_app

    app = create_app(server)
    host, port = listener.getsockname()[:2]
    _announce(server, listener)
    listener.close()

    class OneProcess(MTServer):
        """granian's server with its workers in threads, meant for a Python without the GIL but good with it: only so
        does the process that owns the store serve it."""

        def _check_gil(self) -> None:
            pass

        def signal_handler_interrupt(self, *args: Any, **kwargs: Any) -> None:
            server.stopping = True
            super().signal_handler_interrupt(*args, **kwargs)  # type: ignore[no-untyped-call]

    granian = OneProcess(
        "dvidcore",
        address=host,
        port=port,
        interface=Interfaces.WSGI,
        workers=1,
        blocking_threads=server.config.server.threads,
        backlog=_BACKLOG,
        http=HTTPModes.http1,
        websockets=False,
        log_level=LogLevels.warning,
        workers_kill_timeout=int(GRACE),
    )
    granian.main_loop_interrupt = _Waking()
    granian.serve(target_loader=lambda *_: app, wrap_loader=False)


_RUNNERS: dict[str, Callable[[Server, socket.socket], None]] = {"waitress": run_waitress, "granian": run_granian}


def main(config: Config) -> int:
    """Serves, and says in one line on stderr why it cannot; the exit code."""
    from dvidcore.errors import DvidError

    try:
        serve(config)
    except (DvidError, OSError) as error:
        print(f"dvidcore: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0
