"""What waitress itself refuses, before the application sees it: answered as one line, as all errors are.

waitress has no types, so its classes are ``Any`` to a type checker.
"""

from __future__ import annotations

from typing import Any

from waitress import utilities
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import ErrorTask


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    """waitress's parser of requests, which closes the connection without a word on some targets that are no URI."""

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except ValueError as error:
            raise ParsingError(f"Bad URI: {error}") from None


class _Refusal(ErrorTask):  # type: ignore[misc]
    """The answer to a request that waitress refused."""

    def execute(self) -> None:
        error = self.request.error
        text = str(error.body)
        if isinstance(error, utilities.RequestEntityTooLarge):
            # The limit is given to waitress one higher, for it refuses bodies of the limit itself.
            limit = self.channel.adj.max_request_body_size - 1
            text = f"the body is too large, at most {limit} bytes are allowed (maxBodySize)"
        body = f"{' '.join(text.split()).rstrip('.')}.\n".encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers.append(("Content-Type", "text/plain"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection; for waitress's ``server.channel_class``."""

    parser_class: Any = _Parser
    error_task_class: Any = _Refusal
