"""``GET /api/help``: the general help, an HTML page made from the declarations."""

from __future__ import annotations

import re
from html import escape

from dvidcore._version import __version__
from dvidcore.api.core import PREFIX, core_endpoints
from dvidcore.datatypes.help import plain_path
from dvidcore.datatypes.registry import type_names

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>dvidcore</title>
<style>body {{ font: 16px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }} td {{ vertical-align: top;
padding: 0 1em .3em 0 }} code {{ white-space: nowrap }}</style></head>
<body>
<h1>dvidcore {version}</h1>
<p>A versioned data server for connectomics with DVID's HTTP API. This page as an
<a href="/api/openapi.json">OpenAPI document</a>.</p>
<h2>Data types</h2>
<p>Data lies in instances of a type, at <code>/api/node/{{uuid}}/{{name}}/…</code>. Help for
{types}.</p>
<h2>Endpoints of the server, its repos and versions</h2>
<table>
{rows}
</table>
<h2>Conventions</h2>
<p>A version is named by a prefix of its UUID, or by <code>UUID:branch</code> and <code>UUID:branch~N</code>. Any
request may carry <code>u=</code> (user), <code>app=</code> (program) and <code>admintoken=</code>, which lets an
administrator write to a committed version too; where that changes labels, which its children inherit, it needs
<code>writelocked=true</code> as well. Errors are one line of text.</p>
</body>
</html>
"""


def _prose(text: str) -> str:
    """A description as HTML: what stands between double backticks is code."""
    return re.sub(r"``(.+?)``", r"<code>\1</code>", escape(text))


def general_help() -> str:
    """The page."""
    types = ", ".join(f'<a href="/api/help/{escape(name)}">{escape(name)}</a>' for name in type_names())
    rows = "\n".join(
        f"<tr><td>{e.verb}</td><td><code>{escape(PREFIX + plain_path(e))}</code></td><td>{_prose(e.summary)}</td></tr>"
        for e in core_endpoints()
    )
    return _PAGE.format(version=__version__, types=types, rows=rows)
