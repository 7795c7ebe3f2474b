"""Answers compressed by gzip while they are made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from isal import isal_zlib

from dvidcore.datatypes.call import Buffer, Reply

_LEVEL = 1
_GZIP = 31  # zlib's name for windows of 32 KB in a gzip member


def accepts_gzip(headers: Mapping[str, str]) -> bool:
    """Whether a request says that its answer may be compressed by gzip."""
    weights = {"gzip": "0"}
    for choice in headers.get("accept-encoding", "").split(","):
        name, _, parameter = choice.partition(";")
        weights[name.strip().lower()] = parameter.partition("=")[2].strip() or "1"
    return weights["gzip"].strip("0.") != ""


def gzipped(reply: Reply) -> Reply:
    """The reply as one gzip member."""
    body = reply.body
    headers = {**reply.headers, "Content-Encoding": "gzip"}
    if isinstance(body, bytes | bytearray | memoryview):
        return replace(reply, body=b"".join(_pieces([body])), headers=headers)
    if body is None or isinstance(body, str):
        raise TypeError("only bytes are compressed")
    return replace(reply, body=_pieces(body), headers=headers, length=None)


def _pieces(parts: Iterable[Buffer]) -> Iterator[bytes]:
    member = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _GZIP)
    for part in parts:
        if piece := member.compress(part):
            yield piece
    yield member.flush()
