"""A data instance at a version: what all types have, and every endpoint of theirs by its path."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import orjson

from dvidcore.datatypes.base import DataType
from dvidcore.datatypes.call import Buffer, BytesBody, Reply
from dvidcore.datatypes.registry import datatype
from dvidcore.datatypes.routing import Table, parse_query
from dvidcore.errors import BadRequest, DvidError, NotFound

if TYPE_CHECKING:
    from dvidcore.local.node import Node


class Instance:
    """A data instance as one version sees it; every use reads the newest state of that version."""

    def __init__(self, node: Node, name: str) -> None:
        self.node = node
        self.name = name

    @property
    def data(self) -> DataType:
        """The datatype's own object; ``BadRequest`` where the instance is gone."""
        store = self.node.store
        return store.instances.named(self.node.repo.record, self.name)

    @property
    def typename(self) -> str:
        """The type's name, as ``"uint8blk"``."""
        return self.data.typename

    @property
    def info(self) -> dict[str, Any]:
        """The properties as ``GET info`` shows them, so points and sizes in it are X, Y, Z."""
        found: dict[str, Any] = orjson.loads(self.request("GET", "info"))
        return found

    @property
    def tags(self) -> dict[str, str]:
        return dict(self.data.record.tags or {})

    def __repr__(self) -> str:
        return f"<{self.typename} {self.name!r} at {self.node.uuid}>"

    def request(self, verb: str, path: str, body: Any = b"", **query: Any) -> bytes:
        """What any endpoint of the type (``docs/http-api.md``) answers, without HTTP: ``request("GET", "lastmod/23")``.

        ``path`` is plain text, not percent-encoded; ``query`` are its parameters, which it may also hold itself. A body
        that is not bytes is sent as JSON. Arguments are checked, and errors raised, as the server does.
        """
        path, _, text = path.partition("?")
        given = {**parse_query(text), **parse_query(urlencode({k: _word(v) for k, v in query.items()}))}
        data = self.data
        table, words = _table(data.typename), path.split("/")
        route = table.find(verb, words)
        if route is None:
            raise table.refusal(verb, words, f"/api/help/{data.typename}")
        arguments = route.arguments(words, given)
        content = body if isinstance(body, bytes | bytearray | memoryview) else orjson.dumps(body)
        writes = route.endpoint.writes and not route.endpoint.only_reads(given)
        with self.node.call(data, verb, BytesBody(content), writes=writes) as call:
            try:
                return whole(getattr(data, route.handler)(call, **arguments), f"{self.name}/{path}")
            except DvidError:
                raise
            except ValueError as error:  # a kernel's word about the body
                raise BadRequest(str(error)) from error


def bind(node: Node, name: str) -> Instance:
    """The handle that fits an instance's type."""
    from dvidcore.datatypes.imageblk import ImageBlock
    from dvidcore.datatypes.keyvalue import KeyValue as KeyValueType
    from dvidcore.datatypes.labels.voxels import LabelVoxels
    from dvidcore.local.image import ImageVolume
    from dvidcore.local.keyvalue import KeyValue
    from dvidcore.local.labels import Labels

    data = node.store.instances.named(node.repo.record, name)
    if isinstance(data, ImageBlock):
        return ImageVolume(node, name)
    if isinstance(data, LabelVoxels):
        return Labels(node, name)
    if isinstance(data, KeyValueType):
        return KeyValue(node, name)
    return Instance(node, name)


@cache
def _table(typename: str) -> Table:
    found = datatype(typename)
    return Table(found.endpoints(), found.strict_verbs)


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def whole(answer: Any, what: str) -> bytes:
    """What an endpoint returned, as bytes. Raises ``NotFound`` for an answer of 404."""
    if isinstance(answer, Reply):
        if answer.status == 404:
            raise NotFound(f"{what}: there is no such thing at this version")
        answer = answer.body
    if answer is None:
        return b""
    if isinstance(answer, str):
        return answer.encode()
    if isinstance(answer, dict | list):
        return orjson.dumps(answer)
    if isinstance(answer, Iterator):
        return b"".join(answer)
    piece: Buffer = answer
    return bytes(piece)
