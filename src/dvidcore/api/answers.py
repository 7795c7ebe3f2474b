"""How what an endpoint returned leaves the server: small answers at once, big ones without a copy, streams in pieces.

Whatever a request still holds (a snapshot, a throttle slot) is let go by ``close``, called once: when the answer has
been sent, when the connection breaks, or at once where the answer does not need it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import falcon
import orjson

from dvidcore.datatypes.call import JSON, TEXT, Buffer, Reply

Close = Callable[[], None]

BIG = 1 << 16
"""From this many bytes on an answer leaves through the server's file wrapper, which does not copy it."""
PIECE = 1 << 18
"""Pieces of a stream are joined up to about this many bytes, for each costs the server a lock and a system call."""


class BufferFile:
    """A buffer as a file to read from: what a WSGI server's file wrapper sends without copying it."""

    def __init__(self, data: Buffer, close: Close | None) -> None:
        self._view = memoryview(data).cast("B")
        self._at = 0
        self._close = close

    def read(self, size: int = -1) -> memoryview:
        start = self._at
        self._at = len(self._view) if size < 0 else min(start + size, len(self._view))
        return self._view[start : self._at]

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._view)}[whence]
        self._at = min(max(base + offset, 0), len(self._view))
        return self._at

    def tell(self) -> int:
        return self._at

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        close, self._close = self._close, None
        if close is not None:
            close()


class Stream:
    """An iterator of buffers as the body of an answer. An exception in it breaks the connection: there is no way to
    take back a status that has been sent.
    """

    def __init__(self, source: Iterator[Buffer], close: Close) -> None:
        self._source = source
        self._close: Close | None = close
        self._ended = False
        # What fails before the first byte can still be answered with its status.
        try:
            self._first: bytes | None = self._join()
        except BaseException:
            self.close()
            raise

    def whole(self) -> bytes | None:
        """All of the body where that is no more than a piece; the stream is closed then."""
        if not self._ended:
            return None
        self.close()
        return self._first

    def _join(self) -> bytes:
        """The next piece, nothing at the end."""
        pieces: list[Buffer] = []
        size = 0
        for piece in self._source:
            pieces.append(piece)
            size += len(piece)
            if size >= PIECE:
                break
        else:
            self._ended = True
        first = pieces[0] if len(pieces) == 1 else None
        return first if type(first) is bytes else b"".join(pieces)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece, self._first = self._first, None
        if piece is None:
            piece = b"" if self._ended else self._join()
        if not piece:
            self.close()
            raise StopIteration
        return piece

    def close(self) -> None:
        close, self._close = self._close, None
        if close is not None:
            try:
                getattr(self._source, "close", _nothing)()
            finally:
                close()


def _nothing() -> None:
    pass


def send(resp: falcon.Response, result: Any, declared: str, environ: Mapping[str, Any], close: Close) -> None:
    """Fills the response with what an endpoint returned.

    ``declared`` is the endpoint's content type; dicts and lists are JSON, texts text/plain unless it says otherwise.
    ``close`` is called here where nothing of the answer depends on the request any more.
    """
    headers: Mapping[str, str] | None = None
    length = None
    if type(result) is Reply:
        declared, headers, length = result.content_type, result.headers, result.length
        resp.status = result.status
        result = result.body
    kind = type(result)
    if kind is bytes:
        data: Buffer = result
    elif kind is dict or kind is list:
        data = orjson.dumps(result, option=orjson.OPT_SERIALIZE_NUMPY)
        declared = declared or JSON
    elif kind is str:
        data = result.encode()
        declared = declared or TEXT
    elif result is None:
        data = b""
    elif isinstance(result, bytearray | memoryview):
        data = result
    else:
        stream = Stream(iter(result), close)
        resp.content_type = declared or TEXT
        if headers:
            resp.set_headers(headers)
        # With a length known waitress keeps the connection open; behind chunks it closes it.
        whole = stream.whole()
        if length is None and whole is not None:
            length = len(whole)
        if length is not None:
            resp.content_length = length
        if environ["REQUEST_METHOD"] == "HEAD":
            stream.close()
            resp.data = b""
        elif whole is not None:
            resp.data = whole
        else:
            resp.stream = stream
        return
    resp.content_type = declared or TEXT
    if headers:
        resp.set_headers(headers)
    size = data.nbytes if type(data) is memoryview else len(data)
    if environ["REQUEST_METHOD"] == "HEAD":
        close()
        resp.data = b""
        resp.content_length = size
    elif size >= BIG and "wsgi.file_wrapper" in environ:
        resp.stream = BufferFile(data, close)  # type: ignore[assignment]
        resp.content_length = size
    else:
        resp.data = data if type(data) is bytes else bytes(data)
        close()
