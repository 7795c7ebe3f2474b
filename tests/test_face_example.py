"""The example and the code in the documents run as they stand."""

import os
import re
import subprocess
import sys

import numpy as np

import dvidcore
from server_process import ROOT


def test_the_tour(tmp_path):
    folder = tmp_path / "store"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, str(ROOT / "examples" / "tour.py"), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "refused: version" in done.stdout and '"numblocks"' in done.stdout
    with dvidcore.open(folder) as store:
        repo = store.repo("tour")
        assert repo.branches == ["master", "trial"] and repo["master~1"].note == "segmentation and bodies"


def test_the_code_in_the_documents(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labels = np.arange(1, 9, dtype=np.uint64).reshape(2, 2, 2).repeat(64, 0).repeat(64, 1).repeat(64, 2)
    ran = 0
    for document in ("README.md", "docs/python.md"):
        for code in re.findall(r"```python\n(.*?)```", (ROOT / document).read_text("utf-8"), re.DOTALL):
            if "dvidcore.open" in code:
                exec(compile(code, document, "exec"), {"labels": labels})
                ran += 1
    assert ran == 2
    with dvidcore.open("local-store", readonly=True) as store:
        assert store.node(":master")["segmentation"].size(1) == 3 * 64**3
