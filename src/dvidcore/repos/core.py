"""The part of the database that everything else stands on: opening, loading, finding versions, and changing metadata.

A change is built in memory, written as one batch under a guard on the metadata's generation, and only then applied to
what readers see. Where another process over the same store was faster, the guard fails: the metadata is read again and
the change is built anew, so all its checks are repeated against the newer state.
"""

from __future__ import annotations

import logging
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self, TypeVar

import orjson

from dvidcore.config import RemoteConfig
from dvidcore.errors import BadRequest, Forbidden, GuardFailed, StoreError
from dvidcore.mutations.ids import FIRST, MutationIds
from dvidcore.mutations.jsonlog import JsonLog
from dvidcore.repos import records
from dvidcore.repos.change import Change
from dvidcore.repos.deletion import Deleter, Deletion
from dvidcore.repos.jobs import Jobs
from dvidcore.repos.records import InstanceRecord, row_key
from dvidcore.repos.repo import Repo
from dvidcore.storage.engine import Engine, Snapshot
from dvidcore.storage.format import check_format
from dvidcore.storage.keys import prefix_range
from dvidcore.storage.staged import recover
from dvidcore.storage.versioned import Ancestry
from dvidcore.versions import DAG, Node, parse_spec

T = TypeVar("T")
log = logging.getLogger(__name__)

_SHORTEST_PREFIX = 3
_CACHED_SPECS = 10_000


class Assignment(Protocol):
    """Which store holds what, by name; made from the configuration."""

    @property
    def metadata(self) -> str:
        """The store of all metadata."""

    def store_for(self, typename: str, tags: Mapping[str, str], name_uuid: str, data_uuid: str) -> str:
        """The store of a new instance; ``name_uuid`` is ``name:UUID of the version where it is created``."""


@dataclass(frozen=True, slots=True)
class OneStore:
    """The assignment of everything to one store."""

    metadata: str = "default"

    def store_for(self, typename: str, tags: Mapping[str, str], name_uuid: str, data_uuid: str) -> str:
        return self.metadata


@dataclass(frozen=True, slots=True)
class DatabaseOptions:
    min_mutation_id_start: int = FIRST
    """Mutation ids start here, or above where a repo's ids are larger."""
    instance_id_gen: str = "sequential"
    """``sequential`` or ``random``: how ids of instances are chosen, which are part of the keys of their data."""
    instance_id_start: int = 1
    """The least id of an instance that is chosen sequentially."""
    sync: bool = True
    """Whether a change is on the disk when it returns; without, the death of the machine may undo it."""
    max_data_request: int = 3 << 30
    """The most bytes of voxels that one answer may have."""
    allow_labelmap_split: bool = False
    """Whether labelmaps take ``POST split``, which gives voxels of a body away whatever their supervoxels are."""
    former_indices: frozenset[str] = frozenset()
    """Names or DataUUIDs of label instances that keep the index of a body as it was before each mutation."""
    remote: RemoteConfig = field(default_factory=RemoteConfig)
    """Which volumes of other services may be shown, and how they are read."""
    json_log: JsonLog | None = None
    """Where the mutation log goes as files too; the database closes it."""


class _Lookup:
    """What text names which version, as long as no node comes or goes: while ``epoch`` is the database's."""

    def __init__(self, repos: Mapping[str, Repo], epoch: int) -> None:
        self.epoch = epoch
        self.found: dict[str, tuple[Repo, Node]] = {}
        self.by_uuid = {node.uuid: (repo, node) for repo in repos.values() for node in repo.dag.nodes.values()}
        self.uuids = sorted(self.by_uuid)


class Core:
    """Stores, repos and the way to change them. ``Database`` adds the changes."""

    repos: dict[str, Repo]
    """By the UUID of the root, in order of creation."""

    def __init__(
        self, stores: Mapping[str, Engine], assign: Assignment, options: DatabaseOptions, read_only: bool
    ) -> None:
        if assign.metadata not in stores:
            raise StoreError(f'there is no store "{assign.metadata}" for the metadata')
        if not 0 <= options.min_mutation_id_start < 1 << 39:
            raise StoreError(f"min_mutation_id_start={options.min_mutation_id_start}: must be below 2**39")
        if options.instance_id_gen not in ("sequential", "random"):
            raise StoreError(f'instance_id_gen="{options.instance_id_gen}": must be sequential or random')
        if not 1 <= options.instance_id_start < 1 << 32:
            raise StoreError(f"instance_id_start={options.instance_id_start}: must be from 1 to 2**32 - 1")
        self.stores = dict(stores)
        self.assign = assign
        self.options = options
        self.read_only = read_only
        self.repos = {}
        self._meta = stores[assign.metadata]
        self._lock = threading.RLock()
        self._stale = False
        self._epoch = 0  # incremented after the versions have changed, so that no older look-up is used from then on
        self._lookup = _Lookup({}, 0)
        for engine in stores.values():
            check_format(engine)
            recover(engine)
        self._load()
        self._deleter = Deleter(self.stores, self._meta)
        self.jobs = Jobs()
        """What goes on after its request was answered."""
        if not read_only:
            self._deleter.add(self._deletions())

    @classmethod
    def open(
        cls,
        stores: Mapping[str, Engine],
        assign: Assignment | None = None,
        *,
        options: DatabaseOptions | None = None,
        read_only: bool = False,
    ) -> Self:
        """The database over opened stores, given by name, which it owns from here on and closes.

        ``assign`` says which store holds what; it may be left out where there is one store. Finishes or undoes what a
        crash left half-done, loads all metadata and goes on with deletions. ``read_only`` refuses every change of
        metadata and gives no mutation ids. Raises ``StoreError`` where a store is of another format, damaged or missing.
        """
        if assign is None:
            if len(stores) != 1:
                raise StoreError(f"{len(stores)} stores need an assignment of what each of them holds")
            assign = OneStore(next(iter(stores)))
        return cls(stores, assign, options or DatabaseOptions(), read_only)

    def close(self) -> None:
        """Stops the background work, which the next start goes on with, and closes the stores."""
        self.jobs.close()
        self._deleter.close()
        if self.options.json_log is not None:
            self.options.json_log.close()
        for engine in self.stores.values():
            engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wait_for_deletions(self, timeout: float | None = None) -> bool:
        """Waits until the data of all deleted instances is gone; False where that takes more than ``timeout`` seconds."""
        return self._deleter.wait(timeout)

    # -- reading ----------------------------------------------------------------------------------------------------

    def resolve(self, spec: str) -> tuple[Repo, Node]:
        """The version that ``PREFIX``, ``PREFIX:branch`` or ``PREFIX:branch~N`` names, and its repo.

        A prefix is that of one UUID or tag on the whole server, of at least three characters; a whole UUID or tag goes
        first. It may be left out before the colon where there is exactly one repo; ``:`` alone is the leaf of its
        master. In a store that several processes share, the answer reflects what the others did.
        Raises ``BadRequest`` where the spec names nothing, or several.
        """
        if self._meta.shared:
            self.refresh()
        lookup = self._lookup
        if lookup.epoch != self._epoch:
            epoch = self._epoch
            lookup = self._lookup = _Lookup(self.repos, epoch)
        found = lookup.found.get(spec)
        if found is None:
            prefix, branch, steps = parse_spec(spec)
            found = self._find(lookup, prefix, ":" in spec)
            if branch is not None:
                dag = found[0].dag
                found = found[0], dag.step_up(branch, steps) if steps else dag.leaf(branch)
            if len(lookup.found) < _CACHED_SPECS:
                lookup.found[spec] = found
        return found

    def repo_of(self, spec: str) -> Repo:
        """The repo of the version that ``spec`` names."""
        return self.resolve(spec)[0]

    def _find(self, lookup: _Lookup, prefix: str, colon: bool) -> tuple[Repo, Node]:
        found = lookup.by_uuid.get(prefix) or lookup.by_uuid.get(prefix.lower() if len(prefix) == 32 else "")
        if found is not None:
            return found
        if not prefix and colon:
            repos = list(self.repos.values())
            if len(repos) != 1:
                raise BadRequest(f"a version without a UUID needs a server with one repo; this one has {len(repos)}")
            return repos[0], repos[0].dag.root
        if len(prefix) < _SHORTEST_PREFIX:
            raise BadRequest(f'version "{prefix}": at least {_SHORTEST_PREFIX} characters of a UUID are needed')
        at = bisect_left(lookup.uuids, prefix)
        matching = [uuid for uuid in lookup.uuids[at : at + 2] if uuid.startswith(prefix)]
        if not matching:
            raise BadRequest(f'there is no version "{prefix[:80]}"')
        if len(matching) > 1:
            raise BadRequest(f'version "{prefix[:80]}" is the beginning of more than one UUID')
        return lookup.by_uuid[matching[0]]

    def engine_of(self, record: InstanceRecord) -> Engine:
        """The store of an instance's data."""
        return self.stores[record.store]

    def ancestry_for(self, repo: Repo, node: Node, record: InstanceRecord) -> Ancestry:
        """What an instance's data is read and written at: the node's ancestry; the root's where it is unversioned."""
        return repo.dag.ancestry(node.id if record.versioned else repo.dag.root.id)

    # -- loading ----------------------------------------------------------------------------------------------------

    def refresh(self) -> bool:
        """Reads the metadata again where another process changed it; answers whether it did. One look-up if not."""
        if self._meta.get(records.GENERATION_KEY) == self._generation and not self._stale:
            return False
        with self._lock:
            self._load()
        return True

    def _load(self) -> None:
        """Reads all metadata from one snapshot. A repo that is known stays the same object."""
        with self._meta.snapshot() as snapshot:
            generation = snapshot.get(records.GENERATION_KEY)
            counters = {"repo": 1, "version": 1, "instance": 1}
            try:
                if (stored := snapshot.get(records.COUNTERS_KEY)) is not None:
                    counters |= orjson.loads(bytes(stored))
                loaded = {repo.root: repo for repo in self._loaded(snapshot)}
            except (ValueError, TypeError, KeyError) as e:
                raise StoreError(f"the metadata in {self._meta.description()} is damaged: {e!r}") from e
        for repo in loaded.values():
            for record in repo.instances.values():
                if record.store not in self.stores:
                    raise StoreError(
                        f'data instance "{record.name}" of repo {repo.root} is in store "{record.store}", '
                        "which is not configured"
                    )
        for root, new in loaded.items():
            old = self.repos.get(root)
            if old is not None and old.id == new.id:
                for name in Repo.__slots__:
                    if name != "mutation_ids":
                        setattr(old, name, getattr(new, name))
                loaded[root] = old
        self._counters = counters
        self._generation = generation if generation is None else bytes(generation)
        self._stale = False
        self.repos = loaded
        self._epoch += 1

    def _loaded(self, snapshot: Snapshot) -> Iterable[Repo]:
        def rows(kind: bytes) -> Iterable[tuple[tuple[int, ...], bytes]]:
            for key, value in snapshot.scan(*prefix_range(kind)):
                yield records.ids_of(key), bytes(value)

        logs: dict[tuple[int, ...], list[str]] = {}
        for kind in (records.REPO_LOG, records.NODE_LOG):
            for (*owner, _), line in rows(kind):
                logs.setdefault(tuple(owner), []).append(line.decode())
        nodes: dict[int, list[Node]] = {}
        for (repo_id, version), value in rows(records.NODE):
            node = records.decode_node(version, value, logs.get((repo_id, version), []))
            nodes.setdefault(repo_id, []).append(node)
        instances: dict[int, dict[str, InstanceRecord]] = {}
        for (repo_id, instance_id), value in rows(records.INSTANCE):
            record = records.decode_instance(instance_id, value)
            instances.setdefault(repo_id, {})[record.name] = record
        bounds = {repo_id: int.from_bytes(value, "big") for (repo_id,), value in rows(records.MUTATIONS)}
        for (repo_id,), value in rows(records.REPO):
            yield Repo(
                repo_id,
                dag=DAG(nodes.get(repo_id, [])),
                mutation_ids=self._mutation_ids(repo_id, bounds[repo_id], bounds[repo_id]),
                log=logs.get((repo_id,)),
                instances=instances.get(repo_id),
                **orjson.loads(value),
            )

    def _mutation_ids(self, repo_id: int, next_id: int, bound: int) -> MutationIds:
        return MutationIds(
            self._meta,
            row_key(records.MUTATIONS, repo_id),
            first=self.options.min_mutation_id_start,
            next_id=next_id,
            bound=bound,
            sync=self.options.sync,
            read_only=self.read_only,
        )

    def _deletions(self) -> list[Deletion]:
        return [
            Deletion.decode(records.ids_of(key)[0], value)
            for key, value in self._meta.scan(*prefix_range(records.DELETION))
        ]

    # -- changing ---------------------------------------------------------------------------------------------------

    def _change(self, build: Callable[[Change], T]) -> T:
        """Makes one change: ``build`` checks it against the newest state and fills it in; what it answers is answered.

        ``build`` may be called again where another process was faster. An error that it raises changes nothing.
        """
        if self.read_only:
            raise Forbidden("the database is read-only")
        with self._lock:
            while True:
                self.refresh()
                change = Change(self._counters)
                try:
                    result = build(change)
                    if not change.batch:
                        return result
                    self._write(change)
                except GuardFailed:
                    continue
                for apply in change.applying:
                    apply()
                self._epoch += change.moves_names
                self._deleter.add(change.deletions)
                return result

    def _write(self, change: Change) -> None:
        batch = change.batch
        generation = (int.from_bytes(self._generation or b"", "big") + 1).to_bytes(8, "big")
        batch.put(records.GENERATION_KEY, generation)
        if change.counters != self._counters:
            batch.put(records.COUNTERS_KEY, orjson.dumps(change.counters))
        self._stale = True  # whatever goes wrong now: what is stored is not known
        self._meta.write(batch, sync=self.options.sync, guard={records.GENERATION_KEY: self._generation})
        self._stale = False
        self._generation = generation
        self._counters = change.counters

    def _reserve_versions(self, count: int) -> None:
        """Takes ``count`` version ids from the counter for good, before rows are written under them.

        For use in a ``build``, before that takes any: the ids that it takes then are these. Should the change fail, no
        node will ever have one of them, and what was written under them is never seen.
        """
        change = Change(self._counters)
        change.counters["version"] += count
        self._write(change)

    def _current(self, repo: Repo, *nodes: Node) -> tuple[Repo, list[Node]]:
        """The repo and nodes as they are now. Raises ``BadRequest`` for what is gone, or not in this repo."""
        current = self.repos.get(repo.root)
        if current is None or current.id != repo.id:
            raise BadRequest(f"repo {repo.root} has been deleted")
        found = []
        for node in nodes:
            here = current.dag.by_uuid.get(node.uuid)
            if here is None:
                raise BadRequest(f"version {node.uuid} is not in repo {repo.root}")
            found.append(here)
        return current, found

    def _current_record(self, repo: Repo, record: InstanceRecord) -> InstanceRecord:
        found = repo.by_data_uuid.get(record.data_uuid)
        if found is None:
            raise BadRequest(f'data instance "{record.name}" of repo {repo.root} has been deleted')
        return found
