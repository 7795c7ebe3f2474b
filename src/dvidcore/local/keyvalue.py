"""keyvalue instances as mappings."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

import orjson

from dvidcore import wire
from dvidcore.datatypes.call import Buffer, BytesBody
from dvidcore.datatypes.keyvalue import KeyValue as KeyValueType
from dvidcore.errors import BadRequest, NotFound
from dvidcore.local.instance import Instance, whole


class KeyValue(Instance, MutableMapping[str, bytes]):
    """The pairs of a keyvalue instance as one version sees them, in the order of the keys' UTF-8 bytes.

    Keys are text of 1 to 65,000 bytes without ``/`` and NUL, values are bytes. A key that does not exist raises
    ``NotFound``, which is a ``KeyError``; what merged versions both changed raises ``Conflict``. ``update`` stores all
    of its pairs or none.
    """

    @property
    def data(self) -> KeyValueType:
        found = super().data
        assert isinstance(found, KeyValueType)
        return found

    def __getitem__(self, key: str) -> bytes:
        data = self.data
        with self.node.call(data) as call:
            return whole(data.get_key(call, key), key)

    def __setitem__(self, key: str, value: Buffer) -> None:
        data = self.data
        with self.node.call(data, "POST", BytesBody(_value(key, value)), writes=True) as call:
            data.post_key(call, key)

    def __delitem__(self, key: str) -> None:
        data = self.data
        with self.node.call(data, "DELETE", writes=True) as call:
            data.get_key(call, key)  # a mapping must say where there is nothing to delete
            data.delete_key(call, key)

    def __contains__(self, key: object) -> bool:
        try:
            self[str(key)]
        except NotFound:
            return False
        return isinstance(key, str)

    def __iter__(self) -> Iterator[str]:
        data = self.data
        with self.node.call(data) as call:
            return iter(orjson.loads(whole(data.get_keys(call), self.name)))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def between(self, first: str, last: str) -> list[str]:
        """The keys from ``first`` to ``last``, both included."""
        data = self.data
        with self.node.call(data) as call:
            found: list[str] = orjson.loads(whole(data.get_keyrange(call, first, last), self.name))
            return found

    def update(self, *args: Any, **kwargs: Buffer) -> None:
        """Stores the pairs of a mapping, of an iterable of pairs, and of keywords, in one write."""
        pairs = [(key, _value(key, value)) for key, value in dict(*args, **kwargs).items()]
        data = self.data
        body = BytesBody(wire.encode_key_values(pairs))
        with self.node.call(data, "POST", body, writes=True) as call:
            data.post_keyvalues(call)


def _value(key: str, value: Buffer) -> Buffer:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise BadRequest(f'key "{str(key)[:200]}": the value must be bytes, not {type(value).__name__}')
    return value
