"""Memory is given back once large requests have come to an end, and not while they go on."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from apiclient import Client
from dvidcore.api.memory import LARGE, Trimmer, keep_memory
from dvidcore.repos import Database


def test_trims_once_after_a_burst() -> None:
    trimmed: list[float] = []
    trimmer = Trimmer(lambda: trimmed.append(time.monotonic()), quiet=0.5)
    for _ in range(6):
        trimmer.used()
        time.sleep(0.05)
    last = time.monotonic()
    while not trimmed:
        time.sleep(0.01)
    time.sleep(0.7)
    assert len(trimmed) == 1
    assert trimmed[0] >= last - 0.05
    trimmer.used()
    while len(trimmed) < 2:
        time.sleep(0.01)


def test_nothing_runs_without_large_requests(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(database)
    used: list[Any] = []
    monkeypatch.setattr(client.server.trimmer, "used", lambda: used.append(1))
    kv = client.instance(client.repo(), "kv")
    client.post(f"{kv}/key/a", b"x" * 1000)
    client.get(f"{kv}/key/a")
    assert not used
    client.post(f"{kv}/key/a", b"x" * LARGE)
    assert len(used) == 1
    client.get(f"{kv}/key/a")
    assert len(used) == 2
    assert not any(thread.name == "trimmer" and not thread.daemon for thread in threading.enumerate())


def test_trimming_is_glibcs(capfd: pytest.CaptureFixture[str]) -> None:
    trim = keep_memory()
    if trim is not None:
        trim()
    Trimmer(None).used()
