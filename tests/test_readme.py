"""The README's commands and programs run as they are written, one after the other, against one server."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from server_process import ServerProcess

README = Path(__file__).resolve().parents[1] / "README.md"
BLOCK = re.compile(r"```(console|python)\n(.*?)```", re.DOTALL)
ELSEWHERE = re.compile(r"make |pip install|dvidcore serve|gs://|/em/")
"""What is done before the test, or needs a bucket on the Internet."""


@pytest.mark.skipif(shutil.which("curl") is None, reason="the README uses curl")
def test_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    server = ServerProcess(tmp_path / "store")
    try:
        server.wait_until_up()
        here = f"127.0.0.1:{server.port}"
        names: dict[str, Any] = {}
        shell = f"API=http://{here}/api\n"
        ran = 0
        for kind, text in BLOCK.findall(README.read_text("utf-8")):
            block = text.replace("127.0.0.1:8000", here)
            if kind == "python":
                exec(compile(block, f"README, {kind} block", "exec"), names)
                ran += 1
                continue
            commands, expected = commands_of(block)
            if not commands:
                continue
            done = subprocess.run(
                ["bash", "-e", "-c", f'{shell}{commands}echo; echo "ROOT=$ROOT"'],
                capture_output=True,
                text=True,
                check=True,
            )
            *output, root = done.stdout.strip().split("\n")
            assert all(line in output for line in expected), done.stdout
            names["ROOT"] = root.removeprefix("ROOT=")
            shell = f"API=http://{here}/api\n{root}\n"
            ran += 1
    finally:
        server.kill()
    assert ran >= 6
    assert (tmp_path / "slice.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "bodies.png").read_bytes().startswith(b"\x89PNG")


def commands_of(block: str) -> tuple[str, list[str]]:
    """The commands of a console block, and the lines that it shows as their output."""
    commands, expected = [], []
    for line in block.splitlines():
        if not line.startswith("$ "):
            expected.append(line)
        elif not ELSEWHERE.search(line) and not line.startswith("$ API="):
            commands.append(line[2:])
    return "".join(f"{command}\necho\n" for command in commands), expected
