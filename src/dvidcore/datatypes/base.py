"""What every datatype is: its settings, what it does when others change, and the endpoints that all instances have.

A datatype never sees the web framework, and the API never sees a key of the store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from dvidcore.datatypes.arguments import Query
from dvidcore.datatypes.call import JSON, OCTETS, TEXT, Call
from dvidcore.datatypes.endpoints import Endpoint, endpoint
from dvidcore.errors import BadRequest, Conflict
from dvidcore.repos import blobs
from dvidcore.storage.engine import Batch, Engine
from dvidcore.storage.keys import instance_range
from dvidcore.storage.versioned import KeyConflict, View

if TYPE_CHECKING:
    from dvidcore.datatypes.checks import Examination
    from dvidcore.datatypes.following import Change, Guard
    from dvidcore.datatypes.registry import Instances
    from dvidcore.repos import Database, InstanceRecord, Repo


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting that a type takes at creation beside the generic ones; ``parse`` gets the text and the name.

    ``parse`` answers what is kept in ``InstanceRecord.settings[key]`` (JSON-able) and raises BadRequest.
    """

    name: str
    key: str
    default: Any
    parse: Callable[[str, str], Any]
    help: str


class DataType:
    """Base of all datatypes: one object is one data instance, rebuilt when its record changes.

    It keeps no truth of its own: what it caches can be rebuilt from the store.
    """

    typename: ClassVar[str]
    typeversion: ClassVar[str]
    url: ClassVar[str]
    """DVID's type URL, an identifier that clients may compare."""
    settings: ClassVar[tuple[Setting, ...]] = ()
    compressions: ClassVar[frozenset[str]] = frozenset({"none", "snappy", "lz4", "gzip"})
    default_compression: ClassVar[str] = "lz4"
    follows: ClassVar[frozenset[str] | None] = None
    """Names of the types that an instance of this one may be synced with; None where the type has no syncs at all."""
    follows_at_once: ClassVar[bool] = False
    """Whether it only follows changes in whose batch it takes part, so that its sources must be in its own store."""
    absent: ClassVar[frozenset[str]] = frozenset()
    """First words of inherited endpoints that this type does not have."""
    absent_queries: ClassVar[frozenset[str]] = frozenset()
    """Query parameters of inherited endpoints that this type does not have: their methods have a default for these."""

    strict_verbs: ClassVar[frozenset[str]] = frozenset()
    """First words of endpoints that answer other verbs with 405. Elsewhere that is 400, as DVID has it."""

    numbered: ClassVar[bool] = False
    """Whether a number may follow an instance's name in a URL, as in ``stack2``; ``Call.number`` holds it."""

    lock_rank: ClassVar[int] = 0
    """Who takes the ``lock`` of several instances takes those of smaller rank first, and within a rank those of smaller
    id. What follows another type has a smaller rank."""

    derives: bool = False
    """Whether some of the type's rows follow from others, so that what merged versions changed is settled as a whole."""

    def __init__(self, database: Database, repo: Repo, record: InstanceRecord) -> None:
        self.database = database
        self.repo = repo
        self.record = record
        self.engine: Engine = database.engine_of(record)
        self.lock: AbstractContextManager[Any] = nullcontext()
        """Held by writers of the instance. It saves them from being overtaken in this process; guards make them right."""
        self.instances: Instances
        """Where the live objects of other instances are found; set by them."""

    # -- the type -----------------------------------------------------------------------------------------------

    @classmethod
    def endpoints(cls) -> list[Endpoint]:
        """All endpoints in order of declaration, the type's own before the generic ones.

        A subclass that declares a verb and path again replaces the inherited endpoint, and lacks those of ``absent``
        and the parameters of ``absent_queries``.
        """
        seen: dict[tuple[str, str], Endpoint] = {}
        for owner in cls.__mro__:
            for member in vars(owner).values():
                for declared in getattr(member, "endpoints", ()) if callable(member) else ():
                    if isinstance(declared, Endpoint) and declared.keyword not in cls.absent:
                        seen.setdefault((declared.verb, declared.path), declared)
        if not cls.absent_queries:
            return list(seen.values())
        lacking = cls.absent_queries
        return [replace(e, query=tuple(q for q in e.query if q.name not in lacking)) for e in seen.values()]

    @classmethod
    def check_settings(cls, settings: dict[str, Any]) -> None:
        """Raises BadRequest where settings that are right by themselves do not go together."""

    @classmethod
    def chosen_compression(cls, given: str | None, settings: dict[str, Any]) -> str:
        """The compression of a new instance, where ``given`` is what creation asks for; BadRequest where it may not."""
        return cls.default_compression if given is None else given

    @classmethod
    def checked_compression(cls, text: str) -> str:
        """A compression in its normal form; BadRequest for one that instances of the type cannot have."""
        kind, colon, level = (word := text.lower()).partition(":")
        levels = {"gzip": range(1, 10), "jpeg": range(1, 101)}.get(kind, range(0))
        if kind not in cls.compressions:
            allowed = ", ".join(sorted(cls.compressions))
            raise BadRequest(f'Compression: "{text[:40]}" is not one of {allowed} for {cls.typename}')
        if colon and not (level.isascii() and level.isdecimal() and len(level) <= 3 and int(level) in levels):
            allowed = f"{kind}:{levels[0]} to {kind}:{levels[-1]}" if levels else f"{kind} without a level"
            raise BadRequest(f'Compression: "{text[:40]}" is not allowed, allowed is {allowed}')
        return word

    @classmethod
    def variant(cls, settings: Mapping[str, Any]) -> type[DataType]:
        """What an instance with these settings is: this type, or another that answers under its name."""
        return cls

    @classmethod
    def completed_settings(cls, database: Database, settings: dict[str, Any], compression: str) -> dict[str, Any]:
        """The settings that are kept: for types whose properties follow from something outside of the request.

        Raises BadRequest, or what says that the outside fails; then nothing is created.
        """
        return settings

    @classmethod
    def followed(cls, repo: Repo, names: str, settings: Mapping[str, Any]) -> list[str]:
        """The DataUUIDs of ``"name1,name2"``, which an instance with these settings is to follow.

        Raises BadRequest for one that is unknown or that it cannot follow.
        """
        found = []
        for name in names.split(",") if names else ():
            other = repo.instances.get(name)
            if other is None:
                raise BadRequest(f'sync: there is no instance "{name}" in this repo')
            if other.typename not in (cls.follows or ()):
                allowed = ", ".join(sorted(cls.follows or ())) or "no type"
                raise BadRequest(f'sync: "{name}" is of type {other.typename}; {cls.typename} can follow {allowed}')
            cls.check_source(settings, other)
            found.append(other.data_uuid)
        return found

    @classmethod
    def check_source(cls, settings: Mapping[str, Any], source: InstanceRecord) -> None:
        """Raises BadRequest where an instance with these settings cannot follow a source, though it is of a right type."""

    # -- what merged versions disagree on -------------------------------------------------------------------------

    def row_name(self, prefix_key: bytes) -> str:
        """What a row holds, in the words of clients."""
        return f'a value of "{self.record.name}"'

    def explained(self, conflict: KeyConflict) -> Conflict:
        """A conflict in the words of clients: what was changed, and in which versions."""
        nodes = self.repo.dag.nodes
        writers = " and ".join(nodes[version].uuid for version in sorted(conflict.writers))
        return Conflict(f"{self.row_name(conflict.prefix_key)} was changed in versions {writers}, which were merged")

    def settle(self, call: Call, order: Mapping[int, int] | None) -> None:
        """Writes, at a version that is about to merge others, what follows from the changes of all of them.

        Only called where the type ``derives``. With ``order``, the writer (version id) of lowest order wins where
        several changed the same; without it such a conflict stays. Nobody sees the version before this returns.
        """
        raise NotImplementedError

    # -- what info shows ------------------------------------------------------------------------------------------

    def base_info(self) -> dict[str, Any]:
        """The ``Base`` object of ``info``: what all instances have."""
        r = self.record
        by_uuid = self.repo.by_data_uuid
        return {
            "TypeName": self.typename,
            "TypeURL": self.url,
            "TypeVersion": self.typeversion,
            "DataUUID": r.data_uuid,
            "Name": r.name,
            "RepoUUID": r.created_in,
            "Compression": describe_compression(r.compression, self.jpeg_level()),
            "Checksum": "CRC32 checksum" if r.checksum == "crc32" else "No checksum",
            "Syncs": [by_uuid[u].name for u in r.syncs if u in by_uuid],
            "Versioned": r.versioned,
            "KVStore": self.engine.description(),
            "LogStore": self.engine.description(),
            "Tags": r.tags,
        }

    def jpeg_level(self) -> int:
        """The number that ``info`` shows behind "jpeg compression" (the X block size, an oddity of DVID's)."""
        return 80

    def extended(self, view: View) -> dict[str, Any]:
        """The ``Extended`` object: the type's own properties at a version."""
        return {}

    def info(self, view: View) -> dict[str, Any]:
        """``GET info``."""
        return {"Base": self.base_info(), "Extended": self.extended(view)}

    # -- changes ----------------------------------------------------------------------------------------------------

    def followers(self) -> list[DataType]:
        """The instances that are synced with this one."""
        uuid = self.record.data_uuid
        return [self.instances.of(self.repo, r) for r in self.repo.instances.values() if uuid in r.syncs]

    def sources(self) -> list[DataType]:
        """The instances that this one is synced with, in the order of the syncs."""
        by_uuid = self.repo.by_data_uuid
        return [self.instances.of(self.repo, by_uuid[uuid]) for uuid in self.record.syncs if uuid in by_uuid]

    def follow(self, call: Call, change: Change, batch: Batch) -> Guard:
        """Adds to the batch what follows, for this instance, from a change of one that it is synced with.

        Answers the generations, as the call's snapshot has them, that what was added was computed from; they must be
        raised in the batch. Most types need not do anything: what they answer is put together when it is asked for.
        """
        return {}

    def follow_later(self, source: DataType, version: int, intents: Sequence[Mapping[str, Any]]) -> None:
        """Brings what intents (``Change.intent``) of a source in another store name to the source's present state."""

    def begin(self) -> None:
        """Called once, when the instance is first used: goes on with what a crash interrupted."""

    def check(self, exam: Examination) -> None:
        """Reports, in all versions, what is stored and cannot be right, and mends it where the examination repairs.

        Here each row is read; a type that knows more of its rows says more.
        """
        for _ in exam.grouped(*instance_range(self.record.id), "rows"):
            pass

    def publish(self, call: Call, records: Sequence[bytes]) -> None:
        """Hands the log records of a mutation, once it is stored, to the file log where one is configured."""
        sink = self.database.options.json_log
        if sink is not None:
            sink.append(self.record.data_uuid, call.node.uuid, records)

    # -- endpoints of every instance -------------------------------------------------------------------------------

    @endpoint("GET", "info", answers=JSON)
    def get_info(self, call: Call) -> dict[str, Any]:
        """The instance's properties at this version."""
        return self.info(call.view)

    @endpoint("GET", "help", answers=TEXT)
    def get_help(self, call: Call) -> str:
        """This text: the endpoints of the type."""
        from dvidcore.datatypes.help import type_help

        return type_help(type(self))

    @endpoint("GET", "tags", answers=JSON)
    def get_tags(self, call: Call) -> dict[str, Any]:
        """The instance's tags, ``{"Tags": {"name": "value"}}``."""
        return {"Tags": self.record.tags}

    @endpoint(
        "POST",
        "tags",
        query=[Query("replace", False, "true: the body replaces all tags", lambda value, _: value == "true", "true")],
    )
    def post_tags(self, call: Call, replace: bool) -> None:
        """Adds tags, a JSON object of strings; with ``replace=true`` it becomes the only tags."""
        given = call.body.json_object()
        for name, value in given.items():
            if not isinstance(value, str):
                raise BadRequest(f'tag "{name}": the value must be a string')
        tags = given if replace else {**(self.record.tags or {}), **given}
        self.database.update_instance(self.repo, self.record, tags=tags)

    @endpoint(
        "POST",
        "sync",
        query=[Query("replace", False, "true: the names replace all syncs", lambda value, _: value == "true", "true")],
    )
    def post_sync(self, call: Call, replace: bool) -> None:
        """Follows other instances: ``{"sync": "name1,name2"}`` adds, with ``replace=true`` it replaces."""
        if self.follows is None:
            raise BadRequest(f"sync: a {self.typename} follows no other instance")
        names = call.body.json_object().get("sync")
        if not isinstance(names, str):
            raise BadRequest('the body must be {"sync": "name1,name2"}')
        followed = self.followed(self.repo, names, self.record.settings)
        if not self.follows and followed == []:
            return
        for source in (self.repo.by_data_uuid[uuid] for uuid in followed):
            if self.follows_at_once and source.store != self.record.store:
                raise BadRequest(f'sync: "{source.name}" is kept in another store than "{self.record.name}"')
        self.database.set_syncs(self.repo, self.record, followed, replace=replace)

    @endpoint("POST", "blobstore", answers=JSON, writes=False)
    def post_blob(self, call: Call) -> dict[str, str]:
        """Stores the body as a blob, named by its content: ``{"reference": "…"}``."""
        return {"reference": blobs.put_blob(self.engine, call.body.read())}

    @endpoint("GET", "blobstore/{reference:text}", answers=OCTETS)
    def get_blob(self, call: Call, reference: str) -> bytes:
        """A blob by its reference."""
        return blobs.get_blob(self.engine, reference)


_COMPRESSION = {
    "none": "No compression",
    "snappy": "Go Snappy compression",
    "lz4": "LZ4 compression",
    "gzip": "gzip compression",
}


def describe_compression(name: str, jpeg_level: int) -> str:
    """DVID's wording for a compression such as ``"gzip:5"``; clients look for the word ``jpeg`` in it."""
    kind, _, level = name.partition(":")
    if kind == "jpeg":
        return f"jpeg compression, level {jpeg_level}"
    return f"{_COMPRESSION[kind]}, level {level or -1}"
