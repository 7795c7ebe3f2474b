"""A request as a datatype sees it, and its answer: which version, by whom, with which body; never the web framework."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from dvidcore.errors import BadRequest, TooLarge
from dvidcore.storage.engine import Engine, Snapshot
from dvidcore.storage.staged import whole
from dvidcore.storage.versioned import Ancestry, View

if TYPE_CHECKING:
    from dvidcore.datatypes.base import DataType
    from dvidcore.versions import Node

Buffer = bytes | bytearray | memoryview


@dataclass(slots=True)
class Reply:
    """An answer that needs more said than its bytes. ``length`` is that of an iterator, where it is known."""

    body: Buffer | str | Iterator[Buffer] | None = None
    content_type: str = "application/octet-stream"
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    length: int | None = None


JSON = "application/json"
OCTETS = "application/octet-stream"
TEXT = "text/plain"

LARGEST_JSON = 128 << 20
"""Bytes of JSON that a body may have: parsed, it takes ten times as much memory."""


class Body(ABC):
    """The body of a request: read once, whole or in pieces.

    ``length`` is its size in bytes (0 without a body). The API hands over a subclass that reads from the connection.
    """

    length: int = 0

    @abstractmethod
    def read(self, size: int = -1) -> bytes:
        """The next ``size`` bytes (fewer at the end), or all that is left."""

    def json_text(self) -> bytes:
        """The body, which is to be JSON; TooLarge where it would take too much memory when parsed."""
        if self.length > LARGEST_JSON:
            raise TooLarge(f"the body has {self.length} bytes, at most {LARGEST_JSON} of JSON are allowed")
        return self.read()

    def json(self) -> Any:
        """The body as JSON; BadRequest where it is empty or malformed, TooLarge. Integers are exact."""
        data = self.json_text()
        if not data:
            raise BadRequest("the body is empty, JSON expected")
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError as e:
            raise BadRequest(f"the body is not valid JSON: {e}") from None

    def json_object(self) -> dict[str, Any]:
        """The body as a JSON object."""
        value = self.json()
        if not isinstance(value, dict):
            raise BadRequest(f"the body must be a JSON object, not {type(value).__name__}")
        return value


class BytesBody(Body):
    """A body that is in memory: what the Python face and tests pass."""

    def __init__(self, data: Buffer = b"") -> None:
        self._data = memoryview(data)
        self.length = len(self._data)

    def read(self, size: int = -1) -> bytes:
        n = len(self._data) if size < 0 else size
        piece, self._data = self._data[:n], self._data[n:]
        return bytes(piece)


class Call:
    """One request as a datatype sees it: at which version, by whom, with which body."""

    __slots__ = (
        "_snapshot",
        "_view",
        "admin",
        "ancestry",
        "app",
        "body",
        "engine",
        "headers",
        "history",
        "method",
        "node",
        "number",
        "user",
    )

    def __init__(
        self,
        engine: Engine,
        node: Node,
        ancestry: Ancestry,
        *,
        method: str = "GET",
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
        user: str = "",
        app: str = "",
        admin: bool = False,
        history: bool = True,
        number: int | None = None,
    ) -> None:
        self.engine = engine
        self.node = node
        """The version in the URL."""
        self.ancestry = ancestry
        """What the data is read and written at: the node's, or the root's for an unversioned instance."""
        self.method = method
        self.body = body if body is not None else BytesBody()
        self.headers = headers if headers is not None else {}
        """Request headers by lower-case name."""
        self.user, self.app, self.admin = user, app, admin
        self.history = history
        """Whether it may change what the children of a committed version inherit."""
        self.number = number
        """The number behind the instance's name in the URL, of a type that is ``numbered``."""
        self._snapshot: Snapshot | None = None
        self._view: View | None = None

    @property
    def version(self) -> int:
        """The version id that writes go to."""
        return self.ancestry.version

    @property
    def snapshot(self) -> Snapshot:
        """The one snapshot that this request reads."""
        if self._snapshot is None:
            self._snapshot = self.engine.snapshot()
        return self._snapshot

    @property
    def view(self) -> View:
        """The snapshot as this version sees it."""
        if self._view is None:
            self._view = View(self.snapshot, self.ancestry)
        return self._view

    def renew(self) -> View:
        """A view of a newer snapshot, for a writer: it shows no large write of another process in part."""
        self.close()
        self._snapshot = whole(self.engine)
        return self.view

    def of(self, other: DataType) -> Call:
        """This call as it concerns another instance in the same store: same version and snapshot. It is not closed."""
        return self.at(self.node, self._ancestry_of(other))

    def elsewhere(self, other: DataType) -> Call:
        """A call of another instance at the same version, whichever its store, with a newer snapshot. To be closed."""
        ancestry = self._ancestry_of(other)
        return Call(
            other.engine, self.node, ancestry, user=self.user, app=self.app, admin=self.admin, history=self.history
        )

    def _ancestry_of(self, other: DataType) -> Ancestry:
        if other.record.versioned and self.version == self.node.id:  # also at a version that is only about to be
            return self.ancestry
        return other.database.ancestry_for(other.repo, self.node, other.record)

    def at(self, node: Node, ancestry: Ancestry) -> Call:
        """This call at another version: same snapshot. It is not closed."""
        call = Call(self.engine, node, ancestry, user=self.user, app=self.app, admin=self.admin, history=self.history)
        call._snapshot = self.snapshot
        return call

    def close(self) -> None:
        """Releases the snapshot; the caller does so when the answer has been sent."""
        if self._snapshot is not None:
            self._snapshot.close()
        self._snapshot = self._view = None
