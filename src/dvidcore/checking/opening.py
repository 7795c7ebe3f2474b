"""Opening a store to check it: only one that is there, and that nobody else has open."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from dvidcore import config as configuration
from dvidcore.config import Config
from dvidcore.errors import StoreError
from dvidcore.opening import open_database
from dvidcore.repos import Database
from dvidcore.storage.folder import Folder


class Opened(NamedTuple):
    database: Database
    config: Config


def open_store(path: Path) -> Opened:
    """The database of a folder, or of the TOML file of a server; to be closed by the caller.

    What a crash interrupted is finished or undone first, as in every opening. Raises StoreError where there is no
    store, or a server holds it; ConfigError for a file that is none.
    """
    if path.is_file():
        config = configuration.load(path)
    else:
        config = configuration.from_folder(path, "lmdb" if (path / "data.mdb").is_file() else "leveldb")
    for name, store in config.stores.items():
        if store.engine.lower() != "memory" and not _is_store(Path(store.path)):
            raise StoreError(f"[store.{name}] there is no store in {store.path}")
        if store.engine.lower() == "lmdb":
            _check_unused(Path(store.path))
    return Opened(open_database(config), config)


def _is_store(folder: Path) -> bool:
    return any((folder / mark).is_file() for mark in ("CURRENT", "data.mdb"))


def _check_unused(folder: Path) -> None:
    """Raises StoreError where another process has an LMDB store open, which its engine would share."""
    lock = folder / "lock.mdb"
    if not lock.is_file():
        return
    import fcntl

    claim = Folder(str(folder), "data.mdb", f"store {folder}")  # of this process: closing the file drops its locks
    try:
        with lock.open("rb+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
            fcntl.lockf(file, fcntl.LOCK_UN, 1)
    except OSError:
        raise StoreError(f"the store in {folder} is in use by another process") from None
    finally:
        claim.release()
