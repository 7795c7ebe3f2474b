"""A repo of an open store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from dvidcore.errors import BadRequest
from dvidcore.local.node import Node
from dvidcore.versions import MASTER, branch_title

if TYPE_CHECKING:
    from dvidcore.local.store import Store
    from dvidcore.repos import Repo as Record


class Repo:
    """A DAG of versions with its data instances. ``repo["master"]`` is a version, see ``__getitem__``."""

    def __init__(self, store: Store, root: str) -> None:
        self.store = store
        self._root = root

    @property
    def record(self) -> Record:
        """What the store knows of the repo; ``BadRequest`` where it was deleted."""
        return self.store.database.repo_of(self._root)

    def __repr__(self) -> str:
        record = self.record
        return f"<Repo {record.root} {record.alias!r}, {len(record.dag.nodes)} versions>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Repo) and (self.store, self._root) == (other.store, other._root)

    def __hash__(self) -> int:
        return hash(self._root)

    # -- properties ---------------------------------------------------------------------------------------------------

    @property
    def uuid(self) -> str:
        """The UUID of the root, which names the repo."""
        return self._root

    @property
    def alias(self) -> str:
        return self.record.alias

    @alias.setter
    def alias(self, text: str) -> None:
        self.store.check_writable()
        self.store.database.update_repo(self.record, alias=text)

    @property
    def description(self) -> str:
        return self.record.description

    @description.setter
    def description(self, text: str) -> None:
        self.store.check_writable()
        self.store.database.update_repo(self.record, description=text)

    @property
    def log(self) -> list[str]:
        """The repo's log, each line with its time."""
        return list(self.record.log)

    def append_log(self, *lines: str) -> None:
        """Appends lines to the repo's log."""
        self.store.check_writable()
        self.store.database.append_repo_log(self.record, lines)

    # -- versions -----------------------------------------------------------------------------------------------------

    def __getitem__(self, spec: str) -> Node:
        """A version: ``"master"`` or another branch (its newest version), ``"branch~2"`` (two above), a UUID, the
        beginning of one, or a tag. Raises ``BadRequest`` for what names no version of this repo.
        """
        record, database = self.record, self.store.database
        exact = record.dag.by_uuid.get(spec)
        if exact is not None:
            return Node(self, exact.uuid)
        branch = spec.partition("~")[0]
        if ("" if branch == MASTER else branch) in record.dag.branches and branch:
            spec = f"{self._root}:{spec}"
        owner, node = database.resolve(spec)
        if owner.root != self._root:
            raise BadRequest(f'"{spec[:60]}" is a version of repo {owner.root}, not of {self._root}')
        return Node(self, node.uuid)

    @property
    def root(self) -> Node:
        """The first version."""
        return Node(self, self._root)

    @property
    def nodes(self) -> list[Node]:
        """All versions in order of creation."""
        return [Node(self, node.uuid) for node in self.record.dag.nodes.values()]

    @property
    def branches(self) -> list[str]:
        """The names of the branches; the first one is ``"master"``."""
        return [branch_title(name) for name in self.record.dag.branches]

    def merge(self, parents: Iterable[Node], note: str = "") -> Node:
        """An open version that sees what each of some committed ones changed; see ``Database.merge``."""
        self.store.check_writable()
        nodes = [parent.record for parent in parents]
        return Node(self, self.store.instances.merge(self.record, nodes, note).uuid)

    # -- instances ----------------------------------------------------------------------------------------------------

    @property
    def instances(self) -> dict[str, str]:
        """The names of the data instances and their types."""
        return {name: record.typename for name, record in self.record.instances.items()}

    def rename_instance(self, old: str, new: str, passcode: str | None = None) -> None:
        """Gives a data instance another name."""
        self.store.check_writable()
        self.store.database.rename_instance(self.record, old, new, passcode)

    def delete_instance(self, name: str, passcode: str | None = None) -> None:
        """Deletes a data instance from all versions: gone at once, its data in the background."""
        self.store.check_writable()
        self.store.database.delete_instance(self.record, name, passcode)

    def delete(self, passcode: str | None = None) -> None:
        """Deletes the repo with all its data; raises ``Forbidden`` without its passcode, where it has one."""
        self.store.check_writable()
        self.store.database.delete_repo(self.record, passcode)
