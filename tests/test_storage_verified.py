"""Values of segment files that are read again: out of a map of the file, without a check of what was checked lately."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dvidcore import errors
from dvidcore.storage.engine import Batch
from dvidcore.storage.leveldb import LevelDB
from dvidcore.storage.pointers import Pointer, decode
from dvidcore.storage.segments import Segments
from dvidcore.storage.verified import Map, Verified
from segment_store import files, opened, put

NAMES = [b"%02d" % k for k in range(8)]
VALUES = {name: name * 500 for name in NAMES}


def pointers(engine: LevelDB, names: list[bytes]) -> list[Pointer]:
    with engine.snapshot() as snapshot:
        stubs = dict(snapshot.stubs(b"", b"\xff"))
    return [decode(stubs[name]) for name in names]


def test_values_are_the_same_at_every_reading(tmp_path: Path) -> None:
    with opened(tmp_path) as engine:
        put(engine, VALUES)
        for _ in range(3):
            with engine.snapshot() as snapshot:
                assert [snapshot.get(name) for name in NAMES] == list(VALUES.values())
                assert snapshot.get_many(NAMES[::-1]) == list(VALUES.values())[::-1]
                assert dict(snapshot.scan(b"", b"\xff")) == VALUES


def test_a_file_grows_under_its_readers(tmp_path: Path) -> None:
    with opened(tmp_path) as engine:
        for k in range(1, len(NAMES) + 1):
            put(engine, {NAMES[k - 1]: VALUES[NAMES[k - 1]]})
            for _ in range(2):
                assert engine.get_many(NAMES) == [*list(VALUES.values())[:k], *[None] * (len(NAMES) - k)]
        assert len(files(tmp_path)) == 1


def test_what_was_read_before_and_is_gone_now_is_an_error(tmp_path: Path) -> None:
    with opened(tmp_path) as engine:
        put(engine, VALUES)
        for _ in range(2):
            assert engine.get_many(NAMES) == list(VALUES.values())
        (file,) = files(tmp_path)
        os.truncate(file, 2500)
        assert engine.get(NAMES[0]) == VALUES[NAMES[0]]
        for read in (lambda: engine.get(NAMES[4]), lambda: engine.get_many(NAMES)):
            with pytest.raises(errors.StoreError, match="ends within the value"):
                read()


def test_what_is_moved_is_checked_always(tmp_path: Path) -> None:
    with opened(tmp_path) as engine:
        put(engine, VALUES)
        for _ in range(2):
            engine.get_many(NAMES)
        (pointer,) = pointers(engine, NAMES[:1])
    segments = Segments(str(tmp_path), 1 << 20, 1, 1)
    assert [segments.read_many([pointer]) for _ in range(2)] == [[VALUES[NAMES[0]]]] * 2
    (file,) = files(tmp_path)
    with file.open("r+b") as damaged:
        damaged.seek(pointer.offset)
        damaged.write(b"?")
    with pytest.raises(errors.StoreError, match="is damaged"):
        segments.read(pointer)
    segments.close()


def test_a_value_outlives_its_segment_in_the_hands_of_a_reader(tmp_path: Path) -> None:
    with opened(tmp_path) as engine:
        put(engine, VALUES)
        (pointer,) = pointers(engine, NAMES[:1])
    segments = Segments(str(tmp_path), 1 << 20, 1, 1)
    segments.read_many([pointer])
    (held,) = segments.read_many([pointer])
    assert isinstance(held, memoryview) and held.readonly
    segments.rotate()
    segments.retire([1])
    segments.sweep(everything=True)
    assert [file.name for file in files(tmp_path)] == ["00000002.seg"]
    assert held == VALUES[NAMES[0]]
    with pytest.raises(errors.StoreError, match="is missing"):
        segments.read_many([pointer])
    segments.close()
    assert held == VALUES[NAMES[0]]


def test_only_the_latest_are_remembered() -> None:
    known = Verified(most=3)
    memory = memoryview(bytes(range(100)))
    some = [Pointer(1, 10 * k, 10, k) for k in range(9)]
    asked: list[int] = []

    def mapped(number: int, end: int) -> memoryview:
        asked.append(number)
        return memory

    for k in range(len(some)):
        known.add([some[k]])
        found = known.again(some, mapped)
        assert found[k] == memory[10 * k : 10 * k + 10]
        assert 1 <= sum(value is not None for value in found) <= 6
        assert all(value is None for value in found[: max(0, k - 5)] + found[k + 1 :])
    assert asked == [1] * len(some)
    assert known.again([some[8]._replace(crc=7), some[8]._replace(length=9)], mapped) == [None, None]


def test_a_map_gives_what_there_is(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    fd = os.open(path, os.O_RDWR)
    found = Map()
    assert found.upto(10, fd) == b""
    os.pwrite(fd, b"0123456789", 0)
    assert found.upto(11, fd) == b""
    first = found.upto(10, fd)
    assert first == b"0123456789"
    os.pwrite(fd, b"abc", 10)
    assert found.upto(10, fd) == b"0123456789"
    assert found.upto(13, fd) == b"0123456789abc"
    os.ftruncate(fd, 4)
    assert found.upto(3, fd) == b"0123"
    os.close(fd)
    assert found.upto(3, fd) == b""


def test_guards_see_values_that_were_read_before(tmp_path: Path) -> None:
    with opened(tmp_path) as engine:
        put(engine, VALUES)
        for _ in range(3):
            batch = Batch()
            batch.put(b"small", b"x")
            engine.write(batch, guard={NAMES[0]: VALUES[NAMES[0]]})
            with pytest.raises(errors.GuardFailed):
                engine.write(batch, guard={NAMES[0]: VALUES[NAMES[1]]})
