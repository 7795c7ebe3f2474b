"""From a configuration to a ``Server``: logging, and the stores with their database. No network here, so tests and tools use it too."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path

from dvidcore.api.state import Server
from dvidcore.config import Config, LoggingConfig
from dvidcore.opening import open_database

log = logging.getLogger("dvidcore")

_FORMAT = "time=%(asctime)s.%(msecs)03dZ level=%(levelname)s logger=%(name)s message=%(message)s"
_BACKUPS = 100


@contextmanager
def opened_server(config: Config, admin_token: str | None = None) -> Iterator[Server]:
    """A ``Server`` whose stores are closed at the end."""
    with open_database(config) as database:
        server = Server(config, database, admin_token)
        if server.read_only or not any(grid.instance for grid in config.remote.grids):
            yield server
            return
        from dvidcore.datatypes.remote.automatic import making

        with making(server.instances):
            yield server


def configure_logging(config: LoggingConfig) -> None:
    """Sends all logs to the configured file, or to stdout, one line each; files rotate by size and go by age."""
    handler: logging.Handler = logging.StreamHandler(sys.stdout)
    if config.logfile is not None:
        config.logfile.parent.mkdir(parents=True, exist_ok=True)
        size = config.max_log_size << 20
        handler = RotatingFileHandler(config.logfile, maxBytes=size, backupCount=_BACKUPS, encoding="utf-8")
        if config.max_log_age:
            _remove_old(config.logfile, config.max_log_age)
    formatter = logging.Formatter(_FORMAT, "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    # A busy server has a queue; that is no news.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    # Clients that leave in the middle of an answer are no news either.
    logging.getLogger("waitress").setLevel(logging.WARNING)


def _remove_old(logfile: Path, days: int) -> None:
    limit = time.time() - days * 86400
    for old in logfile.parent.glob(f"{logfile.name}.*"):
        if old.suffix[1:].isdecimal() and old.stat().st_mtime < limit:
            old.unlink(missing_ok=True)
