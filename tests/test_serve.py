"""Real server processes: starting, refusing to start, stopping, and what only shows over a socket."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dvidcore.cli import cli
from server_process import ROOT, free_port

MB = 1 << 20


class Running:
    """A server process and a connection to it."""

    def __init__(self, arguments: list[str], port: int, token: str = "secret") -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "DVID_ADMIN_TOKEN": token}
        command = [sys.executable, "-m", "dvidcore.cli", "serve", *arguments]
        self.port = port
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def wait_until_up(self) -> Running:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                assert self.ask("GET", "/api/heartbeat")[0] == 200
                return self
            except OSError:
                time.sleep(0.02)
        self.process.kill()
        raise AssertionError(f"no start: {self.process.communicate()}")

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def ask(self, verb: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        with closing(self.connect()) as connection:
            connection.request(verb, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def keyvalue(self) -> str:
        status, data = self.ask("POST", "/api/repos?admintoken=secret")
        assert status == 200
        root = json.loads(data)["root"]
        status, _ = self.ask("POST", f"/api/repo/{root}/instance", b'{"typename": "keyvalue", "dataname": "kv"}')
        assert status == 200
        return f"/api/node/{root}/kv"

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=120)
        return self.process.returncode, out, err


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts servers, by default over a folder of this test's, and kills what a test leaves behind."""
    started: list[Running] = []

    def one(*arguments: str, port: int | None = None, data: str | None = "data", up: bool = True) -> Running:
        port = free_port() if port is None else port
        given = [*arguments, "--http", f"localhost:{port}"]
        server = Running([*given, "--data", str(tmp_path / data)] if data else given, port)
        started.append(server)
        return server.wait_until_up() if up else server

    yield one
    for server in started:
        if server.process.poll() is None:
            server.process.kill()
        server.process.communicate()


def refusal(server: Running) -> str:
    """The one line on stderr of a server that does not start."""
    out, err = server.process.communicate(timeout=120)
    assert server.process.returncode == 1, (out, err)
    assert err.count("\n") == 1, err
    return err


BACKENDS = ["waitress", "granian"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_server_starts_answers_and_keeps_what_it_was_given(start: Callable[..., Running], backend: str) -> None:
    server = start("--server", backend)
    kv = server.keyvalue()
    value = os.urandom(3 * MB)
    assert server.ask("POST", f"{kv}/key/a%20%C3%A9", value)[0] == 200
    assert server.ask("GET", f"{kv}/key/a%20%C3%A9") == (200, value)
    assert server.ask("HEAD", f"{kv}/key/a%20%C3%A9")[0] == 200
    assert server.ask("GET", f"{kv}/key/b")[0] == 404
    code, out, err = server.stop()
    assert code == 0, (out, err)
    assert "Traceback" not in out + err
    again = start("--server", backend)
    assert again.ask("GET", f"{kv}/key/a%20%C3%A9") == (200, value)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_connection_serves_many_requests(start: Callable[..., Running], backend: str) -> None:
    server = start("--server", backend)
    kv = server.keyvalue()
    with closing(server.connect()) as connection:
        for number in range(50):
            connection.request("POST", f"{kv}/key/k{number}", b"v%d" % number)
            assert connection.getresponse().read() == b""
            sock = connection.sock
            # A GET with a body, as clients send it, and an error in between.
            connection.request("GET", f"{kv}/key/k{number}", b'["a body"]')
            assert connection.getresponse().read() == b"v%d" % number
            connection.request("GET", f"{kv}/key/nosuch")
            assert b"not" in connection.getresponse().read()
            assert connection.sock is sock


@pytest.mark.parametrize("backend", BACKENDS)
def test_parallel_clients(start: Callable[..., Running], backend: str) -> None:
    server = start("--server", backend, "--threads", "4")
    kv = server.keyvalue()
    wrong: list[Any] = []

    def work(name: str) -> None:
        with closing(server.connect()) as connection:
            for number in range(20):
                value = f"{name}{number}".encode() * 5000
                connection.request("POST", f"{kv}/key/{name}", value)
                connection.getresponse().read()
                connection.request("GET", f"{kv}/key/{name}")
                if connection.getresponse().read() != value:
                    wrong.append((name, number))

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_port_in_use_is_one_clear_line(start: Callable[..., Running], backend: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"cannot listen at 127.0.0.1:{port}" in refusal(start("--server", backend, port=port, up=False))


def test_a_store_in_use_is_one_clear_line(start: Callable[..., Running]) -> None:
    server = start()
    assert "in use" in refusal(start(up=False))
    assert server.ask("GET", "/api/heartbeat") == (200, b"OK")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[store.a]\nengine = 'nosuch'\npath = 'x'", "nosuch"),
        ("[store.a]\nengine = 'leveldb'\npath = '/proc/nowhere'", "store.a"),
        ("[store.a]\nengine = 'leveldb'\npath = 'x'\n[auth]\nenforce = 'token'", "authentication"),
        ("[store", "TOML"),
        (
            "[store.a]\nengine = 'leveldb'\npath = 'x'\n[server]\nstartWebhook = 'http://127.0.0.1:9/hook'",
            "startWebhook",
        ),
        ("[store.a]\nengine = 'leveldb'\npath = 'x'\n[server]\nblockListFile = 'nosuch'", "block list"),
    ],
)
def test_a_bad_configuration_is_one_clear_line(
    start: Callable[..., Running], tmp_path: Path, text: str, says: str
) -> None:
    (tmp_path / "bad.toml").write_text(text)
    assert says in refusal(start(str(tmp_path / "bad.toml"), data=None, up=False))


def test_a_configuration_file(start: Callable[..., Running], tmp_path: Path) -> None:
    heard: list[Any] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    hook = HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=hook.handle_request)
    thread.start()
    port = free_port()
    (tmp_path / "server.toml").write_text(
        f"""
        [Server]
        httpAddress = "localhost:{port}"
        note = "hello"
        host = "alias"
        pidFile = "run/pid"
        startWebhook = "http://127.0.0.1:{hook.server_port}/"
        [logging]
        logfile = "logs/server.log"
        max_log_size = 1
        [mutations]
        jsonstore = "json"
        [store.big]
        engine = "leveldb"
        path = "big"
        [store.fast]
        engine = "lmdb"
        path = "fast"
        [backend.default]
        store = "big"
        [backend.keyvalue]
        store = "fast"
        """
    )
    server = Running([str(tmp_path / "server.toml")], port)
    try:
        server.wait_until_up()
        thread.join()
        assert heard == [
            {"Host": "alias", "Note": "hello", "HTTP Address": f"localhost:{port}", "RPC Address": "localhost:8001"}
        ]
        assert server.ask("GET", "/api/server/note") == (200, b"hello")
        assert int((tmp_path / "run" / "pid").read_text()) == server.process.pid
        info = json.loads(server.ask("GET", "/api/server/info")[1])
        assert info["Host"] == f"alias:{port}"
        assert info["Storage backend"] == f"leveldb @ {tmp_path}/big; lmdb @ {tmp_path}/fast"
        assert info["TOML location"] == str(tmp_path / "server.toml")
        assert b"[Server]" in server.ask("GET", "/api/server/config?admintoken=secret")[1]
        kv = server.keyvalue()
        assert b"lmdb @" in server.ask("GET", f"{kv}/info")[1]
        assert server.ask("POST", f"{kv}/key/a", b"x")[0] == 200
    finally:
        code, out, err = server.stop()
    assert (code, out, err) == (0, "", "")
    assert not (tmp_path / "run" / "pid").exists()
    assert "serving http://127.0.0.1" in (tmp_path / "logs" / "server.log").read_text()


@pytest.mark.parametrize(
    ("backend", "number"), [("waitress", signal.SIGTERM), ("waitress", signal.SIGINT), ("granian", signal.SIGTERM)]
)
def test_a_stop_waits_for_what_is_running(start: Callable[..., Running], backend: str, number: int) -> None:
    """A big answer whose client is slow leaves whole, although the server was told to stop meanwhile."""
    server = start("--server", backend)
    kv = server.keyvalue()
    value = os.urandom(30 * MB)
    assert server.ask("POST", f"{kv}/key/big", value)[0] == 200
    with closing(server.connect()) as connection:
        connection.request("GET", f"{kv}/key/big")
        answer = connection.getresponse()
        first = answer.read(1000)
        server.process.send_signal(number)
        time.sleep(0.5)
        assert server.process.poll() is None
        assert first + answer.read() == value
    out, err = server.process.communicate(timeout=120)
    assert server.process.returncode == 0, (out, err)
    assert "Traceback" not in out + err


def test_a_stopping_server_refuses_new_requests(start: Callable[..., Running]) -> None:
    server = start()
    kv = server.keyvalue()
    assert server.ask("POST", f"{kv}/key/big", os.urandom(30 * MB))[0] == 200
    with closing(server.connect()) as busy, closing(server.connect()) as idle:
        idle.request("GET", "/api/heartbeat")
        idle.getresponse().read()
        busy.request("GET", f"{kv}/key/big")
        busy.getresponse().read(1000)
        server.process.send_signal(signal.SIGTERM)
        statuses = [200]
        while statuses[-1] == 200:  # until the signal has arrived
            idle.request("GET", f"{kv}/keys")
            with idle.getresponse() as answer:
                answer.read()
            statuses.append(answer.status)
        assert statuses[-1] == 503
    assert server.process.wait(120) == 0


def test_killed_while_writing_it_starts_again_with_all_it_acknowledged(start: Callable[..., Running]) -> None:
    server = start()
    kv = server.keyvalue()
    acknowledged: list[int] = []

    def write() -> None:
        try:
            for number in range(100_000):
                if server.ask("POST", f"{kv}/key/k{number:06}", b"%d" % number)[0] == 200:
                    acknowledged.append(number)
        except (OSError, http.client.HTTPException):
            return

    thread = threading.Thread(target=write)
    thread.start()
    while len(acknowledged) < 50:
        time.sleep(0.01)
    server.process.kill()
    server.process.wait()
    thread.join()
    again = start()
    keys = json.loads(again.ask("GET", f"{kv}/keys")[1])
    assert set(keys) >= {f"k{number:06}" for number in acknowledged}


# -- what only shows over a socket --------------------------------------------------------------------------------------


def raw(port: int, data: bytes, *, answers: int = 1) -> bytes:
    """Sends bytes and returns all that comes until the connection closes or enough whole answers have come."""
    with socket.create_connection(("127.0.0.1", port), timeout=120) as s:
        s.sendall(data)
        got = b""
        while whole_answers(got) < answers:
            piece = s.recv(65536)
            if not piece:
                break
            got += piece
        return got


def whole_answers(got: bytes) -> int:
    """How many answers are there to their last byte, by their Content-Length."""
    count, at = 0, 0
    while (end := got.find(b"\r\n\r\n", at)) >= 0:
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", got[at:end])
        at = end + 4 + (int(length[1]) if length else 0)
        if at > len(got):
            break
        count += 1
    return count


@pytest.mark.parametrize("backend", BACKENDS)
def test_bad_lengths_and_large_bodies_are_refused(start: Callable[..., Running], tmp_path: Path, backend: str) -> None:
    port = free_port()
    (tmp_path / "s.toml").write_text(
        f'[server]\nhttpAddress = "localhost:{port}"\nmaxBodySize = 1000\nbackend = "{backend}"\n'
        '[store.a]\nengine = "leveldb"\npath = "db"\n'
    )
    server = Running([str(tmp_path / "s.toml")], port)
    try:
        kv = server.wait_until_up().keyvalue()
        head = f"POST {kv}/key/a HTTP/1.1\r\nHost: x\r\n".encode()
        for length in (b"-1", b"ten", b"1, 2"):
            assert b" 400 " in raw(port, head + b"Content-Length: " + length + b"\r\n\r\nabc").split(b"\r\n")[0]
        assert server.ask("POST", f"{kv}/key/a", b"x" * 1000)[0] == 200
        too_large = raw(port, head + b"Content-Length: 1001\r\n\r\n" + b"x" * 1001)
        assert b" 413 " in too_large.split(b"\r\n")[0]
        assert b"at most 1000" in too_large and b"maxBodySize" in too_large
        chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
        assert b" 413 " in raw(port, chunked + b"5dc\r\n" + b"x" * 1500 + b"\r\n0\r\n\r\n").split(b"\r\n")[0]
        assert b" 200 " in raw(port, chunked + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").split(b"\r\n")[0]
        assert server.ask("GET", f"{kv}/key/a") == (200, b"abcde")
        # A client that leaves in the middle of its body has written nothing.
        with socket.create_connection(("127.0.0.1", port)) as s:
            s.sendall(head + b"Content-Length: 100\r\n\r\nabc")
        assert server.ask("GET", f"{kv}/key/a") == (200, b"abcde")
    finally:
        server.stop()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_body_that_nobody_wants_does_not_hide_the_answer(start: Callable[..., Running], backend: str) -> None:
    server = start("--server", backend)
    kv = server.keyvalue()
    with closing(server.connect()) as connection:
        for path in (f"{kv}/nosuch", "/api/nosuch", f"{kv}/key/a"):
            connection.request("POST", path, bytes(20 * MB))
            answer = connection.getresponse()
            assert answer.read() or path.endswith("a")
            assert answer.status == (200 if path.endswith("a") else 404 if path == "/api/nosuch" else 400)


def test_expect_continue_is_answered_at_once(start: Callable[..., Running]) -> None:
    server = start()
    kv = server.keyvalue()
    head = f"POST {kv}/key/a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=120) as s:
        s.sendall(head.encode())
        assert s.recv(1000).startswith(b"HTTP/1.1 100 ")
        s.sendall(b"abc")
        assert s.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_a_large_body_is_not_held_in_memory(start: Callable[..., Running]) -> None:
    """Bodies beyond 64 MB go to disk while they arrive."""
    server = start()
    kv = server.keyvalue()
    with closing(server.connect()) as connection:
        connection.putrequest("POST", f"{kv}/nosuch")
        connection.putheader("Content-Length", str(400 * MB))
        connection.endheaders()
        piece = bytes(MB)
        for _ in range(400):
            connection.send(piece)
        assert connection.getresponse().status == 400
    status = Path(f"/proc/{server.process.pid}/status")
    if status.exists():
        peak = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        assert peak < 300 * 1024, f"{peak} kB"


# -- the command line -----------------------------------------------------------------------------------------------------


def dvidcore(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def test_command_line() -> None:
    assert dvidcore("--version").stdout.startswith("dvidcore")
    about = dvidcore("about")
    assert about.exit_code == 0
    assert "leveldb" in about.stdout
    assert "keyvalue" in about.stdout
    for wrong in (["serve"], ["serve", "a.toml", "--data", "x"], ["serve", "--data", "x", "--readonly", "--fullwrite"]):
        done = dvidcore(*wrong)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "Error:" in done.stderr
    missing = dvidcore("serve", "/nosuch/config.toml")
    assert missing.exit_code == 1
    assert "/nosuch/config.toml" in missing.stderr
    assert dvidcore("serve", "--data", "x", "--http", "host:port").exit_code == 1
