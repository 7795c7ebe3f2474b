"""Storage: engines, keys, and the key-value view at a version.

``open_engine`` finds an engine by its name in the configuration and opens a store with it.
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import Any

from dvidcore import errors
from dvidcore.storage.engine import Batch, Engine, Key, Snapshot, Value

__all__ = ["Batch", "Engine", "Key", "Snapshot", "Value", "engine_names", "open_engine"]

# Known without the package's metadata, so that a source tree works, and without searching for it, which takes a while.
_BUILT_IN = {
    "leveldb": "dvidcore.storage.leveldb:LevelDB",
    "lmdb": "dvidcore.storage.lmdb:LMDB",
    "memory": "dvidcore.storage.memory:Memory",
}
# What the configurations of DVID's clients say.
_ALIASES = {"basholeveldb": "leveldb", "badger": "leveldb"}


def engine_names() -> list[str]:
    """The names that :func:`open_engine` knows, without aliases."""
    return sorted({*_BUILT_IN, *entry_points(group="dvidcore.engines").names})


def open_engine(kind: str, path: str, **options: Any) -> Engine:
    """Opens the store at ``path`` with the engine named ``kind``, in any case; see :meth:`Engine.open`.

    Raises ``StoreError`` for an engine that is not known, or whose store cannot be opened.
    """
    name = _ALIASES.get(kind.lower(), kind.lower())
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        engine: type[Engine] = getattr(importlib.import_module(module), attribute)
        return engine.open(path, **options)
    for entry in entry_points(group="dvidcore.engines", name=name):
        engine = entry.load()
        return engine.open(path, **options)
    raise errors.StoreError(f"storage engine {kind!r} is not known: use one of {', '.join(engine_names())}")
