"""An annotation: a JSON object of fields, as it is posted, stored and shown.

A field whose name ends in ``_user`` or ``_time`` is a meta field: who last set the field before the ending, and when.
An annotation is stored as the text that is answered, its members in three sections: ``bodyid`` and the other fields,
the users, the times; the members of each sorted by name. So what is shown without its meta fields, or with some of them, is
cut out of the text and not made again. The value, before it is packed: the lengths of the first two sections (uint32,
little-endian), then the text.
"""

from __future__ import annotations

import json
import re
import struct
from typing import Any, NamedTuple

import orjson

from dvidcore.datatypes.call import Buffer
from dvidcore.datatypes.neuronjson import _members
from dvidcore.errors import BadRequest
from dvidcore.geometry import UINT64_MAX

Annotation = dict[str, Any]
Fields = dict[str, bytes]
"""Fields of an annotation and their values as JSON texts."""

BODYID = "bodyid"
BODYID_TEXT = b'"bodyid"'
MAIN, USERS, TIMES = range(3)
"""The sections."""
SUFFIXES = ("_user", "_time")
UNTOLD = frozenset({BODYID, "user"})
"""Fields of which neither user nor time is kept."""

_INT64_MIN = -(1 << 63)
_LONG_NUMBER = re.compile(rb"[0-9]{19}")
_lengths = struct.Struct("<II")


def section_of(name: str) -> int:
    """The section that a field belongs to."""
    return USERS if name.endswith("_user") else TIMES if name.endswith("_time") else MAIN


# -- posted ------------------------------------------------------------------------------------------------------------


def body_of_key(key: str) -> int:
    """The body that a key names; BadRequest where it is not a uint64 in plain decimal form."""
    if not (key.isascii() and key.isdecimal()) or (key[0] == "0" and key != "0") or len(key) > 20:
        raise BadRequest(f'key "{key[:60]}": a key is the plain decimal number of a body, 1 to {UINT64_MAX}')
    body = int(key)
    if body > UINT64_MAX:
        raise BadRequest(f'key "{key}": a body is at most {UINT64_MAX}')
    return body


def parsed(data: Buffer, body: int) -> Annotation:
    """The annotation that is posted for a body, ``null`` included.

    Raises BadRequest where it is not a JSON object, is not the body's, has a number that cannot be kept, or has meta
    fields of bodyid or such that are not texts.
    """
    what = f"body {body}: "
    if body == 0:
        raise BadRequest("body 0 is reserved, it has no annotation")
    if not len(data):
        raise BadRequest(f"{what}the annotation is empty, a JSON object expected")
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as e:
        raise BadRequest(f"{what}the annotation is not valid JSON: {e}") from None
    if not isinstance(value, dict):
        raise BadRequest(f"{what}the annotation must be a JSON object, not {type(value).__name__}")
    given = value.get(BODYID)
    if type(given) is not int:
        raise BadRequest(f"{what}the annotation needs the field bodyid, an integer equal to the key")
    if given != body:
        raise BadRequest(f"{what}the field bodyid is {given}, it must equal the key")
    for name, field in value.items():
        if name.endswith(SUFFIXES):
            if name[:-5] == BODYID:
                raise BadRequest(f"{what}{name} must not be given")
            if field is not None and type(field) is not str:
                raise BadRequest(f'{what}the field "{name[:60]}" must be a text or null')
    try:
        orjson.dumps(value)
    except TypeError:  # what can be read and not written is nested too deeply
        raise BadRequest(f"{what}the annotation is nested too deeply") from None
    if _LONG_NUMBER.search(data):
        _check_integers(bytes(data), what)
    return value


def _check_integers(data: bytes, what: str) -> None:
    """BadRequest for an integer beyond 64 bits, which orjson would have rounded."""

    def check(digits: str) -> int:
        number = int(digits) if len(digits) <= 20 else UINT64_MAX + 1
        if not _INT64_MIN <= number <= UINT64_MAX:
            raise BadRequest(f"{what}the integer {digits[:40]} cannot be kept, {_INT64_MIN} to {UINT64_MAX} can")
        return number

    json.loads(data, parse_int=check)


# -- stored ------------------------------------------------------------------------------------------------------------


def encode(annotation: Annotation) -> bytes:
    """An annotation as it is stored, before it is packed."""
    sections: tuple[Annotation, Annotation, Annotation] = ({BODYID: annotation[BODYID]}, {}, {})
    for name in sorted(annotation):
        sections[section_of(name)][name] = annotation[name]
    main, users, times = (orjson.dumps(section) for section in sections)
    first = main[:-1]
    second, third = (b"," + text[1:-1] if len(text) > 2 else b"" for text in (users, times))
    return b"".join((_lengths.pack(len(first), len(second)), first, second, third, b"}"))


def decode(payload: Buffer) -> Annotation:
    """The annotation of a stored value."""
    annotation: Annotation = orjson.loads(memoryview(payload)[_lengths.size :])
    return annotation


def span(payload: Buffer, section: int) -> tuple[int, int]:
    """Where the members of a section begin in a stored value, with the brace or comma before them, and where they end."""
    first, second = _lengths.unpack_from(payload)
    if section == MAIN:
        return _lengths.size, _lengths.size + first
    start: int = _lengths.size + first
    return (start, start + second) if section == USERS else (start + second, len(payload) - 1)


def fields_of(payload: Buffer, section: int) -> Fields:
    """The fields of one section, without ``bodyid``."""
    found = _members.members(payload, *span(payload, section))
    found.pop(BODYID_TEXT, None)
    return {orjson.loads(name): value for name, value in found.items()}


# -- shown -------------------------------------------------------------------------------------------------------------


class Selection(NamedTuple):
    """Which fields of an annotation an answer has; ``bodyid`` always."""

    user: bool = False
    time: bool = False
    fields: frozenset[str] | None = None
    """``None``: all."""

    @classmethod
    def of(cls, show: str, fields: str) -> Selection:
        """By the values of the query parameters."""
        return cls(show in ("user", "all"), show in ("time", "all"), frozenset(fields.split(",")) if fields else None)

    def shows(self, name: str) -> bool:
        """Whether a field is shown."""
        fields = self.fields
        if fields is not None and name in fields:
            return True
        section = section_of(name)
        if section == MAIN:
            return fields is None or name == BODYID
        wanted = self.user if section == USERS else self.time
        return wanted and (fields is None or name[:-5] in fields)

    @property
    def sections(self) -> frozenset[int]:
        """The sections that shown fields may lie in."""
        if self.fields is None:
            found = {MAIN}
        else:
            found = {section_of(name) for name in self.fields if name != BODYID}
        return frozenset(found | ({USERS} if self.user else set()) | ({TIMES} if self.time else set()))

    def text(self, payload: Buffer) -> bytes:
        """A stored annotation as it is shown."""
        if self.fields is not None:
            return orjson.dumps({name: value for name, value in decode(payload).items() if self.shows(name)})
        view = memoryview(payload)
        if self.user and self.time:
            return bytes(view[_lengths.size :])
        first, second = _lengths.unpack_from(view)
        first += _lengths.size
        second += first
        if self.user:
            return b"".join((view[_lengths.size : second], b"}"))
        if self.time:
            return b"".join((view[_lengths.size : first], view[second:]))
        return b"".join((view[_lengths.size : first], b"}"))
