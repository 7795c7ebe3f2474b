"""One change of the metadata while it is built: rows for one batch, and what follows from them in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dvidcore.errors import StoreError
from dvidcore.repos import records
from dvidcore.repos.deletion import Deletion
from dvidcore.repos.records import row_key
from dvidcore.repos.repo import Repo, encode_repo
from dvidcore.storage.engine import Batch
from dvidcore.versions import Node, now, stamp


class Change:
    """What to write, and what to do in memory once it is written."""

    def __init__(self, counters: Mapping[str, int]) -> None:
        self.batch = Batch()
        self.applying: list[Callable[[], None]] = []
        self.counters = dict(counters)
        self.deletions: list[Deletion] = []
        self.moves_names = False
        """Whether afterwards some text names another version, or none."""
        self.time = now()

    def take(self, kind: str) -> int:
        """The next id of a ``repo``, ``version`` or ``instance``. Taken with the batch: given up where it fails."""
        taken = self.counters[kind]
        if taken >= 1 << 32:
            raise StoreError(f"there are no {kind} ids left")
        self.counters[kind] = taken + 1
        return taken

    def then(self, apply: Callable[[], None]) -> None:
        """Has ``apply`` called after the write, in order."""
        self.applying.append(apply)

    def set(self, target: Any, **values: Any) -> None:
        """Sets attributes after the write."""

        def apply() -> None:
            for name, value in values.items():
                setattr(target, name, value)

        self.then(apply)

    def update_repo(self, repo: Repo, lines: Iterable[str] = (), **values: Any) -> None:
        """Changes fields of a repo and appends lines, which are stamped, to its log. At most once in a change."""
        stamped = [stamp(line) for line in lines]
        self.batch.put(row_key(records.REPO, repo.id), encode_repo(repo, updated=self.time, **values))
        for key, value in records.log_rows(records.REPO_LOG, [repo.id], len(repo.log), stamped):
            self.batch.put(key, value)
        self.set(repo, updated=self.time, log=[*repo.log, *stamped], **values)

    def update_node(self, repo: Repo, node: Node, lines: Iterable[str] = (), **values: Any) -> None:
        """Changes fields of a node and appends lines, which are stamped, to its log. At most once in a change."""
        stamped = [stamp(line) for line in lines]
        self.batch.put(row_key(records.NODE, repo.id, node.id), records.encode_node(node, updated=self.time, **values))
        for key, value in records.log_rows(records.NODE_LOG, [repo.id, node.id], len(node.log), stamped):
            self.batch.put(key, value)
        self.set(node, updated=self.time, log=[*node.log, *stamped], **values)

    def put_node(self, repo_id: int, node: Node) -> None:
        """Writes the row of a new node."""
        self.moves_names = True
        self.batch.put(row_key(records.NODE, repo_id, node.id), records.encode_node(node))
