"""Large writes happen whole or not at all, wherever they are cut off."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvidcore import errors
from dvidcore.storage import Batch, Engine, Key, Snapshot, open_engine
from dvidcore.storage.keys import STAGE, prefix_range
from dvidcore.storage.memory import Memory
from dvidcore.storage.staged import Recovery, StagedWrite, recover, whole

Operations = list[tuple[bytes, bytes | None]]


class Failing(Engine):
    """Another engine, whose disk fails at a write and stays so; the failing write happens, or does not."""

    name = "failing"

    def __init__(self, engine: Engine, writes: int, applies_last: bool = False) -> None:
        self.path = ""
        self.engine = engine
        self.left = writes
        self.applies_last = applies_last
        self.largest = 0

    @classmethod
    def open(cls, path: str, **options: Any) -> Self:
        return cls(Memory.open(path), 0)

    def snapshot(self) -> Snapshot:
        return self.engine.snapshot()

    def write(self, batch: Batch, *, sync: bool = True, guard: Mapping[Key, bytes | None] | None = None) -> None:
        self.left -= 1
        self.largest = max(self.largest, batch.nbytes)
        if self.left >= 0 or (self.left == -1 and self.applies_last):
            self.engine.write(batch, sync=sync, guard=guard)
        if self.left < 0:
            raise errors.StoreError("the disk has failed")

    def size(self, start: Key, stop: Key) -> int:
        return self.engine.size(start, stop)

    def close(self) -> None:
        self.engine.close()


def content(engine: Engine) -> dict[bytes, bytes]:
    return {key: bytes(value) for key, value in engine.scan(b"", b"\xff")}


def staged_rows(engine: Engine) -> int:
    return sum(1 for _ in engine.scan(*prefix_range(STAGE), keys_only=True))


def batch_of(operations: Operations) -> Batch:
    batch = Batch()
    for key, value in operations:
        if value is None:
            batch.delete(key)
        else:
            batch.put(key, value)
    return batch


def feed(staged: StagedWrite, operations: Operations) -> None:
    for key, value in operations:
        if value is None:
            staged.delete(key)
        else:
            staged.put(key, value)


def applied(before: dict[bytes, bytes], *parts: Operations) -> dict[bytes, bytes]:
    after = dict(before)
    for key, value in [operation for part in parts for operation in part]:
        after.pop(key, None)
        if value is not None:
            after[key] = value
    return after


KEYS = st.sampled_from([b"\x01" + letter for letter in (b"a", b"b", b"c", b"d", b"e")])
OPERATIONS: st.SearchStrategy[Operations] = st.lists(st.tuples(KEYS, st.none() | st.binary(max_size=30)), max_size=20)
OLD = {b"\x01a": b"old", b"\x01z": b"old"}


@settings(max_examples=100, deadline=None)
@given(OPERATIONS, OPERATIONS, st.integers(1, 200))
def test_a_commit_is_the_operations_in_order(operations: Operations, final: Operations, limit: int) -> None:
    engine = Memory()
    engine.write(batch_of(list(OLD.items())))
    staged = StagedWrite(engine, limit)
    feed(staged, operations)
    others = {key: value for key, value in content(engine).items() if key[:1] != STAGE}
    assert others == OLD, "something shows before the commit"
    staged.commit(batch_of(final))
    assert content(engine) == applied(OLD, operations, final)


@settings(max_examples=60, deadline=None)
@given(OPERATIONS, OPERATIONS, st.integers(1, 100), st.booleans(), st.booleans())
def test_a_failure_at_any_write(
    operations: Operations, final: Operations, limit: int, applies_last: bool, fails_again: bool
) -> None:
    for writes in range(100):
        engine = Memory()
        engine.write(batch_of(list(OLD.items())))
        staged = StagedWrite(Failing(engine, writes, applies_last), limit)
        try:
            feed(staged, operations)
            staged.commit(batch_of(final))
            acknowledged = True
        except errors.StoreError:
            acknowledged = False
        if fails_again:  # the next start dies as well, after one write
            with suppress(errors.StoreError):
                recover(Failing(engine, 1, applies_last))
        recover(engine)
        after = applied(OLD, operations, final)
        assert content(engine) in ([after] if acknowledged else [OLD, after])
        assert recover(engine) == Recovery(0, 0)
        if acknowledged:
            return
    raise AssertionError("it never comes through")


def test_a_small_write_is_one_batch(engine: Engine) -> None:
    failing = Failing(engine, 1)
    with StagedWrite(failing) as staged:
        staged.put(b"\x01a", b"1")
        assert not staged.staged
        staged.commit(batch_of([(b"\x01b", b"2")]))
    assert failing.left == 0
    assert content(engine) == {b"\x01a": b"1", b"\x01b": b"2"}


def test_a_large_write_keeps_to_its_limit(engine: Engine) -> None:
    observed = Failing(engine, 10_000)
    with StagedWrite(observed, limit=10_000) as staged:
        for number in range(200):
            staged.put(b"\x01%03d" % number, bytes(1000))
        assert staged.staged
        staged.commit(batch_of([(b"\x01final", b"")]), sync=False)
    assert observed.largest < 12_000
    assert content(engine) == {**{b"\x01%03d" % number: bytes(1000) for number in range(200)}, b"\x01final": b""}


@pytest.mark.parametrize("limit", [100, 1 << 20])
def test_what_is_not_committed_is_undone(engine: Engine, limit: int) -> None:
    with StagedWrite(engine, limit) as staged:
        for number in range(50):
            staged.put(b"\x01%03d" % number, bytes(100))
        assert bool(staged_rows(engine)) == staged.staged == (limit == 100)
    assert content(engine) == {}
    staged.abort()
    with pytest.raises(RuntimeError), StagedWrite(engine, limit) as staged:
        staged.put(b"\x01", bytes(1000))
        raise RuntimeError
    assert content(engine) == {}


@pytest.mark.parametrize("limit", [100, 1 << 20])
def test_a_guard_decides_over_the_whole(engine: Engine, limit: int) -> None:
    engine.write(batch_of([(b"\x00counter", b"7")]))
    final = batch_of([(b"\x00counter", b"8"), (b"\x01log", b"x")])
    with StagedWrite(engine, limit) as staged:
        for number in range(20):
            staged.put(b"\x01%03d" % number, bytes(100))
        with pytest.raises(errors.GuardFailed):
            staged.commit(final, guard={b"\x00counter": b"6"})
        shown = {key: value for key, value in content(engine).items() if key[:1] != STAGE}
        assert shown == {b"\x00counter": b"7"}
        staged.commit(final, guard={b"\x00counter": b"7", b"\x00other": None})
    assert len(content(engine)) == 22
    assert engine.get(b"\x00counter") == b"8"


def test_nobody_else_passes_the_guard_of_a_committed_write() -> None:
    """Cut off right after the record: the guarded key has changed, and finishing does not set it back."""
    engine = Memory()
    engine.write(batch_of([(b"\x00counter", b"7")]))
    staged = StagedWrite(Failing(engine, 3), limit=1)
    staged.put(b"\x01a", b"1")
    staged.put(b"\x01b", b"2")
    with pytest.raises(errors.StoreError):
        staged.commit(batch_of([(b"\x00counter", b"8"), (b"\x01c", b"3")]), guard={b"\x00counter": b"7"})
    staged.abort()  # too late
    assert engine.get(b"\x01a") is None
    with pytest.raises(errors.GuardFailed):
        engine.write(batch_of([(b"\x00counter", b"8")]), guard={b"\x00counter": b"7"})
    engine.write(batch_of([(b"\x00counter", b"9")]), guard={b"\x00counter": b"8"})
    assert recover(engine) == Recovery(finished=1, undone=0)
    assert content(engine) == {b"\x00counter": b"9", b"\x01a": b"1", b"\x01b": b"2", b"\x01c": b"3"}


def test_several_writes_are_recovered_each_for_itself() -> None:
    engine = Memory()
    for letter in (b"a", b"b", b"c"):
        committed = StagedWrite(Failing(engine, 2), limit=1)
        committed.put(b"\x01" + letter, b"1")
        with pytest.raises(errors.StoreError):
            committed.commit()
        StagedWrite(engine, limit=1).put(b"\x02" + letter, b"1")
    assert recover(engine) == Recovery(finished=3, undone=3)
    assert content(engine) == {b"\x01a": b"1", b"\x01b": b"1", b"\x01c": b"1"}


STAGER = """
import sys, time
from dvidcore.storage import open_engine
from dvidcore.storage.staged import StagedWrite
staged = StagedWrite(open_engine("lmdb", sys.argv[1]), limit=1)
staged.put(b"\\x01a", b"1")
print("staged", flush=True)
time.sleep(60)
"""


def test_the_writes_of_a_living_process_are_left_alone(tmp_path: Path) -> None:
    with open_engine("lmdb", str(tmp_path)) as engine:
        command = [sys.executable, "-c", STAGER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None and child.stdout.readline() == "staged\n"
            assert recover(engine) == Recovery(0, 0)
            assert staged_rows(engine) == 2
            child.kill()
        assert recover(engine) == Recovery(finished=0, undone=1)
        assert content(engine) == {}


COMMITTER = """
import sys
from dvidcore.storage import open_engine, staged
carry_out = staged._carry_out
def later(*arguments):
    print("committed", flush=True)
    sys.stdin.readline()
    carry_out(*arguments)
staged._carry_out = later
with open_engine("lmdb", sys.argv[1]) as engine, staged.StagedWrite(engine, limit=10) as write:
    write.put(b"\\x01a", bytes(20))
    write.put(b"\\x01b", bytes(20))
    write.commit()
"""


@pytest.mark.parametrize("dies", [False, True])
def test_a_writer_sees_nothing_of_a_large_write_or_all(tmp_path: Path, dies: bool) -> None:
    """It waits for one that another process carries out, and finishes that of a process that has died."""
    with open_engine("lmdb", str(tmp_path)) as engine:
        command = [sys.executable, "-c", COMMITTER, str(tmp_path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            assert child.stdout.readline() == "committed\n"
            assert engine.get(b"\x01a") is None
            seen: list[Any] = []

            def see() -> None:
                with whole(engine) as snapshot:
                    seen.append(snapshot.get_many([b"\x01a", b"\x01b"]) == [bytes(20)] * 2)

            writer = threading.Thread(target=see)
            writer.start()
            writer.join(0.1)
            assert seen == []
            if dies:
                child.kill()
                child.wait()
            else:
                print(file=child.stdin, flush=True)
            writer.join()
            assert seen == [True]


WRITER = """
import sys
from dvidcore.storage import Batch, open_engine
from dvidcore.storage.staged import StagedWrite, recover
engine, number = open_engine(sys.argv[1], sys.argv[2]), int(sys.argv[3])
recover(engine)
while True:
    number += 1
    with StagedWrite(engine, limit=100_000) as staged:
        for key in range(200):
            staged.put(b"\\x01%03d" % key, b"%08d" % number * 500)
        final = Batch()
        final.put(b"\\x00done", b"%d" % number)
        final.delete(b"\\x00gone%d" % number)
        final.put(b"\\x00gone%d" % (number + 1), b"")
        staged.commit(final, sync=number % 2 == 0)
    print(number, flush=True)
"""


@pytest.mark.parametrize("kind", ["leveldb", "lmdb"])
def test_killed_at_any_moment(kind: str, tmp_path: Path) -> None:
    """At least five times, and until a kill has hit a write under way."""
    number = cut_off = attempt = 0
    while attempt < 5 or not cut_off:
        attempt += 1
        assert attempt < 100, "no kill hits a write under way"
        command = [sys.executable, "-c", WRITER, kind, str(tmp_path), str(number)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(random.Random(attempt).uniform(0, 0.1))
            child.send_signal(signal.SIGKILL)
            acknowledged = max([int(line) for line in child.stdout.read().split()], default=number + 1)
        with open_engine(kind, str(tmp_path)) as engine:
            cut_off += sum(recover(engine))
            assert staged_rows(engine) == 0
            done = engine.get(b"\x00done")
            assert done is not None and int(done) in (acknowledged, acknowledged + 1)
            number = int(done)
            values = [bytes(value) for _, value in engine.scan(b"\x01", b"\x02")]
            assert len(values) == 200
            assert set(values) == {b"%08d" % number * 500}, "a write is not whole"
            assert list(engine.scan(b"\x00gone", b"\x00h", keys_only=True)) == [b"\x00gone%d" % (number + 1)]
