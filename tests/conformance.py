"""Replays the conformance scenarios against a server that it starts: ``python tests/conformance.py [NAME …]``.

A name is the beginning of a scenario's. The server has a temporary store and the admin token that the scenarios use;
the exit code is the kit's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from server_process import ROOT, free_port

KIT = ROOT.parent / "shared" / "conformance" / "kit.py"
TOKEN = "secret"
DEFAULT = (
    "annotation_",
    "core_",
    "keyvalue_",
    "neuronjson_",
    "labelmapvol_",
    "labelmapmut_",
    "labelarray",
    "labelblk_",
    "labelsz_",
    "labelvol_",
    "imageblk_",
    "imagetile_",
    "multichan16_",
    "roi_",
    "tarsupervoxels_",
)


def wait_until_up(url: str, server: subprocess.Popen[bytes], seconds: float = 120) -> None:
    """Returns when the server answers; raises where it ends or does not within the time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise SystemExit(f"the server ended with exit code {server.returncode}")
        try:
            urllib.request.urlopen(f"{url}/api/heartbeat", timeout=2).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise SystemExit(f"the server did not answer within {seconds:.0f} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=DEFAULT, help="beginnings of scenario names")
    parser.add_argument("--kit", type=Path, default=KIT, help="the conformance kit")
    parser.add_argument("--show", default="5", help="differences shown for each scenario")
    parser.add_argument("--server", default="waitress", choices=["waitress", "granian"])
    given = parser.parse_args()
    if not given.kit.exists():
        print(f"the conformance kit is not at {given.kit}", file=sys.stderr)
        return 2
    url = f"http://127.0.0.1:{(port := free_port())}"
    environment = {**os.environ, "DVID_ADMIN_TOKEN": TOKEN, "PYTHONPATH": str(ROOT / "src")}
    with tempfile.TemporaryDirectory() as folder, open(Path(folder) / "log", "w+b") as log:
        command = [sys.executable, "-m", "dvidcore.cli", "serve", "--data", f"{folder}/data"]
        command += ["--http", f"localhost:{port}", "--server", given.server]
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_until_up(url, server)
            kit = [sys.executable, str(given.kit), "replay", *given.names]
            kit += ["--url", url, "--admintoken", TOKEN, "--show", given.show]
            return subprocess.run(kit, check=False).returncode
        finally:
            server.terminate()
            server.wait(120)
            log.seek(0)
            errors = [line for line in log.read().decode(errors="replace").splitlines() if "level=ERROR" in line]
            if errors:
                print(f"\nThe server logged {len(errors)} errors, the last:\n{errors[-1]}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
