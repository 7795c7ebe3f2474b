"""A dvidcore command that serves, in a process of its own that can be killed."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

ROOT = Path(__file__).resolve().parents[1]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


class ServerProcess:
    """``python -m dvidcore.cli COMMAND --data FOLDER``; its output goes to ``FOLDER.log``.

    What a test that fails leaves running is killed once the tests of its module are done (``conftest``).
    """

    running: ClassVar[list[ServerProcess]] = []

    def __init__(self, folder: Path, command: str = "serve", token: str = "") -> None:
        self.port = free_port()
        self.log = folder.with_suffix(".log")
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "DVID_ADMIN_TOKEN": token}
        arguments = [sys.executable, "-m", "dvidcore.cli", command, "--data", str(folder)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*arguments, "--http", f"localhost:{self.port}"], env=environment, stdout=log, stderr=log
            )
        self.running.append(self)

    def ask(self, verb: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """Status and body of an answer. Raises OSError or HTTPException where the server is not there or dies."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)) as connection:
            connection.request(verb, path, data)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def json(self, path: str) -> Any:
        status, data = self.ask("GET", path)
        assert status == 200, data
        return json.loads(data)

    def wait_until_up(self) -> ServerProcess:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                assert self.ask("GET", "/api/heartbeat")[0] == 200
                return self
            except OSError:
                time.sleep(0.02)
        raise AssertionError(f"no start: {self.log.read_text()}")

    def instance(self, typename: str, name: str, **settings: str) -> str:
        """The path of a new instance in a new repo."""
        status, data = self.ask("POST", "/api/repos")
        assert status == 200, data
        root = json.loads(data)["root"]
        status, data = self.ask(
            "POST", f"/api/repo/{root}/instance", {"typename": typename, "dataname": name, **settings}
        )
        assert status == 200, data
        return f"/api/node/{root}/{name}"

    def peak_memory(self) -> int:
        """The most memory that it has had, in bytes, where /proc tells."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
        raise AssertionError("no VmHWM")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(120)

    def stop(self) -> int:
        """Ends it as an operator would; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)

    @classmethod
    def kill_all(cls) -> None:
        """Kills those that are still there."""
        while cls.running:
            cls.running.pop().kill()
