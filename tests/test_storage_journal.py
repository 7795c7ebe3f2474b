"""A write that fails halfway must not take later ones with it, which LevelDB acknowledges and cannot read again."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dvidcore import errors
from dvidcore.storage.leveldb import LevelDB
from segment_store import content, delete, fill, opened, put


def log_bytes(path: Path) -> int:
    return max(file.stat().st_size for file in path.glob("*.log"))


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """No file of this process can grow beyond it, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fail(engine: LevelDB, path: Path, part: int = 400) -> None:
    """Has a write fail when ``part`` of its bytes are in the log."""
    with file_limit(log_bytes(path) + part), pytest.raises(errors.StoreError, match=r"\.log"):
        put(engine, {b"failed": b"f" * 3000}, sync=True)


@pytest.mark.parametrize("part", [1, 7, 400])
def test_what_is_acknowledged_after_a_failed_write_is_there_at_the_next_start(tmp_path: Path, part: int) -> None:
    expected = {}
    with opened(tmp_path, threshold=0) as engine:
        for turn in range(3):
            for number in range(20):
                expected[b"%d %02d" % (turn, number)] = b"%d" % turn * 1000
                put(engine, {b"%d %02d" % (turn, number): b"%d" % turn * 1000}, sync=True)
            fail(engine, tmp_path, part)
        put(engine, {b"last": b"l"}, sync=True)
        expected[b"last"] = b"l"
        assert content(engine) == expected
    with opened(tmp_path, threshold=0) as engine:
        assert content(engine) == expected


def test_while_there_is_no_room_for_another_log_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else LevelDB would take no more writes until the next start, even with room again."""
    with opened(tmp_path, threshold=100) as engine:
        put(engine, {b"a": b"a" * 50}, sync=True)
        with file_limit(log_bytes(tmp_path) + 20), pytest.raises(errors.StoreError, match=r"\.log"):
            put(engine, {b"b": b"b" * 99}, sync=True)
        with monkeypatch.context() as patch:
            patch.setattr("dvidcore.storage.journal.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
            for size in (10, 1000):
                with pytest.raises(errors.StoreError, match="no room for another log"):
                    put(engine, {b"c": b"c" * size}, sync=True)
            assert not (tmp_path / "segments").exists()
        put(engine, {b"d": b"d" * 50}, sync=True)
    with opened(tmp_path) as engine:
        assert content(engine) == {b"a": b"a" * 50, b"d": b"d" * 50}


def test_values_are_moved_after_a_failed_write(tmp_path: Path) -> None:
    with opened(tmp_path) as engine:
        values = fill(engine, "abcdefgh")
        gone = [name for name in values if name not in (b"a", b"f")]
        delete(engine, *gone)
        with file_limit(log_bytes(tmp_path) + 9), pytest.raises(errors.StoreError):
            put(engine, {b"z": b"z" * 50}, sync=True)
        assert engine.reclaim().removed
        put(engine, {b"y": b"y" * 50}, sync=True)
    with opened(tmp_path) as engine:
        assert content(engine) == {b"a": values[b"a"], b"f": values[b"f"], b"y": b"y" * 50}


def test_many_writers_beside_a_failure(tmp_path: Path) -> None:
    acknowledged: list[bytes] = []
    failed, stop = threading.Event(), threading.Event()

    def write(name: int) -> None:
        for number in range(5000):
            if stop.is_set():
                return
            key = b"%d %06d" % (name, number)
            try:
                put(engine, {key: b"v" * (300 * name + 100)}, sync=number % 8 == 0)
            except errors.StoreError:
                failed.set()
            else:
                acknowledged.append(key)

    with opened(tmp_path, threshold=0) as engine:
        put(engine, {b"first": b"f" * 100_000})
        writers = [threading.Thread(target=write, args=(name,)) for name in range(4)]
        with file_limit(log_bytes(tmp_path) + 50_000):
            for writer in writers:
                writer.start()
            assert failed.wait(60)
        before = len(acknowledged)
        while len(acknowledged) < before + 500 and any(writer.is_alive() for writer in writers):
            time.sleep(0.01)
        stop.set()
        for writer in writers:
            writer.join()
    with opened(tmp_path) as engine:
        present = content(engine)
    assert [key for key in acknowledged if key not in present] == []
