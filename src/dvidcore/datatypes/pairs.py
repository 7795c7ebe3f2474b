"""Key-value pairs as they cross the wire: the keys that are asked for, and answers as protobuf, JSON or tar.

An answer is made of pieces that a generator yields, one pair after the other. ``None`` as a value stands for a key that
does not exist; it looks like an empty value in every form.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

import orjson

from dvidcore import wire
from dvidcore.datatypes.arguments import switch
from dvidcore.datatypes.byterange import check_bounds
from dvidcore.datatypes.call import JSON, OCTETS, Body, Buffer, Reply
from dvidcore.errors import BadRequest

Pair = tuple[str, Buffer | None]
Wanted = tuple[str, int | None, int | None]
"""A key, and the first and last byte that are wanted of its value or ``None``."""

TAR = "application/tar"
WHOLE = 16 << 20
"""Answers up to this size are held in memory; larger ones are streamed."""

FORMS = (
    switch("json", False, "answers a JSON object key → value; each value must be JSON, an empty one is {}"),
    switch("tar", False, "answers a tar file with a member per key"),
    switch("jsontar", False, "the same as tar"),
    switch("protobuf", False, "answers a KeyValues message, which is the default"),
)
"""Query parameters for the form of an answer."""

_TAR_BLOCK = 512


# -- requests -------------------------------------------------------------------------------------------------------


def form_of(json: bool = False, tar: bool = False, jsontar: bool = False, protobuf: bool = False) -> str:
    """Which of ``protobuf``, ``json`` and ``tar`` the query asks for. BadRequest for several."""
    tar = tar or jsontar
    if json + tar + protobuf > 1:
        raise BadRequest("only one of json, tar (or jsontar) and protobuf may be true")
    return "json" if json else "tar" if tar else "protobuf"


def posted(body: Body) -> Iterator[tuple[str, bytes]]:
    """The pairs of a ``KeyValues`` message; BadRequest on reaching what is none."""
    try:
        yield from wire.read_key_values(body.read)
    except BadRequest:
        raise
    except ValueError as e:
        raise BadRequest(f"the body is not a KeyValues message: {e}") from None


def wanted_of_protobuf(body: bytes) -> list[Wanted]:
    """What a ``Keys`` message asks for: its keys, then its key ranges."""
    try:
        keys, ranges = wire.decode_keys(body)
    except ValueError as e:
        raise BadRequest(f"the body is not a Keys message: {e}") from None
    for key, start, end in ranges:
        check_bounds(start, end, f'key "{key[:200]}": ')
    return [*((key, None, None) for key in keys), *ranges]


def wanted_of_json(keys: Any) -> list[Wanted]:
    """What a JSON list asks for: all texts, or all objects ``{"key": K}`` with ``byte_start`` and ``byte_end`` or not."""
    if not isinstance(keys, list):
        raise BadRequest(f"the body must be a JSON list, not {type(keys).__name__}")
    if all(isinstance(key, str) for key in keys):
        return [(key, None, None) for key in keys]
    if not all(isinstance(key, dict) for key in keys):
        raise BadRequest("the body must be a list of strings or a list of objects")
    return [_wanted(given) for given in keys]


def _wanted(given: dict[str, Any]) -> Wanted:
    key = given.get("key")
    if not isinstance(key, str):
        raise BadRequest('each object of the list needs "key", a string')
    what = f'key "{key[:200]}": '
    start, end = (_bound(given, name, what) for name in ("byte_start", "byte_end"))
    check_bounds(start, end, what)
    return key, start, end


def _bound(given: dict[str, Any], name: str, what: str) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    if type(value) is not int or value < 0:
        raise BadRequest(f"{what}{name} must be an integer from 0 on")
    return value


# -- answers --------------------------------------------------------------------------------------------------------


def protobuf_pieces(pairs: Iterable[Pair]) -> Iterator[Buffer]:
    """A ``KeyValues`` message."""
    head = wire.key_value_head
    for key, value in pairs:
        if value:
            yield head(key, len(value))
            yield value
        else:
            yield head(key, 0)


def json_pieces(pairs: Iterable[Pair], check: bool) -> Iterator[Buffer]:
    """A JSON object with the values as they stand, ``{}`` for empty ones and for keys that do not exist.

    With ``check`` raises BadRequest on reaching a value that is not JSON.
    """
    before = b"{"
    for key, value in pairs:
        yield b"".join((before, orjson.dumps(key), b":"))
        before = b","
        if not value:
            yield b"{}"
            continue
        if check:
            try:
                orjson.loads(value)
            except orjson.JSONDecodeError as e:
                raise BadRequest(f'key "{key[:200]}": the value is not JSON: {e}') from None
        yield value
    yield b"{}" if before == b"{" else b"}"


def tar_pieces(pairs: Iterable[Pair]) -> Iterator[Buffer]:
    """A tar file, one member per pair: the key is its name, the mode 0755."""
    size = 0
    for key, value in pairs:
        member = tarfile.TarInfo(key)
        member.mode = 0o755
        member.size = len(value) if value else 0
        head = member.tobuf(tarfile.PAX_FORMAT)
        padding = -member.size % _TAR_BLOCK
        yield head
        if value:
            yield value
        if padding:
            yield bytes(padding)
        size += len(head) + member.size + padding
    # Two empty blocks end the file, whose size is a multiple of 20 blocks.
    yield bytes(2 * _TAR_BLOCK + -(size + 2 * _TAR_BLOCK) % tarfile.RECORDSIZE)


def answer_pairs(form: str, pairs: Callable[[], Iterable[Pair]], check: bool) -> Reply:
    """The pairs in a form of ``form_of``.

    All of the answer is made once before its first byte is sent, so that what is wrong with any pair becomes an error
    of the request. Where it is too large to be kept it is made again while it is sent: ``pairs`` is called twice then,
    and must give the same.
    """

    def pieces() -> Iterator[Buffer]:
        if form == "json":
            return json_pieces(pairs(), check)
        return tar_pieces(pairs()) if form == "tar" else protobuf_pieces(pairs())

    content_type = {"json": JSON, "tar": TAR}.get(form, OCTETS)
    kept: list[Buffer] = []
    length = 0
    for part in pieces():
        length += len(part)
        if length <= WHOLE:
            kept.append(part)
        else:
            kept.clear()
    if length <= WHOLE:
        return Reply(b"".join(kept), content_type)
    return Reply(pieces(), content_type, length=length)


def answer_list(items: Iterator[bytes], content_type: str = JSON) -> Reply:
    """A JSON list of items that are JSON already, such as ``b'"a","b"'``. A large one is streamed as it is made."""

    def pieces() -> Iterator[Buffer]:
        before = b"["
        for item in items:
            yield before + item
            before = b","
        yield b"[]" if before == b"[" else b"]"

    source, kept, length = pieces(), list[Buffer](), 0
    for part in source:
        kept.append(part)
        length += len(part)
        if length > WHOLE:
            return Reply(chain(kept, source), content_type)
    return Reply(b"".join(kept), content_type)
