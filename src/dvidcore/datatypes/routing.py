"""From a path to an endpoint: tables that are compiled once from the declarations, and query strings."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any
from urllib.parse import unquote_plus

from dvidcore.datatypes.arguments import Parser
from dvidcore.datatypes.endpoints import Endpoint
from dvidcore.errors import BadRequest, DvidError, MethodNotAllowed


class Route:
    """An endpoint, ready to be matched and to have its arguments parsed."""

    __slots__ = ("defaults", "endpoint", "handler", "least", "literals", "named", "open_end", "parsers", "strict")

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.handler = endpoint.handler
        self.literals: list[tuple[int, str]] = []
        self.named: list[tuple[int, str, Parser]] = []
        self.open_end: tuple[int, str] | None = None
        for place, part in enumerate(endpoint.parts):
            if part.rest:
                self.open_end = (place, part.name)
            elif part.kind is None:
                self.literals.append((place, part.name))
            else:
                self.named.append((place, part.name, part.kind.parse))
        self.least = len(endpoint.parts)
        self.parsers: dict[str, Parser] = {q.name: q.parse for q in endpoint.query}
        self.strict = frozenset(q.name for q in endpoint.query if q.empty)
        self.defaults: dict[str, Any] = {q.name: q.default for q in endpoint.query}

    def fits(self, parts: Sequence[str]) -> bool:
        """Whether a path of these parts is this endpoint's; what the arguments say is not looked at."""
        count = len(parts)
        if count != self.least and (self.open_end is None or count < self.least):
            return False
        return all(parts[place] == word for place, word in self.literals)

    def arguments(self, parts: Sequence[str], query: dict[str, str]) -> dict[str, Any]:
        """The parsed arguments by name; BadRequest where one is wrong.

        An empty query value is an absent one, unless the parameter says otherwise.
        """
        found = self.defaults.copy()
        for place, name, parse in self.named:
            found[name] = parse(parts[place], name)
        if self.open_end is not None:
            place, name = self.open_end
            found[name] = "/".join(parts[place:])
        if query:
            parsers = self.parsers
            for name, value in query.items():
                if name in parsers and (value or name in self.strict):
                    found[name] = parsers[name](value, name)
        return found


class Table:
    """Endpoints by their first word and verb; among those that fit, the one with the most literal words wins.

    A path that starts with an argument stands under the empty word, which is tried for words that are no other's.
    """

    def __init__(self, endpoints: Iterable[Endpoint], strict: Collection[str] = ()) -> None:
        self.strict = strict
        """First words at which another verb is a 405."""
        self.endpoints = list(endpoints)
        self.words: dict[str, dict[str, list[Route]]] = {}
        for endpoint in self.endpoints:
            routes = self.words.setdefault(endpoint.keyword, {}).setdefault(endpoint.verb, [])
            routes.append(Route(endpoint))
        for verbs in self.words.values():
            for routes in verbs.values():
                routes.sort(key=lambda route: -len(route.literals))

    def find(self, verb: str, parts: list[str]) -> Route | None:
        """The route of a path, or None. HEAD is a GET where nothing else is declared for it.

        One trailing slash is dropped where the path without it is known.
        """
        verbs = self.words.get(parts[0]) or self.words.get("")
        if verbs is None:
            return None
        for word in (verb, "GET") if verb == "HEAD" else (verb,):
            routes = verbs.get(word)
            if routes is None:
                continue
            if parts[-1] == "":
                for route in routes:
                    if route.fits(parts[:-1]):
                        parts.pop()
                        return route
            for route in routes:
                if route.fits(parts):
                    return route
        return None

    def verbs(self, parts: Sequence[str]) -> list[str]:
        """The verbs that a path takes, OPTIONS included; empty where it is no endpoint's."""
        if len(parts) > 1 and parts[-1] == "":
            parts = parts[:-1]
        known = [
            verb
            for verb, routes in (self.words.get(parts[0]) or self.words.get("", {})).items()
            if any(route.fits(parts) for route in routes)
        ]
        if not known:
            return []
        return sorted({*known, "OPTIONS", *(("HEAD",) if "GET" in known else ())})

    def refusal(self, verb: str, parts: Sequence[str], help_path: str) -> DvidError:
        """Why no endpoint of a data instance fits: an unknown word, another verb, or other arguments."""
        word = parts[0]
        known = self.words.get(word)
        if known is None:
            return BadRequest(f'"{word[:60]}" is not an endpoint of this instance; see {help_path}')
        if verb not in known:
            kind = MethodNotAllowed if word in self.strict else BadRequest
            return kind(f"{word} does not take {verb}, only {', '.join(known)}; see {help_path}")
        forms = " or ".join(route.endpoint.path for route in known[verb])
        return BadRequest(f"{verb} {word} takes the form {forms}; see {help_path}")


def parse_query(text: str) -> dict[str, str]:
    """A query string as a dict. Of a name that occurs twice the first value counts, as in DVID."""
    found: dict[str, str] = {}
    if not text.isascii():
        # Bytes that the client should have percent-encoded, handed over as latin-1.
        text = text.encode("latin-1", "replace").decode("utf-8", "replace")
    for pair in text.split("&"):
        if "%" in pair or "+" in pair:
            name, _, value = pair.partition("=")
            found.setdefault(unquote_plus(name), unquote_plus(value))
        elif pair:
            name, _, value = pair.partition("=")
            found.setdefault(name, value)
    return found


def endpoints_of(group: type) -> list[Endpoint]:
    """The endpoints that the methods of a class declare, in their order."""
    return [
        declared
        for member in vars(group).values()
        for declared in getattr(member, "endpoints", ())
        if isinstance(declared, Endpoint)
    ]
