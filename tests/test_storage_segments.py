"""Large values in segment files: what was written is read, and what is damaged is found."""

from __future__ import annotations

import os
import random
import resource
import threading
import tracemalloc
from pathlib import Path

import plyvel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvidcore import errors
from dvidcore.storage import Batch, keys, open_engine
from dvidcore.storage._checksum import crc32c_each
from dvidcore.storage.leveldb import LevelDB
from dvidcore.storage.pointers import INLINE, MARK, POINTER
from dvidcore.storage.versioned import Ancestry, View
from segment_store import TOP, content, files, opened, put, segment_bytes


@settings(max_examples=60)
@given(st.lists(st.integers(0, 7000), max_size=5), st.integers(0, 7), st.randoms(use_true_random=False))
def test_checksums_are_the_same_with_and_without_acceleration(sizes: list[int], skip: int, pick: random.Random) -> None:
    values = [memoryview(pick.randbytes(size + skip))[skip:] for size in sizes]
    assert crc32c_each(values) == crc32c_each(values, accelerated=False)


def test_checksums_are_crc32c() -> None:
    for accelerated in (True, False):
        assert crc32c_each([b"123456789", b"", bytes(32)], accelerated=accelerated) == [0xE3069283, 0, 0x8A9136AA]
        assert crc32c_each([], accelerated=accelerated) == []
    with pytest.raises(TypeError):
        crc32c_each([b"1", "text"])  # type: ignore[list-item]


VALUES = {
    b"empty": b"",
    b"small": b"s" * 99,
    b"large": b"L" * 100,
    b"larger": os.urandom(70_000),
    b"mark": MARK,
    b"marked": INLINE + b"x",
    b"like a pointer": POINTER + bytes(20),
    b"marked and large": MARK + b"m" * 500,
}


def test_values_of_all_kinds(tmp_path: Path) -> None:
    for _ in range(2):
        with opened(tmp_path) as engine:
            put(engine, VALUES)
            assert content(engine) == VALUES
            assert engine.get_many([b"larger", b"none", b"empty"]) == [VALUES[b"larger"], None, b""]
            with engine.snapshot() as snapshot:
                names = [*VALUES, b"none"]
                found = [None if value is None else bytes(value) for value in snapshot.get_many(names)]
                assert found == [VALUES.get(name) for name in names]
                assert {name: snapshot.get(name) for name in VALUES} == VALUES
                assert {name: snapshot.floor(name, name)[1] for name in VALUES} == VALUES  # type: ignore[index]
                backwards = [(key, bytes(value)) for key, value in snapshot.scan(b"", TOP, reverse=True)]
                assert backwards == sorted(VALUES.items(), reverse=True)
    assert len(files(tmp_path)) == 1  # the second opening went on with it
    with plyvel.DB(str(tmp_path)) as db:
        assert sorted(key for key, stored in db if stored[:5] == POINTER) == [b"large", b"larger", b"marked and large"]


def test_guards_compare_values_wherever_they_are(tmp_path: Path) -> None:
    with opened(tmp_path) as engine:
        put(engine, VALUES)
        batch = Batch()
        batch.put(b"done", b"d" * 200)
        for name, value in VALUES.items():
            before = segment_bytes(tmp_path)
            with pytest.raises(errors.GuardFailed):
                engine.write(batch, guard={name: value + b"?"})
            with pytest.raises(errors.GuardFailed):
                engine.write(batch, guard={name: None})
            assert segment_bytes(tmp_path) == before
            assert engine.get(b"done") is None
            engine.write(batch, guard=VALUES)
            batch.delete(b"done")
            engine.write(batch)


def test_small_values_and_small_batches_stay_in_leveldb(tmp_path: Path) -> None:
    with open_engine("leveldb", str(tmp_path)) as engine:
        put(engine, {b"%d" % number: bytes(4095) for number in range(100)})
        put(engine, {b"few": bytes(60_000)})
        assert not (tmp_path / "segments").exists()
        put(engine, {b"many%d" % number: bytes(4096) for number in range(16)})
        assert segment_bytes(tmp_path) == 16 + 16 * 4096


def test_a_store_without_segments_opens_and_stays_readable(tmp_path: Path) -> None:
    with plyvel.DB(str(tmp_path), create_if_missing=True) as db:
        db.put(b"old", b"o" * 10_000)
    with opened(tmp_path) as engine:
        put(engine, {b"new": b"n" * 10_000})
    with LevelDB.open(str(tmp_path), segmentthreshold=0) as engine:
        put(engine, {b"newer": b"N" * 100_000})
        expected = {b"old": b"o" * 10_000, b"new": b"n" * 10_000, b"newer": b"N" * 100_000}
        assert content(engine) == expected
    assert segment_bytes(tmp_path) == 16 + 10_000


def test_segments_are_rotated_and_read_together(tmp_path: Path) -> None:
    pick = random.Random(1)
    values = {b"%04d" % number: pick.randbytes(pick.choice([50, 5_000, 60_000])) for number in range(200)}
    names = list(values)
    pick.shuffle(names)
    with opened(tmp_path) as engine:
        for at in range(0, len(names), 10):
            put(engine, {name: values[name] for name in names[at : at + 10]})
        assert len(files(tmp_path)) >= 3
        assert all(file.stat().st_size < 2 << 20 for file in files(tmp_path))
        assert content(engine) == values
        assert engine.get_many(names) == [values[name] for name in names]


def test_a_scan_reads_a_bounded_amount_ahead(tmp_path: Path) -> None:
    with opened(tmp_path, megabytes=64) as engine:
        for number in range(32):
            put(engine, {b"%02d" % number: bytes([number]) * 1_000_000})
        with engine.snapshot() as snapshot:
            tracemalloc.start()
            lengths = [len(value) for _, value in snapshot.scan(b"", TOP)]
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
    assert lengths == [1_000_000] * 32
    assert peak < 6_000_000


def test_a_view_reads_only_what_it_shows(tmp_path: Path) -> None:
    prefix = keys.data_prefix(1, 1)
    with opened(tmp_path) as engine:
        put(engine, {prefix + b"key" + keys.version_bytes(1): b"1" * 500})
        engine.close()
    hidden = files(tmp_path)[0]
    hidden.rename(hidden.with_name("00000007.seg"))
    with opened(tmp_path) as engine:
        put(engine, {prefix + b"key" + keys.version_bytes(2): b"2" * 500})
        with engine.snapshot() as snapshot:
            newer, older = (View(snapshot, Ancestry.from_parents(version, {2: [1]})) for version in (2, 1))
            assert newer.get(prefix + b"key") == b"2" * 500
            assert newer.get_many([prefix + b"key", prefix + b"none"]) == [b"2" * 500, None]
            assert dict(newer.scan(*keys.kind_range(1, 1))) == {prefix + b"key": b"2" * 500}
            assert list(older.keys(*keys.kind_range(1, 1))) == [prefix + b"key"]
            for read in (lambda: older.get(prefix + b"key"), lambda: list(older.scan(*keys.kind_range(1, 1)))):
                with pytest.raises(errors.StoreError, match=r"segments/00000001\.seg is missing"):
                    read()


def test_damage_is_found_and_the_file_named(tmp_path: Path) -> None:
    values = {b"a": b"a" * 1000, b"b": b"b" * 1000, b"c": b"c" * 1000}
    with opened(tmp_path) as engine:
        put(engine, values)
    (file,) = files(tmp_path)
    sound = file.read_bytes()
    for damaged, reason in [
        (sound[:1016] + b"?" + sound[1017:], "value at 1016 of 1000 bytes is damaged"),
        (sound[:1500], "ends within the value at"),
        (b"X" + sound[1:], "does not begin as segment 1"),
        (b"", "does not begin as segment 1"),
    ]:
        file.write_bytes(damaged)
        with opened(tmp_path) as engine, engine.snapshot() as snapshot:
            if damaged[:8] == sound[:8]:
                assert snapshot.get(b"a") == values[b"a"]
            match = rf"00000001\.seg.*{reason}"
            with pytest.raises(errors.StoreError, match=match):
                snapshot.get(b"b")
            with pytest.raises(errors.StoreError, match=match):
                snapshot.get_many([b"a", b"b"])
            with pytest.raises(errors.StoreError, match=match):
                list(snapshot.scan(b"", TOP))
            with pytest.raises(errors.StoreError, match=match):
                engine.write(Batch(), guard={b"b": values[b"b"]})
    file.write_bytes(sound)
    with opened(tmp_path) as engine:
        assert content(engine) == values


def test_a_damaged_pointer_is_found(tmp_path: Path) -> None:
    with opened(tmp_path) as engine:
        put(engine, {b"a": b"a" * 1000})
    with plyvel.DB(str(tmp_path)) as db:
        pointer = db.get(b"a")
        bad = [pointer[:-1], pointer + b"x"]
        bad += [pointer[:at] + bytes([pointer[at] ^ 1]) + pointer[at + 1 :] for at in range(5, len(pointer))]
        for number, row in enumerate(bad):
            db.put(b"bad%03d" % number, row)
    with opened(tmp_path) as engine:
        for number in range(len(bad)):
            with pytest.raises(errors.StoreError, match="segment file"):
                engine.get(b"bad%03d" % number)


@pytest.mark.parametrize("tail", [b"torn" * 300, b""])
def test_what_a_crash_left_behind_is_written_behind(tmp_path: Path, tail: bytes) -> None:
    with opened(tmp_path) as engine:
        put(engine, {b"a": b"a" * 1000})
    (file,) = files(tmp_path)
    with file.open("ab") as appending:
        appending.write(tail)
    if not tail:  # the crash came while the next segment was made
        file.with_name("00000002.seg").touch()
    before = file.read_bytes()
    with opened(tmp_path) as engine:
        put(engine, {b"b": b"b" * 1000})
        assert content(engine) == {b"a": b"a" * 1000, b"b": b"b" * 1000}
    assert file.read_bytes()[: len(before)] == before


def test_without_its_leveldb_a_folder_of_segments_is_no_empty_store(tmp_path: Path) -> None:
    with opened(tmp_path) as engine:
        put(engine, {b"a": b"a" * 1000})
    for file in tmp_path.iterdir():
        if file.is_file():
            file.unlink()
    with pytest.raises(errors.StoreError, match="holds segments, but no file CURRENT"):
        opened(tmp_path)


def test_a_full_disk_refuses_the_batch_and_goes_on(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with opened(tmp_path) as engine:
        put(engine, {b"a": b"a" * 100_000}, sync=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
        try:
            for _ in range(3):
                with pytest.raises(errors.StoreError, match=r"00000001\.seg"):
                    put(engine, {b"a": b"x" * 90_000, b"b": b"y" * 90_000}, sync=True)
            assert segment_bytes(tmp_path) == 16 + 100_000
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        put(engine, {b"c": b"c" * 100_000}, sync=True)
    with opened(tmp_path) as engine:
        assert content(engine) == {b"a": b"a" * 100_000, b"c": b"c" * 100_000}


@pytest.mark.parametrize("sync", [True, False])
def test_nothing_points_to_what_did_not_reach_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: bool
) -> None:
    failing = threading.Event()

    def sync_file(fd: int) -> None:
        if failing.is_set():
            raise OSError(5, "Input/output error")
        os.fdatasync(fd)

    monkeypatch.setattr("dvidcore.storage.segments._sync_file", sync_file)
    with opened(tmp_path) as engine:
        put(engine, {b"a": b"a" * 1000}, sync)
        failing.set()
        with pytest.raises(errors.StoreError, match=r"00000001\.seg.*Input/output"):
            put(engine, {b"a": b"x" * 1000, b"b": b"small"}, sync)
        assert content(engine) == {b"a": b"a" * 1000}
        failing.clear()
        put(engine, {b"b": b"b" * 1000}, sync)
        assert content(engine) == {b"a": b"a" * 1000, b"b": b"b" * 1000}
        assert len(files(tmp_path)) == 2, "a segment that failed to sync must not take more"


def test_writers_and_readers_side_by_side(tmp_path: Path) -> None:
    """Each batch writes a set of keys with one content; whoever reads must see one content in all of a set."""
    wrong: list[object] = []
    done = threading.Event()
    with opened(tmp_path) as engine:

        def value(writer: int, turn: int, key: int) -> bytes:
            return b"%d %d %d " % (writer, turn, key) * (10 + 100 * (turn % 5))

        def write(writer: int) -> None:
            for turn in range(40):
                put(engine, {b"%d/%02d" % (writer, key): value(writer, turn, key) for key in range(10)}, turn % 8 == 0)

        def read() -> None:
            while not done.is_set():
                with engine.snapshot() as snapshot:
                    for writer in range(3):
                        rows = list(snapshot.scan(b"%d/" % writer, b"%d0" % writer))
                        many = snapshot.get_many([key for key, _ in rows])
                        turns = {int(bytes(found).split()[1]) for _, found in rows}
                        expected = [value(writer, turn, key) for turn in turns for key in range(10)]
                        if len(turns) > 1 or many != expected or [found for _, found in rows] != expected:
                            wrong.append((writer, turns))

        readers = [threading.Thread(target=read) for _ in range(2)]
        writers = [threading.Thread(target=write, args=(writer,)) for writer in range(3)]
        for thread in [*readers, *writers]:
            thread.start()
        for thread in writers:
            thread.join()
        done.set()
        for thread in readers:
            thread.join()
        assert not wrong
        assert content(engine) == {
            b"%d/%02d" % (writer, key): value(writer, 39, key) for writer in range(3) for key in range(10)
        }


def test_size_counts_large_values(tmp_path: Path) -> None:
    with opened(tmp_path, megabytes=64) as engine:
        for start in range(0, 9000, 1000):
            put(
                engine,
                {b"%05d" % number: bytes(1000 if number < 6000 else 50) for number in range(start, start + 1000)},
            )
        assert engine.size(b"00000", b"01000") == 1000 * 1005 + 1000 * 25
    with opened(tmp_path) as engine:  # LevelDB knows the sizes of its tables only
        assert 0.8 < engine.size(b"0", b"1") / (6000 * 1030 + 3000 * 55) < 1.2
        assert 0.8 < engine.size(b"01000", b"06000") / (5000 * 1030) < 1.2
        assert engine.size(b"06", b"07") < 1000 * 100
        assert engine.size(b"1", b"2") == 0
