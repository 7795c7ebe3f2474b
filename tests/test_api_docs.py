"""Help, OpenAPI and ``docs/http-api.md`` come from the declarations, and nothing is left undescribed."""

from __future__ import annotations

from pathlib import Path

import pytest

from apiclient import Client
from dvidcore.api.openapi import INSTANCE, document, markdown, operations
from dvidcore.datatypes.help import plain_path, type_help
from dvidcore.datatypes.registry import datatype, type_names
from dvidcore.repos import Database

DOCS = Path(__file__).resolve().parents[1] / "docs"


def test_every_endpoint_and_argument_is_described() -> None:
    for tag, path, declared in operations():
        assert len(declared.summary) > 5, (tag, path)
        assert declared.summary.endswith((".", "!", "?")), (tag, path, declared.summary)
        for query in declared.query:
            assert query.help, (tag, path, query.name)


def test_every_setting_is_described() -> None:
    for name in type_names():
        assert all(setting.help for setting in datatype(name).settings), name


def test_http_api_is_what_the_code_says() -> None:
    """``python -m dvidcore.api.openapi > docs/http-api.md`` brings it up to date."""
    assert (DOCS / "http-api.md").read_text("utf-8") == markdown()


def test_openapi_has_every_endpoint() -> None:
    found = document()
    assert found["openapi"].startswith("3.1")
    known = {
        (verb, "/".join("{}" if part.startswith("{") else part for part in path.split("/")))
        for path, verbs in found["paths"].items()
        for verb in verbs
    }
    for _, path, declared in operations():
        shape = "/".join("{}" if part.startswith("{") else part for part in path.split("/"))
        assert (declared.verb.lower(), shape) in known
    for path, verbs in found["paths"].items():
        for operation in verbs.values():
            named = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert named == {part[1:-1] for part in path.split("/") if part.startswith("{")}, path
            both = [(p["in"], p["name"]) for p in operation["parameters"]]
            assert len(both) == len(set(both)), path


@pytest.mark.parametrize("name", type_names())
def test_help_of_a_type_has_its_endpoints_and_settings(name: str) -> None:
    cls = datatype(name)
    text = type_help(cls)
    assert all(plain_path(declared) in text for declared in cls.endpoints())
    assert all(setting.name in text for setting in cls.settings)


def test_help_over_http(database: Database) -> None:
    client = Client(database)
    assert client.get("/api/help/keyvalue").text == type_help(datatype("keyvalue"))
    assert client.get("/api/help/keyvalue").headers["content-type"] == "text/plain"
    assert client.get("/api/help/nosuch").status == 400
    page = client.get("/api/help")
    assert page.headers["content-type"] == "text/html"
    assert all(f"/api/help/{name}" in page.text for name in type_names())
    answer = client.get("/api/openapi.json")
    assert answer.json() == document()
    assert INSTANCE + "info" in answer.json()["paths"]
    kv = client.instance(client.repo(), "kv")
    assert client.get(f"{kv}/help").text == type_help(datatype("keyvalue"))


def test_code_in_the_help_page_is_code(database: Database) -> None:
    page = Client(database).get("/api/help").text
    assert "<code>OK</code>" in page and "``" not in page
