"""A store, or the several stores of a configuration, opened in this process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from dvidcore import config as configuration
from dvidcore.config import Config
from dvidcore.datatypes.registry import Instances
from dvidcore.datatypes.turns import Turns
from dvidcore.errors import BadRequest, Forbidden, NotFound, StoreError

if TYPE_CHECKING:
    from dvidcore.local.node import Node
    from dvidcore.local.repo import Repo
    from dvidcore.repos import Database


def open(
    path: str | Path | None = None,
    *,
    engine: str | None = None,
    config: Config | str | Path | None = None,
    user: str = "",
    readonly: bool = False,
    fullwrite: bool = False,
    sync: bool | None = None,
    **options: Any,
) -> Store:
    """Opens the store in the folder ``path``, which is made where it is missing, or the stores of a configuration.

    ``engine`` is ``"leveldb"``, ``"lmdb"`` or ``"memory"`` (which needs no path); left out, it is what the folder holds,
    LevelDB for a new one. ``options`` are the engine's own. ``config`` is the server's TOML file, or a ``Config``,
    instead of a path. Changes are logged as those of ``user``. ``readonly`` refuses every change; ``fullwrite`` allows
    changes of committed versions; without ``sync`` what was written last may be lost with the machine, not with the
    process. Raises ``StoreError`` where the store cannot be opened: a LevelDB is one process's at a time.
    """
    from dvidcore.opening import open_database

    if (config is None) == (path is None and engine != "memory"):
        raise BadRequest("open: give either the path of a store or a configuration")
    if readonly and fullwrite:
        raise BadRequest("open: readonly and fullwrite exclude each other")
    if config is None:
        loaded = _of_folder(Path(path or "."), engine, options)
    elif engine is not None or options:
        raise BadRequest("open: the engine and its options are the configuration's")
    else:
        loaded = config if isinstance(config, Config) else configuration.load(config)
    if readonly or fullwrite:
        loaded = loaded.with_server(mode="readonly" if readonly else "fullwrite")
    if sync is not None:
        loaded = loaded.with_server(sync=sync)
    if loaded.server.mode == "readonly" and config is None and engine != "memory" and not Path(str(path)).is_dir():
        raise StoreError(f"there is no store in {path}")
    return Store(open_database(loaded), loaded, user)


def _of_folder(path: Path, engine: str | None, options: Mapping[str, Any]) -> Config:
    if engine is None:
        engine = "lmdb" if (path / "data.mdb").is_file() else "leveldb"
    config = configuration.from_folder(path, engine)
    changes: dict[str, Any] = {"options": options, **({"path": ""} if engine == "memory" else {})}
    stores = {name: replace(store, **changes) for name, store in config.stores.items()}
    return replace(config, stores=stores)


class Store:
    """The repos of an open store; made by ``dvidcore.open``, closed by ``close`` or at the end of a ``with``.

    Safe to use from several threads. Repos, versions and instances that it gives are light handles: each use of one
    looks up what it names, and raises ``BadRequest`` once that is gone.
    """

    def __init__(self, database: Database, config: Config, user: str = "") -> None:
        self.database = database
        self.config = config
        self.user = user
        self.instances = Instances(database)
        self._turns: dict[int, Turns] = {}

    def close(self) -> None:
        """Closes the stores. No handle may be used any more."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        where = ", ".join(engine.description() for engine in self.database.stores.values())
        return f"<Store {where}, {len(self.database.repos)} repos>"

    # -- repos --------------------------------------------------------------------------------------------------------

    @property
    def repos(self) -> Repos:
        """All repos by the UUID of their root, in order of creation."""
        return Repos(self)

    def repo(self, name: str) -> Repo:
        """The repo of an alias, or of the UUID of any of its versions, or the beginning of one.

        Raises ``BadRequest`` where there is none, or the alias is that of several.
        """
        from dvidcore.local.repo import Repo

        aliased = [root for root, repo in self.database.repos.items() if repo.alias == name and name]
        if len(aliased) > 1:
            raise BadRequest(f'"{name[:60]}" is the alias of {len(aliased)} repos: {", ".join(aliased)}')
        return Repo(self, aliased[0] if aliased else self.database.repo_of(name).root)

    def new_repo(
        self, alias: str = "", description: str = "", *, passcode: str | None = None, root: str | None = None
    ) -> Repo:
        """A new repo with one open version, its root, whose UUID may be chosen; deletions will ask for ``passcode``."""
        from dvidcore.local.repo import Repo

        self.check_writable()
        return Repo(self, self.database.new_repo(alias, description, passcode, root).root)

    def node(self, spec: str) -> Node:
        """The version of a spec as in URLs: ``"3f8c"``, ``"3f8c:branch~1"``, or ``":master"`` where there is one repo."""
        from dvidcore.local.node import Node
        from dvidcore.local.repo import Repo

        repo, node = self.database.resolve(spec)
        return Node(Repo(self, repo.root), node.uuid)

    # -- what handles need --------------------------------------------------------------------------------------------

    @property
    def fullwrite(self) -> bool:
        """Whether committed versions may be changed."""
        return self.config.server.mode == "fullwrite"

    def check_writable(self) -> None:
        """Raises ``Forbidden`` where the store was opened to be read only."""
        if self.config.server.mode == "readonly":
            raise Forbidden("the store was opened to be read only")

    def turns(self, instance_id: int) -> Turns:
        """Who may write voxels of an instance: boxes of whole blocks side by side, others alone, since they read first."""
        found = self._turns.get(instance_id)
        return self._turns.setdefault(instance_id, Turns()) if found is None else found


class Repos(Mapping[str, "Repo"]):
    """The repos of a store by the UUID of their root."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getitem__(self, root: str) -> Repo:
        from dvidcore.local.repo import Repo

        if root not in self._store.database.repos:
            raise NotFound(f'there is no repo with the root "{root[:60]}"')
        return Repo(self._store, root)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._store.database.repos))

    def __len__(self) -> int:
        return len(self._store.database.repos)

    def __repr__(self) -> str:
        return f"<Repos {', '.join(self)}>"
