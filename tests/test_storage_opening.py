"""Opening a store: again, twice, from another process, after a kill, and where it is none of ours."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dvidcore import errors
from dvidcore.storage import Batch, Engine, engine_names, open_engine
from dvidcore.storage.format import FORMAT, FORMAT_KEY, check_format
from test_storage_engines import KINDS, PERSISTENT, put, rows


@pytest.mark.parametrize("kind", PERSISTENT)
def test_a_reopened_store_has_everything(kind: str, tmp_path: Path) -> None:
    path = str(tmp_path / "deep" / "db")
    for number in range(3):
        with open_engine(kind, path) as engine:
            assert len(rows(engine)) == number
            put(engine, **{f"k{number}": b"v"})
    assert engine.description() == f"{kind} @ {path}"


@pytest.mark.parametrize("kind", PERSISTENT)
def test_the_same_process_cannot_open_a_store_twice(kind: str, tmp_path: Path) -> None:
    with open_engine(kind, str(tmp_path / "db")) as engine:
        (tmp_path / "link").symlink_to(tmp_path / "db")
        for path in (tmp_path / "db", tmp_path / "link"):
            with pytest.raises(errors.StoreError, match="in use"):
                open_engine(kind, str(path))
        put(engine, a=b"1")
    with open_engine(kind, str(tmp_path / "db")) as engine:
        assert engine.get(b"a") == b"1"


OPENER = """
import sys
from dvidcore import errors
from dvidcore.storage import open_engine
try:
    open_engine("leveldb", sys.argv[1])
except errors.StoreError as error:
    print(error)
"""


def test_another_process_cannot_open_a_leveldb(tmp_path: Path) -> None:
    with open_engine("leveldb", str(tmp_path)):
        with pytest.raises(errors.StoreError, match="in use"):  # a refused opening here must not free the lock
            open_engine("leveldb", str(tmp_path))
        done = subprocess.run([sys.executable, "-c", OPENER, str(tmp_path)], capture_output=True, text=True, check=True)
        assert "is in use by another process" in done.stdout


COUNTER = """
import sys
from dvidcore import errors
from dvidcore.storage import Batch, open_engine
engine, done = open_engine("lmdb", sys.argv[1]), 0
while done < 60:
    value = engine.get(b"counter")
    batch = Batch()
    batch.put(b"counter", b"%d" % (int(value or b"0") + 1))
    try:
        engine.write(batch, sync=False, guard={b"counter": value})
        done += 1
    except errors.GuardFailed:
        pass
"""


def test_guards_hold_between_processes_over_one_lmdb(tmp_path: Path) -> None:
    command = [sys.executable, "-c", COUNTER, str(tmp_path)]
    children = [subprocess.Popen(command) for _ in range(2)]
    assert [child.wait() for child in children] == [0, 0]
    with open_engine("lmdb", str(tmp_path)) as engine:
        assert engine.get(b"counter") == b"120"


WRITER = """
import sys
from dvidcore.storage import Batch, open_engine
engine, number = open_engine(sys.argv[1], sys.argv[2]), int(sys.argv[3])
while True:
    batch = Batch()
    for part in range(8):
        batch.put(b"%d/%06d" % (part, number), b"%d" % number * 2000)
    engine.write(batch, sync=number % 3 == 0)
    print(number, flush=True)
    number += 1
"""


@pytest.mark.parametrize("kind", PERSISTENT)
def test_what_was_acknowledged_survives_a_kill(kind: str, tmp_path: Path) -> None:
    number = 0
    for attempt in range(2):
        command = [sys.executable, "-c", WRITER, kind, str(tmp_path), str(number)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(random.Random(attempt).uniform(0.02, 0.2))
            child.send_signal(signal.SIGKILL)
            acknowledged = [int(line) for line in child.stdout.read().splitlines() if line]
        last = max(acknowledged, default=number)
        with open_engine(kind, str(tmp_path)) as engine:
            present = [
                [int(key[2:]) for key in engine.scan(b"%d/" % part, b"%d0" % part, keys_only=True)] for part in range(8)
            ]
            assert all(numbers == present[0] for numbers in present), "a batch is not whole"
            assert present[0] == list(range(len(present[0])))
            assert len(present[0]) > last
            number = len(present[0])
            for key, value in engine.scan(b"7/", b"8"):
                assert value == b"%d" % int(key[2:]) * 2000


def test_engines_by_name(tmp_path: Path) -> None:
    assert set(KINDS) <= set(engine_names())
    for kind in ("basholeveldb", "badger", "LevelDB"):
        with open_engine(kind, str(tmp_path / kind), cachesize=1, unknown="x") as engine:
            assert engine.name == "leveldb"
    with pytest.raises(errors.StoreError, match=r"'rocks' is not known: use one of .*leveldb"):
        open_engine("rocks", str(tmp_path / "rocks"))
    with pytest.raises(errors.StoreError, match="cachesize='big'"):
        open_engine("leveldb", str(tmp_path / "big"), cachesize="big")
    with pytest.raises(errors.StoreError, match="mapsize=0"):
        open_engine("lmdb", str(tmp_path / "none"), mapsize=0)


def test_what_cannot_be_opened_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for kind in PERSISTENT:
        with pytest.raises(errors.StoreError, match="cannot be opened"):
            open_engine(kind, str(tmp_path / "file"))
        with open_engine(kind, str(tmp_path / kind)):
            pass
        other = "lmdb" if kind == "leveldb" else "leveldb"
        with pytest.raises(errors.StoreError, match="holds a"):
            open_engine(other, str(tmp_path / kind))
    (tmp_path / "lmdb" / "data.mdb").write_bytes(b"garbage" * 1000)
    with pytest.raises(errors.StoreError, match="cannot be opened"):
        open_engine("lmdb", str(tmp_path / "lmdb"))
    (tmp_path / "leveldb" / "CURRENT").write_bytes(b"MANIFEST-999999\n")
    with pytest.raises(errors.StoreError, match="cannot be opened"):
        open_engine("leveldb", str(tmp_path / "leveldb"))


@pytest.mark.parametrize(
    ("kind", "options"),
    [("leveldb", {"cachesize": 10**15}), ("leveldb", {"maxopenfiles": 10**10}), ("lmdb", {"mapsize": 10**20})],
)
def test_after_an_option_that_no_engine_takes_the_store_can_be_opened(
    kind: str, options: dict[str, int], tmp_path: Path
) -> None:
    with pytest.raises(errors.StoreError, match="cannot be opened"):
        open_engine(kind, str(tmp_path), **options)
    with open_engine(kind, str(tmp_path)) as engine:
        put(engine, a=b"1")


def test_a_leveldb_that_lost_its_mark_is_not_overwritten(tmp_path: Path) -> None:
    with open_engine("leveldb", str(tmp_path)) as engine:
        put(engine, a=b"1")
    current = (tmp_path / "CURRENT").read_bytes()
    (tmp_path / "CURRENT").unlink()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(errors.StoreError, match="no file CURRENT"):
        open_engine("leveldb", str(tmp_path))
    assert sorted(tmp_path.iterdir()) == before
    (tmp_path / "CURRENT").write_bytes(current)
    with open_engine("leveldb", str(tmp_path)) as engine:
        assert engine.get(b"a") == b"1"


def test_the_format_is_marked_and_checked(engine: Engine) -> None:
    check_format(engine)
    check_format(engine)
    assert rows(engine) == [(FORMAT_KEY, FORMAT)]
    newer = Batch()
    newer.put(FORMAT_KEY, b"dvidcore 2")
    engine.write(newer)
    with pytest.raises(errors.StoreError, match=r"'dvidcore 2'.*'dvidcore 1'"):
        check_format(engine)
    assert rows(engine) == [(FORMAT_KEY, b"dvidcore 2")]


def test_the_store_of_another_program_is_refused(engine: Engine) -> None:
    put(engine, somebody=b"else")
    with pytest.raises(errors.StoreError, match="did not write"):
        check_format(engine)
    assert rows(engine) == [(b"somebody", b"else")]
