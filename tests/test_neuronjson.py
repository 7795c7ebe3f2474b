"""neuronjson through the application: each point at which it does other than DVID, and what no recording shows."""

from __future__ import annotations

import gzip
import json
import threading
from typing import Any
from urllib.parse import quote

import pytest

from apiclient import Answer, Client
from dvidcore import wire
from dvidcore.datatypes import pairs
from dvidcore.mutations import log
from dvidcore.repos import Database


class Annotations:
    """An instance ``nj`` and requests to it."""

    def __init__(self, database: Database) -> None:
        self.client = Client(database)
        self.database = database
        self.root = self.client.repo()
        self.path = self.client.instance(self.root, "nj", "neuronjson")

    def __call__(self, verb: str, path: str, body: Any = None, *, at: str = "", status: int = 200, **kw: Any) -> Answer:
        where = f"/api/node/{at}/nj" if at else self.path
        answer = self.client(verb, f"{where}/{path}", body, **kw)
        assert answer.status == status, f"{verb} {path}: {answer.status} {answer.text[:300]}"
        if status >= 400 and verb != "HEAD":
            assert answer.text.strip()
        return answer

    def get(self, path: str, body: Any = None, **kw: Any) -> Any:
        return self("GET", path, body, **kw).json()

    def post(self, body: int, options: str = "u=ann", *, at: str = "", status: int = 200, **fields: Any) -> Answer:
        return self("POST", f"key/{body}?{options}", {"bodyid": body, **fields}, at=at, status=status)

    def bulk(self, annotations: list[Any], options: str = "u=ann", status: int = 200, **kw: Any) -> Answer:
        message = wire.encode_key_values([(str(a["bodyid"]), json.dumps(a).encode()) for a in annotations])
        return self("POST", f"keyvalues?{options}", message, status=status, **kw)

    def query(self, asked: Any, options: str = "", **kw: Any) -> Any:
        return self("POST", f"query?{options}", asked, **kw).json()

    def ids(self, asked: Any, **kw: Any) -> Any:
        return self.query(asked, "onlyid=true", **kw)

    def child(self, version: str = "", branch: str = "") -> str:
        """A child of a version, which is committed first."""
        version = version or self.root
        if not self.client.get(f"/api/node/{version}/status").json()["Locked"]:
            self.client.commit(version)
        if not branch:
            return self.client.child(version)
        made: str = self.client.post(f"/api/node/{version}/branch", {"branch": branch}).json()["child"]
        return made


@pytest.fixture
def nj(database: Database) -> Annotations:
    return Annotations(database)


# -- where DVID is weak ------------------------------------------------------------------------------------------------


def test_1_deleted_bodies_are_gone_everywhere_at_once(nj: Annotations) -> None:
    nj.bulk([{"bodyid": body, "type": "KC"} for body in range(1, 21)])
    assert nj.ids({"status": "exists/0"}) == list(range(1, 21))
    for body in (1, 7, 8, 20):
        nj("DELETE", f"key/{body}")
    left = [body for body in range(1, 21) if body not in (1, 7, 8, 20)]
    assert nj.get("keys") == [str(body) for body in left]
    assert nj.get("keyrange/0/a") == [str(body) for body in left]
    assert nj.get("all?fields=bodyid") == [{"bodyid": body} for body in left]
    assert nj.ids({"status": "exists/0"}) == left
    assert nj.ids({"bodyid": [7, 9]}) == [9]
    assert nj.get("fields?counts=true")["bodyid"] == 16


@pytest.mark.parametrize("meta", ["x_time", "x_user"])
@pytest.mark.parametrize("value", [5, ["now"], {}, True])
def test_2_meta_fields_must_be_texts(nj: Annotations, meta: str, value: Any) -> None:
    assert meta in nj.post(1, x=1, **{meta: value}, status=400).text
    nj("GET", "key/1", status=404)
    nj.post(1, x=1)


def test_3_schemas_are_checked_and_their_deletion_counts(nj: Annotations) -> None:
    for bad in ({"type": "nope"}, {"minimum": "1"}, 5, [1], {"$schema": "http://example.com/own"}, {"pattern": "("}):
        nj("POST", "json_schema", bad, status=400)
    nj("POST", "json_schema", b"{", status=400)
    nj("POST", "json_schema", b"", status=400)
    for elsewhere in ("http://localhost/x", "file:///etc/hostname", "other.json", "#/definitions/none"):
        assert elsewhere.strip("#") in nj("POST", "json_schema", {"$ref": elsewhere}, status=400).text
    nj("GET", "json_schema", status=404)
    nj("POST", "json_schema", {"properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"type": "string"}}})
    assert '"a"' in nj.post(1, a=1, status=400).text
    child, side = nj.child(), nj.child(branch="side")
    nj.post(1, a=1, at=child, status=400)
    nj("POST", "json_schema", {"properties": {"a": {"type": "boolean"}}}, at=side)
    nj.post(1, a="text", at=side, status=400)
    nj.post(1, a="text", at=child)
    nj("DELETE", "json_schema", at=child)
    nj("GET", "json_schema", at=child, status=404)
    nj.post(1, a=1, at=child)
    nj.post(1, a=True, at=side)


def test_4_texts_become_integers_at_the_top_only(nj: Annotations) -> None:
    integers = {"type": "array", "items": {"type": "integer"}}
    number = {"type": ["integer", "null"]}
    either = {"type": ["integer", "string"]}
    nj("POST", "json_schema", {"properties": {"position": integers, "n": number, "either": either}})
    assert "position" in nj.post(1, position=[1, 2, "3"], status=400).text
    for wrong in ("4.2", "", "0x1", "1e3", str(2**64), " 5"):
        assert '"n"' in nj.post(1, n=wrong, status=400).text
    nj.post(1, n="+42", position=[1, 2, 3])
    assert nj.get("key/1")["n"] == 42
    nj.post(1, n="-42", either="42")
    assert nj.get("key/1") == {"bodyid": 1, "n": -42, "either": "42", "position": [1, 2, 3]}


def test_5_values_are_stored_exactly_or_refused(nj: Annotations) -> None:
    values = {
        "nulls": [1, None],
        "texts": ["a", None],
        "large": [2**63 + 1, 2**64 - 1],
        "deep": {"n": {"m": [2**53 + 1, -(2**63)]}},
        "text": "18446744073709551616 is a text",
        "float": 1e300,
        "empty": [[], {}, ""],
    }
    nj.post(1, **values)
    expected = {"bodyid": 1, **values}
    assert nj.get("key/1") == expected
    assert nj.query({"nulls": "exists/1"}) == nj.get("all") == [expected]
    for large in (2**64, -(2**63) - 1, 10**30):
        for value in (large, [large], {"deep": large}):
            assert str(large)[:15] in nj.post(2, x=value, status=400).text
    for wrong in (b'{"bodyid":2,"x":NaN}', b'{"bodyid":2,"x":1e999}', b'{"bodyid":2,"x":"\\ud800"}', b'{"bodyid":2,'):
        nj("POST", "key/2?u=a", wrong, status=400)
    nj("POST", "key/2?u=a", b'{"bodyid":2,"x":' + b"[" * 300 + b"]" * 300 + b"}", status=400)
    assert nj.get("keys") == ["1"]


def test_5_values_come_back_byte_for_byte_from_store_and_memory(nj: Annotations) -> None:
    nj("POST", "key/7?u=ann", b'{"bodyid":7,"i":2,"f":2.0,"z":-0.0,"t":true,"l":[1,2.0],"m":[1,"a"],"s":"\xc3\xbc"}')
    text = b'{"bodyid":7,"f":2.0,"i":2,"l":[1,2.0],"m":[1,"a"],"s":"\xc3\xbc","t":true,"z":-0.0}'
    assert nj("GET", "key/7").body == text
    assert nj("GET", "all").body == b"[%b]" % text
    for show in ("show=user", "show=time", "show=all", "fields=i,l&show=all", "fields=i_user"):
        one = nj("GET", f"key/7?{show}").body
        assert nj("GET", f"all?{show}").body == nj("POST", f"query?{show}", {"bodyid": 7}).body == b"[%b]" % one
        assert nj("POST", f"query?{show}", {"i": 2}).body == b"[%b]" % one


@pytest.mark.parametrize("key", ["007", "+7", "7.0", "-7", "x", "7 ", str(2**64), "٧"])
def test_6_keys_are_plain_numbers(nj: Annotations, key: str) -> None:
    quoted = quote(key)
    assert nj("POST", f"key/{quoted}?u=a", {"bodyid": 7}, status=400).text.startswith(f'key "{key}"')
    nj("GET", f"key/{quoted}", status=400)
    nj("DELETE", f"key/{quoted}", status=400)
    nj("GET", "keyvalues", wire.encode_keys([key]), status=400)
    nj("POST", "keyvalues?u=a", wire.encode_key_values([(key, b'{"bodyid":7}')]), status=400)
    assert nj.get("keys") == []


def test_7_bulk_posts_are_all_or_nothing(nj: Annotations) -> None:
    nj.post(1, a=1)
    for bad in ({"bodyid": 0}, {"bodyid": 3, "x_time": 1}, {"bodyid": 3, "bodyid_user": "x"}):
        nj.bulk([{"bodyid": 1, "a": 2}, {"bodyid": 2}, bad], status=400)
    message = wire.encode_key_values([("2", b'{"bodyid":2}'), ("schema", b"{}"), ("json_schema", b"{}")])
    nj("POST", "keyvalues?u=a", message, status=400)
    nj("GET", "schema", status=404)
    assert nj.get("all") == [{"bodyid": 1, "a": 1}]
    nj.bulk([{"bodyid": 5, "a": 1, "b": 1}, {"bodyid": 5, "a": None, "c": 2}])
    assert nj.get("key/5?show=user") == {"bodyid": 5, "b": 1, "c": 2, **{f"{f}_user": "ann" for f in "abc"}}


def test_8_queries_match_by_value(nj: Annotations) -> None:
    nj.post(3, score=0.5, flag=True, path="a\\b", group=2, mixed=[1, "x"], texts=["left"], half=[0.5, 2])
    nj.post(1, score=2, flag=False, path="ab", group=2.0, empty=[])
    nj.post(2**64 - 1, score=1, flag=1, group="2")
    last = 2**64 - 1
    assert nj.ids({"score": 0.5}) == nj.ids({"score": [0.5, "x"]}) == [3]
    assert nj.ids({"score": 2.0}) == [1]
    assert nj.ids({"group": 2}) == nj.ids({"group": [2.0]}) == [1, 3]
    assert nj.ids({"group": "2"}) == [last]
    assert (nj.ids({"flag": True}), nj.ids({"flag": False}), nj.ids({"flag": 1})) == ([3], [1], [last])
    assert nj.ids({}) == nj.ids([{}]) == nj.ids([{"no": 1}, {}]) == [1, 3, last]
    assert nj.ids({"bodyid": [3, 1, 3, 99]}) == nj.ids([{"bodyid": 3}, {"bodyid": [1.0, 3]}]) == [1, 3]
    assert nj.query({"bodyid": [last, 1]}, "fields=score") == [{"bodyid": 1, "score": 2}, {"bodyid": last, "score": 1}]
    assert nj.ids({"bodyid": 3, "flag": True}) == nj.ids({"bodyid": [3, 1.5, "3"], "texts": "left"}) == [3]
    assert nj.ids({"bodyid": "exists/1"}) == [1, 3, last]
    assert nj.ids({"bodyid": "exists/0"}) == nj.ids({"bodyid": "re/3"}) == nj.ids({"bodyid": "3"}) == []
    assert nj.ids({"path": "re/^a\\\\b$"}) == nj.ids({"path": ["re/^a\\\\b$"]}) == [3]
    assert nj.ids({"half": 0.5}) == nj.ids({"half": 2}) == [3]
    assert nj.ids({"mixed": 1}) == nj.ids({"mixed": "x"}) == nj.ids({"empty": ""}) == nj.ids({"flag": None}) == []
    for wrong in ("re/(", "re/a**", "re/(?=x)", "re/\\1"):
        for asked in ({"path": wrong}, {"nosuch": ["x", wrong]}, [{"path": "x"}, {"path": wrong}]):
            assert wrong[3:] in nj("POST", "query", asked, status=400).text
    nj("POST", "query", {"path": "re/(a+)+$"})


def test_9_all_versions_answer_alike(nj: Annotations) -> None:
    nj.bulk([{"bodyid": body, "type": "KC", **({"x": 1} if body < 50 else {})} for body in (9, 10, 100, 5)])
    child = nj.child()
    side = nj.child(branch="side")
    for at in (nj.root, child, side):
        assert nj.get("keys", at=at) == ["5", "9", "10", "100"]
        assert nj.get("keyrange/9/100", at=at) == ["9", "10", "100"]
        assert nj.query({"type": "re/K"}, "fields=x", at=at) == [{"bodyid": b, "x": 1} for b in (5, 9, 10)] + [
            {"bodyid": 100}
        ]
        assert nj.get("all?fields=bodyid,x", at=at) == [{"bodyid": b, "x": 1} for b in (5, 9, 10)]
    assert Annotations(nj.database).get("keys") == []


@pytest.mark.parametrize("body", [["x"], [1.5], [-1], {}, ["1", 2], [2**64]])
def test_10_keys_of_keyvalues_must_be_bodies(nj: Annotations, body: Any) -> None:
    nj.post(1, a=1)
    nj("GET", "keyvalues?json=true", body, status=400)


def test_11_fields_and_their_times_are_exact(nj: Annotations) -> None:
    nj.post(1, a=1, a_time="2026-01-01T00:00:00Z", b=1, b_time="some day")
    nj.post(2, a=1, a_time="2025-12-31T23:30:00-01:00", b=1, b_time="2020-01-01")
    nj.post(3, a=1, a_time="2025-01-01T00:00:00Z")
    times = {"a": "2025-12-31T23:30:00-01:00", "b": "2020-01-01"}
    assert nj.get("fieldtimes") == times
    assert nj.get("fields?counts=true")["a"] == 3
    child = nj.child()
    nj.post(1, a=None, a_user=None, a_time=None, b=None, b_user=None, b_time=None, at=child)
    nj("DELETE", "key/2", at=child)
    assert nj.get("fieldtimes", at=child) == {"a": "2025-01-01T00:00:00Z"}
    assert nj.get("fields", at=child) == ["bodyid", "a", "a_user", "a_time"]
    assert nj.get("fields?counts=true", at=child) == {"bodyid": 2, "a": 1, "a_user": 1, "a_time": 1}
    assert nj.get("fieldtimes") == times


@pytest.mark.parametrize("options", ["u=ann", "u=ann&replace=true"])
def test_12_user_has_no_user(nj: Annotations, options: str) -> None:
    for value in ("bob", "carl", None):
        nj.post(1, options, user=value, x=1)
        assert nj.get("key/1?show=all").keys() <= {"bodyid", "user", "x", "x_user", "x_time"}


def test_13_content_types_and_texts_of_errors(nj: Annotations) -> None:
    nj.post(1, a=1)
    nj("POST", "schema", b"not JSON at all")
    for path in ("key/1", "schema", "key/schema", "keys", "all", "fields", "fieldtimes"):
        assert nj("GET", path).headers["content-type"] == "application/json"
    assert nj("GET", "schema").body == b"not JSON at all"
    assert "schema" in nj("GET", "keyvalues?json=true", ["schema"], status=400).text
    for path in ("schema_batch", "json_schema", "key/2", "key/schema_batch"):
        nj("GET", path, status=404)


def test_13_and_15_what_is_done_is_logged_with_the_user(nj: Annotations) -> None:
    nj.post(1, "u=ann", a=1)
    nj.post(2, "u=ann", a_time=1, status=400)
    nj.bulk([{"bodyid": 2}, {"bodyid": 3}], "u=bob")
    nj("DELETE", "key/2?u=carl")
    nj("POST", "json_schema?u=dan", b"{}")
    nj("DELETE", "json_schema")
    nj("POST", "key/schema?u=eve", b"[]")
    repo, node = nj.database.resolve(nj.root)
    with nj.client.server.instances.named(repo, "nj").engine.snapshot() as snapshot:
        found = [json.loads(r) for r in log.records(snapshot, repo.instances["nj"].id, node.id)]
    assert [(r["Action"], r["Key"], r.get("Bytes"), r.get("User")) for r in found] == [
        ("postneuronjson", "1", 21, "ann"),
        ("ingestneuronjson", "2", 13, "bob"),
        ("ingestneuronjson", "3", 13, "bob"),
        ("deleteneuronjson", "2", None, "carl"),
        ("postschema", "json_schema", 2, "dan"),
        ("deleteschema", "json_schema", None, None),
        ("postschema", "schema", 2, "eve"),
    ]
    assert {r["UUID"] for r in found} == {nj.root}


@pytest.mark.parametrize("word", ["keys", "all", "fields", "fieldtimes", "keyrange/0/a", "keyrangevalues/0/a"])
@pytest.mark.parametrize("verb", ["POST", "DELETE", "PUT"])
def test_14_reading_takes_no_other_verb(nj: Annotations, word: str, verb: str) -> None:
    answer = nj(verb, word, b"", status=405)
    assert "GET" in answer.headers["allow"]


def test_16_writers_of_one_body_do_not_lose_fields(nj: Annotations) -> None:
    def write(name: str) -> None:
        for i in range(20):
            nj.post(1, **{f"{name}{i}": i})

    threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert nj.get("key/1") == {"bodyid": 1, **{f"{name}{i}": i for name in "abc" for i in range(20)}}


# -- more --------------------------------------------------------------------------------------------------------------


def test_the_older_name_of_conditional_counts_only_alone(nj: Annotations) -> None:
    nj.post(1, a=1, b=1)
    nj.post(1, "u=x&conditionals=a", a=2, b=2)
    assert nj.get("key/1") == {"bodyid": 1, "a": 1, "b": 2}
    nj.post(1, "u=x&conditionals=a&conditional=b", a=3, b=3)
    assert nj.get("key/1") == {"bodyid": 1, "a": 3, "b": 2}


def test_what_is_refused_is_named(nj: Annotations) -> None:
    assert "user" in nj("POST", "key/1", {"bodyid": 1}, status=400).text
    assert "user" in nj("POST", "keyvalues", b"", status=400).text
    for body, word in (
        ({}, "bodyid"),
        ({"bodyid": "1"}, "bodyid"),
        ({"bodyid": 2}, "2"),
        ([], "object"),
        (True, "object"),
    ):
        assert word in nj("POST", "key/1?u=a", body, status=400).text
    assert "reserved" in nj("POST", "key/0?u=a", {"bodyid": 0}, status=400).text
    for meta in ("bodyid_user", "bodyid_time"):
        assert meta in nj.post(1, **{meta: None}, status=400).text
    assert "replace" in nj.post(1, "u=a&replace=maybe", status=400).text
    nj("GET", "keyrangevalues/0/a?json=true&tar=true", status=400)
    for bound in ("12x", str(2**64), "1٧"):
        assert "first" in nj("GET", f"keyrange/{quote(bound)}/9", status=400).text
    assert "range" in nj("GET", "keyvalues", wire.encode_keys([], [wire.KeyRange("1", 0, 5)]), status=400).text
    for asked in (b"", b"x", [], 5, None, "x", [5], [{}, None]):
        nj("POST", "query", asked if isinstance(asked, bytes) else json.dumps(asked).encode(), status=400)
    assert nj.get("keys") == []


def test_expressions_find_the_same_alone_and_among_many(nj: Annotations) -> None:
    texts = ["", "a", "b\na", "a\nb", "ab", "xaby", "KC-α", "kc", "(", "\n", "a b"] + [
        f"filler {i}" for i in range(200)
    ]
    nj.bulk([{"bodyid": i + 1, "t": text, "l": [text, "q"]} for i, text in enumerate(texts)])
    import re2

    for source in ("^a$", "a$", "^$", ".", "\\Aa", "b\\z", "\\bb\\b", "\\B", "(?i)^kc", "(?s)a.b", "(?m)^a$", "[^x]b",
                   "\\Q(\\E", "α", "a|^b", "(?:a)b", "(?P<n>a) b", "x?", "r 19[0-9]$", "\\n", "^\\W*$"):  # fmt: skip
        found = re2.compile(source)
        expected = [i + 1 for i, text in enumerate(texts) if found.search(text)]
        assert nj.ids({"t": f"re/{source}"}) == expected, source
        assert nj.ids({"l": f"re/{source}"}) == sorted(
            {*expected, *(range(1, len(texts) + 1) if found.search("q") else ())}
        )


def test_all_is_compressed_where_that_is_accepted(nj: Annotations, monkeypatch: pytest.MonkeyPatch) -> None:
    nj.bulk([{"bodyid": body, "type": f"type {body}"} for body in range(1, 5001)])
    plain = nj("GET", "all")
    assert "content-encoding" not in plain.headers
    for accepted in ("gzip", "deflate, GZIP;q=0.5", "br;q=1.0, gzip;q=0.8, *;q=0.1"):
        for whole in (pairs.WHOLE, 1000):
            monkeypatch.setattr(pairs, "WHOLE", whole)
            answer = nj("GET", "all", headers={"Accept-Encoding": accepted})
            assert answer.headers["content-encoding"] == "gzip"
            assert gzip.decompress(answer.body) == plain.body
    for refused in ("gzip;q=0", "identity", "br", "gzip;q=0.000"):
        assert nj("GET", "all", headers={"Accept-Encoding": refused}).body == plain.body


def test_a_merge_in_conflict_is_settled_by_replacing_or_deleting(nj: Annotations) -> None:
    nj.bulk([{"bodyid": body, "a": 1} for body in (1, 2, 3)])
    left, right = nj.child(), nj.child(branch="right")
    for body in (1, 2):
        nj.post(body, "u=lea", a=2, at=left)
        nj.post(body, "u=rob", b=3, at=right)
    nj("DELETE", "key/3", at=left)
    for version in (left, right):
        nj.client.commit(version)
    merged = nj.client.post(
        f"/api/repo/{nj.root}/merge", {"mergeType": "conflict-free", "parents": [left, right], "note": ""}
    ).json()["child"]
    assert "body 1" in nj("GET", "key/1", at=merged, status=409).text
    assert nj.get("keys", at=merged) == ["1", "2"]
    nj("GET", "key/3", at=merged, status=404)
    for path in ("all", "keyrangevalues/0/a", "fields"):
        nj("GET", path, at=merged, status=409)
    assert "replace=true" in nj.post(1, c=1, at=merged, status=409).text
    nj.post(1, "u=mia&replace=true", c=1, at=merged)
    nj("POST", "query", {"c": 1}, at=merged, status=409)
    nj("DELETE", "key/2", at=merged)
    assert nj.query({"c": 1}, "show=user", at=merged) == [{"bodyid": 1, "c": 1, "c_user": "mia"}]


def test_late_writes_of_an_administrator_reach_tables_of_descendants(nj: Annotations) -> None:
    nj.bulk([{"bodyid": 1, "a": 1}, {"bodyid": 2, "a": 1}])
    child = nj.child()
    nj.post(2, a=2, at=child)
    assert nj.ids({"a": 1}, at=child) == [1]
    late = nj.client.admin("POST", f"{nj.path}/key/1?u=root", {"bodyid": 1, "a": 5})
    assert late.status == 200
    nj.client.admin("POST", f"{nj.path}/key/2?u=root", {"bodyid": 2, "a": 5})
    assert nj.ids({"a": 5}, at=child) == [1]
    assert nj.ids({"a": 5}) == [1, 2]


def test_unversioned_instances_have_one_set(nj: Annotations) -> None:
    nj.client.instance(nj.root, "flat", "neuronjson", versioned="false")
    nj.client.commit(nj.root)
    child = nj.client.child(nj.root)
    for version, body in ((nj.root, 1), (child, 2)):
        answer = nj.client.post(f"/api/node/{version}/flat/key/{body}?u=a", {"bodyid": body, "a": 1})
        assert answer.status == 200
    for version in (nj.root, child):
        found = nj.client.post(f"/api/node/{version}/flat/query", {"a": 1}).json()
        assert found == [{"bodyid": 1, "a": 1}, {"bodyid": 2, "a": 1}]


@pytest.mark.parametrize(
    "settings", [{"Compression": "none"}, {"Compression": "gzip:9", "Checksum": "crc32"}, {"Compression": "snappy"}]
)
def test_settings_do_not_change_answers(nj: Annotations, settings: dict[str, str]) -> None:
    path = nj.client.instance(nj.root, "packed", "neuronjson", **settings)
    body = {"bodyid": 1, **{f"field {i}": "a long text " * i for i in range(20)}}
    assert nj.client.post(f"{path}/key/1?u=a", body).status == 200
    assert nj.client.get(f"{path}/key/1").json() == body
    assert nj.client.post(f"{path}/query", {"field 3": "re/long"}).json() == [body]


def test_resolve_settles_annotations_and_schemas(nj: Annotations) -> None:
    nj.bulk([{"bodyid": 1, "a": 1}, {"bodyid": 2, "a": 1}])
    left, right = nj.child(), nj.child(branch="right")
    for version, value in ((left, "left"), (right, "right")):
        nj.post(1, at=version, a=value)
        nj("POST", "schema", value.encode(), at=version)
        assert nj.ids({"a": value}, at=version) == [1]
    nj.post(2, at=right, b=2)
    for version in (left, right):
        nj.client.commit(version)
    answer = nj.client.post(f"/api/repo/{nj.root}/resolve", {"data": ["nj"], "parents": [right, left], "note": ""})
    merged = answer.json()["child"]
    assert nj.get("all", at=merged) == [{"bodyid": 1, "a": "right"}, {"bodyid": 2, "a": 1, "b": 2}]
    assert nj("GET", "schema", at=merged).body == b"right"
