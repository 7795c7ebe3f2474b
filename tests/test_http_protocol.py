"""What only shows over a socket: broken requests, bodies of every kind, several requests on one connection."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from server_process import ServerProcess


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder: Path = tmp_path_factory.mktemp("protocol") / "store"
    running = ServerProcess(folder).wait_until_up()
    yield running
    running.stop()


@pytest.fixture
def kv(server: ServerProcess) -> str:
    return server.instance("keyvalue", "kv")


def talk(server: ServerProcess, data: bytes, *, half_close: bool = True) -> bytes:
    """Sends bytes and nothing more; all that comes until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=120) as s:
        with suppress(ConnectionError):  # the server may close before it has read everything
            s.sendall(data)
            if half_close:
                s.shutdown(socket.SHUT_WR)
        got = b""
        with suppress(ConnectionResetError):  # which then comes behind the answer
            while piece := s.recv(65536):
                got += piece
    return got


def head(verb: str, path: str, *fields: str) -> bytes:
    return "\r\n".join((f"{verb} {path} HTTP/1.1", "Host: x", *fields, "", "")).encode("latin-1")


def parts(answer: bytes) -> tuple[int, bytes]:
    """Status and body of a single answer."""
    before, _, body = answer.partition(b"\r\n\r\n")
    return int(before.split()[1]), body


REFUSED = {
    "a length below zero": (head("POST", "{kv}/key/a", "Content-Length: -1"), b"abc", 400, "Content-Length"),
    "a length that is none": (head("POST", "{kv}/key/a", "Content-Length: 3x"), b"abc", 400, "Content-Length"),
    "two lengths": (head("POST", "{kv}/key/a", "Content-Length: 3", "Content-Length: 4"), b"abc", 400, "Length"),
    "a length beyond all limits": (head("POST", "{kv}/key/a", f"Content-Length: {10**30}"), b"a", 413, "maxBodySize"),
    "a chunk without a size": (head("POST", "{kv}/key/a", "Transfer-Encoding: chunked"), b"z\r\n", 400, "chunk size"),
    "a chunk below zero": (head("POST", "{kv}/key/a", "Transfer-Encoding: chunked"), b"-1\r\na\r\n", 400, "chunk size"),
    "a chunk too long": (head("POST", "{kv}/key/a", "Transfer-Encoding: chunked"), b"1\r\nabc\r\n", 400, "Chunk"),
    "an unknown encoding": (head("POST", "{kv}/key/a", "Transfer-Encoding: gzip"), b"", 501, "Transfer-Encoding"),
    "no request line": (b"\x16\x03\x01\r\n\r\n", b"", 400, "Start line"),
    "a space in the path": (head("POST", "{kv}/key/a b", "Content-Length: 1"), b"x", 400, "Start line"),
    "a verb in lower case": (head("post", "{kv}/key/a", "Content-Length: 1"), b"x", 400, "method"),
    "a NUL in a header": (head("POST", "{kv}/key/a", "X: a\0b", "Content-Length: 1"), b"x", 400, "header"),
    "a path that is no URI": (head("POST", "http://[x{kv}/key/a", "Content-Length: 1"), b"x", 400, "URI"),
    "a path that is not ASCII": (head("POST", "{kv}/key/\xe9", "Content-Length: 1"), b"x", 400, "URI"),
    "a header without end": (head("GET", "{kv}/keys", "X: " + "x" * 300_000), b"", 431, "header"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_request_is_refused_in_one_line(server: ServerProcess, kv: str, case: str) -> None:
    before, body, status, says = REFUSED[case]
    got, text = parts(talk(server, before.replace(b"{kv}", kv.encode()) + body, half_close=False))
    assert got == status
    assert says.encode() in text
    assert text.endswith(b".\n") and text.count(b"\n") == 1
    assert server.json(f"{kv}/keys") == []


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        (("Content-Length: 10",), b"abc"),
        (("Content-Length: 10",), b""),
        (("Transfer-Encoding: chunked",), b"8\r\nabc"),
        (("Transfer-Encoding: chunked",), b"3\r\nabc\r\n"),
        (("Expect: 100-continue", "Content-Length: 10"), b""),
    ],
)
def test_a_body_that_breaks_off_is_never_stored(
    server: ServerProcess, kv: str, fields: tuple[str, ...], body: bytes
) -> None:
    assert b" 200 " not in talk(server, head("POST", f"{kv}/key/a", *fields) + body)
    assert server.json(f"{kv}/keys") == []


def test_a_client_that_has_said_all_is_still_answered(server: ServerProcess, kv: str) -> None:
    assert parts(talk(server, head("POST", f"{kv}/key/a", "Content-Length: 3", "Connection: close") + b"abc")) == (
        200,
        b"",
    )
    assert server.ask("GET", f"{kv}/key/a") == (200, b"abc")


def test_requests_behind_each_other_are_answered_in_order(server: ServerProcess, kv: str) -> None:
    requests = b"".join(
        (
            head("POST", f"{kv}/key/a", "Content-Length: 2") + b"v1",
            head("GET", f"{kv}/key/a"),
            head("HEAD", f"{kv}/key/a", "Content-Length: 3") + b"abc",
            head("POST", f"{kv}/nosuch", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n\r\n",
            head("DELETE", f"{kv}/key/a"),
            head("GET", f"{kv}/key/a", "Connection: close"),
        )
    )
    answers = talk(server, requests).split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"200", b"200", b"200", b"400", b"200", b"404"]
    assert answers[1].endswith(b"\r\n\r\nv1")
    assert b"Content-Length: 2\r\n" in answers[2] and answers[2].endswith(b"\r\n\r\n")


def test_a_get_may_have_a_body_in_chunks(server: ServerProcess) -> None:
    seg = server.instance("labelmap", "seg")
    chunked = head("GET", f"{seg}/labels", "Transfer-Encoding: chunked", "Connection: close")
    assert parts(talk(server, chunked + b"4\r\n[[0,\r\n5\r\n0,0]]\r\n0\r\n\r\n")) == (200, b"[0]")


def test_the_answer_to_a_long_path_is_short(server: ServerProcess) -> None:
    for path in ("/api/" + "x" * 100_000, "/" + "x" * 100_000, "/api/node/" + "x" * 100_000 + "/kv/keys"):
        status, text = server.ask("GET", path)
        assert status in (400, 404)
        assert len(text) < 1000
