"""Which URLs name a volume elsewhere, and which of them a server may read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvidcore.config import ConfigError, RemoteConfig, parse
from dvidcore.datatypes.remote.locations import Location, permitted
from dvidcore.datatypes.remote.locations import parse as parse_url
from dvidcore.errors import BadRequest
from remote_tools import client


def allowed(*prefixes: str) -> RemoteConfig:
    return RemoteConfig(allowed=prefixes)


@pytest.mark.parametrize(
    ("text", "url", "format"),
    [
        ("gs://bucket/a/b/", "gs://bucket/a/b", "auto"),
        ("s3://bucket", "s3://bucket", "auto"),
        ("precomputed://gs://bucket/a", "gs://bucket/a", "precomputed"),
        ("zarr://s3://b/a", "s3://b/a", "zarr"),
        ("zarr2://s3://b/a", "s3://b/a", "zarr"),
        ("zarr3://s3://b/a", "s3://b/a", "zarr3"),
        ("n5://https://HOST:443/a%20b", "https://host/a%20b", "n5"),
        ("http://h:80/x", "http://h/x", "auto"),
        ("http://h:8080/x", "http://h:8080/x", "auto"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x", "auto"),
        ("file:///data/x", "file:///data/x", "auto"),
        ("vast://store.host/bucket/x", "vast://store.host/bucket/x", "auto"),
    ],
)
def test_urls(text: str, url: str, format: str) -> None:
    location, found = parse_url(text)
    assert (location.url, found) == (url, format)
    assert parse_url(location.url) == (location, "auto")


REFUSED = [
    "",
    "bucket/a",
    "/etc/passwd",
    "ftp://host/a",
    "gopher://host/a",
    "memory://a",
    "ocdbt://file:///a",
    "s3+https://host/bucket",
    "FILE:///data",
    "precomputed://n5://gs://b/a",
    "file://host/data",
    "file:///data/../etc",
    "file:///data/./x",
    "file:///data//x",
    "gs://b/..",
    "http://h/a/%2e%2e/b",
    "http://h/a/.%2E/b",
    "http://h/a%2fb",
    "http://h/a%252e",
    "http://h/a%00",
    "http://user:password@h/a",
    "http://h/a?b=c",
    "http://h/a#b",
    "http://h:port/a",
    "http://h\\@other/a",
    "http://h/a|zip:b",
    "gs://b/a\nb",
    "s3://b/a\x00",
]


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_url_of_a_volume(text: str) -> None:
    everything = allowed("gs://", "s3://", "vast://", "http://", "https://", "file:///data")
    with pytest.raises(BadRequest):
        permitted(text, everything)


@pytest.mark.parametrize(
    ("prefix", "inside", "outside"),
    [
        ("gs://", ["gs://a", "gs://b/c"], ["s3://a", "gs://", "http://gs/a"]),
        ("gs://a", ["gs://a", "gs://a/b"], ["gs://ab", "gs://b/a"]),
        ("s3://a/b/", ["s3://a/b", "s3://a/b/c"], ["s3://a", "s3://a/bc", "s3://a/c/b"]),
        ("https://h", ["https://h/a", "https://H:443/a"], ["http://h/a", "https://h.evil/a", "https://h:444/a"]),
        ("http://h:81/x", ["http://h:81/x/y"], ["http://h/x/y", "http://h:81/y", "http://h:81"]),
        ("vast://h/b", ["vast://h/b/c"], ["vast://h/c", "vast://h"]),
    ],
)
def test_prefixes_end_where_parts_end(prefix: str, inside: list[str], outside: list[str]) -> None:
    for url in inside:
        permitted(url, allowed("file:///nowhere", prefix))
    for url in outside:
        with pytest.raises(BadRequest):
            permitted(url, allowed(prefix))


def test_nothing_is_allowed_by_default() -> None:
    for url in ("gs://b/a", "s3://b/a", "https://h/a", "http://127.0.0.1/a", "file:///etc"):
        with pytest.raises(BadRequest, match="allowed"):
            permitted(url, RemoteConfig())


def test_links_do_not_lead_out_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "open" / "volume").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    os.symlink(tmp_path / "secret", tmp_path / "open" / "out")
    os.symlink(tmp_path / "open" / "volume", tmp_path / "open" / "in")
    os.symlink(tmp_path / "open", tmp_path / "link")
    config = allowed(f"file://{tmp_path}/open")
    for name in ("volume", "in", ""):
        permitted(f"file://{tmp_path}/open/{name}", config)
    permitted(f"file://{tmp_path}/link/volume", config)
    for name in ("open/out", "open/out/deeper", "secret", "openness", ""):
        with pytest.raises(BadRequest, match="may not read"):
            permitted(f"file://{tmp_path}/{name}", config)
    location, _ = permitted(f"file://{tmp_path}/open", config)
    assert location.kvstore(config, "volume")["path"] == f"{tmp_path}/open/volume/"
    for path in ("out", "../secret", "volume/../../secret", "/etc"):
        with pytest.raises(BadRequest):
            location.kvstore(config, path)


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="/"), max_size=6), max_size=5),
    st.sampled_from(["gs://bucket/", "http://host/", "file:///data/"]),
)
def test_what_is_allowed_lies_below_the_prefix(parts: list[str], prefix: str) -> None:
    """Whatever is accepted, the path that is read has the prefix's parts and then plain names."""
    config = allowed(prefix)
    try:
        location, _ = permitted(prefix + "/".join(parts), config)
    except BadRequest:
        return
    assert location.within(parse_url(prefix)[0])
    spec = location.kvstore(config)
    path = spec.get("path", spec.get("base_url"))
    assert not {"", ".", ".."} & set(path.removeprefix("http://").strip("/").split("/")) or path == ""


def test_specifications() -> None:
    config = RemoteConfig(s3_endpoint="http://127.0.0.1:9000", s3_region="eu", s3_credentials="anonymous")
    assert Location("gs", "b", ("a",)).kvstore(config) == {"driver": "gcs", "bucket": "b", "path": "a/"}
    assert Location("s3", "b", ("a",)).kvstore(config, "s0") == {
        "driver": "s3",
        "bucket": "b",
        "path": "a/s0/",
        "endpoint": "http://127.0.0.1:9000",
        "aws_region": "eu",
        "aws_credentials": {"type": "anonymous"},
    }
    vast = Location("vast", "h", ("b", "a")).kvstore(RemoteConfig())
    assert (vast["endpoint"], vast["bucket"], vast["path"], vast["aws_region"]) == ("https://h", "b", "a/", "us-east-1")


@pytest.mark.parametrize("url", ["file:///etc", "http://127.0.0.1:1/x", "gs://b/a", "nonsense", ""])
def test_creation_refuses_and_leaves_nothing(url: str) -> None:
    with client() as app:
        uuid = app.repo()
        answer = app.post(f"/api/repo/{uuid}/instance", {"typename": "remotevolume", "dataname": "there", "URL": url})
        assert answer.status == 400
        assert "URL" in answer.text
        assert app.get(f"/api/node/{uuid}/there/info").status == 400


STORE = '[store.main]\nengine = "memory"\n'


def test_configuration() -> None:
    found = parse(
        STORE
        + """[server]
        threads = 16
        [remote]
        allowed = ["s3://bucket", "file:///data"]
        cachebytes = 1000
        timeout = 5
        s3Endpoint = "http://h:9000/"
        s3Credentials = "Anonymous"
        keyFolder = "keys"
        """,
        Path("/somewhere"),
    ).remote
    assert found.allowed == ("s3://bucket", "file:///data")
    assert (found.cache_bytes, found.timeout, found.concurrency) == (1000, 5.0, 12)
    assert (found.s3_endpoint, found.s3_credentials) == ("http://h:9000", "anonymous")
    assert found.key_folder == Path("/somewhere/keys")
    assert parse(STORE, Path("/")).remote == RemoteConfig()


@pytest.mark.parametrize(
    "line",
    [
        'allowed = "s3://"',
        'allowed = ["/data"]',
        'allowed = ["file://"]',
        'allowed = ["file:///"]',
        'allowed = ["ftp://h"]',
        "timeout = 0",
        "timeout = true",
        "retries = 0",
        "concurrency = 0",
        "cacheBytes = -1",
        "recheck = -1",
        's3Credentials = "mine"',
        's3Endpoint = "host:9000"',
        'brainmapsURL = "host"',
    ],
)
def test_configurations_that_cannot_be_kept(line: str) -> None:
    with pytest.raises(ConfigError, match=r"\[remote\]"):
        parse(f"{STORE}[remote]\n{line}\n", Path("/"))
