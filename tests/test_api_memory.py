"""Memory is given back once large requests have come to an end, and not while they go on."""

from __future__ import annotations

import queue
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from apiclient import Client
from dvidcore.api import memory
from dvidcore.api.memory import LARGE, Trimmer, keep_memory
from dvidcore.repos import Database


def test_trims_once_after_a_burst(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the trimmer stands still until the test lets a quiet time pass."""
    pauses: queue.SimpleQueue[float] = queue.SimpleQueue()
    passed: queue.SimpleQueue[None] = queue.SimpleQueue()
    trimmed: queue.SimpleQueue[None] = queue.SimpleQueue()

    def sleep(seconds: float) -> None:
        pauses.put(seconds)
        passed.get()

    monkeypatch.setattr(memory, "time", SimpleNamespace(sleep=sleep))
    trimmer = Trimmer(lambda: trimmed.put(None), quiet=0.5)
    for _ in range(2):
        trimmer.used()
        for _ in range(6):
            assert pauses.get(timeout=120) == 0.5
            trimmer.used()  # before the quiet time is over, so another one begins
            passed.put(None)
        assert pauses.get(timeout=120) == 0.5
        assert trimmed.empty()
        passed.put(None)
        trimmed.get(timeout=120)
    assert pauses.empty() and trimmed.empty()


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


def test_trimming_is_glibcs() -> None:
    trim = keep_memory()
    assert trim is None or trim() in (0, 1)  # whether anything was given back


def test_without_glibc_nothing_is_trimmed() -> None:
    trimmer = Trimmer(None)
    trimmer.used()
    assert trimmer._thread is None
