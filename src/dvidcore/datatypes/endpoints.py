"""How an endpoint is declared: once, as a method under ``@endpoint``.

The declaration has the verb, the path with typed parts, the query parameters, what it answers. Routing, argument
checking, help texts, the OpenAPI document and ``docs/http-api.md`` all come from it. The method gets a ``Call`` and its
parsed arguments by name and returns

- ``None`` (200, empty), ``bytes``-like (octet-stream), ``str`` (text), ``dict`` or ``list`` (JSON), or
- a ``Reply`` with a content type, headers, a status, or an iterator of bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from dvidcore.datatypes.arguments import KINDS, Kind, Query

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a path: a literal word, or a named argument of a kind. ``rest`` takes all that is left."""

    name: str
    kind: Kind | None = None
    rest: bool = False


_SLICES = frozenset({"xy", "xz", "yz", "0_1", "0_2", "1_2", "0,1", "0,2", "1,2"})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The declaration of one endpoint; ``handler`` is the name of the method."""

    verb: str
    path: str
    parts: tuple[Part, ...]
    query: tuple[Query, ...]
    answers: str
    summary: str
    description: str
    writes: bool
    reads_with: tuple[str, str] | None
    throttle: bool
    handler: str

    def only_reads(self, query: Mapping[str, str]) -> bool:
        """Whether a request with this query changes nothing, though others of the endpoint do."""
        return self.reads_with is not None and query.get(self.reads_with[0]) == self.reads_with[1]

    def throttled(self, query: Mapping[str, str], arguments: Mapping[str, Any]) -> bool:
        """Whether a request with this query and these arguments takes a throttle slot. Slices, by ``dims``, never do."""
        if not self.throttle or query.get("throttle") not in ("true", "on"):
            return False
        return str(arguments.get("dims", "")).lower() not in _SLICES

    @property
    def keyword(self) -> str:
        """The first word of the path; empty where the path starts with an argument."""
        return "" if self.parts[0].kind is not None else self.parts[0].name


def _parts(path: str) -> tuple[Part, ...]:
    """``"raw/{dims:text}/{size:size}"`` as parts; ``{name:rest}`` takes what is left of the path, slashes included."""
    out = []
    for piece in path.split("/"):
        if piece.startswith("{"):
            name, kind = piece[1:-1].split(":")
            out.append(Part(name, rest=True) if kind == "rest" else Part(name, KINDS[kind]))
        else:
            out.append(Part(piece))
    return tuple(out)


def endpoint(
    verb: str,
    path: str,
    *,
    query: Sequence[Query] = (),
    answers: str = "",
    writes: bool | None = None,
    reads_with: tuple[str, str] | None = None,
    throttle: bool = False,
) -> Callable[[F], F]:
    """Declares the method below as an endpoint. Several may stand on one method.

    ``answers`` is the content type, ``""`` for an empty answer. ``writes`` defaults to True for all verbs but GET and
    HEAD: a locked version refuses it, but not requests with the query parameter and value of ``reads_with``. With
    ``throttle`` a request that says ``throttle=true|on`` takes one of the server's throttle slots or is answered 503,
    unless it is for a slice.
    """

    def declare(method: F) -> F:
        doc = (method.__doc__ or "").strip()
        if not doc:
            raise TypeError(f"the endpoint {verb} {path} has no description")
        summary, _, rest = doc.partition("\n")
        declared = Endpoint(
            verb=verb,
            path=path,
            parts=_parts(path),
            query=tuple(query),
            answers=answers,
            summary=summary.strip(),
            description="\n".join(line.strip() for line in rest.strip().splitlines()),
            writes=verb not in ("GET", "HEAD") if writes is None else writes,
            reads_with=reads_with,
            throttle=throttle,
            handler=method.__name__,
        )
        method.__dict__.setdefault("endpoints", []).insert(0, declared)
        return method

    return declare
