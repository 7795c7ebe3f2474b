"""From a configuration to a ``Server``: logging, stores, database. No network here, so tests and tools use it too."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path

from dvidcore.api.state import Server
from dvidcore.config import Config, LoggingConfig
from dvidcore.errors import StoreError
from dvidcore.mutations.ids import FIRST
from dvidcore.mutations.jsonlog import JsonLog
from dvidcore.repos import Database, DatabaseOptions
from dvidcore.storage import open_engine

log = logging.getLogger("dvidcore")

_FORMAT = "time=%(asctime)s.%(msecs)03dZ level=%(levelname)s logger=%(name)s message=%(message)s"
_BACKUPS = 100


def open_database(config: Config) -> Database:
    """The database of a configuration with all its stores open; closes them again where one cannot be opened.

    Raises ``StoreError`` where a store is in use, damaged or of an unknown engine.
    """
    with ExitStack() as opened:
        stores = {}
        for name, store in config.stores.items():
            try:
                stores[name] = opened.enter_context(open_engine(store.engine, store.path, **store.options))
            except StoreError as error:
                raise StoreError(f"[store.{name}] {error}") from error
        server = config.server
        options = DatabaseOptions(
            min_mutation_id_start=max(FIRST, server.min_mutation_id_start),
            instance_id_gen=server.instance_id_gen,
            instance_id_start=server.instance_id_start,
            sync=server.sync,
            max_data_request=server.max_data_request,
            allow_labelmap_split=server.allow_labelmap_split,
            former_indices=config.former_indices,
            remote=config.remote,
            json_log=None if config.json_log is None else JsonLog(config.json_log),
        )
        database = Database.open(stores, config.assignment, options=options)
        opened.pop_all()
    return database


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
