"""The check of a neuronjson instance: annotations and schemas unpack, and annotations are those of their bodies."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from dvidcore import codecs
from dvidcore.datatypes.neuronjson.annotation import BODYID, decode
from dvidcore.datatypes.neuronjson.rows import ANNOTATION, body_of, described
from dvidcore.errors import StoreError
from dvidcore.storage.keys import TYPE_KEY_OFFSET, instance_range

if TYPE_CHECKING:
    from dvidcore.datatypes.checks import Examination
    from dvidcore.storage.engine import Value


def check(exam: Examination) -> None:
    """Reports what is damaged in all versions; nothing of it can be made anew."""
    for key, entries in exam.grouped(*instance_range(exam.data.record.id), "rows"):
        for version, value in entries:
            wrong = _wrong(key, value) if len(value) else None
            if wrong is not None:
                exam.found("value", described(key), *wrong, version=version)


def _wrong(prefix_key: bytes, value: Value) -> tuple[object, str] | None:
    """What is stored and what should be; None where it is right."""
    try:
        payload = codecs.unpack(value)
        if prefix_key[TYPE_KEY_OFFSET - 1] != ANNOTATION:
            return None
        body = decode(payload).get(BODYID)
    except (StoreError, ValueError, TypeError, AttributeError, struct.error) as e:
        return e, "a value that unpacks"
    return None if body == body_of(prefix_key) else (f"of body {body}", "of its own")
