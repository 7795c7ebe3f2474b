"""Changes of the data instances of a repo: new ones, names, properties, deletion."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from dvidcore.errors import BadRequest, Locked
from dvidcore.repos import records
from dvidcore.repos.change import Change
from dvidcore.repos.core import Core
from dvidcore.repos.deletion import Deletion
from dvidcore.repos.records import InstanceRecord, row_key
from dvidcore.repos.repo import Repo
from dvidcore.versions import Node, new_uuid

_CHANGEABLE = frozenset({"settings", "tags", "syncs", "compression"})


class InstanceChanges(Core):
    """The part of ``Database`` that changes data instances."""

    def new_instance(
        self,
        repo: Repo,
        node: Node,
        *,
        name: str,
        typename: str,
        versioned: bool = True,
        compression: str = "lz4",
        checksum: str = "none",
        tags: Mapping[str, str] | None = None,
        syncs: Iterable[str] = (),
        settings: Mapping[str, Any] | None = None,
        data_uuid: str | None = None,
        admin: bool = False,
        fullwrite: bool = False,
    ) -> InstanceRecord:
        """A new data instance, made at ``node``; that its type exists and takes the settings is for the caller to check.

        Raises ``BadRequest`` for a name that is bad, reserved or taken in the repo, and for an unknown compression,
        checksum or followed instance; ``Locked`` at a committed node, unless ``admin`` or ``fullwrite``.
        """

        def build(change: Change) -> InstanceRecord:
            current, (here,) = self._current(repo, node)
            checked = records.checked_instance_name(name)
            _check_free(current, checked)
            if here.locked and not (admin or fullwrite):
                raise Locked(f'version {here.uuid} is committed: data instance "{name}" cannot be created there')
            uuid = data_uuid or new_uuid()
            followed = tuple(dict.fromkeys(syncs))
            _check_followed(current, followed)
            record = InstanceRecord(
                id=self._take_instance_id(change),
                name=checked,
                typename=typename,
                data_uuid=uuid,
                created_in=here.uuid,
                created=change.time,
                versioned=versioned,
                compression=records.checked_compression(compression),
                checksum=records.checked_checksum(checksum),
                tags=None if tags is None else dict(tags),
                syncs=followed,
                settings=dict(settings or {}),
                store=self.assign.store_for(typename, tags or {}, f"{name}:{here.uuid}", uuid),
            )
            config = {
                "versioned": record.versioned,
                "compression": record.compression,
                "checksum": record.checksum,
                "tags": record.tags,
                **record.settings,
            }
            line = f'New data instance "{name}" of type "{typename}" with config {orjson.dumps(config).decode()}'
            self._set_instances(change, current, {**current.instances, checked: record}, [record], line)
            return record

        return self._change(build)

    def update_instance(self, repo: Repo, record: InstanceRecord, **changes: Any) -> InstanceRecord:
        """Replaces ``settings``, ``tags``, ``syncs`` or ``compression`` of an instance; answers the new record.

        A value may be a function of the present record, which makes it safe against changes that happen meanwhile.
        Raises ``BadRequest`` where the instance has been deleted, or a value is not allowed.
        """
        if unknown := changes.keys() - _CHANGEABLE:
            raise TypeError(f"{', '.join(sorted(unknown))} of a data instance cannot be changed")

        def build(change: Change) -> InstanceRecord:
            current, _ = self._current(repo)
            here = self._current_record(current, record)
            values = {key: value(here) if callable(value) else value for key, value in changes.items()}
            if "compression" in values:
                values["compression"] = records.checked_compression(values["compression"])
            if "syncs" in values:
                values["syncs"] = tuple(dict.fromkeys(values["syncs"]))
                _check_followed(current, values["syncs"])
            new = dataclasses.replace(here, **values)
            self._set_instances(change, current, {**current.instances, here.name: new}, [new])
            return new

        return self._change(build)

    def set_syncs(
        self, repo: Repo, record: InstanceRecord, data_uuids: Iterable[str], *, replace: bool = True
    ) -> InstanceRecord:
        """Has an instance follow those of the given DataUUIDs, beside those that it follows unless ``replace``.

        Which types may follow which is for the caller to check. Raises ``BadRequest`` for an unknown DataUUID.
        """
        given = list(data_uuids)

        def build(change: Change) -> InstanceRecord:
            current, _ = self._current(repo)
            here = self._current_record(current, record)
            if not given and not replace:
                return here
            _check_followed(current, given)
            followed = tuple(dict.fromkeys([*(() if replace else here.syncs), *given]))
            new = dataclasses.replace(here, syncs=followed)
            names = ",".join(current.by_data_uuid[uuid].name for uuid in given)
            line = f'Data instance "{here.name}" set to sync with {names or "nothing"}'
            self._set_instances(change, current, {**current.instances, here.name: new}, [new], line)
            return new

        return self._change(build)

    def rename_instance(self, repo: Repo, old: str, new: str, passcode: str | None = None) -> InstanceRecord:
        """Gives an instance another name; DataUUID, data and syncs stay.

        Raises ``BadRequest`` for an unknown instance and a name that is bad or taken, ``Forbidden`` without the repo's
        passcode.
        """

        def build(change: Change) -> InstanceRecord:
            current, _ = self._current(repo)
            current.check_passcode(passcode)
            here = _named(current, old)
            _check_free(current, records.checked_instance_name(new))
            renamed = dataclasses.replace(here, name=new)
            instances = {renamed.name if name == old else name: record for name, record in current.instances.items()}
            instances[new] = renamed
            line = f'Renamed data instance "{old}" to "{new}"'
            self._set_instances(change, current, instances, [renamed], line)
            return renamed

        return self._change(build)

    def delete_instance(self, repo: Repo, name: str, passcode: str | None = None) -> None:
        """Deletes the instance of a name or DataUUID. It is gone, and its name free, at once; its data goes later.

        Raises ``BadRequest`` for an unknown instance, ``Forbidden`` without the repo's passcode.
        """

        def build(change: Change) -> None:
            current, _ = self._current(repo)
            current.check_passcode(passcode)
            gone = current.by_data_uuid.get(name) or _named(current, name)
            left = {key: record for key, record in current.instances.items() if record is not gone}
            followers = [
                dataclasses.replace(record, syncs=tuple(uuid for uuid in record.syncs if uuid != gone.data_uuid))
                for record in left.values()
                if gone.data_uuid in record.syncs
            ]
            left |= {record.name: record for record in followers}
            change.batch.delete(row_key(records.INSTANCE, current.id, gone.id))
            self._delete_data(change, gone)
            line = f'Delete data instance "{gone.name}" of type "{gone.typename}"'
            self._set_instances(change, current, left, followers, line)

        self._change(build)

    def _set_instances(
        self,
        change: Change,
        repo: Repo,
        instances: dict[str, InstanceRecord],
        written: Iterable[InstanceRecord],
        *lines: str,
    ) -> None:
        for record in written:
            change.batch.put(row_key(records.INSTANCE, repo.id, record.id), records.encode_instance(record))
        change.update_repo(repo, lines)
        change.then(lambda: repo.set_instances(instances))

    def _delete_data(self, change: Change, record: InstanceRecord) -> None:
        deletion = Deletion(record.id, record.store, record.name, record.data_uuid)
        change.batch.put(deletion.key, deletion.encode())
        change.deletions.append(deletion)

    def _take_instance_id(self, change: Change) -> int:
        used = {record.id for repo in self.repos.values() for record in repo.instances.values()}
        used |= {deletion.instance_id for deletion in self._deletions()}
        if self.options.instance_id_gen == "sequential":
            change.counters["instance"] = max(change.counters["instance"], self.options.instance_id_start)
            while (taken := change.take("instance")) in used:  # by one that was chosen at random before
                pass
            return taken
        while True:
            chosen = secrets.randbelow((1 << 32) - 1) + 1
            if chosen not in used:
                return chosen


def _named(repo: Repo, name: str) -> InstanceRecord:
    record = repo.instances.get(name)
    if record is None:
        raise BadRequest(f'there is no data instance "{name[:60]}" in repo {repo.root}')
    return record


def _check_free(repo: Repo, name: str) -> None:
    if name in repo.instances:
        raise BadRequest(f'dataname: there is a data instance "{name[:60]}" in repo {repo.root} already')


def _check_followed(repo: Repo, data_uuids: Iterable[str]) -> None:
    for uuid in data_uuids:
        if uuid not in repo.by_data_uuid:
            raise BadRequest(f'sync: there is no data instance with DataUUID "{uuid}" in repo {repo.root}')
