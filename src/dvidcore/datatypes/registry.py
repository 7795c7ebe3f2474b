"""Which datatypes there are, and how a stored record becomes a data instance.

Types are entry points of the group ``dvidcore.datatypes``, so another package can add one; dvidcore's own are named
here, and imported on first use.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from dvidcore.datatypes.base import DataType
from dvidcore.datatypes.call import Call
from dvidcore.errors import BadRequest
from dvidcore.repos.conflicts import depth_first
from dvidcore.storage.versioned import Ancestry

if TYPE_CHECKING:
    from dvidcore.repos import Database, InstanceRecord, Repo
    from dvidcore.repos.nodes import Settle
    from dvidcore.versions import Node

BUILT_IN: Mapping[str, str] = {
    "annotation": "dvidcore.datatypes.annotation.datatype:Annotation",
    "float32blk": "dvidcore.datatypes.imageblk:Float32Block",
    "imagetile": "dvidcore.datatypes.imagetile.datatype:ImageTile",
    "googlevoxels": "dvidcore.datatypes.remote:GoogleVoxels",
    "keyvalue": "dvidcore.datatypes.keyvalue:KeyValue",
    "labelarray": "dvidcore.datatypes.labels.labelarray:LabelArray",
    "labelblk": "dvidcore.datatypes.labels.labelblk:LabelBlock",
    "labelgraph": "dvidcore.datatypes.labelgraph.datatype:LabelGraph",
    "labelmap": "dvidcore.datatypes.labels.labelmap:LabelMap",
    "labelsz": "dvidcore.datatypes.labelsz.datatype:LabelSizes",
    "labelvol": "dvidcore.datatypes.labels.labelvol:LabelVolume",
    "multichan16": "dvidcore.datatypes.multichan16.datatype:MultiChannel",
    "neuronjson": "dvidcore.datatypes.neuronjson.datatype:NeuronJSON",
    "remotevolume": "dvidcore.datatypes.remote:RemoteVolume",
    "rgba8blk": "dvidcore.datatypes.imageblk:RGBA8Block",
    "roi": "dvidcore.datatypes.roi.datatype:ROI",
    "tarsupervoxels": "dvidcore.datatypes.tarsupervoxels.datatype:TarSupervoxels",
    "uint16blk": "dvidcore.datatypes.imageblk:UInt16Block",
    "uint32blk": "dvidcore.datatypes.imageblk:UInt32Block",
    "uint64blk": "dvidcore.datatypes.imageblk:UInt64Block",
    "uint8blk": "dvidcore.datatypes.imageblk:UInt8Block",
}

_GENERIC = frozenset({"versioned", "compression", "checksum", "tags", "sync"})
"""The settings of every type."""

_NUMBER_DIGITS = 5
"""Of a number behind an instance's name."""


@cache
def type_names() -> tuple[str, ...]:
    """All types of this server, sorted."""
    return tuple(sorted({*BUILT_IN, *(e.name for e in entry_points(group="dvidcore.datatypes"))}))


@cache
def datatype(name: str) -> type[DataType]:
    """The class of a type; BadRequest for a name that is none."""
    found: object
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        found = getattr(import_module(module), attribute)
    else:
        points = entry_points(group="dvidcore.datatypes", name=name)
        if not points:
            raise BadRequest(f'"{name[:60]}" is not a data type of this server; there are {", ".join(type_names())}')
        found = next(iter(points)).load()
    assert isinstance(found, type) and issubclass(found, DataType)
    return found


class Instances:
    """The live data instances of a database: one ``DataType`` object for each record, made on first use."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._bound: dict[int, DataType] = {}

    def of(self, repo: Repo, record: InstanceRecord) -> DataType:
        """The instance of a record; a changed record is handed to the object that is there, which keeps its caches."""
        bound = self._bound.get(record.id)
        if bound is None:
            made = datatype(record.typename).variant(record.settings)(self.database, repo, record)
            made.instances = self
            bound = self._bound.setdefault(record.id, made)
            if bound is made:
                made.begin()
        if bound.record is not record:
            bound.record = record
        return bound

    def numbered(self, repo: Repo, name: str) -> tuple[InstanceRecord, int] | None:
        """The instance of a name with a number behind it, and the number; the longest name where several would do."""
        at = len(name)
        while at > max(1, len(name) - _NUMBER_DIGITS) and name[at - 1] in "0123456789":
            at -= 1
        for end in range(len(name) - 1, at - 1, -1):
            record = repo.instances.get(name[:end])
            if record is not None and datatype(record.typename).numbered and name[end:] == str(int(name[end:])):
                return record, int(name[end:])
        return None

    def named(self, repo: Repo, name: str) -> DataType:
        """The instance of a name; BadRequest where the repo has none."""
        record = repo.instances.get(name)
        if record is None:
            raise BadRequest(f'there is no data instance "{name[:60]}" in repo {repo.root}')
        return self.of(repo, record)

    # -- merges of versions ----------------------------------------------------------------------------------------

    def merge(self, repo: Repo, parents: Sequence[Node], note: str = "") -> Node:
        """``Database.merge``, with what instances derive from their data settled for the new version."""
        return self.database.merge(repo, parents, note, self._settling(repo, frozenset()))

    def resolve(self, repo: Repo, names: Sequence[str], parents: Sequence[Node], note: str = "") -> Node:
        """``Database.resolve_conflicts`` of the named instances; those that derive rows are settled as a whole."""
        if not names:
            raise BadRequest("data: at least one data instance is needed")
        whole = {name for name in names if name in repo.instances and self.named(repo, name).derives}
        rest = [name for name in names if name not in whole]
        return self.database.resolve_conflicts(repo, rest, parents, note, self._settling(repo, whole))

    def _settling(self, repo: Repo, resolved: Collection[str]) -> Settle | None:
        """What settles the instances that derive rows, each after those that it follows. ``resolved``: by name, those
        whose conflicts the first parent wins."""
        instances = [i for i in self.in_order(repo) if i.derives and i.record.versioned]
        if not instances:
            return None

        def settle(node: Node, above: Mapping[int, Sequence[int]]) -> None:
            ancestry = Ancestry.from_parents(node.id, above)
            order = depth_first(node.id, above)
            for instance in instances:
                call = Call(instance.engine, node, ancestry)
                try:
                    instance.settle(call, order if instance.record.name in resolved else None)
                finally:
                    call.close()

        return settle

    def in_order(self, repo: Repo) -> list[DataType]:
        """The instances of a repo, each after those that it follows."""
        done: dict[str, DataType] = {}

        def add(record: InstanceRecord, above: frozenset[str]) -> None:
            if record.data_uuid in done or record.data_uuid in above:
                return
            for uuid in record.syncs:
                if uuid in repo.by_data_uuid:
                    add(repo.by_data_uuid[uuid], above | {record.data_uuid})
            done[record.data_uuid] = self.of(repo, record)

        for record in repo.instances.values():
            add(record, frozenset())
        return list(done.values())

    # -- new instances ---------------------------------------------------------------------------------------------

    def create(self, repo: Repo, node: Node, config: Mapping[str, Any], *, admin: bool = False) -> DataType:
        """A new instance from the JSON of ``POST instance``: keys in any case, values strings.

        Raises BadRequest where anything is wrong, and then nothing is created.
        """
        given = {key.lower(): value for key, value in config.items()}
        typename, name = _required(given, "typename"), _required(given, "dataname")
        cls = datatype(typename)
        _check_texts(config, cls)
        settings = {
            s.key: s.parse(given[s.name.lower()], s.name) if s.name.lower() in given else s.default
            for s in cls.settings
        }
        cls.check_settings(settings)
        cls = cls.variant(settings)
        compression = cls.checked_compression(cls.chosen_compression(given.get("compression"), settings))
        settings = cls.completed_settings(self.database, settings, compression)
        record = self.database.new_instance(
            repo,
            node,
            name=name,
            typename=typename,
            versioned=_versioned(given.get("versioned", "true")),
            compression=compression,
            checksum=_checksum(given.get("checksum", "none")),
            tags=_tags(given["tags"]) if "tags" in given else None,
            syncs=cls.followed(repo, given.get("sync", ""), settings),
            settings=settings,
            admin=admin,
        )
        return self.of(repo, record)


def _check_texts(config: Mapping[str, Any], cls: type[DataType]) -> None:
    """BadRequest where a setting is no text (``versioned`` may be a boolean); keys that mean nothing may be anything."""
    known = _GENERIC.union(setting.name.lower() for setting in cls.settings)
    for key, value in config.items():
        flag = key.lower() == "versioned" and isinstance(value, bool)
        if key.lower() in known and not isinstance(value, str) and not flag:
            raise BadRequest(f'"{key[:60]}": the value must be a string')


def _required(given: Mapping[str, Any], key: str) -> str:
    value = given.get(key)
    if not value:
        raise BadRequest(f'"{key}" is missing')
    if not isinstance(value, str):
        raise BadRequest(f'"{key}": the value must be a string')
    return value


def _versioned(value: str | bool) -> bool:
    if isinstance(value, bool):
        return value
    word = value.lower()
    if word not in ("true", "1", "false", "0"):
        raise BadRequest(f'versioned: "{value[:40]}" is not one of true, 1, false, 0')
    return word in ("true", "1")


def _checksum(value: str) -> str:
    word = value.lower()
    if word not in ("none", "crc32"):
        raise BadRequest(f'Checksum: "{value[:40]}" is not one of none, crc32')
    return word


def _tags(text: str) -> dict[str, str]:
    """``"k=v,k2=v2"``; an item that is not one ``key=value`` is dropped, as DVID does and its clients rely on."""
    pairs = (item.split("=") for item in text.split(",") if item.count("=") == 1)
    return {key: value for key, value in pairs if key}
