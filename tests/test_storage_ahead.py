"""Large values that go to the disk ahead of a write: it stays one batch, and their space is kept until it is written."""

from __future__ import annotations

import itertools
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvidcore import errors
from dvidcore.storage import Batch, open_engine
from dvidcore.storage.keys import STAGE, prefix_range
from dvidcore.storage.leveldb import LevelDB
from dvidcore.storage.staged import StagedWrite
from segment_store import content, delete, files, fill, opened, put, segment_bytes
from side_by_side import beside

LIMIT = 200_000
Operations = list[tuple[bytes, bytes | None]]
KEYS = st.sampled_from([b"\x01a", b"\x01b", b"\x01c", b"\x01d", b"\x01e"])
VALUES = st.none() | st.tuples(st.integers(0, 255), st.sampled_from([0, 10, 5_000, 90_000])).map(
    lambda v: bytes([v[0]]) * v[1]
)


def staged_rows(engine: LevelDB) -> int:
    return sum(1 for _ in engine.scan(*prefix_range(STAGE), keys_only=True))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(KEYS, VALUES), max_size=25),
    st.lists(st.tuples(KEYS, VALUES), max_size=3),
    st.sampled_from([300, 100_000, LIMIT]),
)
def test_a_commit_is_the_operations_in_order(
    tmp_path_factory: pytest.TempPathFactory, operations: Operations, final: Operations, limit: int
) -> None:
    old = {b"\x01a": b"old" * 2000, b"\x01z": b"old"}
    with opened(tmp_path_factory.mktemp("ahead")) as engine:
        put(engine, old)
        with StagedWrite(engine, limit) as write:
            for key, value in operations:
                write.put(key, value) if value is not None else write.delete(key)
            assert {k: v for k, v in content(engine).items() if k[:1] != STAGE} == old, "something shows before"
            last = Batch()
            for key, value in final:
                last.put(key, value) if value is not None else last.delete(key)
            write.commit(last)
        after = dict(old)
        for key, value in [*operations, *final]:
            after.pop(key, None)
            if value is not None:
                after[key] = value
        assert content(engine) == after


def test_a_reader_sees_all_of_a_large_write_or_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as engine:
        put(engine, {b"\x01%02d" % key: b"0" * 20_000 for key in range(50)})
        seen: set[bytes] = set()

        def read() -> None:
            with engine.snapshot() as snapshot:
                values = {bytes(value) for _, value in snapshot.scan(b"\x01", b"\x02")}
            seen.add(min(values))
            assert len(values) == 1

        with beside(read):
            for turn in itertools.count(1):
                with StagedWrite(engine, LIMIT) as write:
                    for key in range(50):
                        write.put(b"\x01%02d" % key, b"%d" % (turn % 10) * 20_000)
                    assert not write.staged and staged_rows(engine) == 0
                    write.commit()
                if turn >= 20 and len(seen) > 2:  # the reader has come in between
                    break
                assert turn < 1000


def test_values_ahead_of_their_write_stay(tmp_path: Path) -> None:
    with opened(tmp_path) as engine, StagedWrite(engine, LIMIT) as write:
        for key in b"abc":
            write.put(bytes([key]), bytes([key]) * 150_000)
        values = fill(engine, "defghij")
        delete(engine, b"d", b"e", b"f")
        before = len(files(tmp_path))
        engine.reclaim()
        assert len(files(tmp_path)) >= before - 1
        assert b"a" not in content(engine)
        with pytest.raises(errors.GuardFailed):
            write.commit(guard={b"g": b"something else"})
        engine.reclaim()
        write.commit(guard={b"d": None})
        assert {key: engine.get(key) for key in (b"a", b"b", b"c")} == {
            bytes([key]): bytes([key]) * 150_000 for key in b"abc"
        }
        engine.reclaim()
        assert content(engine) == {bytes([key]): bytes([key]) * 150_000 for key in b"abc"} | {
            name: value for name, value in values.items() if name not in (b"d", b"e", b"f")
        }


def test_what_was_given_up_leaves_no_space(tmp_path: Path) -> None:
    with opened(tmp_path) as engine:
        with pytest.raises(RuntimeError), StagedWrite(engine, LIMIT) as write:
            for key in range(20):
                write.put(b"%02d" % key, bytes(100_000))
            assert segment_bytes(tmp_path) > 1_500_000
            raise RuntimeError
        assert content(engine) == {}
        engine.reclaim()
        assert segment_bytes(tmp_path) < 1 << 20  # less in the newest segment is not worth another


def test_after_a_write_that_failed_the_space_is_kept_until_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows may have reached LevelDB's log, and turn up when it is read again."""
    with opened(tmp_path) as engine:
        with StagedWrite(engine, LIMIT) as write:
            for key in range(5):
                write.put(b"%02d" % key, b"%02d" % key * 50_000)
            written = LevelDB.write

            def failing(self: LevelDB, batch: Batch, **options: object) -> None:
                written(self, batch)
                raise errors.StoreError("the disk has failed")

            with monkeypatch.context() as patch, pytest.raises(errors.StoreError):
                patch.setattr(LevelDB, "write", failing)
                write.commit()
        expected = content(engine)
        assert len(expected) == 5
        fill(engine, "abcdefgh")
        delete(engine, *(bytes([letter]) for letter in b"abcdefgh"))
        engine.reclaim()
        assert content(engine) == expected
    with opened(tmp_path) as engine:
        engine.reclaim()
        assert content(engine) == expected


def test_what_one_batch_cannot_point_to_goes_to_rows(tmp_path: Path) -> None:
    """As many values as their rows fill a batch: those ahead become visible with the record, the others behind it."""
    with opened(tmp_path) as engine:
        with StagedWrite(engine, 70_000) as write:
            for key in range(1500):
                write.put(b"\x01" + b"k" * 50 + b"%04d" % key, b"%04d" % key * 2000)
            assert write.staged
            assert staged_rows(engine)
            write.put(b"\x01" + b"k" * 50 + b"0000", b"again")
            write.commit()
        assert staged_rows(engine) == 0
        found = content(engine)
        assert found.pop(b"\x01" + b"k" * 50 + b"0000") == b"again"
        assert found == {b"\x01" + b"k" * 50 + b"%04d" % key: b"%04d" % key * 2000 for key in range(1, 1500)}


WRITER = """
import sys
from pathlib import Path
from dvidcore.storage import Batch
from dvidcore.storage.staged import StagedWrite
from segment_store import opened
engine, number = opened(Path(sys.argv[1])), int(sys.argv[2])
while True:
    number += 1
    with StagedWrite(engine, limit=100_000) as write:
        for key in range(100):
            write.put(b"\\x01%03d" % key, b"%08d" % number * 1000)
        assert not write.staged
        final = Batch()
        final.put(b"\\x00done", b"%d" % number)
        write.commit(final, sync=number % 2 == 0)
    print(number, flush=True)
"""


def test_killed_at_any_moment(tmp_path: Path) -> None:
    number = 0
    here = str(Path(__file__).parent)
    for attempt in range(8):
        command = [
            sys.executable,
            "-c",
            f"import sys; sys.path.insert(0, {here!r})\n" + WRITER,
            str(tmp_path),
            str(number),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(random.Random(attempt).uniform(0, 0.1))
            child.send_signal(signal.SIGKILL)
            acknowledged = max([int(line) for line in child.stdout.read().split()], default=number + 1)
        with opened(tmp_path) as engine:
            number = int(content(engine).pop(b"\x00done"))
            assert number in (acknowledged, acknowledged + 1)
            values = [bytes(value) for _, value in engine.scan(b"\x01", b"\x02")]
            assert len(values) == 100 and set(values) == {b"%08d" % number * 1000}, "a write is not whole"
            engine.reclaim()
            assert segment_bytes(tmp_path) < 4 << 20
            assert {bytes(value) for _, value in engine.scan(b"\x01", b"\x02")} == set(values)


def test_other_engines_keep_no_values_apart(tmp_path: Path) -> None:
    batch = Batch()
    batch.put(b"a", bytes(1 << 20))
    for name in ("lmdb", "memory"):
        with open_engine(name, str(tmp_path / name)) as engine:
            assert engine.ahead(batch) is None
    with opened(tmp_path / "leveldb") as engine:
        small = Batch()
        for key in range(200_000):
            small.put(b"%06d" % key, b"small")
        small.extend(batch)
        assert engine.ahead(small) is None
        assert segment_bytes(tmp_path / "leveldb") == 0
        ahead = engine.ahead(batch)
        assert ahead is not None and ahead.batch.nbytes < 100
        ahead.release()
