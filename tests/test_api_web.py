"""What browsers and monitors need: CORS, the web client's files, metrics."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from apiclient import Client
from dvidcore.repos import Database

ORIGIN = "Access-Control-Allow-Origin"


# -- CORS -----------------------------------------------------------------------------------------------------------------


def test_no_headers_where_nothing_is_configured(database: Database) -> None:
    answer = Client(database).get("/api/heartbeat", headers={"Origin": "http://a"})
    assert not any(name.startswith(("access-control", "vary", "timing")) for name in answer.headers)


def test_any_origin_is_allowed_on_all_answers(database: Database) -> None:
    client = Client(database, cors_domains=("*",))
    kv = client.instance(client.repo(), "kv")
    for path in ("/api/heartbeat", "/api/nosuch", f"{kv}/key/missing", f"{kv}/nosuch", "/nosuch", "/api/node/x/y/z"):
        assert client.get(path, headers={"Origin": "http://a"}).headers[ORIGIN.lower()] == "*"
    client.server.stopping = True
    assert client.get("/api/heartbeat").headers[ORIGIN.lower()] == "*"


def test_listed_origins_are_echoed(database: Database) -> None:
    client = Client(database, cors_domains=("http://a", "http://b:80"))
    good = client.get("/api/heartbeat", headers={"Origin": "http://b:80"})
    assert (good.headers[ORIGIN.lower()], good.headers["vary"]) == ("http://b:80", "Origin")
    bad = client.get("/api/heartbeat", headers={"Origin": "http://sub.a"})
    assert (ORIGIN.lower() in bad.headers, bad.headers["vary"]) == (False, "Origin")


def test_preflight(database: Database) -> None:
    client = Client(database, cors_domains=("http://a",))
    asked = {"Origin": "http://a", "Access-Control-Request-Method": "POST"}
    answer = client("OPTIONS", "/api/node/0/kv/key/a", headers=asked)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-methods"] == "GET, POST, DELETE, HEAD"
    assert "Authorization" in answer.headers["access-control-allow-headers"]
    assert answer.headers[ORIGIN.lower()] == "http://a"
    other = client("OPTIONS", "/api/repos", headers={**asked, "Origin": "http://b"})
    assert (other.status, ORIGIN.lower() in other.headers) == (200, False)


def test_timing_is_allowed_on_instances(database: Database) -> None:
    client = Client(database, allow_timing=True)
    kv = client.instance(client.repo(), "kv")
    assert client.get(f"{kv}/keys").headers["timing-allow-origin"] == "*"
    assert "timing-allow-origin" not in client.get("/api/heartbeat").headers


# -- the web client ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "web"
    (root / "js").mkdir(parents=True)
    (root / ".git").mkdir()
    (root / "index.html").write_text("<p>index</p>")
    (root / "js" / "app v1.js").write_text("app()")
    (root / ".git" / "config").write_text("secret")
    (root / ".env").write_text("secret")
    (root / "empty").mkdir()
    (tmp_path / "outside").write_text("secret")
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "loop").symlink_to(root / "loop")
    (root / "hidden").symlink_to(root / ".env")
    return root


def test_files_are_served(database: Database, folder: Path) -> None:
    client = Client(database, web_client=folder)
    assert (index := client.get("/")).text == "<p>index</p>"
    assert index.headers["content-type"] == "text/html"
    script = client.get("/js/app%20v1.js")
    assert (script.text, script.headers["content-type"]) == ("app()", "text/javascript")
    head = client("HEAD", "/js/app%20v1.js")
    assert (head.body, head.headers["content-length"]) == (b"", "5")
    assert client.post("/index.html").status == 404


def test_nothing_else_is_served(database: Database, folder: Path) -> None:
    """Where DVID is weak: it serves folder listings and dot-files."""
    client = Client(database, web_client=folder)
    for path in (
        "/js",
        "/empty/",
        "/.git/config",
        "/.env",
        "/js/../.env",
        "/../outside",
        "/..%2Foutside",
        "/%2e%2e/outside",
        "/js/..%5C..%5Coutside",
        "/link",
        "/loop",
        "/hidden",
        "/index.html%00.js",
        "/" + "x" * 5000,
        "/nosuch",
    ):
        answer = client.get(path)
        assert answer.status == 404, path
        assert "secret" not in answer.text


def test_fall_backs(database: Database, folder: Path) -> None:
    by_default = Client(database, web_client=folder, web_default_file="index.html")
    assert by_default.get("/some/route").text == "<p>index</p>"
    by_redirect = Client(database, web_client=folder, web_redirect_path="/console")
    answer = by_redirect.get("/some/route")
    assert (answer.status, answer.headers["location"]) == (308, "/console")
    assert by_redirect.get("/console").status == 404
    for client in (by_default, by_redirect):
        assert client.get("/api/nosuch").status == 404
        assert client.get("/api").status == 404
        assert client.get("/.env").status != 200 or "secret" not in client.get("/.env").text


def test_without_a_web_client_there_is_nothing(database: Database) -> None:
    assert Client(database).get("/").status == 404
    assert Client(database).get("/interface/version").text == "v1\n"


# -- metrics ----------------------------------------------------------------------------------------------------------------


def test_metrics_are_what_prometheus_reads(database: Database) -> None:
    client = Client(database)
    kv = client.instance(client.repo(), "kv")
    client.post(f"{kv}/key/a", b"x" * 1000)
    for _ in range(3):
        client.get(f"{kv}/key/a")
    client.get(f"{kv}/key/b")
    client("BREW", f"{kv}/key/b")
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    requests = {(s.labels["verb"], s.labels["status"]): s.value for s in families["dvidcore_requests"].samples}
    assert requests["GET", "200"] == 3
    assert requests["GET", "404"] == 1
    assert requests["other", "400"] == 1
    assert families["dvidcore_body_bytes"].samples[0].value >= 1000
    assert families["dvidcore_answer_bytes"].samples[0].value >= 3000
    assert families["dvidcore_active_requests"].samples[0].value == 1
    assert families["dvidcore_instances"].samples[0].value == 1
    times = families["dvidcore_request_seconds"].samples
    assert next(s.value for s in times if s.labels.get("le") == "+Inf") == sum(requests.values())
