"""The body of an HTTP request as datatypes read it: streamed, bounded, and never shorter than announced."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any

from dvidcore.datatypes.call import Body, BytesBody
from dvidcore.errors import BadRequest, TooLarge

EMPTY: Body = BytesBody()

_PIECE = 1 << 20


class StreamBody(Body):
    """A body of known length that is read from ``wsgi.input``; BadRequest where the connection ends before it does."""

    def __init__(self, stream: Any, length: int) -> None:
        self._stream = stream
        self.length = self._left = length

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        if wanted == self.length and type(self._stream) is BytesIO and self._stream.tell() == 0:
            # Hands out the buffer itself, where read() would copy it.
            data: bytes = self._stream.getvalue()
        else:
            data = self._stream.read(wanted)
        if len(data) < wanted:
            data = self._read_on(data, wanted)
        self._left -= wanted
        return data

    def _read_on(self, data: bytes, wanted: int) -> bytes:
        """A stream may answer less than it was asked for; only nothing means the end."""
        pieces, got = [data], len(data)
        while got < wanted:
            piece = self._stream.read(wanted - got)
            if not piece:
                raise BadRequest(
                    f"the body ended after {self.length - self._left + got} of the {self.length} bytes announced"
                )
            pieces.append(piece)
            got += len(piece)
        return b"".join(pieces)


def body_of(environ: Mapping[str, Any], limit: int) -> Body:
    """The body of a request, empty where none was announced.

    Raises BadRequest for a Content-Length that is no number and TooLarge beyond ``limit`` bytes. A chunked body whose
    length the server does not know is read at once, within the limit.
    """
    announced = environ.get("CONTENT_LENGTH")
    if announced:
        if not (announced.isascii() and announced.isdecimal()):
            raise BadRequest(f'Content-Length "{announced[:40]}" is not a number of bytes')
        length = int(announced)
        if length > limit:
            raise TooLarge(f"the body has {length} bytes, at most {limit} are allowed (maxBodySize)")
        return StreamBody(environ["wsgi.input"], length) if length else EMPTY
    if environ.get("HTTP_TRANSFER_ENCODING"):
        return BytesBody(_read_all(environ["wsgi.input"], limit))
    return EMPTY


def _read_all(stream: Any, limit: int) -> bytes:
    pieces, got = [], 0
    while piece := stream.read(_PIECE):
        got += len(piece)
        if got > limit:
            raise TooLarge(f"the body has more than the {limit} bytes that are allowed (maxBodySize)")
        pieces.append(piece)
    return b"".join(pieces)


def drain(environ: Mapping[str, Any], limit: int) -> None:
    """Reads what nobody wanted of a body, where the server hands it over as it comes (granian; not waitress).

    Such a server closes the connection on the rest, and the client would see that instead of its answer. Bodies beyond
    the limit are left to that.
    """
    stream = environ["wsgi.input"]
    announced = environ.get("CONTENT_LENGTH") or ""
    if hasattr(stream, "seek") or not (announced.isdecimal() or environ.get("HTTP_TRANSFER_ENCODING")):
        return
    if announced and int(announced) > limit:
        return
    left = limit
    while left > 0 and (piece := stream.read(_PIECE)):
        left -= len(piece)
