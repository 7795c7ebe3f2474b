"""One repo: its DAG, its data instances and its mutation ids, as they are in memory."""

from __future__ import annotations

from typing import Any

import orjson

from dvidcore.errors import Forbidden
from dvidcore.mutations.ids import MutationIds
from dvidcore.repos.records import InstanceRecord, passcode_matches
from dvidcore.versions import DAG


class Repo:
    """A DAG of versions and a flat set of data instances.

    Readers need no lock: what changes is replaced, never changed in place. Only ``Database`` changes it.
    """

    __slots__ = (
        "alias",
        "by_data_uuid",
        "created",
        "dag",
        "description",
        "id",
        "instances",
        "log",
        "mutation_ids",
        "passcode_hash",
        "properties",
        "root",
        "updated",
    )

    def __init__(
        self,
        repo_id: int,
        root: str,
        dag: DAG,
        mutation_ids: MutationIds,
        *,
        created: str,
        updated: str = "",
        alias: str = "",
        description: str = "",
        properties: dict[str, Any] | None = None,
        passcode: str | None = None,
        log: list[str] | None = None,
        instances: dict[str, InstanceRecord] | None = None,
    ) -> None:
        self.id = repo_id
        self.root = root
        """UUID of the root, which names the repo."""
        self.dag = dag
        self.mutation_ids = mutation_ids
        self.created = created
        self.updated = updated or created
        self.alias = alias
        self.description = description
        self.properties: dict[str, Any] = properties or {}
        self.passcode_hash = passcode
        self.log: list[str] = log or []
        self.instances: dict[str, InstanceRecord] = {}
        """By name."""
        self.by_data_uuid: dict[str, InstanceRecord] = {}
        self.set_instances(instances or {})

    def __repr__(self) -> str:
        return f"<Repo {self.root} {self.alias!r}>"

    def set_instances(self, instances: dict[str, InstanceRecord]) -> None:
        """Replaces the instances, given by name."""
        self.by_data_uuid = {record.data_uuid: record for record in instances.values()}
        self.instances = instances

    def next_mutation_id(self) -> int:
        """A mutation id that this repo never gave before; safe to call from several threads.

        One in a hundred calls waits for a write. Raises ``BadRequest`` where the repo has been deleted meanwhile.
        """
        return self.mutation_ids.take()

    @property
    def mutation_id(self) -> int:
        """The id that the next mutation would take (``MutationID`` in JSON)."""
        return self.mutation_ids.next

    @property
    def saved_mutation_id(self) -> int:
        """Ids from here on were never given, whatever was lost in a crash (``SavedMutationID`` in JSON)."""
        return self.mutation_ids.bound

    def check_passcode(self, passcode: str | None) -> None:
        """Raises ``Forbidden`` where the repo has a passcode and this is not it."""
        if self.passcode_hash is not None and not passcode_matches(passcode, self.passcode_hash):
            raise Forbidden(f"repo {self.root}: the passcode is {'wrong' if passcode else 'missing'}")


def encode_repo(repo: Repo, **changes: Any) -> bytes:
    """The value of a repo's row, with ``changes`` to its fields. Log lines and all below it are rows of their own."""
    values = {
        "root": repo.root,
        "alias": repo.alias,
        "description": repo.description,
        "properties": repo.properties,
        "created": repo.created,
        "updated": repo.updated,
        "passcode": repo.passcode_hash,
    }
    return orjson.dumps(values | changes)
