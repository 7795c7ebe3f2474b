"""keyvalue: versioned bytes by string key.

Rows (see ``docs/storage-format.md``): kind 1, the key as text, the packed value. Bodies and answers with several pairs
are in ``pairs``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from dvidcore import codecs
from dvidcore.datatypes.arguments import integer, switch, text
from dvidcore.datatypes.base import DataType
from dvidcore.datatypes.byterange import answer_range, check_bounds, piece
from dvidcore.datatypes.call import JSON, OCTETS, Buffer, Call, Reply
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.pairs import (
    FORMS,
    Pair,
    Wanted,
    answer_list,
    answer_pairs,
    form_of,
    posted,
    wanted_of_json,
    wanted_of_protobuf,
)
from dvidcore.datatypes.turns import Turns
from dvidcore.errors import BadRequest, NotFound, StoreError
from dvidcore.geometry import UINT64_MAX
from dvidcore.mutations import log
from dvidcore.storage.engine import Batch
from dvidcore.storage.keys import VERSION_BYTES, data_prefix, kind_range, text_key, text_of, type_key_of, version_bytes
from dvidcore.storage.staged import StagedWrite
from dvidcore.storage.versioned import KeyConflict, View

if TYPE_CHECKING:
    from dvidcore.datatypes.checks import Examination
    from dvidcore.repos import Database, InstanceRecord, Repo
    from dvidcore.versions import Node

PAIR = 1
"""The row kind of pairs."""
LONGEST_KEY = 65_000
"""Bytes of a key in UTF-8."""

_SOME = 1000
"""Keys or records that are handled together."""
_USER = b',"User":'

_FORMS = (
    *FORMS,
    switch("check", True, "with json: false passes on values without making sure that they are JSON"),
)
_USERID = text("userid", None, "only the records of this user, who is then named in them")


class KeyValue(DataType):
    """One keyvalue instance."""

    typename: ClassVar[str] = "keyvalue"
    typeversion: ClassVar[str] = "0.2"
    url: ClassVar[str] = "github.com/janelia-flyem/dvid/datatype/keyvalue"

    def __init__(self, database: Database, repo: Repo, record: InstanceRecord) -> None:
        super().__init__(database, repo, record)
        self._prefix = data_prefix(record.id, PAIR)
        # A store may take shorter keys only.
        room = getattr(self.engine, "max_key_bytes", 1 << 20) - len(self._prefix) - 1 - VERSION_BYTES
        self.longest_key = min(LONGEST_KEY, room)
        """Bytes that a key may have in UTF-8."""
        self._turns = Turns()

    # -- one key ------------------------------------------------------------------------------------------------------

    @endpoint(
        "GET",
        "key/{key:rest}",
        query=[
            integer("byte_start", None, "first byte of the value that is wanted, with byte_end", 0, UINT64_MAX),
            integer("byte_end", None, "last byte of the value that is wanted", 0, UINT64_MAX),
        ],
        answers=OCTETS,
    )
    def get_key(self, call: Call, key: str, *, byte_start: int | None = None, byte_end: int | None = None) -> Reply:
        """The value of a key, or a part of it.

        404 where this version has no such key. byte_start and byte_end, both included, must lie within the value. The
        request header "Range: bytes=a-b", "a-" or "-n" is answered 206 with the part and Content-Range, or 416 where
        it starts behind the value.
        """
        wanted = call.headers.get("range")
        check_bounds(byte_start, byte_end)
        if wanted is not None and byte_start is not None:
            raise BadRequest("a Range header and byte_start, byte_end cannot be combined")
        value = self._value(call, key)
        if wanted is not None and (answer := answer_range(value, wanted)) is not None:
            return answer
        if byte_start is not None and byte_end is not None:
            value = piece(value, byte_start, byte_end)
        return Reply(value, OCTETS, _ACCEPT_RANGES)

    @endpoint("HEAD", "key/{key:rest}", answers=OCTETS)
    def head_key(self, call: Call, key: str) -> Reply:
        """Whether a key exists: 200 with the size of its value, whatever part of it is asked for, or 404."""
        return Reply(self._value(call, key), OCTETS, _ACCEPT_RANGES)

    def _value(self, call: Call, key: str) -> Buffer:
        """The value that this version has of a key; NotFound where it has none, Conflict where parents disagree."""
        prefix_key = self._prefix_key(key)
        try:
            stored = call.view.get(prefix_key)
        except KeyConflict as e:
            raise self.explained(e) from None
        if stored is None:
            raise NotFound(f'Key "{key[:200]}" not found')
        return codecs.unpack(stored)

    @endpoint("POST", "key/{key:rest}")
    def post_key(self, call: Call, key: str) -> None:
        """Stores the body as the value of a key, in place of an older value.

        A key is 1 to 65000 bytes of UTF-8 without "/" and NUL.
        """
        self._write(call, [(key, call.body.read())])

    @endpoint("DELETE", "key/{key:rest}")
    def delete_key(self, call: Call, key: str) -> None:
        """Deletes a key from this version on; no error where it does not exist."""
        self._write(call, [(key, None)])

    # -- keys ---------------------------------------------------------------------------------------------------------

    @endpoint("GET", "keys", answers=JSON)
    def get_keys(self, call: Call) -> Reply:
        """All keys of this version, a JSON list in the order of their UTF-8 bytes."""
        return self._list_keys(call.view, *kind_range(self.record.id, PAIR))

    @endpoint("GET", "keyrange/{first:text}/{last:text}", answers=JSON)
    def get_keyrange(self, call: Call, first: str, last: str) -> Reply:
        """The keys from first to last, both included, a JSON list in the order of their UTF-8 bytes.

        keyrange/%20/%7F lists all that start with an ASCII character.
        """
        return self._list_keys(call.view, *self._bounds(first, last))

    def _list_keys(self, view: View, start: bytes, stop: bytes) -> Reply:
        names = (text_of(type_key_of(prefix_key)) for prefix_key in view.keys(start, stop))
        parts = iter(lambda: list(islice(names, _SOME)), [])
        return answer_list(orjson.dumps(part)[1:-1] for part in parts)

    # -- several pairs ------------------------------------------------------------------------------------------------

    @endpoint("GET", "keyrangevalues/{first:text}/{last:text}", query=_FORMS, answers=OCTETS)
    def get_keyrangevalues(self, call: Call, first: str, last: str, *, check: bool = True, **forms: bool) -> Reply:
        """The pairs with keys from first to last, both included, in the order of the keys.

        The answer is a KeyValues message, a JSON object (400 where a value is not JSON), or a tar file with a member
        of mode 0755 per key.
        """
        form = form_of(**forms)
        return answer_pairs(form, partial(self._range, call.view, first, last), check)

    @endpoint("GET", "keyvalues", query=_FORMS, answers=OCTETS)
    def get_keyvalues(self, call: Call, *, check: bool = True, **forms: bool) -> Reply:
        """The pairs that the body asks for, in its order.

        For protobuf the body is a Keys message; its key_ranges, parts of values with both ends included, are answered
        after its keys. For json and tar it is a JSON list of keys, or of objects {"key": K, "byte_start": a,
        "byte_end": b} with both or neither of the bounds. A key that does not exist has no value, {} in JSON. A part
        must lie within its value, and in JSON be JSON itself.
        """
        form = form_of(**forms)
        wanted = wanted_of_protobuf(call.body.read()) if form == "protobuf" else wanted_of_json(call.body.json())
        return answer_pairs(form, partial(self._listed, call.view, wanted), check)

    @endpoint("POST", "keyvalues")
    def post_keyvalues(self, call: Call) -> None:
        """Stores the pairs of a KeyValues message, all or none; of a repeated key the last value stays."""
        self._write(call, posted(call.body))

    # -- the mutation log ---------------------------------------------------------------------------------------------

    @endpoint("GET", "mutations", query=[_USERID], answers=JSON)
    def get_mutations(self, call: Call, *, userid: str | None = None) -> Reply:
        """The log of changes in this version, a JSON list, the oldest first.

        A record is {"Action": "postkv", "Key": K, "Bytes": n, "UUID": version, "Timestamp": t}, or of the action
        "delete", without "Bytes".
        """
        return answer_list(self._records(call, [call.node], userid))

    @endpoint(
        "GET",
        "mutations-range/{first:text}/{last:text}",
        query=[text("rangefmt", "uuids", 'how the ends are named; only "uuids" is known'), _USERID],
        answers=JSON,
    )
    def get_mutations_range(
        self, call: Call, first: str, last: str, *, rangefmt: str = "uuids", userid: str | None = None
    ) -> Reply:
        """The log of changes from the version first to its descendant last, both included: the newest version first.

        Within a version the oldest record is first, as in mutations.
        """
        if rangefmt.lower() != "uuids":
            raise BadRequest(f'rangefmt: "{rangefmt[:40]}" is not known, only "uuids" is')
        path = self.repo.dag.path(self._node(first), self._node(last))
        return answer_list(self._records(call, path[::-1], userid))

    def _node(self, spec: str) -> Node:
        repo, node = self.database.resolve(spec)
        if repo is not self.repo:
            raise BadRequest(f"version {node.uuid} is not in repo {self.repo.root}")
        return node

    def _records(self, call: Call, nodes: Iterable[Node], user: str | None) -> Iterator[bytes]:
        for node in nodes:
            for record in log.records(call.snapshot, self.record.id, node.id):
                # The user is the last member. Only those who ask for it get it: clients know the records without.
                shown, _, name = record.rpartition(_USER)
                if user is None:
                    yield shown + b"}" if shown else record
                elif shown and orjson.loads(name[:-1]) == user:
                    yield record

    # -- properties ---------------------------------------------------------------------------------------------------

    @endpoint("POST", "info")
    def post_info(self, call: Call) -> None:
        """Changes how values are stored from now on: {"Compression": "gzip:5"}, as at creation.

        What is stored stays as it is, and answers never change. Nothing else can be changed, and is refused.
        """
        given = {name.lower(): value for name, value in call.body.json_object().items()}
        if unknown := given.keys() - {"compression"}:
            raise BadRequest(f'"{min(unknown)[:60]}" cannot be changed, only Compression can')
        value = given.get("compression")
        if not isinstance(value, str):
            raise BadRequest('the body must be {"Compression": "..."}')
        self.database.update_instance(self.repo, self.record, compression=self.checked_compression(value))

    # -- reading and writing ------------------------------------------------------------------------------------------

    def _prefix_key(self, key: str) -> bytes:
        """The key of the row without its version; BadRequest for what is no key."""
        if not key:
            raise BadRequest("the key is empty")
        if "/" in key:
            raise BadRequest(f'key "{key[:200]}": a key must not contain "/"')
        type_key = text_key(key)
        if len(type_key) > self.longest_key + 1:
            raise BadRequest(f"the key has {len(type_key) - 1} bytes, at most {self.longest_key} are allowed")
        return self._prefix + type_key

    def _bounds(self, first: str, last: str) -> tuple[bytes, bytes]:
        """Start and stop of the scan over the keys from ``first`` to ``last``, both included."""
        # All keys end with a NUL, so what sorts behind "last" and its NUL sorts behind "last" alone.
        return self._prefix + text_key(first), self._prefix + text_key(last)[:-1] + b"\x01"

    def _range(self, view: View, first: str, last: str) -> Iterator[Pair]:
        try:
            for prefix_key, stored in view.scan(*self._bounds(first, last)):
                yield text_of(type_key_of(prefix_key)), codecs.unpack(stored)
        except KeyConflict as e:
            raise self.explained(e) from None

    def _listed(self, view: View, wanted: Iterable[Wanted]) -> Iterator[Pair]:
        try:
            for key, start, end in wanted:
                stored = view.get(self._prefix_key(key))
                if stored is None:
                    yield key, None
                    continue
                value: Buffer = codecs.unpack(stored)
                if start is not None and end is not None:
                    value = piece(value, start, end, f'key "{key[:200]}": ')
                yield key, value
        except KeyConflict as e:
            raise self.explained(e) from None

    def row_name(self, prefix_key: bytes) -> str:
        return f'key "{text_of(type_key_of(prefix_key))[:200]}"'

    def check(self, exam: Examination) -> None:
        for key, entries in exam.grouped(*kind_range(self.record.id, PAIR), "values"):
            for version, value in entries:
                if not len(value):
                    continue
                try:
                    codecs.unpack(value)
                except StoreError as e:
                    exam.found("value", self.row_name(key), e, "a value that unpacks", version=version)

    def _write(self, call: Call, pairs: Iterable[tuple[str, Buffer | None]]) -> None:
        """Writes pairs and their log records, all or none; ``None`` deletes."""
        record = self.record
        compression, checksum = record.compression, record.checksum
        version = version_bytes(call.version)
        alone = len(call.ancestry.rank) == 1
        mutation = self.repo.next_mutation_id()
        common = {"UUID": call.node.uuid, "Timestamp": log.timestamp()}
        if call.user:
            common["User"] = call.user
        source = iter(pairs)
        logged: list[bytes] = []
        with StagedWrite(self.engine) as write:
            while some := list(islice(source, _SOME)):
                records: list[dict[str, Any]] = []
                for key, value in some:
                    row = self._prefix_key(key) + version
                    if value is not None:
                        write.put(row, codecs.pack(value, compression, checksum))
                        records.append({"Action": "postkv", "Key": key, "Bytes": len(value), **common})
                        continue
                    # A version without ancestors has nothing to hide.
                    if alone:
                        write.delete(row)
                    else:
                        write.put(row, b"")
                    records.append({"Action": "delete", "Key": key, **common})
                rows = Batch()
                encoded = log.append(rows, record.id, call.node.id, mutation, records)
                if self.database.options.json_log is not None:
                    logged += encoded
                for log_row, data in rows.operations:
                    write.put(log_row, data or b"")
            with self._turns.alone() if write.staged else self._turns.shared():
                write.commit(sync=self.database.options.sync)
        self.publish(call, logged)


_ACCEPT_RANGES = {"Accept-Ranges": "bytes"}
