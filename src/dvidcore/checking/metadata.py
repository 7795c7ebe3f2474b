"""What every store has beside the rows of datatypes: metadata, logs, blobs, writes under way, rows of nobody."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from dvidcore.datatypes.checks import Finding, Report
from dvidcore.errors import StoreError
from dvidcore.repos import Database, records
from dvidcore.repos.blobs import blob_key, blob_reference
from dvidcore.storage.engine import Batch, Engine, Snapshot
from dvidcore.storage.keys import (
    BLOB,
    DATA,
    LOG,
    STAGE,
    instance_range,
    log_range,
    prefix_range,
    split_log,
)

_COUNT_BITS = 24  # of a log record's sequence, below the mutation id


def check_store(database: Database, name: str, report: Report, *, repair: bool) -> None:
    """Reports what is wrong in one store beyond the instances that it holds."""
    engine = database.stores[name]
    with engine.snapshot() as snapshot:
        _check_stage(snapshot, report)
        _check_blobs(snapshot, report)
        _check_logs(database, name, snapshot, report)
        _check_orphans(database, name, engine, snapshot, report, repair=repair)
    if name == database.assign.metadata:
        _check_counters(database, engine, report, repair=repair)
        _check_repos(database, report)


def _finding(kind: str, what: str, stored: str, expected: str, *, repo: str = "", repaired: bool = False) -> Finding:
    return Finding(repo, "", "", kind, what, stored, expected, repaired=repaired)


def _check_stage(snapshot: Snapshot, report: Report) -> None:
    """Opening finishes or undoes what was under way, so nothing may be."""
    ids = {key[1:9] for key in snapshot.scan(*prefix_range(STAGE), keys_only=True)}
    for identity in sorted(ids):
        report(_finding("stage", f"write {identity.hex()}", "under way", "finished or undone on opening"))


def _check_blobs(snapshot: Snapshot, report: Report) -> None:
    for key, stub in snapshot.stubs(*prefix_range(BLOB)):
        try:
            reference = blob_reference(snapshot.load(stub))
        except StoreError as e:
            report(_finding("blob", key[1:].hex(), str(e), "a blob that can be read"))
            continue
        if blob_key(reference) != key:
            report(_finding("blob", key[1:].hex(), f"bytes of the blob {reference}", "those of its name"))


def _check_logs(database: Database, name: str, snapshot: Snapshot, report: Report) -> None:
    """Records are JSON, and of mutations whose ids were given."""
    for repo in database.repos.values():
        for record in repo.instances.values():
            if record.store != name:
                continue
            for key, stub in snapshot.stubs(*log_range(record.id)):
                _, version, sequence = split_log(key)
                node = repo.dag.nodes.get(version)
                uuid = node.uuid if node else f"version {version}"
                what = f"record {sequence:#x}"
                try:
                    orjson.loads(snapshot.load(stub))
                except (StoreError, orjson.JSONDecodeError) as e:
                    report(Finding(repo.root, uuid, record.name, "log", what, str(e), "a JSON record"))
                if sequence >> _COUNT_BITS >= repo.saved_mutation_id:
                    stored = f"of mutation {sequence >> _COUNT_BITS}"
                    expected = f"of one below {repo.saved_mutation_id}"
                    report(Finding(repo.root, uuid, record.name, "log", what, stored, expected))


def _instances_with_rows(snapshot: Snapshot, of_class: bytes) -> Iterator[int]:
    """The ids of the instances that have rows of a class, by skipping from one to the next."""
    start, stop = prefix_range(of_class)
    while (key := next(iter(snapshot.scan(start, stop, keys_only=True)), None)) is not None:
        instance = int.from_bytes(key[1:5], "big")
        yield instance
        if instance == 0xFFFFFFFF:
            return
        start = of_class + (instance + 1).to_bytes(4, "big")


def _check_orphans(
    database: Database, name: str, engine: Engine, snapshot: Snapshot, report: Report, *, repair: bool
) -> None:
    """Rows of instances that do not exist, and whose deletion is not under way; they are removed."""
    known = {r.id for repo in database.repos.values() for r in repo.instances.values() if r.store == name}
    with database.stores[database.assign.metadata].snapshot() as meta:
        deleted = {records.ids_of(key)[0] for key in meta.scan(*prefix_range(records.DELETION), keys_only=True)}
    for of_class, range_of, what in ((DATA, instance_range, "rows"), (LOG, log_range, "log records")):
        for instance in list(_instances_with_rows(snapshot, of_class)):
            if instance not in known and instance not in deleted:
                report(
                    _finding("instance", f"{what} of instance {instance}", "there", "none, it is not", repaired=repair)
                )
                if repair:
                    engine.delete_range(*range_of(instance))


def _check_counters(database: Database, engine: Engine, report: Report, *, repair: bool) -> None:
    """Ids that were given are below the counters of those to be given next."""
    value = engine.get(records.COUNTERS_KEY)
    if value is None:
        return  # an empty store
    stored = orjson.loads(value)
    repos = list(database.repos.values())
    used = {
        "repo": [repo.id for repo in repos],
        "version": [version for repo in repos for version in repo.dag.nodes],
        "instance": [record.id for repo in repos for record in repo.instances.values()],
    }
    if database.options.instance_id_gen != "sequential":
        del used["instance"]
    wrong = {name: max(ids) + 1 for name, ids in used.items() if ids and stored.get(name, 0) <= max(ids)}
    for name, least in wrong.items():
        what = f"the next id of a {name}"
        report(_finding("counters", what, str(stored.get(name, 0)), f"at least {least}", repaired=repair))
    if repair and wrong:
        batch = Batch()
        batch.put(records.COUNTERS_KEY, orjson.dumps(stored | wrong))
        engine.write(batch, guard={records.COUNTERS_KEY: value})


def _check_repos(database: Database, report: Report) -> None:
    """What records name exists."""
    for repo in database.repos.values():
        uuids = {record.data_uuid for record in repo.instances.values()}
        for record in repo.instances.values():
            if record.created_in not in repo.dag.by_uuid:  # as after its branch was hidden
                report(
                    Finding(repo.root, "", record.name, "instance", "the version of its creation", record.created_in,
                            "a version of its repo", serious=False)
                )  # fmt: skip
            for followed in record.syncs:
                if followed not in uuids:
                    report(
                        Finding(repo.root, "", record.name, "sync", "an instance that it follows", followed,
                                "an instance of its repo", serious=False)
                    )  # fmt: skip
