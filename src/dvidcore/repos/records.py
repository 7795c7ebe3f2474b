"""What is persisted about repos, versions and instances: rows of the class META, and how they are read and written.

Each row kind has a letter behind the class byte; ids in keys are 4 bytes, big-endian. Values are JSON, except for the
numbers and the lines of text. ``docs/storage-format.md`` describes them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from dvidcore.errors import BadRequest
from dvidcore.storage.keys import META
from dvidcore.versions import Node, check_part_of_url

GENERATION_KEY = META + b"G"
"""Number of changes of the metadata so far, 8 bytes; every change increments it under a guard."""
COUNTERS_KEY = META + b"C"
"""JSON: the next id of a ``repo``, ``version`` and ``instance``."""
REPO, REPO_LOG, NODE, NODE_LOG, INSTANCE, MUTATIONS, DELETION = (
    META + letter for letter in (b"R", b"L", b"N", b"n", b"I", b"M", b"D")
)


def row_key(kind: bytes, *ids: int) -> bytes:
    """The key of a row: of a repo (repo id), a node or instance (repo id, its id), a log line (…, its place)."""
    return kind + b"".join(number.to_bytes(4, "big") for number in ids)


def ids_of(key: bytes) -> tuple[int, ...]:
    """The ids in a key made by :func:`row_key`."""
    return tuple(int.from_bytes(key[at : at + 4], "big") for at in range(2, len(key), 4))


# -- instances ------------------------------------------------------------------------------------------------------

RESERVED_NAMES = frozenset({"log", "branch", "note", "commit", "newversion", "status", "tag"})
"""Keywords of the node endpoints, which an instance of that name would be hidden by."""
_BAD_NAME = re.compile(r"[/:\s\x00-\x1f\x7f]")
_COMPRESSION = re.compile(r"none|snappy|lz4|gzip(:[0-9])?|jpeg(:([1-9][0-9]?|100))?")


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """The persisted properties of a data instance; replaced as a whole when one changes."""

    id: int
    name: str
    typename: str
    data_uuid: str
    """Random and constant, also when the instance is renamed."""
    created_in: str
    """UUID of the version where it was created (``RepoUUID`` in JSON)."""
    created: str
    versioned: bool = True
    compression: str = "lz4"
    """At rest: ``none``, ``snappy``, ``lz4``, ``gzip``, ``gzip:5``, ``jpeg``, ``jpeg:80``."""
    checksum: str = "none"
    """At rest: ``none`` or ``crc32``."""
    tags: Mapping[str, str] | None = None
    """None: there never were any (DVID shows the difference)."""
    syncs: tuple[str, ...] = ()
    """DataUUIDs of the instances that it follows."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The type's own properties, as JSON."""
    store: str = ""
    """Name of the store that holds its data."""


def checked_instance_name(name: str) -> str:
    """The name of a new instance. Raises ``BadRequest`` where no URL could name it, or where it is reserved."""
    if not name:
        raise BadRequest("dataname: the name is missing")
    check_part_of_url(name, "dataname")
    if _BAD_NAME.search(name):
        raise BadRequest(f'dataname: "{name[:60]}" must not contain "/", ":", spaces or control characters')
    if name in RESERVED_NAMES:
        raise BadRequest(f'dataname: "{name}" is reserved, as are {", ".join(sorted(RESERVED_NAMES - {name}))}')
    return name


def checked_compression(text: str) -> str:
    """A compression in its normal form. Raises ``BadRequest`` for an unknown one or a level out of range."""
    low = text.lower()
    if not _COMPRESSION.fullmatch(low):
        raise BadRequest(
            f'Compression: "{text[:40]}" is not one of none, snappy, lz4, gzip, gzip:LEVEL (0-9), jpeg, '
            "jpeg:QUALITY (1-100)"
        )
    return low


def checked_checksum(text: str) -> str:
    """A checksum in its normal form. Raises ``BadRequest`` for an unknown one."""
    low = text.lower()
    if low not in ("none", "crc32"):
        raise BadRequest(f'Checksum: "{text[:40]}" is not one of none, crc32')
    return low


def encode_instance(record: InstanceRecord) -> bytes:
    """The value of an instance's row; the id is in the key."""
    values = asdict(record)
    del values["id"]
    return orjson.dumps(values)


def decode_instance(instance_id: int, value: bytes) -> InstanceRecord:
    """Undoes :func:`encode_instance`."""
    values = orjson.loads(value)
    values["syncs"] = tuple(values["syncs"])
    return InstanceRecord(id=instance_id, **values)


# -- nodes ----------------------------------------------------------------------------------------------------------


def encode_node(node: Node, **changes: Any) -> bytes:
    """The value of a node's row, with ``changes`` to its fields. The id is in the key, log lines are rows of their own,
    children follow from the parents."""
    values = {
        "uuid": node.uuid,
        "branch": node.branch,
        "note": node.note,
        "locked": node.locked,
        "parents": node.parents,
        "created": node.created,
        "updated": node.updated,
    }
    return orjson.dumps(values | changes)


def decode_node(version_id: int, value: bytes, log: list[str]) -> Node:
    """Undoes :func:`encode_node`."""
    return Node(id=version_id, log=log, **orjson.loads(value))


# -- passcodes ------------------------------------------------------------------------------------------------------

_SCRYPT = {"n": 1 << 14, "r": 8, "p": 1, "dklen": 32}


def hash_passcode(passcode: str) -> str:
    """What is stored of a passcode: a random salt and its scrypt hash, each as base64."""
    salt = os.urandom(16)
    digest = hashlib.scrypt(passcode.encode(errors="surrogatepass"), salt=salt, **_SCRYPT)
    return "$".join(base64.b64encode(part).decode() for part in (salt, digest))


def passcode_matches(passcode: str | None, stored: str) -> bool:
    """Whether a passcode is the one that was hashed, in constant time."""
    salt, digest = (base64.b64decode(part) for part in stored.split("$"))
    given = hashlib.scrypt((passcode or "").encode(errors="surrogatepass"), salt=salt, **_SCRYPT)
    return hmac.compare_digest(given, digest)


# -- log lines ------------------------------------------------------------------------------------------------------


def log_rows(kind: bytes, ids: Iterable[int], start: int, lines: Iterable[str]) -> list[tuple[bytes, bytes]]:
    """(key, value) of log lines, the first at place ``start`` of its log. Lines are only ever appended."""
    owner = tuple(ids)
    return [(row_key(kind, *owner, start + at), line.encode(errors="replace")) for at, line in enumerate(lines)]
