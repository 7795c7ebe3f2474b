"""Blobs: bytes that are stored once under a name made of their content, one space for each store."""

from __future__ import annotations

import base64
import binascii

from dvidcore._fnv import fnv1_128
from dvidcore.errors import BadRequest, NotFound
from dvidcore.storage.engine import Batch, Engine, Reader
from dvidcore.storage.keys import BLOB

_HASH_BYTES = 16


def blob_reference(data: bytes | bytearray | memoryview) -> str:
    """The name of a blob: its FNV-1 hash of 128 bits as URL-safe base64 with padding."""
    return base64.urlsafe_b64encode(fnv1_128(data)).decode()


def blob_key(reference: str) -> bytes:
    """The key of the row that holds a blob.

    Raises ``BadRequest`` where the reference is not base64, ``NotFound`` where that is of other than 16 bytes, which no
    blob has.
    """
    try:
        if "+" in reference or "/" in reference:  # which the decoder takes too
            raise ValueError
        digest = base64.b64decode(reference, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest(f'blob reference "{reference[:60]}" is not URL-safe base64') from None
    if len(digest) != _HASH_BYTES:
        raise NotFound(f'there is no blob "{reference[:60]}": a reference names {_HASH_BYTES} bytes, not {len(digest)}')
    return BLOB + digest


def put_blob(engine: Engine, data: bytes | memoryview) -> str:
    """Stores ``data``, unless it is there; answers its reference. On the disk on return."""
    reference = blob_reference(data)
    key = blob_key(reference)
    if engine.get(key) != data:
        batch = Batch()
        batch.put(key, data)
        engine.write(batch)
    return reference


def get_blob(engine: Reader, reference: str) -> bytes:
    """The blob of a reference. Raises ``NotFound`` where there is none, ``BadRequest`` for what is no reference."""
    data = engine.get(blob_key(reference))
    if data is None:
        raise NotFound(f"there is no blob {reference}")
    return bytes(data)
