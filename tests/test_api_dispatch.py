"""From a request to a datatype's method and back: routing, arguments, locks, bodies, answers, errors.

The data type ``probe`` lives here, and is added to the registry as a type of another package would be.
"""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pytest
from waitress.buffers import ReadOnlyFileBasedBuffer

from apiclient import Client
from dvidcore.api.answers import BIG, PIECE, BufferFile
from dvidcore.datatypes import call, registry
from dvidcore.datatypes.arguments import flag, integer, text
from dvidcore.datatypes.base import DataType
from dvidcore.datatypes.call import JSON, OCTETS, TEXT, Call, Reply
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.routing import parse_query
from dvidcore.errors import Conflict, NotFound
from dvidcore.repos import Database


class Probe(DataType):
    """A data type that answers what its tests ask for."""

    typename: ClassVar[str] = "probe"
    typeversion: ClassVar[str] = "0.1"
    url: ClassVar[str] = "example.org/probe"
    calls: ClassVar[list[Call]] = []
    hold: ClassVar[threading.Event] = threading.Event()

    @endpoint("GET", "echo/{number:int}/{point:point}", query=[integer("scale", 0, "a scale"), flag("exact", "a flag")])
    def get_echo(self, call: Call, **arguments: Any) -> dict[str, Any]:
        """Its arguments."""
        point = arguments.pop("point")
        return {**arguments, "point": point.xyz(), "user": call.user, "app": call.app, "admin": call.admin}

    @endpoint("GET", "rest/{path:rest}", query=[text("word", "absent", "a word")], answers=TEXT)
    def get_rest(self, call: Call, path: str, word: str) -> str:
        """All that is left of the path."""
        return f"{path}|{word}"

    @endpoint("GET", "word/special", answers=TEXT)
    def get_special(self, call: Call) -> str:
        """A literal goes before an argument."""
        return "special"

    @endpoint("GET", "word/{any:text}", answers=TEXT)
    def get_word(self, call: Call, any: str) -> str:
        """An argument."""
        return any

    @endpoint("GET", "big/{size:int}/{kind:text}", answers=OCTETS)
    def get_big(self, call: Call, size: int, kind: str) -> Any:
        """So many bytes."""
        assert call.snapshot is not None
        self.calls.append(call)
        data = (np.arange(size) % 251).astype(np.uint8)
        kinds = {"bytes": data.tobytes, "view": lambda: memoryview(data), "array": lambda: bytearray(data)}
        return kinds[kind]()

    @endpoint("GET", "stream/{number:int}", query=[flag("length", "announced"), integer("fail", -1, "at this piece")])
    def get_stream(self, call: Call, number: int, length: bool, fail: int) -> Reply:
        """Pieces of three bytes."""
        assert call.snapshot is not None
        self.calls.append(call)

        def pieces() -> Iterator[bytes]:
            for place in range(number):
                if place == fail:
                    raise NotFound(f"piece {place} is not there")
                yield memoryview(b"abc") if place % 2 else b"abc"

        return Reply(pieces(), length=3 * number if length else None)

    @endpoint("POST", "body", answers=TEXT)
    @endpoint("GET", "body", answers=TEXT)
    def body(self, call: Call) -> str:
        """What it was sent, in two reads."""
        first = call.body.read(4)
        return f"{call.method} {call.body.length} {first + call.body.read()!r}"

    @endpoint("POST", "raise/{kind:text}", writes=False)
    @endpoint("GET", "raise/{kind:text}")
    def get_raise(self, call: Call, kind: str) -> None:
        """Fails."""
        kinds = {"value": ValueError("bad block"), "conflict": Conflict("a and b"), "bug": ZeroDivisionError("secret")}
        self.calls.append(call)
        raise kinds[kind]

    @endpoint("GET", "headers", answers=JSON)
    def get_headers(self, call: Call) -> Reply:
        """The request's headers back, and some of its own."""
        names = {name: call.headers[name] for name in call.headers}
        return Reply(str(sorted(names.items())), TEXT, {"X-Probe": "yes"}, 202)

    @endpoint("POST", "wait", throttle=True, writes=False)
    def post_wait(self, call: Call) -> None:
        """Waits until it is told."""
        self.calls.append(call)
        self.hold.wait(120)

    @endpoint("POST", "write")
    def post_write(self, call: Call) -> None:
        """Would write."""


@pytest.fixture(autouse=True)
def probe(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "BUILT_IN", {**registry.BUILT_IN, "probe": f"{__name__}:Probe"})
    registry.datatype.cache_clear()
    registry.type_names.cache_clear()
    Probe.calls.clear()
    Probe.hold.clear()
    yield
    registry.datatype.cache_clear()
    registry.type_names.cache_clear()


@pytest.fixture
def client(database: Database) -> Client:
    return Client(database)


@pytest.fixture
def node(client: Client) -> str:
    return client.instance(client.repo(), "p", "probe")


# -- routing and arguments ------------------------------------------------------------------------------------------------


def test_arguments_are_parsed_by_their_declaration(client: Client, node: str) -> None:
    answer = client.admin("GET", f"{node}/echo/-7/1_2_-3?scale=2&exact=true&u=ann&app=test&unknown=1")
    assert answer.json() == {
        "number": -7,
        "point": [1, 2, -3],
        "scale": 2,
        "exact": True,
        "user": "ann",
        "app": "test",
        "admin": True,
    }
    assert client.get(f"{node}/echo/1/0_0_0?scale=").json()["scale"] == 0


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("echo/x/0_0_0", "number"),
        ("echo/99999999999/0_0_0", "number"),
        ("echo/1/0_0", "point"),
        ("echo/1/0_0_0?scale=many", "scale"),
        ("word/", "any is empty"),
        ("echo/1", "echo/{number:int}/{point:point}"),
        ("echo/1/2_3_4/5", "echo/{number:int}/{point:point}"),
        ("nosuch/1", "/api/help/probe"),
        ("no%0Asuch%0D%0A/1", "/api/help/probe"),
    ],
)
def test_wrong_arguments_are_named(client: Client, node: str, path: str, says: str) -> None:
    answer = client.get(f"{node}/{path}")
    assert answer.status == 400
    assert says in answer.text
    assert answer.headers["content-type"] == "text/plain"
    assert answer.text.count("\n") == 1


def test_paths(client: Client, node: str) -> None:
    assert client.get(f"{node}/rest/a/b%20c/%C3%A9?word=x+y%26z&word=second").text == "a/b c/é|x y&z"
    assert client.get(f"{node}/word/special").text == "special"
    assert client.get(f"{node}/word/other").text == "other"
    assert client.get(f"{node}/word/other/").text == "other"
    assert client.get(f"{node}/word/%FF").status == 400
    version = node.rsplit("/", 1)[0]
    for path in (
        node,
        node + "/",
        version,
        f"{version}/nosuch",
        "/api/node/x/y",
        "/api/node/",
        "/api/nosuch",
        "/api/",
        "/api",
        "/nosuch",
    ):
        assert client.get(path).status == 404, path


@pytest.mark.parametrize(
    ("query", "parsed"),
    [
        ("", {}),
        ("a=1&b=&c", {"a": "1", "b": "", "c": ""}),
        ("a=1&a=2", {"a": "1"}),
        ("a%20b=%C3%A9+x&&=z", {"a b": "é x", "": "z"}),
        ("a=b=c", {"a": "b=c"}),
        ("u=é".encode().decode("latin-1"), {"u": "é"}),
    ],
)
def test_query_strings(query: str, parsed: dict[str, str]) -> None:
    assert parse_query(query) == parsed


def test_only_declared_verbs_do_anything(client: Client, node: str) -> None:
    """Where DVID is weak: PATCH and HEAD store their body there, PATCH even on a committed version."""
    for verb in ("PUT", "PATCH", "DELETE", "TRACE"):
        answer = client(verb, f"{node}/body", b"x")
        assert (answer.status, verb in answer.text) == (400, True)
    assert client("HEAD", f"{node}/write").status == 400
    kv = client.instance(node.split("/")[3], "kv")
    client.post(f"{kv}/key/a", b"old")
    client.commit(node.split("/")[3])
    for verb in ("PATCH", "HEAD", "OPTIONS", "PUT", "POST", "DELETE"):
        client(verb, f"{kv}/key/a", b"new")
    assert client.get(f"{kv}/key/a").body == b"old"


def test_head_is_get_without_a_body(client: Client, node: str) -> None:
    for path in ("big/100/bytes", f"big/{2 * BIG}/view", "stream/4?length=true"):
        get, head = client.get(f"{node}/{path}"), client("HEAD", f"{node}/{path}")
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-length"] == str(len(get.body))
    assert client("HEAD", f"{node}/echo/x/0_0_0").status == 400
    assert all(call._snapshot is None for call in Probe.calls)
    for path in ("/api/server/info", "/api/repos/info", "/api/heartbeat"):
        assert client("HEAD", path).status == 200


def test_options_tells_the_verbs(client: Client, node: str) -> None:
    answer = client("OPTIONS", f"{node}/body")
    assert (answer.status, answer.headers["allow"]) == (200, "GET, HEAD, OPTIONS, POST")
    assert client("OPTIONS", "/api/repos").headers["allow"] == "OPTIONS, POST"
    assert client("OPTIONS", "/api/server/info/").headers["allow"] == "GET, HEAD, OPTIONS"
    assert client("OPTIONS", "/api/nosuch").status == 404


# -- locks and slots ------------------------------------------------------------------------------------------------------


def test_a_committed_version_refuses_what_writes(client: Client, node: str) -> None:
    root = node.split("/")[3]
    flat = client.instance(root, "flat", "probe", versioned="false")
    client.commit(root)
    assert client.post(f"{node}/write").status == 400
    assert client.post(f"{node}/write?admintoken=wrong").status == 400
    # The lock is looked at before the arguments and the body are.
    assert "committed" in client.post(f"{node}/tags", b"{").text
    assert client.admin("POST", f"{node}/write").status == 200
    assert client.post(f"{flat}/write").status == 200
    assert client.post(f"{node}/raise/conflict").status == 409


def test_throttled_requests_take_a_slot(client: Client, node: str) -> None:
    assert client.server.throttle.limit == os.cpu_count()
    assert client.admin("POST", "/api/server/settings", {"throttle": "1"}).status == 200
    answers: list[int] = []

    def ask() -> None:
        answers.append(client.post(f"{node}/wait?throttle=true").status)

    thread = threading.Thread(target=ask)
    thread.start()
    while not Probe.calls:
        time.sleep(0.01)
    busy = client.post(f"{node}/wait?throttle=on")
    assert (busy.status, "throttled" in busy.text) == (503, True)
    assert client.admin("POST", "/api/server/settings", {"throttle": "2", "gc": "500"}).status == 200
    Probe.hold.set()
    assert client.post(f"{node}/wait?throttle=on").status == 200
    thread.join()
    assert answers == [200]
    assert client.admin("POST", "/api/server/settings", {"throttle": "1"}).status == 200
    assert client.admin("POST", "/api/server/settings").status == 200
    assert client.server.throttle.limit == 1
    # Each slot has been given back.
    assert client.post(f"{node}/wait?throttle=on").status == 200


# -- bodies ---------------------------------------------------------------------------------------------------------------


def test_bodies_of_any_verb_are_read(client: Client, node: str) -> None:
    assert client.post(f"{node}/body", b"0123456789").text == "POST 10 b'0123456789'"
    assert client("GET", f"{node}/body", b"0123456789").text == "GET 10 b'0123456789'"
    assert client.get(f"{node}/body").text == "GET 0 b''"


def test_a_stream_may_answer_less_than_it_is_asked_for(client: Client, node: str) -> None:
    class Slow(io.RawIOBase):
        def __init__(self, data: bytes) -> None:
            self.data = data

        def read(self, size: int = -1) -> bytes:
            size = min(size, 3)
            piece, self.data = self.data[:size], self.data[size:]
            return piece

    headers = {"Content-Length": "10"}
    answer = client.post(f"{node}/body", headers=headers, **{"wsgi.input": Slow(b"0123456789")})
    assert answer.text == "POST 10 b'0123456789'"
    short = client.post(f"{node}/body", headers=headers, **{"wsgi.input": Slow(b"01234567")})
    assert (short.status, "8 of the 10 bytes" in short.text) == (400, True)


def test_chunked_bodies_have_no_length_before(database: Database, client: Client, node: str) -> None:
    chunked = {"Transfer-Encoding": "chunked"}
    answer = client.post(f"{node}/body", headers=chunked, **{"wsgi.input": io.BytesIO(b"0123456789")})
    assert answer.text == "POST 10 b'0123456789'"
    small = Client(database, max_body_size=9)
    answer = small.post(f"{node}/body", headers=chunked, **{"wsgi.input": io.BytesIO(b"0123456789")})
    assert answer.status == 413


def test_json_has_a_limit_of_its_own(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    root = client.repo()
    seg = client.instance(root, "seg", "labelmap")
    monkeypatch.setattr(call, "LARGEST_JSON", 100)
    for verb, path, body in (
        ("POST", f"/api/node/{root}/note", {"note": "x" * 100}),
        ("POST", f"{seg}/tags", {"a": "x" * 100}),
        ("GET", f"{seg}/labels", [[0, 0, 0]] * 20),
        ("GET", f"{seg}/sizes", [1] * 100),
    ):
        answer = client(verb, path, body)
        assert (answer.status, "at most 100 of JSON" in answer.text) == (413, True), path
    assert client.get(f"{seg}/labels", body=[[0, 0, 0]] * 2).json() == [0, 0]
    assert client.post(f"{seg}/blobstore", bytes(1000)).status == 200


def test_limits_and_garbage(database: Database, node: str) -> None:
    client = Client(database, max_body_size=10)
    assert client.post(f"{node}/body", b"0123456789").status == 200
    answer = client.post(f"{node}/body", b"0123456789a")
    assert (answer.status, "maxBodySize" in answer.text) == (413, True)
    for length in ("-1", "ten", "1e3", "1 2", "٣"):
        assert client.post(f"{node}/body", headers={"Content-Length": length}).status == 400, length


# -- answers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bytes", "view", "array"])
@pytest.mark.parametrize("size", [0, 10, BIG - 1, BIG, 5 * BIG + 3])
@pytest.mark.parametrize("wrapper", [None, ReadOnlyFileBasedBuffer])
def test_buffers_arrive_whole_and_their_snapshot_is_closed(
    client: Client, node: str, kind: str, size: int, wrapper: Any
) -> None:
    answer = client.get(f"{node}/big/{size}/{kind}", **{"wsgi.file_wrapper": wrapper})
    big = wrapper is not None and size >= BIG
    assert isinstance(answer.pieces, ReadOnlyFileBasedBuffer) == big
    assert answer.headers["content-length"] == str(size)
    (call,) = Probe.calls
    assert (call._snapshot is not None) == big
    assert answer.body == (np.arange(size) % 251).astype(np.uint8).tobytes()
    assert call._snapshot is None


def test_a_buffer_file_reads_like_a_file() -> None:
    data = bytes(range(256)) * 10
    closed: list[bool] = []
    ours, theirs = BufferFile(data, lambda: closed.append(True)), io.BytesIO(data)
    random = np.random.default_rng(0)
    for _ in range(300):
        if random.random() < 0.5:
            size = int(random.integers(-1, 700))
            assert bytes(ours.read(size)) == theirs.read(size)
        else:
            place = int(random.integers(0, 2560))
            assert ours.seek(place) == theirs.seek(place)
        assert ours.tell() == theirs.tell()
    assert ours.seek(0, io.SEEK_END) == len(data)
    ours.close()
    ours.close()
    assert closed == [True]


@pytest.mark.parametrize("number", [0, 1, 7, 80_000, 300_000])
def test_streams(client: Client, node: str, number: int) -> None:
    for query in ("", "?length=true"):
        head = client("HEAD", f"{node}/stream/{number}{query}")
        answer = client.get(f"{node}/stream/{number}{query}")
        # A body of one piece has a length, so that the connection can be kept.
        length = str(3 * number) if query or 3 * number < PIECE else None
        assert answer.headers.get("content-length") == length
        assert head.body == b""
        assert length is None or head.headers["content-length"] == length
        pieces = [len(piece) for piece in answer.pieces]
        assert sum(pieces) == 3 * number
        # Small pieces are joined, so that each costs one system call and not thousands.
        assert len(pieces) <= 1 + 3 * number // (1 << 18)
        assert Probe.calls[-1]._snapshot is None


def test_a_stream_that_fails_before_its_first_byte_is_an_error(client: Client, node: str) -> None:
    for place in (0, 7):
        answer = client.get(f"{node}/stream/100?fail={place}")
        assert (answer.status, f"piece {place} is not there" in answer.text) == (404, True)
        assert Probe.calls[-1]._snapshot is None


def test_a_stream_that_fails_later_breaks_the_connection(client: Client, node: str) -> None:
    answer = client.get(f"{node}/stream/200000?fail=150000")
    assert answer.status == 200
    with pytest.raises(NotFound):
        assert answer.body
    assert Probe.calls[-1]._snapshot is None


def test_a_client_that_leaves_closes_the_stream(client: Client, node: str) -> None:
    answer = client.get(f"{node}/stream/1000000")
    next(iter(answer.pieces))
    assert Probe.calls[-1]._snapshot is not None
    answer.pieces.close()
    assert Probe.calls[-1]._snapshot is None


def test_headers_go_both_ways(client: Client, node: str) -> None:
    answer = client.get(f"{node}/headers", headers={"X-Thing": "1", "Content-Type": "a/b"})
    assert answer.text == "[('content-type', 'a/b'), ('x-thing', '1')]"
    assert (answer.status, answer.headers["x-probe"]) == (202, "yes")


# -- errors ---------------------------------------------------------------------------------------------------------------


def test_what_a_kernel_says_about_a_body_is_a_bad_request(client: Client, node: str) -> None:
    answer = client.post(f"{node}/raise/value", b"body")
    assert (answer.status, answer.text) == (400, f"bad block ({node}/raise/value).\n")
    assert client.get(f"{node}/raise/value").status == 500


def test_a_bug_is_logged_and_not_shown(client: Client, node: str, caplog: pytest.LogCaptureFixture) -> None:
    answer = client.get(f"{node}/raise/bug")
    assert answer.status == 500
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert "ZeroDivisionError" in caplog.text
    assert Probe.calls[-1]._snapshot is None


def test_a_conflict_is_409(client: Client, node: str) -> None:
    assert client.get(f"{node}/raise/conflict").status == 409


def test_a_stopping_server_answers_503(client: Client, node: str) -> None:
    client.server.stopping = True
    for path in (f"{node}/body", "/api/heartbeat", "/"):
        assert client.get(path).status == 503


def test_slow_requests_are_logged(database: Database, node: str, caplog: pytest.LogCaptureFixture) -> None:
    Client(database, slow_request=0.0).get(f"{node}/body")
    assert f"slow request: GET '{node}/body' status=200" in caplog.text
