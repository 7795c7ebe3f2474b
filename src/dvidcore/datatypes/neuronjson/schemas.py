"""The schemas of a neuronjson instance, of which each version has up to three, and their endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvidcore import codecs
from dvidcore.datatypes.base import DataType
from dvidcore.datatypes.call import JSON, Call, Reply
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.neuronjson.rows import Rows
from dvidcore.datatypes.neuronjson.schema import Checker, compiled
from dvidcore.datatypes.neuronjson.writing import Changes, Writer
from dvidcore.errors import NotFound
from dvidcore.storage.versioned import View

if TYPE_CHECKING:
    from dvidcore.repos import Database, InstanceRecord, Repo

JSON_SCHEMA = "json_schema"
AS_KEYS = frozenset({"schema", "schema_batch"})
"""Schemas that can be asked for as keys too."""


class WithSchemas(DataType):
    """An instance that has schemas."""

    def __init__(self, database: Database, repo: Repo, record: InstanceRecord) -> None:
        super().__init__(database, repo, record)
        self.rows = Rows(record.id)
        self.writer = Writer(self, self.rows)

    def schema(self, view: View, name: str) -> bytes | None:
        """A schema as it was posted; ``None`` where this version has none."""
        stored = view.get(self.rows.schema(name))
        return None if stored is None else bytes(codecs.unpack(stored))

    def checker(self, view: View) -> Checker | None:
        """What annotations are checked by at a version."""
        text = self.schema(view, JSON_SCHEMA)
        return None if text is None else compiled(text)

    def packed(self, value: bytes) -> bytes:
        """A value as it is stored."""
        return codecs.pack(value, self.record.compression, self.record.checksum)

    def read_schema(self, call: Call, name: str) -> Reply:
        found = self.schema(call.view, name)
        if found is None:
            raise NotFound(f"this version has no {name}")
        return Reply(found, JSON)

    def write_schema(self, call: Call, name: str) -> None:
        """Stores the body as a schema, or deletes it where the request does."""
        value = None if call.method == "DELETE" else call.body.json_text()
        if name == JSON_SCHEMA and value is not None:
            compiled(value)

        def change(view: View, changes: Changes) -> None:
            self.change_schema(changes, name, value)

        self.writer.write(call, change)

    def change_schema(self, changes: Changes, name: str, value: bytes | None) -> None:
        """Puts a schema and its log record into a write; ``None`` deletes it."""
        changes.schema(name, None if value is None else self.packed(value))
        if value is None:
            changes.tell("deleteschema", name)
        else:
            changes.tell("postschema", name, len(value))

    @endpoint("GET", "json_schema", answers=JSON)
    def get_json_schema(self, call: Call) -> Reply:
        """The JSON Schema that annotations must satisfy as they are posted; 404 where this version has none."""
        return self.read_schema(call, JSON_SCHEMA)

    @endpoint("POST", "json_schema")
    def post_json_schema(self, call: Call) -> None:
        """Sets the JSON Schema that every annotation posted from now on must satisfy, here and in child versions.

        The draft is that of $schema: 4, 6, 7, 2019-09 or 2020-12, which is the default. A $ref must stay within the
        schema. What is stored already is not checked.
        """
        self.write_schema(call, JSON_SCHEMA)

    @endpoint("DELETE", "json_schema")
    def delete_json_schema(self, call: Call) -> None:
        """Removes the JSON Schema: annotations are not checked any more."""
        self.write_schema(call, JSON_SCHEMA)

    @endpoint("GET", "schema", answers=JSON)
    def get_schema(self, call: Call) -> Reply:
        """The schema that editors go by, as it was posted; 404 where this version has none."""
        return self.read_schema(call, "schema")

    @endpoint("POST", "schema")
    def post_schema(self, call: Call) -> None:
        """Stores the schema that editors go by: any bytes, which are not looked at."""
        self.write_schema(call, "schema")

    @endpoint("DELETE", "schema")
    def delete_schema(self, call: Call) -> None:
        """Removes the schema that editors go by."""
        self.write_schema(call, "schema")

    @endpoint("GET", "schema_batch", answers=JSON)
    def get_schema_batch(self, call: Call) -> Reply:
        """The schema that editors go by for many bodies, as it was posted; 404 where this version has none."""
        return self.read_schema(call, "schema_batch")

    @endpoint("POST", "schema_batch")
    def post_schema_batch(self, call: Call) -> None:
        """Stores the schema that editors go by for many bodies: any bytes, which are not looked at."""
        self.write_schema(call, "schema_batch")

    @endpoint("DELETE", "schema_batch")
    def delete_schema_batch(self, call: Call) -> None:
        """Removes the schema that editors go by for many bodies."""
        self.write_schema(call, "schema_batch")
