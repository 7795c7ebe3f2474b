"""The datatype tarsupervoxels: its settings and its endpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import compress
from typing import TYPE_CHECKING, Any, ClassVar

from dvidcore import codecs
from dvidcore.datatypes.arguments import choice, text
from dvidcore.datatypes.base import DataType, Setting
from dvidcore.datatypes.call import JSON, OCTETS, TEXT, Buffer, Call, Reply
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.labels.reading import inputs
from dvidcore.datatypes.pairs import TAR
from dvidcore.datatypes.tarsupervoxels import bodies, checking, tar
from dvidcore.datatypes.tarsupervoxels.files import Files, name_of, parse_extension
from dvidcore.datatypes.turns import Turns
from dvidcore.errors import BadRequest, NotFound, TooLarge
from dvidcore.mutations import log
from dvidcore.storage.engine import Batch
from dvidcore.storage.staged import StagedWrite
from dvidcore.storage.versioned import View

if TYPE_CHECKING:
    from dvidcore.datatypes.checks import Examination
    from dvidcore.repos import Database, InstanceRecord, Repo

_LISTED = 10_000
"""Supervoxels that one log record lists."""
Records = Callable[[list[int]], Iterable[Mapping[str, Any]]]
"""What the log says of the supervoxels that were stored."""

_HASH = text("hash", "", "MD5 of the body in lower-case hex, checked")


class TarSupervoxels(DataType):
    """A file for each supervoxel, all with one extension; meshes, mostly.

    The files are shared by all versions. What makes up a body is asked of the synced labelmap, at the version of the
    request and when it is made, so merges, cleaves and splits show at once.
    """

    typename: ClassVar[str] = "tarsupervoxels"
    typeversion: ClassVar[str] = "0.1"
    url: ClassVar[str] = "github.com/janelia-flyem/dvid/datatype/tarsupervoxels"
    settings: ClassVar[tuple[Setting, ...]] = (
        Setting("Extension", "Extension", None, parse_extension, "extension of all file names, as drc; required"),
    )
    follows: ClassVar[frozenset[str] | None] = frozenset({"labelmap"})
    strict_verbs: ClassVar[frozenset[str]] = frozenset({"missing", "tarfile"})

    def __init__(self, database: Database, repo: Repo, record: InstanceRecord) -> None:
        super().__init__(database, repo, record)
        self._turns = Turns()

    @classmethod
    def check_settings(cls, settings: dict[str, Any]) -> None:
        if settings["Extension"] is None:
            raise BadRequest('"Extension" is missing: the extension of the file names, as drc')

    @property
    def files(self) -> Files:
        return Files(self.record.id, self.record.settings["Extension"])

    def base_info(self) -> dict[str, Any]:
        """With a word on what versions mean here, where clients show it and none reads it."""
        info = super().base_info()
        info["KVStore"] += "; one set of files for all versions: a change in one is seen in all, committed ones too"
        return info

    def extended(self, view: View) -> dict[str, Any]:
        return {"Extension": self.record.settings["Extension"]}

    def row_name(self, prefix_key: bytes) -> str:
        return f"the file {name_of(prefix_key) or 'without a name'}"

    def check(self, exam: Examination) -> None:
        checking.check(exam)

    # -- one supervoxel ------------------------------------------------------------------------------------------------

    @endpoint("GET", "supervoxel/{supervoxel:label}", answers=OCTETS)
    def get_supervoxel(self, call: Call, supervoxel: int) -> Buffer:
        """The file of a supervoxel; 404 where there is none."""
        found = self.files.get(call.snapshot, supervoxel)
        if found is None:
            raise NotFound(f"Supervoxel {supervoxel} not found")
        return found

    @endpoint("POST", "supervoxel/{supervoxel:label}")
    def post_supervoxel(self, call: Call, supervoxel: int) -> None:
        """Stores the body, which may be empty, as the file of a supervoxel, in place of an older one.

        The file is that of all versions, whichever is in the URL.
        """
        size = call.body.length
        if size > tar.LARGEST_MEMBER:
            raise TooLarge(f"the file has {size} bytes, at most {tar.LARGEST_MEMBER} are allowed")
        record = {"Action": "post-supervoxel", "Supervoxel": supervoxel, "Bytes": size}
        self._store(call, [(supervoxel, call.body.read())], lambda _: [record])

    @endpoint("DELETE", "supervoxel/{supervoxel:label}")
    def delete_supervoxel(self, call: Call, supervoxel: int) -> None:
        """Deletes the file of a supervoxel, in all versions; no error where there is none."""
        if any(self.files.existing(call.snapshot, [supervoxel])):
            record = {"Action": "delete-supervoxel", "Supervoxel": supervoxel}
            self._store(call, [(supervoxel, None)], lambda _: [record])

    # -- many ----------------------------------------------------------------------------------------------------------

    @endpoint("POST", "load")
    def post_load(self, call: Call) -> None:
        """Stores the members of a tar file, all or none. Each is named SUPERVOXEL.EXTENSION, as 23.drc.

        Of a repeated name the last member stays. Anything but regular files of such names is refused, and so is an
        archive without its end mark, since it may have been cut short. A member has at most 256 MB.
        """
        files = self.files
        read = ((files.supervoxel(name), content) for name, content in tar.members(call.body.read))

        def records(stored: list[int]) -> Iterator[dict[str, Any]]:
            for at in range(0, len(stored), _LISTED):
                yield {"Action": "load", "Supervoxels": stored[at : at + _LISTED]}

        self._store(call, read, records)

    @endpoint("GET", "exists", query=[_HASH], answers=JSON)
    @endpoint(
        "POST",
        "exists",
        query=[_HASH, choice("op", None, "get: needed for POST, which answers as GET does", ["get"])],
        answers=JSON,
        writes=False,
    )
    def get_exists(self, call: Call, hash: str = "", op: str | None = None) -> list[bool]:
        """Which supervoxels of the body, a JSON list, have a file: a list of true and false in its order.

        Where a GET cannot have a body, POST with op=get is the same.
        """
        if call.method == "POST" and op != "get":
            raise BadRequest("op: exists changes nothing; use GET, or POST with op=get where a GET cannot have a body")
        asked = inputs.labels(call.body, hash).tolist()
        return list(self.files.existing(call.snapshot, asked))

    # -- bodies --------------------------------------------------------------------------------------------------------

    @endpoint("GET", "tarfile/{label:label}", answers=TAR)
    def get_tarfile(self, call: Call, label: int) -> Reply:
        """A tar file of the files of a body's supervoxels, each of mode 0755.

        A supervoxel without a file is an empty member named SUPERVOXEL.missing. 400 where there is no such body, also
        where it was merged into another.
        """
        members = bodies.supervoxels(self, call, label).tolist()
        return Reply(tar.pieces(self.files.named(call.snapshot, members)), TAR)

    @endpoint("HEAD", "tarfile/{label:label}")
    def head_tarfile(self, call: Call, label: int) -> None:
        """200 where the body exists and all its supervoxels have files, else 400; GET may do all the same."""
        missing = self._missing(call, label)
        if missing:
            raise BadRequest(f"body {label}: {len(missing)} supervoxels have no file, {missing[0]} for one")

    @endpoint("GET", "missing/{label:label}", answers=JSON)
    def get_missing(self, call: Call, label: int) -> list[int]:
        """The supervoxels of a body that have no file, a JSON list."""
        return self._missing(call, label)

    def _missing(self, call: Call, label: int) -> list[int]:
        members = bodies.supervoxels(self, call, label).tolist()
        return list(compress(members, (not there for there in self.files.existing(call.snapshot, members))))

    # -- properties ----------------------------------------------------------------------------------------------------

    @endpoint("POST", "info", answers=TEXT)
    def post_info(self, call: Call) -> str:
        """Changes the extension: {"Extension": "obj"}. Files under the former one are not seen until it is set again."""
        given = {name.lower(): value for name, value in call.body.json_object().items()}
        if unknown := given.keys() - {"extension"}:
            raise BadRequest(f'"{min(unknown)[:60]}" cannot be changed, only Extension can')
        value = given.get("extension")
        if not isinstance(value, str):
            raise BadRequest('the body must be {"Extension": "..."}')
        extension = parse_extension(value, "Extension")
        self.database.update_instance(
            self.repo, self.record, settings=lambda here: {**here.settings, "Extension": extension}
        )
        return f'Changed the extension of "{self.record.name}" to {extension}'

    # -- writing -------------------------------------------------------------------------------------------------------

    def _store(self, call: Call, given: Iterable[tuple[int, Buffer | None]], records: Records) -> None:
        """Stores files, or deletes them for None, with their log records, all or none."""
        files, record = self.files, self.record
        stored: dict[int, None] = {}
        with StagedWrite(self.engine) as write:
            for supervoxel, content in given:
                if content is None:
                    write.delete(files.key(supervoxel))
                else:
                    write.put(files.key(supervoxel), codecs.pack(content, "none", record.checksum))
                stored[supervoxel] = None
            if not stored:
                return
            mutation = self.repo.next_mutation_id()
            common = {"MutationID": mutation, "UUID": call.node.uuid, "Timestamp": log.timestamp()}
            if call.user:
                common["User"] = call.user
            told = [{**made, **common} for made in records(list(stored))]
            final = Batch()
            encoded = log.append(final, record.id, call.node.id, mutation, told)
            with self._turns.alone() if write.staged else self._turns.shared():
                write.commit(final, sync=self.database.options.sync)
        self.publish(call, encoded)
