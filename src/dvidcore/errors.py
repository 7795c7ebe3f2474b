"""The errors that dvidcore raises on purpose, each with the HTTP status that the server answers with.

A kernel raises ``ValueError``; everything above it raises one of these. The translation to HTTP is in one place,
``dvidcore.api.errors``. The text of an error is written for the person who sent the request: which argument, what was
wrong with it, what is allowed.
"""

from __future__ import annotations


class DvidError(Exception):
    """Base of all. ``status`` is the HTTP status code that it becomes."""

    status = 500


class BadRequest(DvidError, ValueError):
    """An argument or a body that the request may not have."""

    status = 400


class Unauthorized(DvidError):
    """The request says nothing, or nothing valid, about who sends it."""

    status = 401


class Forbidden(DvidError):
    """Known, but without the right that the request needs (DVID answers 400 for a missing admin token)."""

    status = 403


class NotFound(DvidError, KeyError):
    """A key, label, blob or path that does not exist."""

    status = 404

    def __str__(self) -> str:  # KeyError would show the repr
        return str(self.args[0]) if self.args else ""


class MethodNotAllowed(DvidError):
    """A verb that an endpoint does not take."""

    status = 405


class Conflict(DvidError):
    """Two versions that were merged both changed the value that is asked for."""

    status = 409


class TooLarge(DvidError):
    """A body or an answer beyond a configured limit."""

    status = 413


class Blocked(DvidError):
    """A user or address on the block list."""

    status = 429


class MissingExtra(DvidError):
    """What was asked for needs an optional package that is not installed."""

    status = 501


class BadGateway(DvidError):
    """Another service, which holds the data, failed; the text has its reason."""

    status = 502


class GatewayTimeout(DvidError):
    """Another service, which holds the data, did not answer in time."""

    status = 504


class Unavailable(DvidError):
    """Throttled or shutting down: the client may try again."""

    status = 503


class Locked(BadRequest):
    """A write to a committed version."""


class StoreError(DvidError):
    """The store cannot be opened or read: in use by another process, of another format, or corrupt."""


class GuardFailed(DvidError):
    """A guarded write whose expected values no longer hold; the writer reads again and retries."""

    status = 503
