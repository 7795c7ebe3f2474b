"""keyvalue through the application: requests as clients send them, answers as they get them."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any
from urllib.parse import quote

import pytest
from falcon import testing

from dvidcore import wire
from dvidcore.api.app import create_app
from dvidcore.api.state import Server
from dvidcore.config import from_folder
from dvidcore.datatypes import pairs
from dvidcore.datatypes.keyvalue import LONGEST_KEY
from dvidcore.errors import StoreError
from dvidcore.repos import Database


class Client:
    """A repo with a keyvalue instance ``kv`` and requests to it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.http = testing.TestClient(create_app(Server(from_folder("unused"), database, "secret")))
        self.repo = database.new_repo(alias="keyvalue")
        self.root = self.repo.root
        self.create("kv")

    def create(self, name: str, **config: str) -> str:
        given = {"typename": "keyvalue", "dataname": name, **config}
        answer = self.http.simulate_post(f"/api/repo/{self.root}/instance", json=given)
        assert answer.status_code == 200, answer.text
        return name

    def request(
        self,
        verb: str,
        path: str,
        body: bytes | str | Any = b"",
        *,
        at: str = "",
        name: str = "kv",
        status: int = 200,
        headers: dict[str, str] | None = None,
    ) -> testing.Result:
        """``path`` is percent-encoded already and may have a query; the answer must have this status."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        path, _, query = path.partition("?")
        answer = self.http.simulate_request(
            verb, f"/api/node/{at or self.root}/{name}/{path}", query_string=query, body=data or None, headers=headers
        )
        assert answer.status_code == status, f"{verb} {path}: {answer.status_code} {answer.text[:300]}"
        if status >= 400 and verb != "HEAD":
            assert answer.text.strip()
        return answer

    def get(self, path: str, body: Any = b"", **kw: Any) -> bytes:
        content: bytes = self.request("GET", path, body, **kw).content
        return content

    def post(self, path: str, body: Any = b"", **kw: Any) -> bytes:
        content: bytes = self.request("POST", path, body, **kw).content
        return content

    def delete(self, path: str, **kw: Any) -> None:
        assert self.request("DELETE", path, **kw).content == b""

    def child(self, parent: str, branch: str = "") -> str:
        """A child of a version, which is committed before where it is not."""
        node = self.repo.dag.by_uuid[parent]
        if not node.locked:
            self.database.commit(self.repo, node)
        if branch:
            return self.database.branch(self.repo, node, branch).uuid
        return self.database.new_version(self.repo, node).uuid


@pytest.fixture
def kv(database: Database) -> Client:
    return Client(database)


def decoded(data: bytes) -> list[tuple[str, bytes]]:
    return list(wire.read_key_values(io.BytesIO(data).read))


def untarred(data: bytes) -> list[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert all(member.mode == 0o755 for member in tar.getmembers())
        return [(m.name, tar.extractfile(m).read()) for m in tar.getmembers()]  # type: ignore[union-attr]


# -- one key --------------------------------------------------------------------------------------------------------


def test_a_value_is_stored_replaced_and_deleted(kv: Client) -> None:
    kv.get("key/a", status=404)
    assert kv.post("key/a", b"first") == b""
    answer = kv.request("GET", "key/a")
    assert answer.content == b"first"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-length"] == "5"
    assert answer.headers["accept-ranges"] == "bytes"
    kv.post("key/a", bytes(range(256)) * 1000)
    assert kv.get("key/a") == bytes(range(256)) * 1000
    kv.delete("key/a")
    assert "a" in kv.get("key/a", status=404).decode()
    kv.delete("key/a")
    kv.post("key/a", b"again")
    assert kv.get("key/a") == b"again"


def test_head_tells_whether_a_key_exists(kv: Client) -> None:
    kv.post("key/a", b"12345")
    answer = kv.request("HEAD", "key/a")
    assert (answer.content, answer.headers["accept-ranges"], answer.headers["content-length"]) == (b"", "bytes", "5")
    assert kv.request("HEAD", "key/b", status=404).content == b""
    for header in ("bytes=1-2", "bytes=9-", "bytes=x"):  # a range is of a GET
        part = kv.request("HEAD", "key/a", headers={"Range": header})
        assert (part.headers["content-length"], part.headers.get("content-range")) == ("5", None)
    for query in ("byte_start=1&byte_end=2", "byte_start=9&byte_end=9", "byte_start=1"):
        assert kv.request("HEAD", f"key/a?{query}").headers["content-length"] == "5"


@pytest.mark.parametrize("key", ["with space", "100%", "a?b", "a#b", "über", "日本", "😀", "+plus+", "tab\t", "a&b=c", "a:b", ".", "..", "\x01", "k" * 2000])  # fmt: skip
def test_keys_of_any_text(kv: Client, key: str) -> None:
    kv.post(f"key/{quote(key, safe='')}", key.encode())
    assert kv.get(f"key/{quote(key, safe='')}") == key.encode()
    assert json.loads(kv.get("keys")) == [key]
    assert decoded(kv.get("keyvalues", wire.encode_keys([key]))) == [(key, key.encode())]


def test_one_trailing_slash_is_dropped(kv: Client) -> None:
    kv.post("key/a/", b"x")
    assert kv.get("key/a") == kv.get("key/a/") == b"x"


@pytest.mark.parametrize("verb", ["GET", "POST", "DELETE", "HEAD"])
@pytest.mark.parametrize("path", ["key", "key/", "key//"])
def test_no_key(kv: Client, verb: str, path: str) -> None:
    kv.request(verb, path, b"x" if verb == "POST" else b"", status=400)


@pytest.mark.parametrize("verb", ["PUT", "PATCH"])
def test_other_verbs_change_nothing(kv: Client, verb: str) -> None:
    kv.post("key/a", b"x")
    kv.request(verb, "key/a", b"y", status=400)
    assert kv.get("key/a") == b"x"


@pytest.mark.parametrize("compression", ["none", "snappy", "lz4", "gzip", "gzip:9"])
@pytest.mark.parametrize("checksum", ["none", "crc32"])
def test_storage_settings_never_show_in_answers(kv: Client, compression: str, checksum: str) -> None:
    kv.create("stored", Compression=compression, Checksum=checksum)
    for value in (b"", b"!", b"abcdefgh" * 5000, bytes(100)):
        kv.post("key/a", value, name="stored")
        assert kv.get("key/a", name="stored") == value
    info = json.loads(kv.get("info", name="stored"))
    assert info["Extended"] == {}
    assert info["Base"]["TypeVersion"] == "0.2"
    assert info["Base"]["TypeURL"] == "github.com/janelia-flyem/dvid/datatype/keyvalue"


# -- parts of a value -----------------------------------------------------------------------------------------------

DIGITS = b"0123456789abcdef"


@pytest.fixture
def digits(kv: Client) -> Client:
    kv.post("key/d", DIGITS)
    kv.post("key/empty", b"")
    return kv


@pytest.mark.parametrize(("start", "end"), [(0, 0), (0, 15), (3, 7), (15, 15)])
def test_bytes_by_query(digits: Client, start: int, end: int) -> None:
    assert digits.get(f"key/d?byte_start={start}&byte_end={end}") == DIGITS[start : end + 1]


@pytest.mark.parametrize("query", ["byte_start=3", "byte_end=3", "byte_start=8&byte_end=3", "byte_start=0&byte_end=16", "byte_start=16&byte_end=20",
                                   "byte_start=-1&byte_end=3", "byte_start=a&byte_end=3", "byte_start=1.5&byte_end=3", "byte_start=0&byte_end=99999999999999999999"])  # fmt: skip
def test_bytes_by_query_that_are_none(digits: Client, query: str) -> None:
    assert "byte_" in digits.get(f"key/d?{query}", status=400).decode()


def test_bytes_by_query_of_an_empty_value(digits: Client) -> None:
    digits.get("key/empty?byte_start=0&byte_end=0", status=400)


@pytest.mark.parametrize(("header", "start", "end"), [
    ("bytes=0-3", 0, 3), ("bytes=4-", 4, 15), ("bytes=-4", 12, 15), ("bytes=10-999", 10, 15), ("bytes=-999", 0, 15), ("bytes=15-15", 15, 15),
    ("bytes= 2-5", 2, 5), (" bytes=2-5 ", 2, 5), ("bytes=3-99999999999999999999999999", 3, 15)])  # fmt: skip
def test_range_header(digits: Client, header: str, start: int, end: int) -> None:
    answer = digits.request("GET", "key/d", headers={"Range": header}, status=206)
    assert answer.content == DIGITS[start : end + 1]
    assert answer.headers["content-range"] == f"bytes {start}-{end}/16"
    assert answer.headers["content-length"] == str(end + 1 - start)
    assert answer.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize("header", ["bytes=16-", "bytes=99-100", "bytes=-0"])
def test_range_header_behind_the_value(digits: Client, header: str) -> None:
    answer = digits.request("GET", "key/d", headers={"Range": header}, status=416)
    assert answer.headers["content-range"] == "bytes */16"


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=-1", "bytes=0-0", "bytes=-0"])
def test_range_header_for_an_empty_value(digits: Client, header: str) -> None:
    answer = digits.request("GET", "key/empty", headers={"Range": header}, status=416)
    assert answer.headers["content-range"] == "bytes */0"


@pytest.mark.parametrize(
    "header", ["bytes=0-1,4-5", "bytes=5-2", "items=0-3", "bytes=x-3", "bytes=-", "bytes", "", "bytes=1-2-3"]
)
def test_range_header_that_is_ignored(digits: Client, header: str) -> None:
    answer = digits.request("GET", "key/d", headers={"Range": header})
    assert answer.content == DIGITS
    assert "content-range" not in answer.headers


def test_range_header_and_query_together(digits: Client) -> None:
    digits.get("key/d?byte_start=0&byte_end=3", headers={"Range": "bytes=0-3"}, status=400)


# -- keys and ranges ------------------------------------------------------------------------------------------------

NAMES = ["10", "9", "Alpha", "a", "a\x01", "a!", "aa", "b", "zz", "é", "😀"]
"""In the order of their bytes."""


@pytest.fixture
def named(kv: Client) -> Client:
    kv.post("keyvalues", wire.encode_key_values([(key, json.dumps(key).encode()) for key in reversed(NAMES)]))
    return kv


def test_keys_are_in_the_order_of_their_bytes(named: Client) -> None:
    answer = named.request("GET", "keys")
    assert answer.json == NAMES
    assert answer.headers["content-type"] == "application/json"


def test_an_instance_without_keys(kv: Client) -> None:
    assert kv.get("keys") == b"[]"
    assert kv.get("keyrange/a/z") == b"[]"
    assert kv.get("keyrangevalues/a/z") == b""
    assert kv.get("keyrangevalues/a/z?json=true") == b"{}"
    assert untarred(kv.get("keyrangevalues/a/z?tar=true")) == []


@pytest.mark.parametrize("first", [*NAMES, " ", "A", "c", "~"])
@pytest.mark.parametrize("last", ["10", "a", "a\x01", "aa", "b", "z{", "\x7f", "😀"])
def test_a_range_has_both_its_ends(named: Client, first: str, last: str) -> None:
    expected = [key for key in NAMES if first.encode() <= key.encode() <= last.encode()]
    path = f"{quote(first, safe='')}/{quote(last, safe='')}"
    assert named.request("GET", f"keyrange/{path}").json == expected
    assert named.request("GET", f"keyrangevalues/{path}?json=true").json == {key: key for key in expected}


def test_a_range_in_every_form(named: Client) -> None:
    expected = [(key, json.dumps(key).encode()) for key in NAMES[3:7]]
    types = {"": "application/octet-stream", "?protobuf=true": "application/octet-stream", "?json=true": "application/json",
             "?tar=true": "application/tar", "?jsontar=true": "application/tar"}  # fmt: skip
    for query, content_type in types.items():
        answer = named.request("GET", f"keyrangevalues/a/aa{query}")
        assert answer.headers["content-type"] == content_type
        if "json=" in query:
            assert list(json.loads(answer.content).items()) == [(key, key) for key, _ in expected]
        else:
            assert (untarred if "tar" in query else decoded)(answer.content) == expected


@pytest.mark.parametrize("path", ["keyrange", "keyrange/a", "keyrange/a/", "keyrangevalues", "keyrangevalues/a", "keyrange/a/b/c",
                                  "keyrangevalues/a/b?json=true&tar=true", "keyrangevalues/a/b?json=maybe"])  # fmt: skip
def test_a_range_that_is_none(named: Client, path: str) -> None:
    named.get(path, status=400)


def test_an_answer_too_large_to_keep_is_streamed(kv: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "WHOLE", 1000)
    values = [(f"key {i:04}", json.dumps("x" * i).encode()) for i in range(2500)]
    kv.post("keyvalues", wire.encode_key_values(values))
    assert kv.request("GET", "keys").json == [key for key, _ in values]
    answer = kv.request("GET", "keyrangevalues/a/z")
    assert decoded(answer.content) == values
    assert answer.headers["content-length"] == str(len(answer.content))
    assert untarred(kv.get("keyrangevalues/a/z?tar=true")) == values
    assert json.loads(kv.get("keyrangevalues/a/z?json=true")) == {key: json.loads(value) for key, value in values}
    kv.post("key/zzz", b"no JSON")
    kv.get("keyrangevalues/a/zzzz?json=true", status=400)
    assert len(json.loads(kv.get("mutations"))) == 2501


# -- several keys ---------------------------------------------------------------------------------------------------


@pytest.fixture
def docs(kv: Client) -> Client:
    given = [("one", b"1"), ("list", b"[1,[2,3],4]"), ("digits", b"0123456789"), ("text", b'"t"')]
    assert kv.post("keyvalues", wire.encode_key_values(given)) == b""
    return kv


def test_values_come_in_the_order_asked_repeats_and_missing_ones_included(docs: Client) -> None:
    keys = ["text", "gone", "one", "text"]
    expected = [("text", b'"t"'), ("gone", b""), ("one", b"1"), ("text", b'"t"')]
    assert decoded(docs.get("keyvalues", wire.encode_keys(keys))) == expected
    assert untarred(docs.get("keyvalues?tar=true", keys)) == expected
    assert untarred(docs.get("keyvalues?jsontar=true", keys)) == expected
    assert docs.get("keyvalues?json=true", keys[:3]) == b'{"text":"t","gone":{},"one":1}'
    assert docs.get("keyvalues?json=true&check=true", [{"key": "one"}]) == b'{"one":1}'


def test_asking_for_nothing(docs: Client) -> None:
    assert docs.get("keyvalues") == b""
    assert docs.get("keyvalues?json=true", []) == b"{}"
    assert untarred(docs.get("keyvalues?tar=true", [])) == []


def test_parts_of_values(docs: Client) -> None:
    ranges = [wire.KeyRange("digits", 2, 5), wire.KeyRange("digits", 0, 0), wire.KeyRange("gone", 1, 2)]
    assert decoded(docs.get("keyvalues", wire.encode_keys(["one"], ranges))) == [
        ("one", b"1"), ("digits", b"2345"), ("digits", b"0"), ("gone", b"")]  # fmt: skip
    asked = [{"key": "list", "byte_start": 3, "byte_end": 7}, {"key": "digits", "byte_start": 1, "byte_end": 3}, {"key": "gone", "byte_start": 0, "byte_end": 9}]  # fmt: skip
    assert docs.get("keyvalues?json=true", asked) == b'{"list":[2,3],"digits":123,"gone":{}}'
    assert untarred(docs.get("keyvalues?tar=true", asked)) == [("list", b"[2,3]"), ("digits", b"123"), ("gone", b"")]


@pytest.mark.parametrize(
    "wanted",
    [
        wire.KeyRange("digits", 5, 2),
        wire.KeyRange("digits", 5, 10),
        wire.KeyRange("digits", 10, 10),
        wire.KeyRange("", 0, 0),
    ],
)
def test_parts_outside_of_values(docs: Client, wanted: wire.KeyRange) -> None:
    docs.get("keyvalues", wire.encode_keys([], [wanted]), status=400)
    if wanted.key:
        body = [{"key": wanted.key, "byte_start": wanted.start, "byte_end": wanted.end}]
        assert "digits" in docs.get("keyvalues?tar=true", body, status=400).decode()


@pytest.mark.parametrize("form", ["json", "tar", "jsontar"])
@pytest.mark.parametrize("body", [b"", b"{}", b"[1, 2]", b'["a", {"key": "b"}]', b"not json", b'"a"', b"null", b"[null]", b'[{"name": "a"}]', b'[{"key": 1}]',
                                  b'[{"key": "one", "byte_start": 0}]', b'[{"key": "one", "byte_end": 0}]', b'[{"key": "one", "byte_start": -1, "byte_end": 0}]',
                                  b'[{"key": "one", "byte_start": true, "byte_end": 0}]', b'[{"key": "one", "byte_start": 0.0, "byte_end": 0}]', b'[""]', b'["a/b"]'])  # fmt: skip
def test_lists_that_are_none(docs: Client, form: str, body: bytes) -> None:
    docs.get(f"keyvalues?{form}=true", body, status=400)


def test_a_part_that_is_not_json(docs: Client) -> None:
    docs.get("keyvalues?json=true", [{"key": "list", "byte_start": 1, "byte_end": 3}], status=400)


@pytest.mark.parametrize("body", [b"\xff\xff\xff", b'{"a": 1}', b"\x0a\x03\x0a\x05a"])
def test_messages_that_are_none(docs: Client, body: bytes) -> None:
    docs.get("keyvalues", body[:-1] + b"\xff", status=400)
    docs.post("keyvalues", body, status=400)
    assert len(json.loads(docs.get("keys"))) == 4


@pytest.mark.parametrize("query", ["json=true&tar=true", "json=true&jsontar=true", "tar=true&protobuf=true"])
def test_one_form_at_a_time(docs: Client, query: str) -> None:
    docs.get(f"keyvalues?{query}", [], status=400)


def test_of_a_repeated_key_the_later_value_stays(kv: Client) -> None:
    kv.post("keyvalues", wire.encode_key_values([("a", b"1"), ("b", b"2"), ("a", b"3")]))
    assert decoded(kv.get("keyrangevalues/a/z")) == [("a", b"3"), ("b", b"2")]


def test_an_empty_message_stores_nothing(kv: Client) -> None:
    kv.post("keyvalues", b"")
    assert kv.get("keys") == b"[]"
    assert kv.get("mutations") == b"[]"


def test_many_and_large_pairs(kv: Client) -> None:
    large = [(f"k{i}", bytes([i]) * (i * 100_000)) for i in range(20)] + [(f"s{i}", b"v%d" % i) for i in range(3000)]
    kv.post("keyvalues", wire.encode_key_values(large))
    assert dict(decoded(kv.get("keyrangevalues/a/z"))) == dict(large)


# -- versions -------------------------------------------------------------------------------------------------------


def test_a_locked_version_refuses_changes_but_not_of_an_unversioned_instance(kv: Client) -> None:
    kv.create("shared", Versioned="false")
    kv.post("key/a", b"1")
    child = kv.child(kv.root)
    body = wire.encode_key_values([("a", b"2")])
    for verb, path in (
        ("POST", "key/a"),
        ("POST", "keyvalues"),
        ("DELETE", "key/a"),
        ("POST", "info"),
        ("POST", "tags"),
    ):
        kv.request(verb, path, body, status=400)
    assert kv.get("key/a") == b"1"
    kv.post("key/x", b"through a locked version", name="shared")
    assert kv.get("key/x", name="shared", at=child) == b"through a locked version"
    kv.delete("key/x", name="shared", at=child)
    kv.get("key/x", name="shared", status=404)


def test_a_conflict_names_the_key_and_its_writers_and_a_write_settles_it(kv: Client) -> None:
    kv.post("key/a", b'"root"')
    kv.post("key/b", b'"root"')
    left, right = (kv.child(kv.root, branch) for branch in ("left", "right"))
    for side in (left, right):
        kv.post("key/a", json.dumps(side), at=side)
        kv.database.commit(kv.repo, kv.repo.dag.by_uuid[side])
    kv.delete("key/b", at=kv.child(kv.root, "other"))
    nodes = [kv.repo.dag.by_uuid[side] for side in (left, right)]
    merged = kv.database.merge(kv.repo, nodes).uuid
    for path, body in (
        ("key/a", b""),
        ("keyrangevalues/a/z", b""),
        ("keyrangevalues/a/z?json=true", b""),
        ("keyvalues?tar=true", ["a"]),
    ):
        message = kv.get(path, body, at=merged, status=409).decode()
        assert '"a"' in message
        assert left in message
        assert right in message
    kv.request("HEAD", "key/a", at=merged, status=409)
    assert json.loads(kv.get("keys", at=merged)) == ["a", "b"]
    assert kv.get("key/b", at=merged) == b'"root"'
    kv.post("key/a", b'"settled"', at=merged)
    assert json.loads(kv.get("keyrangevalues/a/z?json=true", at=merged)) == {"a": "settled", "b": "root"}


# -- where DVID is weak ---------------------------------------------------------------------------------------------


def test_1_an_empty_value_exists_in_every_form(kv: Client) -> None:
    kv.post("key/a", b"")
    kv.post("keyvalues", wire.encode_key_values([("b", b"")]))
    child = kv.child(kv.root)
    for at in (kv.root, child):
        for key in "ab":
            answer = kv.request("GET", f"key/{key}", at=at)
            assert (answer.content, answer.headers["content-length"]) == (b"", "0")
            kv.request("HEAD", f"key/{key}", at=at)
        assert json.loads(kv.get("keys", at=at)) == ["a", "b"]
        assert json.loads(kv.get("keyrange/a/b", at=at)) == ["a", "b"]
        assert decoded(kv.get("keyrangevalues/a/b", at=at)) == [("a", b""), ("b", b"")]
        assert untarred(kv.get("keyrangevalues/a/b?tar=true", at=at)) == [("a", b""), ("b", b"")]
        assert kv.get("keyrangevalues/a/b?json=true", at=at) == b'{"a":{},"b":{}}'
        assert kv.get("keyvalues?json=true", ["a"], at=at) == b'{"a":{}}'
        assert decoded(kv.get("keyvalues", wire.encode_keys(["a"]), at=at)) == [("a", b"")]


@pytest.mark.parametrize("path", ["key/a%2Fb", "key/a/b", "key/a/b/", "key/a//"])
@pytest.mark.parametrize("verb", ["GET", "HEAD", "POST", "DELETE"])
def test_2_a_slash_is_no_part_of_a_key(kv: Client, verb: str, path: str) -> None:
    kv.post("key/a", b"kept")
    kv.request(verb, path, b"x" if verb == "POST" else b"", status=400)
    assert kv.get("key/a") == b"kept"
    assert json.loads(kv.get("keys")) == ["a"]


@pytest.mark.parametrize("key", ["a/b", "/", "", "a\0b", "é" * (LONGEST_KEY // 2 + 1)])
def test_2_3_keys_that_no_request_could_reach_are_refused_in_bulk_with_the_whole_message(kv: Client, key: str) -> None:
    kv.post("keyvalues", wire.encode_key_values([("good", b"1"), (key, b"2"), ("other", b"3")]), status=400)
    assert kv.get("keys") == b"[]"
    assert kv.get("mutations") == b"[]"
    kv.get("keyvalues", wire.encode_keys(["good", key]), status=400)
    kv.get("keyvalues?json=true", [key], status=400)


def test_4_a_bulk_write_is_all_or_nothing(kv: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = kv.database.stores["main"]
    write = type(engine).write
    writes: list[int] = []

    def counted(self: Any, batch: Any, **kw: Any) -> None:
        writes.append(len(batch))
        write(self, batch, **kw)

    given = wire.encode_key_values([(f"k{i}", b"v" * i) for i in range(3000)])
    kv.post("key/first", b"")  # takes mutation ids in advance
    monkeypatch.setattr(type(engine), "write", counted)
    kv.post("keyvalues", given)
    assert writes == [6000]

    def failing(self: Any, batch: Any, **kw: Any) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(type(engine), "write", failing)
    kv.post("keyvalues", wire.encode_key_values([("k1", b"lost"), ("new", b"lost")]), status=500)
    monkeypatch.undo()
    assert kv.get("key/k1") == b"v"
    kv.get("key/new", status=404)
    assert len(json.loads(kv.get("mutations"))) == 3001


def test_4_a_message_that_breaks_off_stores_nothing(kv: Client) -> None:
    given = wire.encode_key_values([(f"k{i}", b"v" * 5000) for i in range(2000)])
    kv.post("keyvalues", given[:-1], status=400)
    assert kv.get("keys") == b"[]"


def test_5_keys_are_escaped_in_json(kv: Client) -> None:
    odd = ['quote"', "back\\slash", "line\nbreak", "\x01", "<b>", "😀"]
    kv.post("keyvalues", wire.encode_key_values([(key, b"1") for key in odd]))
    assert json.loads(kv.get("keyrangevalues/%01/%F0%9F%98%80?json=true")) == dict.fromkeys(odd, 1)
    assert json.loads(kv.get("keyvalues?json=true", odd)) == dict.fromkeys(odd, 1)
    assert set(json.loads(kv.get("keys"))) == set(odd)


@pytest.mark.parametrize("value", [b"{", b"nope", b"1 2", b"NaN", b"\xff", b'{"a":1}}', b" "])
@pytest.mark.parametrize("check", ["", "&check=true"])
def test_5_a_value_that_is_not_json_is_refused_by_name_before_anything_is_sent(
    kv: Client, value: bytes, check: str
) -> None:
    kv.post("keyvalues", wire.encode_key_values([("good", b"1"), ("rotten", value), ("sound", b"2")]))
    assert "rotten" in kv.get(f"keyrangevalues/a/z?json=true{check}", status=400).decode()
    assert "rotten" in kv.get(f"keyvalues?json=true{check}", ["good", "rotten"], status=400).decode()
    assert json.loads(kv.get(f"keyvalues?json=true{check}", ["good", "sound"])) == {"good": 1, "sound": 2}


@pytest.mark.parametrize("path", ["keys", "keyrange/a/b", "keyrangevalues/a/b", "mutations"])
@pytest.mark.parametrize("verb", ["POST", "DELETE", "PUT"])
def test_6_what_only_reads_takes_no_other_verb(kv: Client, verb: str, path: str) -> None:
    kv.request(verb, path, status=400)


def test_7_the_log_has_each_change_in_order(kv: Client) -> None:
    kv.post("key/k1?u=alice", b"12345")
    kv.post("keyvalues?u=bob", wire.encode_key_values([("k2", b"xx"), ("k3", b""), ("k2", b"y")]))
    kv.delete("key/never")
    child = kv.child(kv.root)
    assert kv.get("mutations", at=child) == b"[]"
    kv.delete('key/k3?u=al"ice', at=child)
    answer = kv.request("GET", "mutations")
    assert answer.headers["content-type"] == "application/json"
    records = answer.json
    assert all(record.pop("Timestamp").endswith(" +0000 UTC") for record in records)
    assert all(record.pop("UUID") == kv.root for record in records)
    assert records == [
        {"Action": "postkv", "Key": "k1", "Bytes": 5},
        {"Action": "postkv", "Key": "k2", "Bytes": 2},
        {"Action": "postkv", "Key": "k3", "Bytes": 0},
        {"Action": "postkv", "Key": "k2", "Bytes": 1},
        {"Action": "delete", "Key": "never"},
    ]
    assert [record["Key"] for record in json.loads(kv.get(f"mutations-range/{kv.root}/{child}"))] == [
        "k3", "k1", "k2", "k3", "k2", "never"]  # fmt: skip
    assert len(json.loads(kv.get(f"mutations-range/{child}/{child}"))) == 1


def test_7_the_log_can_be_filtered_by_user(kv: Client) -> None:
    tricky = 'a,"User":"bob"}'
    kv.post(f"key/{quote(tricky)}?u=alice", b"")
    kv.post("key/b?u=bob", b"")
    kv.post("key/c", b"")
    child = kv.child(kv.root)
    kv.delete(f"key/b?u={quote(tricky)}", at=child)
    assert [(r["Key"], r["User"]) for r in json.loads(kv.get("mutations?userid=alice"))] == [(tricky, "alice")]
    assert [(r["Key"], r["User"]) for r in json.loads(kv.get("mutations?userid=bob"))] == [("b", "bob")]
    assert kv.get("mutations?userid=nobody") == b"[]"
    shown = json.loads(kv.get(f"mutations-range/{kv.root}/{child}?userid={quote(tricky)}"))
    assert [(r["Action"], r["User"]) for r in shown] == [("delete", tricky)]
    assert [r["Key"] for r in json.loads(kv.get("mutations"))] == [tricky, "b", "c"]
    assert not any("User" in r for r in json.loads(kv.get(f"mutations-range/{kv.root}/{child}")))


def test_7_ranges_of_the_log_that_are_none(kv: Client) -> None:
    left, right = (kv.child(kv.root, branch) for branch in ("left", "right"))
    other = kv.database.new_repo().root
    for path in (f"{kv.root}", f"{kv.root}/", f"nosuch/{left}", f"{left}/nosuch", f"{left}/{right}", f"{left}/{kv.root}", f"{other}/{other}",
                 f"{kv.root}/{left}?rangefmt=mutids", f"{kv.root}/{left}/{right}"):  # fmt: skip
        kv.get(f"mutations-range/{path}", status=400)
    assert kv.get(f"mutations-range/{kv.root}/{left}?rangefmt=UUIDs") == b"[]"
    assert kv.get(f"mutations-range/{kv.root[:12]}/{kv.root}:left") == b"[]"


def test_8_the_length_of_a_key_is_limited(kv: Client) -> None:
    longest = "é" * (LONGEST_KEY // 2)
    kv.post(f"key/{quote(longest)}", b"x")
    assert kv.get(f"key/{quote(longest)}") == b"x"
    assert json.loads(kv.get("keys")) == [longest]
    for verb in ("GET", "POST", "DELETE", "HEAD"):
        answer = kv.request(verb, f"key/{quote(longest)}x", b"x" if verb == "POST" else b"", status=400)
        assert verb == "HEAD" or str(LONGEST_KEY) in answer.text


def test_9_info_changes_how_new_values_are_stored_and_nothing_else(kv: Client) -> None:
    text = b"compressible " * 1000
    kv.post("key/old", text)
    kv.post("info", {"compression": "None"})
    kv.post("key/new", text)
    assert json.loads(kv.get("info"))["Base"]["Compression"] == "No compression, level -1"
    kv.post("info", {"Compression": "gzip:9"})
    assert json.loads(kv.get("info"))["Base"]["Compression"] == "gzip compression, level 9"
    kv.post("key/newest", text)
    assert kv.get("key/old") == kv.get("key/new") == kv.get("key/newest") == text
    for body in (
        {},
        {"Compression": "zip"},
        {"Compression": "gzip:0"},  # as at creation
        {"Compression": "jpeg"},
        {"Compression": 5},
        {"Compression": "lz4", "Versioned": "false"},
        {"Checksum": "crc32"},
        [],
        b"",
        b"x",
    ):
        kv.post("info", body, status=400)
    assert json.loads(kv.get("info"))["Base"]["Compression"] == "gzip compression, level 9"


def test_10_keys_are_listed_without_holding_them_all(kv: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "WHOLE", 10_000)
    kv.post("keyvalues", wire.encode_key_values([(f"{i:06}", b"") for i in range(60_000)]))
    answer = kv.request("GET", "keys")
    assert "content-length" not in answer.headers  # it is made while it is sent
    assert answer.json == [f"{i:06}" for i in range(60_000)]


def test_unknown_instances_endpoints_and_settings(kv: Client) -> None:
    kv.get("keys", name="nosuch", status=400)
    kv.get("nosuchendpoint", status=400)
    assert "keyvalues" in kv.get("help").decode()
    for config in ({"Compression": "jpeg"}, {"Compression": "gzip:99"}, {"Checksum": "md5"}, {"Versioned": "maybe"}):
        answer = kv.http.simulate_post(
            f"/api/repo/{kv.root}/instance", json={"typename": "keyvalue", "dataname": "odd", **config}
        )
        assert answer.status_code == 400
    kv.get("keys", name="odd", status=400)
