"""After a power cut no row points to what is not there, whatever of the unsynced had reached the disk."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from dvidcore.storage import segments
from segment_store import content, delete, files, opened, put


class Disk:
    """Watches what is synced, and makes copies of a store as a power cut leaves it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
        self.store = store
        self.sizes: dict[int, int] = {}  # inode → synced bytes
        self.names: set[str] = set()  # of files whose folder was synced since
        self._sync_folder = segments._sync_folder
        monkeypatch.setattr(segments, "_sync_file", self.sync_file)
        monkeypatch.setattr(segments, "_sync_folder", self.sync_folder)
        self.copies = 0

    def sync_file(self, fd: int) -> None:
        size = os.fstat(fd).st_size
        os.fdatasync(fd)
        self.sizes[os.fstat(fd).st_ino] = size

    def sync_folder(self, path: str) -> None:
        self._sync_folder(path)
        self.names.update(os.listdir(path))

    def cut(self, *, logs: bool) -> dict[bytes, bytes]:
        """What a store holds that kept of its segments what was synced, and of LevelDB all but perhaps the logs."""
        self.copies += 1
        copy = self.store.with_name(f"{self.store.name}-{self.copies}")
        shutil.copytree(self.store, copy)
        for file in files(self.store):
            there = copy / "segments" / file.name
            if file.name in self.names:
                os.truncate(there, self.sizes.get(file.stat().st_ino, 16))
            else:
                there.unlink()
        if not logs:
            for log in copy.glob("*.log"):
                log.write_bytes(b"")
        with opened(copy) as engine:
            found = content(engine)
        shutil.rmtree(copy)
        return found


def test_whatever_leveldb_kept_its_values_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch, tmp_path / "db")
    pick = random.Random(3)
    model: dict[bytes, bytes] = {}
    with opened(tmp_path / "db") as engine:
        for turn in range(60):
            values = {
                b"%02d" % pick.randrange(30): b"%04d" % turn * pick.choice([5, 500, 50_000])
                for _ in range(pick.randrange(1, 6))
            }
            put(engine, values, sync=pick.random() < 0.3)
            model.update(values)
            if turn % 6 == 0:
                assert disk.cut(logs=True) == model
        assert len(files(tmp_path / "db")) > 5


def test_no_file_goes_that_old_rows_point_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch, tmp_path / "db")
    removed: list[str] = []
    unlink = os.unlink

    def watched(path: Any, **options: Any) -> None:
        ours = str(path).startswith(str(tmp_path / "db" / "segments"))
        if ours:
            disk.cut(logs=False)  # raises if a row cannot be read
        unlink(path, **options)
        if ours:
            disk.cut(logs=False)
            removed.append(path)

    pick = random.Random(4)
    for turn in range(8):
        with opened(tmp_path / "db") as engine:  # opening moves the rows of the log into a table, which stays
            for _ in range(5):
                put(engine, {b"%02d" % pick.randrange(40): b"%04d" % turn * 20_000 for _ in range(3)})
            delete(engine, *[b"%02d" % pick.randrange(40) for _ in range(6)], sync=False)
            with monkeypatch.context() as patch:
                patch.setattr("dvidcore.storage.segments.os.unlink", watched)
                engine.reclaim()
            assert disk.cut(logs=True) == content(engine)
    assert len(removed) > 3
