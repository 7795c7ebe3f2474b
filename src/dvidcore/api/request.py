"""A request to one of the server's own endpoints, as they see it: no web framework, only what was asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dvidcore.datatypes.call import Body
from dvidcore.errors import BadRequest


@dataclass(slots=True)
class Request:
    """What a method of ``ServerEndpoints``, ``RepoEndpoints`` or ``NodeEndpoints`` gets beside its arguments."""

    verb: str
    path: str
    query: Mapping[str, str]
    environ: Mapping[str, Any]
    body: Body
    admin: bool

    def require_admin(self) -> None:
        """BadRequest (DVID's choice) where the request has not the admin token."""
        if not self.admin:
            raise BadRequest(f"{self.verb} {self.path} requires admin privileges (admintoken)")

    def config(self, *, required: bool = False) -> dict[str, Any]:
        """The body as configuration JSON: an object whose keys are taken in any case; ``{}`` for an empty body."""
        if not required and self.body.length == 0:
            return {}
        return {key.lower(): value for key, value in self.body.json_object().items()}


def text_of(config: Mapping[str, Any], key: str, default: str | None = "") -> str:
    """A text in configuration JSON; without a default (None) it must be there."""
    value = config.get(key, default)
    if value is None and key not in config:
        raise BadRequest(f'"{key}" is missing')
    if not isinstance(value, str):
        raise BadRequest(f'"{key}": the value must be a string')
    return value


def optional_text(config: Mapping[str, Any], key: str) -> str:
    """A text in JSON that may be left out, or be null, which is what clients send that have none."""
    return text_of(config, key) if config.get(key) is not None else ""


def texts_of(config: Mapping[str, Any], key: str) -> list[str]:
    """A list of texts in configuration JSON, which must be there."""
    value = config.get(key)
    if value is None:
        raise BadRequest(f'"{key}" is missing')
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadRequest(f'"{key}": the value must be a list of strings')
    return value
