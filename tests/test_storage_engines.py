"""Every engine does what the interface says."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from dvidcore import errors
from dvidcore.storage import Batch, Engine, open_engine
from dvidcore.storage.engine import Snapshot
from side_by_side import beside

KINDS = ["leveldb", "lmdb", "memory"]
PERSISTENT = ["leveldb", "lmdb"]
TOP = b"\xff" * 8


def put(engine: Engine, **values: bytes) -> None:
    batch = Batch()
    for key, value in values.items():
        batch.put(key.encode(), value)
    engine.write(batch)


def rows(reader: Engine | Snapshot, start: bytes = b"", stop: bytes = TOP, reverse: bool = False) -> list[Any]:
    return [(key, bytes(value)) for key, value in reader.scan(start, stop, reverse=reverse)]


def test_reads_what_was_written(engine: Engine) -> None:
    put(engine, a=b"1", b=b"", c=b"3")
    assert engine.get(b"a") == b"1"
    assert engine.get(b"b") == b""
    assert engine.get(b"x") is None
    assert engine.get(b"") is None
    assert engine.get_many([b"c", b"x", b"a"]) == [b"3", None, b"1"]
    with engine.snapshot() as snapshot:
        assert [value and bytes(value) for value in snapshot.get_many([b"c", b"", b"a"])] == [b"3", None, b"1"]


def test_operations_of_a_batch_apply_in_order(engine: Engine) -> None:
    put(engine, old=b"x")
    batch = Batch()
    batch.put(b"k", b"1")
    batch.delete(b"k")
    batch.put(b"k", memoryview(b"-2-")[1:2])
    more = Batch()
    more.delete(b"old")
    more.delete(b"never")
    batch.extend(more)
    assert len(batch) == 5
    assert batch.nbytes == 2 + 1 + 2 + 3 + 5
    engine.write(batch)
    assert rows(engine) == [(b"k", b"2")]


def test_scans_half_open_ranges_both_ways(engine: Engine) -> None:
    put(engine, a=b"1", ab=b"2", b=b"3", c=b"4")
    assert [key for key, _ in rows(engine, b"a", b"b")] == [b"a", b"ab"]
    assert [key for key, _ in rows(engine, b"a\x00", b"bb")] == [b"ab", b"b"]
    assert rows(engine, b"a", b"c", reverse=True) == [(b"b", b"3"), (b"ab", b"2"), (b"a", b"1")]
    assert rows(engine, b"ab", TOP, reverse=True) == [(b"c", b"4"), (b"b", b"3"), (b"ab", b"2")]
    assert list(engine.scan(b"aa", b"c", keys_only=True)) == [b"ab", b"b"]
    assert list(engine.scan(b"aa", b"c", keys_only=True, reverse=True)) == [b"b", b"ab"]
    assert rows(engine, b"b", b"b") == rows(engine, b"c", b"a") == rows(engine, b"d", b"e") == []
    assert rows(engine, b"", b"a", reverse=True) == []


def test_floor_is_the_last_row_up_to_a_key(engine: Engine) -> None:
    put(engine, b=b"1", d=b"2")
    with engine.snapshot() as snapshot:

        def floor(start: bytes, last: bytes) -> tuple[bytes, bytes] | None:
            row = snapshot.floor(start, last)
            return None if row is None else (row[0], bytes(row[1]))

        assert floor(b"a", b"d") == floor(b"a", TOP) == floor(b"d", b"d\x00") == (b"d", b"2")
        assert floor(b"a", b"c") == floor(b"b", b"b") == (b"b", b"1")
        assert floor(b"a", b"a") is floor(b"c", b"c") is floor(b"e", TOP) is None


def test_long_scans_and_keys_at_the_limit(engine: Engine) -> None:
    batch = Batch()
    keys = [b"%05d" % number for number in range(3000)] + [b"x" * 511, b"x" * 510]
    for key in keys:
        batch.put(key, key)
    engine.write(batch)
    keys.sort()
    assert list(engine.scan(b"", TOP, keys_only=True)) == keys
    assert rows(engine, reverse=True) == [(key, key) for key in reversed(keys)]
    longer = b"x" * 600
    assert list(engine.scan(longer, TOP, keys_only=True)) == []
    assert list(engine.scan(b"x", longer, keys_only=True, reverse=True)) == [b"x" * 511, b"x" * 510]
    assert engine.get(longer) is None
    with engine.snapshot() as snapshot:
        row = snapshot.floor(b"", longer)
        assert row is not None and row[0] == b"x" * 511


def test_lmdb_names_its_limit_on_keys(tmp_path: Path) -> None:
    with open_engine("lmdb", str(tmp_path)) as engine:
        batch = Batch()
        batch.put(b"fine", b"1")
        batch.put(b"x" * 512, b"1")
        with pytest.raises(errors.BadRequest, match=r"512 bytes.*511"):
            engine.write(batch)
        assert rows(engine) == []


def test_a_snapshot_does_not_change(engine: Engine) -> None:
    put(engine, a=b"1", b=b"2")
    with engine.snapshot() as snapshot:
        scan, engine_scan = snapshot.scan(b"", TOP), engine.scan(b"", TOP)
        batch = Batch()
        batch.put(b"a", b"9")
        batch.put(b"c", b"3")
        batch.delete(b"b")
        engine.write(batch)
        assert rows(snapshot) == [(b"a", b"1"), (b"b", b"2")]
        assert [(key, bytes(value)) for key, value in scan] == rows(snapshot)
        assert [(key, bytes(value)) for key, value in engine_scan] == rows(snapshot)
        assert snapshot.get(b"c") is None
        floor = snapshot.floor(b"", TOP)
        assert floor is not None and floor[0] == b"b"
    assert rows(engine) == [(b"a", b"9"), (b"c", b"3")]


def test_one_snapshot_serves_many_threads(engine: Engine) -> None:
    batch = Batch()
    for number in range(500):
        batch.put(b"%04d" % number, b"v%d" % number)
    engine.write(batch)
    wrong: list[object] = []
    with engine.snapshot() as snapshot:

        def read(seed: int) -> None:
            pick = random.Random(seed)
            for _ in range(200):
                number = pick.randrange(500)
                key = b"%04d" % number
                row = snapshot.floor(b"", key + b"x")
                value = snapshot.get(key)
                if row is None or row[0] != key or bytes(row[1]) != b"v%d" % number or value != row[1]:
                    wrong.append((key, row))
            if len(list(snapshot.scan(b"", TOP))) != 500:
                wrong.append("scan")

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_a_guard_decides_over_the_whole_batch(engine: Engine) -> None:
    put(engine, a=b"1", empty=b"")
    batch = Batch()
    batch.put(b"a", b"2")
    batch.put(b"n", b"new")
    bad_guards: list[dict[bytes, bytes | None]] = [
        {b"a": b"0"},
        {b"a": None},
        {b"n": b""},
        {b"empty": None},
        {b"a": b"1", b"n": b"x"},
    ]
    for guard in bad_guards:
        with pytest.raises(errors.GuardFailed):
            engine.write(batch, guard=guard)
        assert rows(engine) == [(b"a", b"1"), (b"empty", b"")]
    engine.write(batch, guard={b"a": b"1", b"n": None, b"empty": b""})
    assert rows(engine) == [(b"a", b"2"), (b"empty", b""), (b"n", b"new")]


def test_guarded_counting_loses_nothing(engine: Engine) -> None:
    """Threads add to one counter under a guard, while others write elsewhere and one changes the counter unguarded."""
    put(engine, counter=b"0")

    def add(_: int) -> None:
        done = 0
        while done < 40:
            value = engine.get(b"counter")
            assert value is not None
            batch = Batch()
            batch.put(b"counter", b"%d" % (int(value) + 1))
            try:
                engine.write(batch, sync=False, guard={b"counter": value})
                done += 1
            except errors.GuardFailed:
                pass

    def elsewhere(seed: int) -> None:
        for number in range(100):
            put(engine, **{f"other{seed}": b"%d" % number})

    threads = [threading.Thread(target=add, args=(n,)) for n in range(4)]
    threads += [threading.Thread(target=elsewhere, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert engine.get(b"counter") == b"160"


def test_a_guard_holds_against_unguarded_writers(engine: Engine) -> None:
    """An unguarded write sets lock and its witness; a guarded one may only happen while the lock is free."""
    batch = Batch()
    batch.put(b"guarded", b"free")

    def guarded() -> None:
        with suppress(errors.GuardFailed):
            engine.write(batch, sync=False, guard={b"lock": b"0"})
        with engine.snapshot() as snapshot:
            taken, written = snapshot.get(b"lock") == b"1", snapshot.get(b"guarded") == b"free"
            assert not (taken and written), "a guarded write after the lock was taken"

    with beside(guarded):
        for number in range(150):
            put(engine, lock=b"%d" % (number % 2), guarded=b"-")


def test_delete_range_spares_the_neighbours(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dvidcore.storage.engine.DELETE_CHUNK", 7)
    inside = [b"m" + bytes((first, second)) for first in (0, 5, 255) for second in (0, 255)] + [b"m", b"m" * 20]
    inside += [b"mm%03d" % number for number in range(50)]
    outside = [b"l", b"l\xff\xff\xff", b"n", b"n\x00", b"\x00", b"\xff"]
    batch = Batch()
    for key in inside + outside:
        batch.put(key, b"v")
    engine.write(batch)
    engine.delete_range(b"m", b"n")
    assert list(engine.scan(b"", TOP, keys_only=True)) == sorted(outside)
    engine.delete_range(b"m", b"n")
    engine.delete_range(b"n", b"m")
    assert list(engine.scan(b"", TOP, keys_only=True)) == sorted(outside)


def test_size_follows_what_is_stored(tmp_path: Path) -> None:
    for kind in KINDS:
        engine = open_engine(kind, str(tmp_path / kind))
        batch = Batch()
        for number in range(4000):
            batch.put(b"k%05d" % number, bytes(1000))
        engine.write(batch, sync=False)
        if kind in PERSISTENT:  # LevelDB counts what is in its tables, and makes one on opening
            engine.close()
            engine = open_engine(kind, str(tmp_path / kind))
        with engine:
            whole, half = engine.size(b"k", b"l"), engine.size(b"k", b"k02000")
            assert 1.9e6 < half < 2.2e6, kind
            assert 3.9e6 < whole < 4.4e6, kind
            assert engine.size(b"l", b"m") == 0, kind


def test_a_closed_store_says_so(engine: Engine) -> None:
    put(engine, a=b"1")
    snapshot = engine.snapshot()
    other = engine.snapshot()
    other.close()
    other.close()
    engine.close()
    engine.close()
    batch = Batch()
    batch.put(b"a", b"2")
    uses: list[Callable[[], object]] = [
        engine.snapshot,
        lambda: engine.get(b"a"),
        lambda: engine.write(batch),
        lambda: list(engine.scan(b"", TOP)),
        lambda: engine.delete_range(b"", TOP),
        lambda: engine.size(b"", TOP),
        lambda: other.get(b"a"),
        lambda: other.floor(b"", b"a"),
        lambda: list(other.scan(b"", TOP)),
        lambda: list(other.scan(b"", TOP, keys_only=True)),
    ]
    for use in uses:
        with pytest.raises(errors.StoreError):
            use()
    snapshot.close()


def test_a_full_lmdb_refuses_the_batch_and_goes_on(tmp_path: Path) -> None:
    with open_engine("lmdb", str(tmp_path), mapsize=1) as engine:
        put(engine, a=b"1")
        with pytest.raises(errors.StoreError, match="mapsize"):
            put(engine, b=b"2", c=bytes(2 << 20))
        put(engine, d=b"3")
        assert list(engine.scan(b"", TOP, keys_only=True)) == [b"a", b"d"]
