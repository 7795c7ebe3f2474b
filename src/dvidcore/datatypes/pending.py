"""Rows at a version that are about to be written: for followers, which build on a batch that others began."""

from __future__ import annotations

from dvidcore.storage.engine import Batch, Value
from dvidcore.storage.keys import VERSION_BYTES, prefix_end, version_bytes
from dvidcore.storage.versioned import VersionedBatch, View


def pending_rows(batch: Batch | None, prefix: bytes, version: int) -> dict[bytes, Value]:
    """The rows at a version that a batch has under keys with a prefix: by prefix key, empty where one is deleted."""
    suffix = version_bytes(version)
    return {
        key[:-VERSION_BYTES]: value or b""
        for key, value in (batch.operations if batch else ())
        if key.startswith(prefix) and key.endswith(suffix)
    }


def erase(view: View, writer: VersionedBatch, prefix_key: bytes) -> None:
    """Has a version no longer see a row: by a tombstone only where ancestors have it, else nothing of it is left."""
    version = view.ancestry.version
    if any(owner != version for _, owner, _ in view.scan_entries(prefix_key, prefix_end(prefix_key))):
        writer.delete(prefix_key)
    else:
        writer.batch.delete(prefix_key + version_bytes(version))
