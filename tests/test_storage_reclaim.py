"""Space of deleted large values comes back, and nothing else ever goes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from dvidcore import errors
from dvidcore.storage import Batch, Snapshot, keys
from dvidcore.storage.journal import Journal
from dvidcore.storage.pointers import MARK
from segment_store import TOP, content, delete, files, fill, opened, put, segment_bytes


def test_segments_without_values_go_and_thin_ones_are_moved(tmp_path: Path) -> None:
    with opened(tmp_path) as engine:
        values = fill(engine, "abcdefghijklm")
        assert [file.name for file in files(tmp_path)] == [f"0000000{number}.seg" for number in (1, 2, 3, 4)]
        assert engine.reclaim() == (0, 0, 0)
        delete(engine, b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"i")
        for name in b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"i":
            del values[name]
        done = engine.reclaim()
        assert (done.removed, done.moved) == (2, 300_000)  # h moves; of the third, most is in use
        assert [file.name for file in files(tmp_path)] == ["00000003.seg", "00000004.seg"]
        assert content(engine) == values
        assert engine.reclaim() == (0, 0, 0)
    with opened(tmp_path) as engine:
        assert content(engine) == values


def test_the_newest_segment_is_given_up_too(tmp_path: Path) -> None:
    with opened(tmp_path, megabytes=64) as engine:
        values = fill(engine, "abcdefghij", 500_000)
        for name in b"a", b"b", b"c", b"d", b"e", b"f", b"g":
            put(engine, {name: b"small"})
            values[name] = b"small"
        assert engine.reclaim().moved == 1_500_000
        assert segment_bytes(tmp_path) == 1_500_000 + 16
        assert content(engine) == values
        engine.delete_range(b"", TOP)
        engine.close()
    with opened(tmp_path) as engine:  # also where nothing was appended since the opening; the numbers go on
        engine.reclaim()
        put(engine, {b"n": b"n" * 200})
        assert content(engine) == {b"n": b"n" * 200}
        assert int(files(tmp_path)[-1].stem) > 2


def test_a_snapshot_keeps_what_it_shows(tmp_path: Path) -> None:
    with opened(tmp_path) as engine:
        values = fill(engine, "abcdefgh")
        old = engine.snapshot()
        scan = engine.scan(b"", TOP)
        delete(engine, b"a", b"b", b"c", b"d")
        with engine.snapshot():
            assert engine.reclaim().removed == 1
            assert content(old) == values
            old.close()
            engine.reclaim()
            assert len(files(tmp_path)) == 2, "a scan is still under way"
            assert {key: bytes(value) for key, value in scan} == values
            engine.reclaim()
            assert len(files(tmp_path)) == 2, "a snapshot from before is still open"
        engine.reclaim()
        assert len(files(tmp_path)) == 1
        dropped: Snapshot | None = engine.snapshot()
        delete(engine, b"e", b"f", b"g", b"h")
        engine.reclaim()
        del dropped
        engine.reclaim()
        assert segment_bytes(tmp_path) == 16


def test_values_whose_rows_are_not_written_yet_stay(tmp_path: Path) -> None:
    held = b"h" * 300_000
    with opened(tmp_path) as engine:
        with engine._writers.admit(Batch(), {b"held": None}):  # no other may change it for so long
            writer = threading.Thread(target=put, args=(engine, {b"held": held}))
            writer.start()
            wait_for(lambda: segment_bytes(tmp_path) > len(held))
            values = fill(engine, "abcdefg")
            delete(engine, b"a", b"b", b"c")
            assert engine.reclaim() == (0, 0, 0)
            assert len(files(tmp_path)) == 2
        writer.join()
        assert engine.get(b"held") == held
        assert engine.reclaim().moved == len(held)
        assert engine.get(b"held") == held
        assert all(engine.get(name) == values[name] for name in (b"d", b"e", b"f", b"g"))


def test_a_damaged_value_keeps_its_segment(tmp_path: Path) -> None:
    with opened(tmp_path) as engine:
        values = fill(engine, "abcdefgh")
    first = files(tmp_path)[0]
    sound = first.read_bytes()
    first.write_bytes(sound[:400_000] + b"?" + sound[400_001:])
    with opened(tmp_path) as engine:
        delete(engine, b"a", b"c", b"d")
        engine.reclaim()
        assert first.exists()
        with pytest.raises(errors.StoreError, match=r"00000001\.seg"):
            engine.get(b"b")
        first.write_bytes(sound)
        engine.reclaim()
        assert not first.exists()
        assert engine.get(b"b") == values[b"b"]


def wait_for(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


@pytest.mark.parametrize("by_range", [True, False])
def test_the_deletion_of_an_instance_gives_its_space_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_range: bool
) -> None:
    monkeypatch.setattr("dvidcore.storage.reclaim.DELAY", 0.05)
    rows = {
        instance: {keys.data_prefix(instance, 1) + b"%03d" % number: bytes(20_000) for number in range(100)}
        for instance in (1, 2)
    }
    with opened(tmp_path) as engine:
        for number in range(0, 100, 10):
            for instance in (1, 2):
                put(engine, dict(list(rows[instance].items())[number : number + 10]))
        assert segment_bytes(tmp_path) > 4_000_000
        if by_range:
            engine.delete_range(*keys.instance_range(1))
        else:
            delete(engine, *rows[1])
        wait_for(lambda: segment_bytes(tmp_path) < 3_100_000)
        engine.delete_range(*keys.instance_range(2))
        wait_for(lambda: segment_bytes(tmp_path) < 1_000)
        assert content(engine) == {}


def test_a_write_is_done_though_no_thread_can_be_started_to_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dvidcore.storage.reclaim.DELAY", 0.05)

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with opened(tmp_path) as engine:
        fill(engine, "abcdefgh")
        before = segment_bytes(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            delete(engine, b"a", b"b", b"c", b"d")
        delete(engine, b"e")
        wait_for(lambda: segment_bytes(tmp_path) < before)


def test_overwriting_and_a_crash_bring_a_count_and_a_clean_stop_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dvidcore.storage.reclaim.DELAY", 0.05)
    monkeypatch.setattr("dvidcore.storage.reclaim.APPENDED", 3_000_000)
    account = tmp_path / "segments" / "account.json"
    with opened(tmp_path) as engine:
        for _ in range(2):
            fill(engine, "abcd")
        engine.close()
        assert segment_bytes(tmp_path) > 2_400_000
    with opened(tmp_path) as engine:
        fill(engine, "a")
        time.sleep(0.2)
        assert segment_bytes(tmp_path) > 2_700_000, "not so much was appended"
        fill(engine, "bcd")
        wait_for(lambda: segment_bytes(tmp_path) < 2_500_000)
    with opened(tmp_path) as engine:
        fill(engine, "abcd")
    assert account.exists()
    account.write_text("?")
    before = segment_bytes(tmp_path)
    with opened(tmp_path) as engine:  # it could as well be after a crash
        assert not account.exists()
        wait_for(lambda: segment_bytes(tmp_path) < before)
        assert sorted(content(engine)) == [b"a", b"b", b"c", b"d"]


def test_a_failure_at_any_step_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [-1]

    def failing(name: str, call: Any) -> None:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise OSError(28, "No space left on device")
            return call(*arguments, **options)

        monkeypatch.setattr(name, wrapped)

    failing("dvidcore.storage.segments._sync_file", os.fdatasync)
    failing("dvidcore.storage.segments.os.pwritev", os.pwritev)
    failing("dvidcore.storage.segments.os.unlink", os.unlink)
    failing("dvidcore.storage.segments.os.fsync", os.fsync)
    failing("dvidcore.storage.journal.Journal.persist", Journal.persist)
    for step in range(1, 40):
        path = tmp_path / str(step)
        with opened(path) as engine:
            values = fill(engine, "abcdefghijklmnop", 100_000) | fill(engine, "ABCDEFGH", 250_000)
            gone = [name for name in values if name not in (b"d", b"n", b"C")]
            delete(engine, *gone)
            for name in gone:
                del values[name]
            left[0] = step
            try:
                engine.reclaim()
                came_through = left[0] > 0
            except errors.StoreError:
                came_through = False
            left[0] = -1
            assert content(engine) == values
            put(engine, {b"later": b"l" * 1000})
            values[b"later"] = b"l" * 1000
        with opened(path) as engine:
            assert content(engine) == values
            engine.reclaim()
            engine.reclaim()
            assert segment_bytes(path) < 1_000_000
            assert content(engine) == values
        if came_through:
            assert step > 8
            return
    raise AssertionError("it never comes through")


WRITER = """
import os, random, sys, threading
from pathlib import Path
from segment_store import delete, opened, put
path, number = Path(sys.argv[1]), int(sys.argv[2])
engine, pick = opened(path), random.Random(int(sys.argv[2]))

def reclaim():
    while True:
        engine.reclaim()

threading.Thread(target=reclaim, daemon=True).start()
while True:
    number += 1
    size = pick.choice([1, 1, 10, 1000, 4000])
    names = [b"%02d" % pick.randrange(60) for _ in range(20)]
    put(engine, {**{name: b"%08d" % number * size for name in names}, b"last": b"%d" % number}, number % 3 == 0)
    if number % 10 == 0:
        delete(engine, *[b"%02d" % pick.randrange(60) for _ in range(15)])
    print(number, flush=True)
"""


def test_killed_while_writing_and_reclaiming(tmp_path: Path) -> None:
    """The writer's choices are random but known: what it acknowledged is played back on a dict."""
    number = 0
    model: dict[bytes, bytes] = {}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)])}
    for attempt in range(4):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(number)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(random.Random(attempt).uniform(0.2, 0.6))
            child.send_signal(signal.SIGKILL)
            acknowledged = max([int(line) for line in child.stdout.read().split()], default=number + 1)
        pick = random.Random(number)
        with opened(tmp_path) as engine:
            found = content(engine)
            last = int(found[b"last"])
            assert last in (acknowledged, acknowledged + 1)
            while number < last:
                number += 1
                size = pick.choice([1, 1, 10, 1000, 4000])
                names = [b"%02d" % pick.randrange(60) for _ in range(20)]
                model.update({**{name: b"%08d" % number * size for name in names}, b"last": b"%d" % number})
                after = dict(model)
                if number % 10 == 0:
                    for name in [b"%02d" % pick.randrange(60) for _ in range(15)]:
                        after.pop(name, None)
                if number < last:
                    model = after
            assert found in (model, after)  # the last deletion need not have come
            model = found
            engine.reclaim()
            assert content(engine) == model
            assert segment_bytes(tmp_path) < 4 * sum(map(len, model.values())) + (2 << 20)


def test_writers_and_readers_while_space_is_reclaimed(tmp_path: Path) -> None:
    done = threading.Event()
    failed: list[object] = []
    with opened(tmp_path) as engine:
        put(engine, {b"%d/%d" % (writer, key): b"0 " * 500 for writer in range(2) for key in range(20)})

        def run(action: Callable[[], None]) -> threading.Thread:
            def guarded() -> None:
                try:
                    action()
                except Exception as error:
                    failed.append(error)

            thread = threading.Thread(target=guarded)
            thread.start()
            return thread

        def write(writer: int) -> None:
            pick = random.Random(writer)
            for turn in range(1, 120):
                chosen = pick.sample(range(20), 12)
                put(engine, {b"%d/%d" % (writer, key): b"%d " % turn * pick.randrange(40, 9000) for key in chosen})

        def count() -> None:
            for turn in range(120):
                batch = Batch()
                batch.put(b"count", b"%d " % (turn + 1) * 300)
                engine.write(batch, guard={b"count": b"%d " % turn * 300 if turn else None}, sync=False)

        def read() -> None:
            while not done.is_set():
                with engine.snapshot() as snapshot:
                    first = content(snapshot)
                    if len(first) < 40 or any(len(set(value.split())) != 1 for value in first.values()):
                        failed.append("torn")
                    time.sleep(0.005)
                    if content(snapshot) != first:
                        failed.append("the snapshot has changed")

        def reclaim() -> None:
            while not done.is_set():
                engine.reclaim()

        writers = [run(lambda: write(0)), run(lambda: write(1)), run(count)]
        others = [run(read), run(reclaim)]
        for thread in writers:
            thread.join()
        done.set()
        for thread in others:
            thread.join()
        assert not failed
        engine.reclaim()
        engine.reclaim()
        final = content(engine)
        assert final[b"count"] == b"120 " * 300
        assert segment_bytes(tmp_path) < 3 * sum(map(len, final.values())) + (1 << 20)


KEYS = st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f"])
SIZES = st.sampled_from([0, 1, 99, 100, 101, 1000, 100_000, 300_000])
VALUES = st.builds(
    lambda byte, size, marked: MARK * marked + bytes([byte]) * size, st.integers(0, 255), SIZES, st.booleans()
)
OPERATIONS = st.dictionaries(KEYS, st.none() | VALUES, max_size=4)


class SegmentModel(RuleBasedStateMachine):
    """Random operations on a store with small segments and on a dict answer the same."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name)
        self.model: dict[bytes, bytes] = {}
        self.snapshots: list[tuple[Snapshot, dict[bytes, bytes]]] = []
        self.engine = opened(self.path)

    @rule(operations=OPERATIONS, sync=st.booleans(), guard=st.none() | KEYS, stale=st.booleans())
    def write(self, operations: dict[bytes, bytes | None], sync: bool, guard: bytes | None, stale: bool) -> None:
        batch = Batch()
        for key, value in operations.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        if guard is None:
            self.engine.write(batch, sync=sync)
        else:
            there = self.model.get(guard)
            if stale:
                with pytest.raises(errors.GuardFailed):
                    self.engine.write(batch, sync=sync, guard={guard: (there or b"") + b"?"})
                return
            self.engine.write(batch, sync=sync, guard={guard: there})
        for key, value in operations.items():
            self.model.pop(key, None)
            if value is not None:
                self.model[key] = value

    @rule()
    def take_snapshot(self) -> None:
        self.snapshots.append((self.engine.snapshot(), dict(self.model)))

    @rule()
    def close_snapshot(self) -> None:
        if self.snapshots:
            self.snapshots.pop(0)[0].close()

    @rule()
    def reclaim(self) -> None:
        self.engine.reclaim()
        if not self.snapshots:
            self.engine.reclaim()
            assert segment_bytes(self.path) <= 2 * sum(map(len, self.model.values())) + (3 << 20)

    @rule()
    def reopen(self) -> None:
        self.drop_snapshots()
        self.engine.close()
        self.engine = opened(self.path)

    @invariant()
    def same(self) -> None:
        for reader, model in [*self.snapshots, (self.engine, self.model)]:
            assert content(reader) == model
            names = [b"f", b"a", b"none", b"c"]
            assert reader.get_many(names) == [model.get(name) for name in names]
            assert reader.get(b"b") == model.get(b"b")

    def drop_snapshots(self) -> None:
        for snapshot, _ in self.snapshots:
            snapshot.close()
        self.snapshots.clear()

    def teardown(self) -> None:
        self.drop_snapshots()
        self.engine.close()
        self.folder.cleanup()


def test_random_operations_against_a_dict() -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        SegmentModel,
        settings=settings(
            max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
