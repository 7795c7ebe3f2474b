"""From a configuration to a database: all its stores, opened together."""

from __future__ import annotations

from contextlib import ExitStack

from dvidcore.config import Config
from dvidcore.errors import StoreError
from dvidcore.mutations.ids import FIRST
from dvidcore.mutations.jsonlog import JsonLog
from dvidcore.repos import Database, DatabaseOptions
from dvidcore.storage import open_engine


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
