"""The endpoints of the server, its repos and versions, beyond what the conformance scenarios replay."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from apiclient import TOKEN, Client
from dvidcore.api.state import KNOWN_USERS
from dvidcore.repos import Database


@pytest.fixture
def client(database: Database) -> Client:
    return Client(database)


# -- the server -------------------------------------------------------------------------------------------------------


def test_info_is_made_of_strings(client: Client) -> None:
    info = client.get("/api/server/info").json()
    assert all(isinstance(value, str) for value in info.values())
    # neuclease parses it: "v", then three integers.
    assert info["DVID Version"].startswith("v")
    assert [int(part) for part in info["DVID Version"][1:].split(".")]
    assert client.get("/api/server/info/").json().keys() == info.keys()
    assert "Mode" not in info


@pytest.mark.parametrize(
    ("mode", "said"), [("readonly", "read only"), ("fullwrite", "allow writes on committed nodes")]
)
def test_info_names_the_mode(database: Database, mode: str, said: str) -> None:
    assert Client(database, mode=mode).get("/api/server/info").json()["Mode"] == said


def test_load_shows_rates(client: Client) -> None:
    client.server.load.per_second()
    for _ in range(30):
        client.get("/api/heartbeat")
    time.sleep(1.0)
    load = client.get("/api/load").json()
    assert load["GET requests"] > 0
    assert all(type(value) is int for value in load.values())


def test_last_latency_is_kept(client: Client) -> None:
    """Where DVID is weak: LastLatency is never updated there."""
    client.server.latencies.add("ann", 0.123)
    client.server.latencies.add("ann", 0.045)
    found = client.get("/api/user-latencies?u=ann").json()
    assert (found["LastLatency"], found["MinLatency"], found["MaxLatency"]) == (45, 45, 123)
    assert client.get("/api/user-latencies?u=nobody").json()["User"] == ""
    assert set(client.get("/api/user-latencies").json()) == {"ann", "nobody"}
    for number in range(KNOWN_USERS):
        client.server.latencies.add(f"user {number}", 0.0)
    assert len(client.server.latencies.all()) == KNOWN_USERS


def test_config_and_storage_are_for_administrators(client: Client) -> None:
    root = client.repo()
    client.post(client.instance(root, "kv") + "/key/a", b"x" * 1000)
    for path in ("/api/server/config", "/api/storage"):
        for query in ("", "?admintoken=", "?admintoken=wrong", f"?admintoken={TOKEN}x"):
            answer = client.get(path + query)
            assert answer.status == 400
            assert "admin" in answer.text
    (instances,) = client.admin("GET", "/api/storage").json().values()
    (kv,) = instances.values()
    assert (kv["Name"], kv["DataType"], kv["RootUUID"]) == ("kv", "keyvalue", root)


def test_without_a_configured_token_repos_need_none_and_nobody_is_administrator(database: Database) -> None:
    client = Client(database, token="")
    assert client.post("/api/repos").status == 200
    assert client.get("/api/server/config?admintoken=").status == 400


def test_block_list_file_is_read_again(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_text("u=ann,too many requests\nip=10.1.*.*,network\n")
    client = Client(database, block_list_file=file)
    answer = client.get("/api/repos/info?u=ann")
    assert (answer.status, "too many requests" in answer.text) == (429, True)
    assert client.get("/api/repos/info?u=bob").status == 200
    assert client.get("/api/repos/info", REMOTE_ADDR="10.1.2.3").status == 429
    assert client.get("/api/repos/info", headers={"X-Forwarded-For": "10.1.2.3, 9.9.9.9"}).status == 429
    assert client.get("/api/repos/info", headers={"Forwarded": 'for="10.1.2.3:80";proto=http'}).status == 429
    forwarded = {"Forwarded": "for=8.8.8.8", "X-Forwarded-For": "10.1.2.3"}
    assert client.get("/api/repos/info", headers=forwarded).status == 200
    # load, heartbeat and user-latencies are exempt.
    assert client.get("/api/heartbeat?u=ann").status == 200
    file.write_text("u=bob\n")
    assert client.post("/api/server/reload-blocklist?u=ann").status == 429
    assert client.admin("POST", "/api/server/reload-blocklist").status == 200
    assert client.get("/api/repos/info?u=ann").status == 200
    assert client.get("/api/repos/info?u=bob").status == 429
    file.write_text("nonsense\n")
    assert client.admin("POST", "/api/server/reload-blocklist").status == 400
    assert client.get("/api/repos/info?u=bob").status == 429


# -- repos --------------------------------------------------------------------------------------------------------------


def test_repos_info_has_an_etag(client: Client) -> None:
    """Where DVID is weak: tens of MB on old servers, asked for again and again."""
    root = client.repo(alias="a")
    first = client.get("/api/repos/info")
    again = client.get("/api/repos/info", headers={"If-None-Match": f'"x", {first.headers["etag"]}'})
    assert (again.status, again.body) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    client.post(f"/api/repo/{root}/info", {"alias": "b"})
    changed = client.get("/api/repos/info", headers={"If-None-Match": first.headers["etag"]})
    assert changed.status == 200
    assert changed.json()[root]["Alias"] == "b"


def test_extended_is_that_of_the_master_leaf(client: Client) -> None:
    root = client.repo()
    client.instance(root, "kv")
    info = client.get(f"/api/repo/{root}/info").json()
    assert info["DataInstances"]["kv"]["Base"]["RepoUUID"] == root
    assert info["DAG"]["Nodes"][root]["Parents"] == []
    assert "passcode" not in client.get(f"/api/repo/{root}/info").text.lower()


def test_deletion_is_for_administrators_who_are_sure(client: Client) -> None:
    root = client.repo(passcode="sesame")
    client.instance(root, "kv")
    path = f"/api/repo/{root}"
    assert client("DELETE", f"{path}/kv?imsure=true").status == 400
    assert client.admin("DELETE", f"{path}/kv?passcode=sesame").status == 400
    assert client.admin("DELETE", f"{path}/kv?imsure=true").status == 403
    assert client.admin("DELETE", f"{path}/kv?imsure=true&passcode=wrong").status == 403
    assert client.admin("DELETE", f"{path}/other?imsure=true&passcode=sesame").status == 400
    assert client.get(f"/api/node/{root}/kv/info").status == 200
    assert client.admin("DELETE", f"{path}/kv?imsure=true&passcode=sesame").status == 200
    assert client.get(f"/api/node/{root}/kv/info").status == 400
    assert client("DELETE", f"{path}?imsure=true").status == 400
    assert client.admin("DELETE", f"{path}?imsure=true&passcode=sesame").status == 200
    assert client("HEAD", path).status == 400
    assert client.get("/api/repos/info").json() == {}


def test_branch_versions_of_a_name_with_a_slash(client: Client) -> None:
    root = client.repo()
    assert client.get(f"/api/repo/{root}/branch-versions/a%2Fb").json() == []
    assert client.get(f"/api/repo/{root}/branch-versions/master").json() == [root]


def test_a_merge_across_repos_is_refused(client: Client) -> None:
    roots = [client.repo(), client.repo()]
    for root in roots:
        client.commit(root)
    body = {"mergeType": "conflict-free", "parents": roots}
    answer = client.post(f"/api/repo/{roots[0]}/merge", body)
    assert (answer.status, "another repo" in answer.text) == (400, True)


def test_uuids_that_are_no_uuids_or_in_use_are_refused(client: Client) -> None:
    root = client.repo()
    client.commit(root)
    for text in ("free text", "A" * 31, "g" * 32):
        assert client.admin("POST", "/api/repos", {"root": text}).status == 400
    upper = "ABCDEF0123456789ABCDEF0123456789"
    assert client.repo(root=upper) == upper.lower()
    assert client.get(f"/api/node/{upper.lower()}/status").status == 200
    node = f"/api/node/{root}"
    for body in ({"uuid": root}, {"uuid": upper}):
        assert client.post(node + "/newversion", body).status == 400
        assert client.post(node + "/branch", {"branch": "b", **body}).status == 400
    for tag in ("", "a/b", "a:b", "0" * 32):
        assert client.post(node + "/tag", {"tag": tag}).status == 400
    assert set(client.get(f"/api/repo/{root}/info").json()["DAG"]["Nodes"]) == {root}


def test_a_note_that_is_not_given_erases_nothing(client: Client) -> None:
    root = client.repo()
    client.post(f"/api/node/{root}/note", {"note": "kept"})
    assert client.post(f"/api/node/{root}/note", {"text": "x"}).status == 400
    assert client.get(f"/api/node/{root}/note").json() == {"note": "kept"}


def test_null_is_as_good_as_left_out(client: Client) -> None:
    root = client.repo()
    assert client.post(f"/api/node/{root}/note", {"note": "kept"}).status == 200
    assert client.post(f"/api/node/{root}/note", {"note": None}).status == 400
    assert client.post(f"/api/node/{root}/commit", {"note": None, "log": None}).status == 200
    assert client.get(f"/api/node/{root}/note").json() == {"note": "kept"}
    nothing = {"note": None, "uuid": None}
    tips = [client.post(f"/api/node/{root}/newversion", nothing).json()["child"]]
    tips.append(client.post(f"/api/node/{root}/branch", {"branch": "b", **nothing}).json()["child"])
    assert client.post(f"/api/node/{root}/tag", {"tag": "v1.0", "note": None}).json() == {"child": "v1.0"}
    for tip in tips:
        client.commit(tip)
    body = {"mergeType": "conflict-free", "parents": tips, "note": None}
    assert len(client.post(f"/api/repo/{root}/merge", body).json()["child"]) == 32


def test_keys_of_notes_and_logs_have_one_case(client: Client) -> None:
    """Unlike those of configurations: what DVID refuses there must not be taken for a note."""
    root = client.repo()
    for path, body in (("node", {"Note": "x"}), ("node", {"Log": ["x"]}), ("repo", {"Log": ["x"]})):
        word = next(iter(body)).lower()
        assert client.post(f"/api/{path}/{root}/{word}", body).status == 400
        assert client.get(f"/api/{path}/{root}/{word}").json() == {word: [] if word == "log" else ""}


def test_a_read_only_server_changes_nothing(database: Database) -> None:
    root = Client(database).repo()
    node = Client(database).instance(root, "kv")
    client = Client(database, mode="readonly")
    for verb, path in (
        ("POST", "/api/repos"),
        ("POST", f"/api/repo/{root}/info"),
        ("POST", f"/api/repo/{root}/instance"),
        ("POST", f"/api/node/{root}/note"),
        ("POST", f"{node}/key/a"),
        ("DELETE", f"{node}/key/a"),
        ("PUT", f"{node}/key/a"),
    ):
        answer = client(verb, path, {"note": "x"})
        assert (answer.status, "read-only" in answer.text) == (400, True)
    assert client.get(f"{node}/keys").json() == []
    assert client("HEAD", f"/api/repo/{root}").status == 200
    # An administrator may write, but not create repos.
    assert client.admin("POST", f"{node}/key/a", b"x").status == 200
    assert client.admin("POST", "/api/repos", {}).status == 400
    assert list(database.repos) == [root]


def test_full_write_ignores_locks(database: Database) -> None:
    client = Client(database, mode="fullwrite")
    root = client.repo()
    node = client.instance(root, "kv")
    client.commit(root)
    assert client.post(f"{node}/key/a", b"x").status == 200
    assert client.post(f"/api/node/{root}/note", {"note": "x"}).status == 200
    assert client.post(f"/api/repo/{root}/instance", {"typename": "keyvalue", "dataname": "kv2"}).status == 200
    assert client.post(f"/api/node/{root}/commit", {"note": "again"}).status == 400


# -- version specs ------------------------------------------------------------------------------------------------------


def test_bad_specs_are_bad_requests(client: Client) -> None:
    """Where DVID is weak: ``~-1`` is a 500 there, and one letter is a prefix."""
    root = client.repo(root="abcdef0123456789abcdef0123456789")
    for spec in (f"{root}:master~-1", f"{root}:master~", "", "a", "ab", f"{root}:master~99999999999999999999"):
        assert client.get(f"/api/node/{spec}/note").status == 400, spec
    assert client.get("/api/node/abc/note").status == 200
    assert client.get("/api/node/:master/note").status == 200
    client.repo()
    assert client.get("/api/node/:master/note").status == 400


def test_bad_instance_names_are_refused(client: Client) -> None:
    """Where DVID is weak: names that no URL reaches, and compressions that corrupt."""
    root = client.repo()
    for name in ("", "a/b", "a:b", "a b", "status", "tag", "log", "branch", "note", "commit", "newversion"):
        answer = client.post(f"/api/repo/{root}/instance", {"typename": "keyvalue", "dataname": name})
        assert answer.status == 400, name
    for compression in ("gzip:99", "gzip:x", "jpeg", "jpeg:80", "lz4:1"):
        body = {"typename": "keyvalue", "dataname": "x", "Compression": compression}
        assert client.post(f"/api/repo/{root}/instance", body).status == 400, compression
    assert client.get(f"/api/repo/{root}/info").json()["DataInstances"] == {}
    # A name may start with a dot: diced relies on it.
    client.instance(root, ".files")


def test_settings_that_a_type_does_not_have_may_be_anything(client: Client) -> None:
    root = client.repo()
    client.instance(root, "kv", more=5, none=None, nested={"a": ["b"]}, MaxDownresLevel=3)  # type: ignore[arg-type]
    for wrong in ({"Compression": 5}, {"tags": None}, {"versioned": 0}, {"typename": 5}, {"BlockSize": 64}):
        body = {"typename": "uint8blk", "dataname": "bad", **wrong}
        assert client.post(f"/api/repo/{root}/instance", body).status == 400, wrong
    assert list(client.get(f"/api/repo/{root}/info").json()["DataInstances"]) == ["kv"]


def test_tags_need_a_body(client: Client) -> None:
    root = client.repo()
    node = client.instance(root, "kv")
    for body in (None, b"", b"[]", b"{"):
        assert client.post(f"{node}/tags", body).status == 400


def test_a_failed_change_leaves_no_trace(client: Client) -> None:
    """Where DVID is weak: failed changes are announced there as if they had happened."""
    root = client.repo()
    before = client.get(f"/api/repo/{root}/info").json()
    for word, body in (("newversion", {}), ("branch", {"branch": "b"}), ("tag", {"tag": "t"}), ("commit", [])):
        answer = client.post(f"/api/node/{root}/{word}", body)
        assert answer.status == 400
        assert answer.text.count("\n") == 1
    assert client.get(f"/api/repo/{root}/info").json() == before


def test_secrets_are_not_in_answers_or_logs(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    root = client.repo(passcode="open sesame")
    client.instance(root, "kv")
    client.admin("DELETE", f"/api/repo/{root}/kv?imsure=true&passcode=wrong")
    answers = [client.get(path).text for path in ("/api/repos/info", f"/api/repo/{root}/info", f"/api/repo/{root}/log")]
    for secret in (TOKEN, "sesame", "wrong"):
        assert secret not in caplog.text
        assert not any(secret in answer for answer in answers)


# -- bodies that are no configuration -------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"[]", b"{", b'"text"', b"\xff", b'{"alias": 3}', b'{"Alias": ["x"]}'])
def test_configuration_must_be_an_object_of_strings(client: Client, body: bytes) -> None:
    assert client.admin("POST", "/api/repos", body).status == 400
    assert client.get("/api/repos/info").json() == {}
    root = client.repo(alias="old")
    assert client.post(f"/api/repo/{root}/info", body).status == 400
    assert client.post(f"/api/repo/{root}/info").status == 200  # as in DVID: nothing is to be changed
    assert client.get(f"/api/repo/{root}/info").json()["Alias"] == "old"


def test_the_content_type_of_a_request_says_nothing(client: Client) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = client.admin("POST", "/api/repos", {"alias": "x=y&z"}, headers=headers)
    assert client.get(f"/api/repo/{answer.json()['root']}/info").json()["Alias"] == "x=y&z"
