"""Work that outlives its request."""

from __future__ import annotations

import threading

import pytest

from dvidcore.repos.jobs import Jobs


def test_of_one_name_only_one_runs_at_a_time() -> None:
    jobs, go, ran = Jobs(), threading.Event(), list[int]()

    def work(stop: threading.Event, number: int) -> None:
        assert go.wait(120)
        ran.append(number)

    jobs.start("a", lambda stop: work(stop, 1))
    jobs.start("a", lambda stop: work(stop, 2))
    jobs.start("b", lambda stop: work(stop, 3))
    assert not jobs.wait("a", 0.01)
    go.set()
    assert jobs.wait("a", 120) and jobs.wait("b", 120) and jobs.wait("never", 0)
    assert sorted(ran) == [1, 3]
    jobs.start("a", lambda stop: work(stop, 4))
    assert jobs.wait("a", 120) and ran[-1] == 4


def test_closing_stops_and_waits() -> None:
    jobs, ended = Jobs(), threading.Event()

    def work(stop: threading.Event) -> None:
        assert stop.wait(120)
        ended.set()

    jobs.start("a", work)
    jobs.close()
    assert ended.is_set()
    jobs.start("b", lambda stop: ended.clear())
    assert jobs.wait("b", 120) and ended.is_set()


def test_what_a_job_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def work(stop: threading.Event) -> None:
        raise ValueError("nothing to do")

    jobs = Jobs()
    jobs.start("a job", work)
    assert jobs.wait("a job", 120)
    assert "a job failed" in caplog.text
