"""A version of a repo, and its data instances as it sees them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dvidcore.datatypes.base import DataType
from dvidcore.datatypes.call import Body, Call
from dvidcore.errors import Locked, NotFound
from dvidcore.local.instance import bind
from dvidcore.versions import branch_title

if TYPE_CHECKING:
    from dvidcore.local.instance import Instance
    from dvidcore.local.repo import Repo
    from dvidcore.versions import Node as Record


class Node:
    """One version. ``node["grayscale"]`` is a data instance as this version sees it."""

    def __init__(self, repo: Repo, uuid: str) -> None:
        self.repo = repo
        self.store = repo.store
        self.uuid = uuid

    @property
    def record(self) -> Record:
        """What the store knows of the version; ``BadRequest`` where it is gone."""
        return self.store.database.resolve(self.uuid)[1]

    def __repr__(self) -> str:
        state = "committed" if self.locked else "open"
        return f"<Node {self.uuid} of {self.branch_name}, {state}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Node) and (self.store, self.uuid) == (other.store, other.uuid)

    def __hash__(self) -> int:
        return hash(self.uuid)

    # -- the version --------------------------------------------------------------------------------------------------

    @property
    def branch_name(self) -> str:
        """The name of its branch, ``"master"`` for the unnamed one."""
        return branch_title(self.record.branch)

    @property
    def locked(self) -> bool:
        """Whether it is committed, and takes no changes any more."""
        return self.record.locked

    @property
    def note(self) -> str:
        """The note; it can be set until the commit."""
        return self.record.note

    @note.setter
    def note(self, text: str) -> None:
        self.store.check_writable()
        self.store.database.set_note(self.repo.record, self.record, text, fullwrite=self.store.fullwrite)

    @property
    def log(self) -> list[str]:
        """The version's log, each line with its time."""
        return list(self.record.log)

    def append_log(self, *lines: str) -> None:
        """Appends lines to the version's log, until the commit."""
        self.store.check_writable()
        self.store.database.append_log(self.repo.record, self.record, lines, fullwrite=self.store.fullwrite)

    @property
    def parents(self) -> list[Node]:
        return self._nodes(self.record.parents)

    @property
    def children(self) -> list[Node]:
        return self._nodes(self.record.children)

    def _nodes(self, versions: Sequence[int]) -> list[Node]:
        known = self.repo.record.dag.nodes
        return [Node(self.repo, known[version].uuid) for version in versions]

    def commit(self, note: str = "", log: Sequence[str] = ()) -> None:
        """Locks the version for good; a note replaces its note. Raises ``Locked`` where it is committed already."""
        self.store.check_writable()
        self.store.database.commit(self.repo.record, self.record, note, log)

    def newversion(self, note: str = "", uuid: str | None = None) -> Node:
        """An open child on the same branch. Raises ``BadRequest`` unless the version is committed and its branch's last."""
        self.store.check_writable()
        return Node(self.repo, self.store.database.new_version(self.repo.record, self.record, note, uuid).uuid)

    def branch(self, name: str, note: str = "", uuid: str | None = None) -> Node:
        """An open child on a new branch. Raises ``BadRequest`` unless the version is committed and the name is new."""
        self.store.check_writable()
        return Node(self.repo, self.store.database.branch(self.repo.record, self.record, name, note, uuid).uuid)

    def tag(self, name: str, note: str = "") -> Node:
        """A committed child that is named by a text."""
        self.store.check_writable()
        return Node(self.repo, self.store.database.tag(self.repo.record, self.record, name, note).uuid)

    # -- instances ----------------------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Any:
        """The data instance of a name: ``Volume`` for images, ``Labels``, ``KeyValue``, or a plain ``Instance``.

        Raises ``BadRequest`` where the repo has none. (Typed as Any: what it is depends on the data.)
        """
        return bind(self, self.store.instances.named(self.repo.record, name).record.name)

    def __contains__(self, name: object) -> bool:
        return name in self.repo.record.instances

    @property
    def instances(self) -> Mapping[str, Instance]:
        """All data instances by name."""
        return _Instances(self)

    def create(
        self,
        name: str,
        typename: str,
        *,
        block_size: Sequence[int] | None = None,
        voxel_size: Sequence[float] | None = None,
        **settings: Any,
    ) -> Any:
        """A new data instance of the repo, made at this version; answers it as ``node[name]`` does.

        ``typename`` is ``"uint8blk"``, ``"labelmap"``, ``"keyvalue"`` …; ``block_size`` (voxels) and ``voxel_size``
        (in ``VoxelUnits``, nanometers by default) are Z, Y, X. Other settings have the names of ``POST instance`` and
        values as there (X, Y, Z), where a list stands for text with commas: ``MaxDownresLevel=2``,
        ``VoxelUnits=["nanometers"] * 3``. Raises ``BadRequest`` for what the type does not take, ``Locked`` at a
        committed version.
        """
        self.store.check_writable()
        config = {"typename": typename, "dataname": name, **{key: _setting(value) for key, value in settings.items()}}
        for key, size in (("BlockSize", block_size), ("VoxelSize", voxel_size)):
            if size is not None:
                config[key] = _setting(list(size)[::-1])
        self.store.instances.create(self.repo.record, self.record, config, admin=self.store.fullwrite)
        return self[name]

    # -- what instances need ------------------------------------------------------------------------------------------

    @contextmanager
    def call(self, data: DataType, verb: str = "GET", body: Body | None = None, writes: bool = False) -> Iterator[Call]:
        """A request to an instance at this version, as a datatype gets it; its snapshot is released at the end.

        ``writes`` raises ``Forbidden`` in a store that is read only and ``Locked`` at a committed version.
        """
        store = self.store
        repo, node = store.database.resolve(self.uuid)
        if writes:
            store.check_writable()
            if node.locked and data.record.versioned and not store.fullwrite:
                raise Locked(f'version {node.uuid} is committed: "{data.record.name}" cannot be changed there')
        ancestry = store.database.ancestry_for(repo, node, data.record)
        call = Call(data.engine, node, ancestry, method=verb, body=body, user=store.user, app="dvidcore")
        try:
            yield call
        finally:
            call.close()


class _Instances(Mapping[str, "Instance"]):
    def __init__(self, node: Node) -> None:
        self._node = node

    def __getitem__(self, name: str) -> Instance:
        if name not in self._node:
            raise NotFound(f'there is no data instance "{name[:60]}" in repo {self._node.repo.uuid}')
        return bind(self._node, name)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._node.repo.record.instances))

    def __len__(self) -> int:
        return len(self._node.repo.record.instances)


def _setting(value: Any) -> str:
    """A setting as the JSON of ``POST instance`` has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value)
