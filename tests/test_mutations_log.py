"""The mutation log in the store and its copy in files."""

from __future__ import annotations

import re
import resource
import struct
import threading
import zlib
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvidcore.errors import StoreError
from dvidcore.mutations import log
from dvidcore.mutations._crc32c import crc32c
from dvidcore.mutations.jsonlog import JsonLog, read_records
from dvidcore.storage.engine import Batch
from dvidcore.storage.memory import Memory


def test_records_come_back_by_mutation_and_in_the_order_of_being_appended() -> None:
    engine = Memory()
    batch = Batch()
    log.append(batch, 5, 2, 1_000_000_001, [{"Action": "c"}])
    log.append(batch, 5, 2, 1_000_000_000, [{"Action": "a"}, {"Action": "b"}])
    assert list(log.records(engine, 5, 2)) == []  # it is part of the mutation's batch
    engine.write(batch)
    later = Batch()
    log.append(later, 5, 2, 1_000_000_001, [{"Action": "d"}])
    log.append(later, 5, 2, 1_000_000_002, [])
    engine.write(later)
    assert [orjson.loads(record)["Action"] for record in log.records(engine, 5, 2)] == ["a", "b", "c", "d"]


def test_instances_and_versions_have_logs_of_their_own() -> None:
    engine = Memory()
    for instance in (1, 2, 255, 256):
        for version in (1, 2, 255, 256):
            batch = Batch()
            log.append(batch, instance, version, 1_000_000_000, [{"at": [instance, version]}])
            engine.write(batch)
    for instance in (1, 2, 255, 256):
        for version in (1, 2, 255, 256):
            assert [orjson.loads(r) for r in log.records(engine, instance, version)] == [{"at": [instance, version]}]
    assert list(log.records(engine, 3, 1)) == []


def test_append_answers_what_is_stored_with_exact_integers() -> None:
    engine = Memory()
    batch = Batch()
    record = {"Label": 2**64 - 1, "Text": "ü", "List": [1, 2**63]}
    encoded = log.append(batch, 1, 1, 7, [record])
    engine.write(batch)
    assert list(log.records(engine, 1, 1)) == encoded
    assert orjson.loads(encoded[0]) == record
    with pytest.raises(ValueError, match="mutation id"):
        log.append(batch, 1, 1, 1 << 40, [{}])


def test_threads_that_append_to_one_mutation_lose_nothing() -> None:
    engine = Memory()

    def work(n: int) -> None:
        for i in range(50):
            batch = Batch()
            log.append(batch, 1, 1, 1_000_000_000, [{"n": n, "i": i}])
            engine.write(batch)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [orjson.loads(r) for r in log.records(engine, 1, 1)]
    assert len(found) == 200
    for n in range(4):
        assert [r["i"] for r in found if r["n"] == n] == list(range(50))


def test_timestamps_are_what_clients_parse() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6} \+0000 UTC", log.timestamp())
    assert re.match(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d.\d+) (.\d{4}) .*", log.timestamp())


def test_the_format_of_a_file(tmp_path: Path) -> None:
    with JsonLog(tmp_path / "new" / "folder") as files:
        files.append("d" * 32, "v" * 32, [b'{"a":1}', b"{}"])
        files.append("d" * 32, "v" * 32, [])
        files.append("d" * 32, "v" * 32, [b'{"b":2}'])
        path = files.path("d" * 32, "v" * 32)
    assert path.name == "d" * 32 + "-" + "v" * 32 + ".plog"
    raw = path.read_bytes()
    assert raw[:10] == struct.pack("<IIH", 7, crc32c(b'{"a":1}'), 1)
    assert raw[10:17] == b'{"a":1}'
    assert list(read_records(path)) == [b'{"a":1}', b"{}", b'{"b":2}']
    assert len(raw) == 3 * 10 + 7 + 2 + 7


def test_a_torn_last_record_is_cut_at_every_length(tmp_path: Path) -> None:
    with JsonLog(tmp_path) as files:
        path = files.path("d", "v")
        files.append("d", "v", [b'{"first":1}'])
        whole = path.stat().st_size
        files.append("d", "v", [b'{"second":2}'])
    full = path.read_bytes()
    for length in range(whole, len(full)):
        path.write_bytes(full[:length])
        assert list(read_records(path)) == [b'{"first":1}']
        with JsonLog(tmp_path) as files:
            files.append("d", "v", [b'{"third":3}'])
        assert list(read_records(path)) == [b'{"first":1}', b'{"third":3}']


def test_an_append_that_fails_says_that_the_change_is_stored_and_hides_no_later_record(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with JsonLog(tmp_path) as files:
        files.append("d", "v", [b'{"first":1}'])
        path = files.path("d", "v")
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 15, hard))
        try:
            with pytest.raises(StoreError, match="the change itself is stored"):
                files.append("d", "v", [b'{"second":2}'])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        files.append("d", "v", [b'{"third":3}'])
    assert list(read_records(path)) == [b'{"first":1}', b'{"third":3}']


def test_a_damaged_record_ends_the_file(tmp_path: Path) -> None:
    with JsonLog(tmp_path) as files:
        files.append("d", "v", [b'{"first":1}', b'{"second":2}'])
        path = files.path("d", "v")
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    assert list(read_records(path)) == [b'{"first":1}']
    path.write_bytes(struct.pack("<IIH", 0xFFFFFFFF, 0, 1) + b"x" * 100)
    assert list(read_records(path)) == []


def test_more_files_than_are_kept_open(tmp_path: Path) -> None:
    with JsonLog(tmp_path) as files:
        for turn in range(2):
            for n in range(100):
                files.append(f"d{n}", "v", [b'{"turn":%d}' % turn])
        assert len(files._files) <= 64
        for n in range(100):
            assert list(read_records(files.path(f"d{n}", "v"))) == [b'{"turn":0}', b'{"turn":1}']


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="mutation log folder"):
        JsonLog(tmp_path / "file")


@given(st.binary(max_size=100))
def test_crc32c_against_its_definition(data: bytes) -> None:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    assert crc32c(data) == crc ^ 0xFFFFFFFF


def test_crc32c_of_the_published_example() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"123456789") != zlib.crc32(b"123456789")
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
