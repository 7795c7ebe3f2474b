"""Changes of a DAG: notes, commits, new versions, branches, tags, merges. Their rules are checked before any write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dvidcore.errors import BadRequest, Locked
from dvidcore.repos import records
from dvidcore.repos.change import Change
from dvidcore.repos.conflicts import Losses, find_losses, parents_above, write_losses
from dvidcore.repos.core import Core
from dvidcore.repos.records import row_key
from dvidcore.repos.repo import Repo
from dvidcore.versions import DAG, MASTER, Node, branch_title, checked_branch, checked_tag, checked_uuid, new_uuid

Settle = Callable[[Node, Mapping[int, Sequence[int]]], None]
"""Gets a node that is about to merge others, and the parents of it and of each of its ancestors, by version id."""


class NodeChanges(Core):
    """The part of ``Database`` that changes nodes."""

    # -- one node -----------------------------------------------------------------------------------------------------

    def set_note(self, repo: Repo, node: Node, note: str, *, admin: bool = False, fullwrite: bool = False) -> None:
        """Replaces a node's note. Raises ``Locked`` on a committed node, unless ``admin`` or ``fullwrite``."""

        def build(change: Change) -> None:
            current, (here,) = self._current(repo, node)
            _check_open(here, "its note cannot be changed", admin or fullwrite)
            change.update_node(current, here, note=note)

        self._change(build)

    def append_log(
        self, repo: Repo, node: Node, lines: Sequence[str], *, admin: bool = False, fullwrite: bool = False
    ) -> None:
        """Appends lines, stamped with the time, to a node's log. Raises ``Locked`` as :meth:`set_note` does."""

        def build(change: Change) -> None:
            current, (here,) = self._current(repo, node)
            _check_open(here, "its log cannot be changed", admin or fullwrite)
            change.update_node(current, here, lines)

        self._change(build)

    def commit(self, repo: Repo, node: Node, note: str = "", log: Sequence[str] = ()) -> None:
        """Locks a node for good. ``note`` replaces its note unless empty, ``log`` is appended to its log.

        Raises ``Locked`` where it is committed already, whoever asks.
        """

        def build(change: Change) -> None:
            current, (here,) = self._current(repo, node)
            _check_open(here, "it cannot be committed again", False)
            change.update_node(current, here, log, locked=True, note=note or here.note)

        self._change(build)

    # -- children of one node -------------------------------------------------------------------------------------------

    def new_version(self, repo: Repo, parent: Node, note: str = "", uuid: str | None = None) -> Node:
        """A child on the branch of ``parent``, with a UUID of choice or a random one.

        Raises ``BadRequest`` for an open parent, one whose branch goes on already, and a UUID that is bad or in use.
        """

        def build(change: Change) -> Node:
            current, (here,) = self._current(repo, parent)
            _check_parent(here)
            current.dag.check_next(here)
            return self._put(change, current, self._node(change, self._free_uuid(uuid), here.branch, [here], note))

        return self._change(build)

    def branch(self, repo: Repo, parent: Node, branch: str, note: str = "", uuid: str | None = None) -> Node:
        """A child on a new branch; or, given the parent's own branch, what :meth:`new_version` does.

        Raises ``BadRequest`` as that does, and for a name that is bad or was used in the repo.
        """

        def build(change: Change) -> Node:
            current, (here,) = self._current(repo, parent)
            checked_branch(branch)
            _check_parent(here)
            if branch == here.branch:
                current.dag.check_next(here)
            else:
                current.dag.check_new_branch(branch)
            return self._put(change, current, self._node(change, self._free_uuid(uuid), branch, [here], note))

        return self._change(build)

    def tag(self, repo: Repo, parent: Node, tag: str, note: str = "") -> Node:
        """A committed child whose UUID is the text ``tag``, on a branch ``tag-TEXT``; ``note`` is its second line.

        Raises ``BadRequest`` for an open parent and a text that is bad or in use on the server.
        """

        def build(change: Change) -> Node:
            current, (here,) = self._current(repo, parent)
            checked_tag(tag)
            _check_parent(here)
            branch = f"tag-{tag}"
            self._check_unused(tag, "tag")
            current.dag.check_new_branch(branch)
            first = f'Tag of version {here.uuid} with "{tag}"'
            node = self._node(change, tag, branch, [here], f"{first}\n{note}" if note else first)
            node.locked = True
            return self._put(change, current, node)

        return self._change(build)

    # -- merges ---------------------------------------------------------------------------------------------------------

    def merge(self, repo: Repo, parents: Sequence[Node], note: str = "", settle: Settle | None = None) -> Node:
        """An open node with several parents, which sees what each of them changed; nothing is copied.

        ``settle`` may write entries for it before it comes to be.

        It is on master if master's leaf is one of the parents or of their ancestors; else on the first parent's branch
        that it can continue; else on a branch of its own, ``merge-UUID``. Where two parents changed a key, reading it
        raises ``Conflict`` until the node writes it. Raises ``BadRequest`` for fewer than two parents, the same one
        twice, and open ones.
        """

        def build(change: Change) -> Node:
            current, here = self._current(repo, *parents)
            _check_merge(here)
            if settle is not None:
                self._reserve_versions(1)
            return self._merge(change, current, here, here, note=note, settle=settle)

        return self._change(build)

    def resolve_conflicts(
        self, repo: Repo, names: Sequence[str], parents: Sequence[Node], note: str = "", settle: Settle | None = None
    ) -> Node:
        """Merges as :meth:`merge` does, after settling the conflicts in the instances ``names``: the first parent wins.

        ``names`` may be empty where ``settle`` settles them all.

        A parent that loses a key gets a committed child on a branch ``conflict-UUID`` that hides the key, and the child
        is merged in its place; the parents themselves do not change. Between versions that one parent merged and left
        in conflict, that merge's own order decides. Raises ``BadRequest`` as :meth:`merge` does, and for no or unknown
        instances.
        """
        if not names and settle is None:
            raise BadRequest("data: at least one data instance is needed")
        current, here = self._current(repo, *parents)
        _check_merge(here)
        losses = []
        for name in dict.fromkeys(names):
            record = current.instances.get(name)
            if record is None:
                raise BadRequest(f'data: there is no data instance "{name[:60]}" in repo {repo.root}')
            if record.versioned:
                losses.append(find_losses(self.engine_of(record), record.id, current.dag, here))

        def build(change: Change) -> Node:
            current, here = self._current(repo, *parents)
            _check_merge(here)
            losers = [parent for parent in here if any(parent.id in lost.keys for lost in losses)]
            self._reserve_versions(len(losers) + 1)
            merged = self._hide(change, current, here, losers, losses) if losers else here
            return self._merge(change, current, here, merged, note=note, settle=settle)

        return self._change(build)

    def _hide(
        self, change: Change, repo: Repo, parents: Sequence[Node], losers: Sequence[Node], losses: Sequence[Losses]
    ) -> list[Node]:
        """The nodes to merge: for each loser a committed child with the entries that settle its conflicts.

        The entries are written first, under reserved ids that no node has: should the change fail they are never seen.
        """
        settled: dict[int, Node] = {}
        for loser in losers:
            branch = f"conflict-{loser.uuid}"
            tries = 1
            while branch in repo.dag.branches:
                tries += 1
                branch = f"conflict-{loser.uuid}-{tries}"
            note = "Version for deleting conflicts before merge"
            node = self._node(change, new_uuid(), branch, [loser], note)
            node.locked = True
            settled[loser.id] = self._put(change, repo, node)
        for lost in losses:
            write_losses(lost, {loser: node.id for loser, node in settled.items()})
        return [settled.get(parent.id, parent) for parent in parents]

    def _merge(
        self,
        change: Change,
        repo: Repo,
        parents: Sequence[Node],
        merged: Sequence[Node],
        *,
        note: str,
        settle: Settle | None,
    ) -> Node:
        uuid = new_uuid()
        branch = repo.dag.merge_branch(parents)
        if branch is None:
            branch = f"merge-{uuid}"
        node = self._node(change, uuid, branch, merged, note)
        if settle is not None:  # under a reserved id, as above
            settle(node, parents_above(repo.dag, node.id, parents))
        return self._put(change, repo, node)

    # -- branches -------------------------------------------------------------------------------------------------------

    def make_master(self, repo: Repo, node: Node, old_master: str) -> None:
        """Makes the branch that begins with ``node`` master; what was master from the fork on becomes ``old_master``.

        Raises ``BadRequest`` unless ``node`` is the first of a branch that forks from master where master goes on, and
        where the new name is bad or in use.
        """

        def build(change: Change) -> None:
            current, (first,) = self._current(repo, node)
            dag = current.dag
            checked_branch(old_master, "name of the old master")
            dag.check_new_branch(old_master)
            forks = [dag.nodes[parent] for parent in first.parents]
            if not first.branch or any(fork.branch == first.branch for fork in forks):
                raise BadRequest(f"version {first.uuid} is not the first node of a branch beside master")
            fork = next((fork for fork in forks if not fork.branch), None)
            old = [n for n in dag.nodes.values() if fork and not n.branch and dag.is_ancestor(fork.id, n.id)]
            if not old:
                raise BadRequest(f"version {first.uuid} does not fork from master at a version where master goes on")
            renamed = {n.id: "" for n in dag.nodes.values() if n.branch == first.branch} | {
                n.id: old_master for n in old
            }
            for version, branch in renamed.items():
                change.update_node(current, dag.nodes[version], branch=branch)
            change.update_repo(current, [f'Branch "{first.branch}" made master, old master is now "{old_master}"'])
            change.then(lambda: setattr(current, "dag", DAG(dag.nodes.values())))
            change.moves_names = True

        self._change(build)

    def hide_branch(self, repo: Repo, branch: str) -> None:
        """Takes the nodes of a branch out of the metadata; their data stays in the store, unseen.

        Raises ``BadRequest`` for master, an unknown branch, and one from which other branches go on.
        """

        def build(change: Change) -> None:
            current, _ = self._current(repo)
            dag = current.dag
            if dag.leaf(branch).branch == "":
                raise BadRequest(f"{MASTER} cannot be hidden")
            hidden = {n.id for n in dag.nodes.values() if n.branch == branch}
            kept = [n for n in dag.nodes.values() if n.id not in hidden]
            for n in kept:
                if not hidden.isdisjoint(n.parents):
                    raise BadRequest(
                        f'branch "{branch}" has a child {n.uuid} on branch "{branch_title(n.branch)}": hide that first'
                    )
            if dag.root.id in hidden:
                raise BadRequest(f'branch "{branch}" holds the root and cannot be hidden')
            for version in hidden:
                change.batch.delete(row_key(records.NODE, current.id, version))
                for place in range(len(dag.nodes[version].log)):
                    change.batch.delete(row_key(records.NODE_LOG, current.id, version, place))
            change.update_repo(current, [f'Branch "{branch}" hidden, {len(hidden)} nodes'])
            change.then(lambda: setattr(current, "dag", DAG(kept)))
            change.moves_names = True

        self._change(build)

    # -- making nodes -------------------------------------------------------------------------------------------------

    def _check_unused(self, uuid: str, what: str) -> None:
        for repo in self.repos.values():
            if uuid in repo.dag.by_uuid:
                raise BadRequest(f'{what}: "{uuid}" is the name of a version on this server already')

    def _free_uuid(self, wanted: str | None, what: str = "uuid") -> str:
        if wanted is None:
            return new_uuid()
        uuid = checked_uuid(wanted, what)
        self._check_unused(uuid, what)
        return uuid

    def _node(self, change: Change, uuid: str, branch: str, parents: Sequence[Node], note: str) -> Node:
        return Node(
            id=change.take("version"),
            uuid=uuid,
            branch=branch,
            note=note,
            parents=[parent.id for parent in parents],
            created=change.time,
        )

    def _put(self, change: Change, repo: Repo, node: Node) -> Node:
        change.put_node(repo.id, node)
        change.then(lambda: repo.dag.add(node))
        return node


def _check_open(node: Node, what: str, override: bool) -> None:
    if node.locked and not override:
        raise Locked(f"version {node.uuid} is committed: {what}")


def _check_parent(node: Node) -> None:
    if not node.locked:
        raise BadRequest(f"version {node.uuid} is open: it must be committed before it can have children")


def _check_merge(parents: Sequence[Node]) -> None:
    if len(parents) < 2:
        raise BadRequest(f"parents: at least two versions are needed, not {len(parents)}")
    for at, parent in enumerate(parents):
        if parent in parents[:at]:
            raise BadRequest(f"parents: version {parent.uuid} is given twice")
        _check_parent(parent)
