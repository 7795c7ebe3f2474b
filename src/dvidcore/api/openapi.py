"""The API as an OpenAPI document and as ``docs/http-api.md``, both made from the declarations.

``python -m dvidcore.api.openapi > docs/http-api.md`` writes the latter.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cache
from typing import Any

from dvidcore._version import __version__
from dvidcore.api.core import GROUPS, PREFIX
from dvidcore.datatypes.arguments import Query
from dvidcore.datatypes.base import DataType
from dvidcore.datatypes.endpoints import Endpoint, Part
from dvidcore.datatypes.help import plain_path, settings_of, shown_default
from dvidcore.datatypes.registry import datatype, type_names
from dvidcore.datatypes.routing import endpoints_of

INSTANCE = f"{PREFIX}node/{{uuid}}/{{instance}}/"
_TAGS = {"ServerEndpoints": "server", "RepoEndpoints": "repos", "NodeEndpoints": "versions"}
_PATTERNS = {"point": r"^-?\d+_-?\d+_-?\d+$", "size": r"^\d+_\d+_\d+$"}


def operations() -> Iterator[tuple[str, str, Endpoint]]:
    """Tag, full path and declaration of every endpoint: the server's own, then those of each data type."""
    for group in GROUPS:
        for declared in endpoints_of(group):
            yield _TAGS[group.__name__], PREFIX + plain_path(declared), declared
    for name in type_names():
        for declared in datatype(name).endpoints():
            yield name, INSTANCE + plain_path(declared), declared


@cache
def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document. Where several types have an endpoint at the same path, it is one operation."""
    paths: dict[str, dict[str, Any]] = {}
    shapes: dict[str, str] = {}
    for tag, path, declared in operations():
        shape = "/".join("{}" if piece.startswith("{") else piece for piece in path.split("/"))
        first = shapes.setdefault(shape, path)
        verbs = paths.setdefault(first, {})
        operation = _operation(tag, path, declared)
        _rename(operation, dict(zip(_names(path), _names(first), strict=True)))
        known = verbs.setdefault(declared.verb.lower(), operation)
        if known is not operation:
            _join(known, operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "dvidcore",
            "version": __version__,
            "description": "A versioned data server for connectomics with DVID's HTTP API.",
        },
        "tags": [{"name": tag} for tag in (*_TAGS.values(), *type_names())],
        "paths": paths,
    }


def _operation(tag: str, path: str, declared: Endpoint) -> dict[str, Any]:
    parameters = []
    if path.startswith(INSTANCE):
        parameters += [_path_parameter(name) for name in ("uuid", "instance")]
    parameters += [_path_parameter(part.name, part) for part in declared.parts if part.kind or part.rest]
    parameters += [_query_parameter(query) for query in declared.query]
    good: dict[str, Any] = {"description": "Success"}
    if declared.answers:
        good["content"] = {declared.answers: {}}
    operation: dict[str, Any] = {
        "tags": [tag],
        "summary": declared.summary,
        "parameters": parameters,
        "responses": {
            "200": good,
            "4XX": {"description": "One line of text that says what was wrong", "content": {"text/plain": {}}},
        },
    }
    if declared.description:
        operation["description"] = declared.description
    if declared.verb in ("POST", "PUT"):
        operation["requestBody"] = {"content": {"*/*": {}}}
    return operation


def _names(path: str) -> list[str]:
    return [piece[1:-1] for piece in path.split("/") if piece.startswith("{")]


def _rename(operation: dict[str, Any], names: dict[str, str]) -> None:
    """Calls the arguments of a path as the first endpoint of its shape does: the document has one path for both."""
    for parameter in operation["parameters"]:
        if parameter["in"] == "path" and (name := names[parameter["name"]]) != parameter["name"]:
            parameter["description"] = f"{parameter['name']}: {parameter['description']}"
            parameter["name"] = name


def _join(known: dict[str, Any], other: dict[str, Any]) -> None:
    known["tags"] += [tag for tag in other["tags"] if tag not in known["tags"]]
    names = {(p["in"], p["name"]) for p in known["parameters"]}
    known["parameters"] += [p for p in other["parameters"] if p["in"] == "query" and (p["in"], p["name"]) not in names]


def _path_parameter(name: str, part: Part | None = None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    said = {"uuid": "a version", "instance": "name of a data instance"}.get(name, "")
    if part is not None and part.kind is not None:
        if part.kind.name in ("int", "uint64", "label"):
            schema = {"type": "integer"}
        elif part.kind.name in _PATTERNS:
            schema["pattern"] = _PATTERNS[part.kind.name]
        said = said or part.kind.help
    return {"name": name, "in": "path", "required": True, "schema": schema, "description": said or "text"}


def _query_parameter(query: Query) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if query.kind == "integer":
        schema = {"type": "integer"}
    elif "|" in query.kind:
        schema["enum"] = query.kind.split("|")
    if query.default not in (None, ""):
        schema["default"] = query.default if schema["type"] == "integer" else shown_default(query.default)
    return {"name": query.name, "in": "query", "schema": schema, "description": query.help}


# -- docs/http-api.md -----------------------------------------------------------------------------------------------

_HEAD = """# HTTP API

Made from the declarations in the code by `python -m dvidcore.api.openapi > docs/http-api.md`; do not edit.

A version (`{uuid}`) is named by a prefix of its UUID of at least three characters, by `UUID:branch` (the branch's
leaf) or `UUID:branch~N` (N steps above it); `master` is the unnamed branch. Any request may carry `u=` (user), `app=`
(program) and `admintoken=`. Errors are one line of `text/plain`. HEAD works where GET does, OPTIONS tells the verbs.
"""


def markdown() -> str:
    """The text of ``docs/http-api.md``."""
    lines = [_HEAD]
    for group in GROUPS:
        lines += [
            f"## {_TAGS[group.__name__].capitalize()}",
            "",
            *inspect.cleandoc(group.__doc__ or "").splitlines(),
            "",
        ]
        for declared in endpoints_of(group):
            lines += _markdown(declared, PREFIX)
    generic = {(e.verb, e.path) for e in DataType.endpoints()}
    lines += ["## Every data instance", "", f"Paths are behind `{INSTANCE}`.", ""]
    for declared in DataType.endpoints():
        lines += _markdown(declared, "")
    for name in type_names():
        cls = datatype(name)
        lines += [f"## {name}", "", f"`{cls.url}`, version {cls.typeversion}", ""]
        if cls.__doc__:
            lines += [inspect.cleandoc(cls.__doc__), ""]
        lines += ["| setting | default | |", "| --- | --- | --- |"]
        lines += [
            f"| `{name}` | {f'`{default}`' if default else ''} | {_cell(said)} |"
            for name, default, said in settings_of(cls)
        ]
        lines.append("")
        for declared in cls.endpoints():
            if (declared.verb, declared.path) not in generic or declared.handler in vars(cls):
                lines += _markdown(declared, "")
    return "\n".join(lines).rstrip() + "\n"


def _markdown(declared: Endpoint, prefix: str) -> list[str]:
    lines = [f"### {declared.verb} {prefix}{plain_path(declared)}", "", declared.summary]
    if declared.description:
        lines += ["", declared.description]
    rows = [
        (part.name, "path", part.kind.help) for part in declared.parts if part.kind is not None and part.name != "uuid"
    ]
    rows += [(part.name, "path", "the rest of the path") for part in declared.parts if part.rest]
    for query in declared.query:
        default = "" if query.default in (None, "", False) else f"; default `{shown_default(query.default)}`"
        rows.append((query.name, query.kind, f"{query.help}{default}"))
    if rows:
        lines += ["", "| argument | | |", "| --- | --- | --- |"]
        lines += [f"| `{name}` | {_cell(kind)} | {_cell(said)} |" for name, kind, said in rows]
    if declared.answers:
        lines += ["", f"Answers `{declared.answers}`."]
    return [*lines, ""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    print(markdown(), end="")
