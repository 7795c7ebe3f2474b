"""The help text of a data type, made from its declarations."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from dvidcore.datatypes.base import DataType
from dvidcore.datatypes.endpoints import Endpoint

GENERIC_SETTINGS = (
    ("versioned", "true", "false: one copy of the data for all versions, which commits do not lock"),
    ("Compression", "", "of stored values: {compressions}"),
    ("Checksum", "none", "of stored values: none or crc32"),
    ("Tags", "", "k=v,k2=v2"),
)
"""Name, default and meaning of the settings that all types take at creation."""


def type_help(cls: type[DataType]) -> str:
    """The text of ``GET /api/help/{type}`` and of an instance's ``help``: settings, then all endpoints."""
    lines = [f"Data type {cls.typename}, version {cls.typeversion}", f"({cls.url})", ""]
    if cls.__doc__:
        lines += [*inspect.cleandoc(cls.__doc__).splitlines(), ""]
    lines += ["A new instance: POST <api URL>/repo/<UUID>/instance with JSON", ""]
    lines += [
        f'    {{"typename": "{cls.typename}", "dataname": "<name>", "<setting>": "<value>"}}',
        "",
        "Settings:",
        "",
    ]
    for name, default, meaning in settings_of(cls):
        lines.append(f"    {name}: {meaning}" + (f" (default {default})" if default else ""))
    lines += ["", "Endpoints:", ""]
    for declared in cls.endpoints():
        lines += endpoint_lines(declared, f"<api URL>/node/<UUID>/<{cls.typename} name>/")
    return "\n".join(lines).rstrip() + "\n"


def settings_of(cls: type[DataType]) -> Iterator[tuple[str, str, str]]:
    """Name, default and meaning of all settings that a type takes at creation."""
    words = ", ".join(sorted(cls.compressions))
    for name, default, meaning in GENERIC_SETTINGS:
        shown = cls.default_compression if name == "Compression" else default
        yield name, shown, meaning.format(compressions=words) if "{" in meaning else meaning
    for setting in cls.settings:
        yield setting.name, "" if setting.default is None else str(setting.default), setting.help


def endpoint_lines(declared: Endpoint, prefix: str) -> list[str]:
    """One endpoint as text."""
    lines = [f"{declared.verb} {prefix}{plain_path(declared)}", "", f"    {declared.summary}"]
    if declared.description:
        lines += ["", *(f"    {line}".rstrip() for line in declared.description.splitlines())]
    arguments = [f"    {part.name}: {part.kind.help}" for part in declared.parts if part.kind is not None]
    arguments += [f"    {part.name}: the rest of the path" for part in declared.parts if part.rest]
    if arguments:
        lines += ["", "    In the path:", *(f"    {line}" for line in arguments)]
    if declared.query:
        lines += ["", "    In the query:"]
        for query in declared.query:
            default = "" if query.default in (None, "", False) else f" (default {shown_default(query.default)})"
            lines.append(f"        {query.name}={query.kind}: {query.help}{default}")
    if declared.answers:
        lines += ["", f"    Answers {declared.answers}."]
    return [*lines, ""]


def plain_path(declared: Endpoint) -> str:
    """A path with its arguments in braces, without their kinds."""
    return "/".join(f"{{{part.name}}}" if part.kind or part.rest else part.name for part in declared.parts)


def shown_default(value: object) -> str:
    """A default as one writes it in a query."""
    return str(value).lower() if isinstance(value, bool) else str(value)
