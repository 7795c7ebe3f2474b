"""The database: all repos of a server, over the stores that hold them."""

from __future__ import annotations

from collections.abc import Sequence

from dvidcore.mutations.ids import STRIDE, encode_bound
from dvidcore.repos import blobs, records
from dvidcore.repos.change import Change
from dvidcore.repos.instances import InstanceChanges
from dvidcore.repos.nodes import NodeChanges
from dvidcore.repos.records import row_key
from dvidcore.repos.repo import Repo, encode_repo
from dvidcore.storage.keys import prefix_range
from dvidcore.versions import DAG


class Database(NodeChanges, InstanceChanges):
    """Repos, their versions and data instances; made by :meth:`open`.

    Safe to use from several threads. A change is on the disk when it returns, whole or not at all, and is seen by every
    reader from then on; readers wait for nobody. Repos, nodes and records that were read before a change may be passed
    to the next: it looks them up again.
    """

    put_blob = staticmethod(blobs.put_blob)
    get_blob = staticmethod(blobs.get_blob)

    def new_repo(
        self, alias: str = "", description: str = "", passcode: str | None = None, root: str | None = None
    ) -> Repo:
        """A new repo with one open node, whose UUID ``root`` may choose.

        ``passcode`` is asked for later by deletes and renames; only its hash is kept. Raises ``BadRequest`` for a UUID
        that is bad or in use on the server.
        """
        hashed = records.hash_passcode(passcode) if passcode else None

        def build(change: Change) -> Repo:
            uuid = self._free_uuid(root, "root")
            repo_id = change.take("repo")
            node = self._node(change, uuid, "", [], "")
            first = self.options.min_mutation_id_start
            repo = Repo(
                repo_id,
                uuid,
                DAG([node]),
                self._mutation_ids(repo_id, first, first + STRIDE),
                created=change.time,
                alias=alias,
                description=description,
                passcode=hashed,
            )
            change.batch.put(row_key(records.REPO, repo_id), encode_repo(repo))
            change.put_node(repo_id, node)
            change.batch.put(row_key(records.MUTATIONS, repo_id), encode_bound(first + STRIDE))
            change.then(lambda: setattr(self, "repos", {**self.repos, uuid: repo}))
            return repo

        return self._change(build)

    def update_repo(self, repo: Repo, alias: str | None = None, description: str | None = None) -> None:
        """Replaces what is given."""
        given = {"alias": alias, "description": description}
        values = {name: value for name, value in given.items() if value is not None}

        def build(change: Change) -> None:
            current, _ = self._current(repo)
            if values:
                change.update_repo(current, **values)

        self._change(build)

    def append_repo_log(self, repo: Repo, lines: Sequence[str]) -> None:
        """Appends lines, stamped with the time, to a repo's log."""

        def build(change: Change) -> None:
            current, _ = self._current(repo)
            if lines:
                change.update_repo(current, lines)

        self._change(build)

    def delete_repo(self, repo: Repo, passcode: str | None = None) -> None:
        """Deletes a repo. It is gone at once; the data of its instances goes in the background.

        Raises ``Forbidden`` without its passcode.
        """

        def build(change: Change) -> None:
            current, _ = self._current(repo)
            current.check_passcode(passcode)
            for record in current.instances.values():
                self._delete_data(change, record)
            for kind in (
                records.REPO,
                records.REPO_LOG,
                records.NODE,
                records.NODE_LOG,
                records.INSTANCE,
                records.MUTATIONS,
            ):
                for key in self._meta.scan(*prefix_range(row_key(kind, current.id)), keys_only=True):
                    change.batch.delete(key)
            left = {root: other for root, other in self.repos.items() if other is not current}
            change.then(lambda: setattr(self, "repos", left))
            change.moves_names = True

        self._change(build)
