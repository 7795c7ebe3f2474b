"""The tables in memory: they follow the store, whoever wrote it and however much."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from apiclient import Client
from dvidcore import wire
from dvidcore.datatypes.neuronjson import rows, writing
from dvidcore.datatypes.neuronjson.annotation import MAIN, TIMES, USERS, Selection, encode
from dvidcore.datatypes.neuronjson.columns import Builder, Column, Dictionary, Table
from dvidcore.datatypes.neuronjson.datatype import NeuronJSON
from dvidcore.datatypes.neuronjson.rows import Changed
from dvidcore.errors import Unavailable
from dvidcore.repos import Database, OneStore
from dvidcore.storage import open_engine
from dvidcore.storage.engine import Batch
from dvidcore.storage.keys import STAGE, prefix_range
from dvidcore.storage.staged import StagedWrite
from side_by_side import beside


class Instance:
    """An instance and what tests do with it."""

    def __init__(self, database: Database) -> None:
        self.client = Client(database)
        self.root = self.client.repo()
        self.path = self.client.instance(self.root, "nj", "neuronjson")
        repo, _ = database.resolve(self.root)
        found = self.client.server.instances.named(repo, "nj")
        assert isinstance(found, NeuronJSON)
        self.data = found

    def post(self, *annotations: dict[str, Any], status: int = 200) -> None:
        message = wire.encode_key_values([(str(a["bodyid"]), json.dumps(a).encode()) for a in annotations])
        answer = self.client.post(f"{self.path}/keyvalues?u=ann", message)
        assert answer.status == status, answer.text

    def query(self, asked: Any, options: str = "onlyid=true") -> Any:
        answer = self.client.post(f"{self.path}/query?{options}", asked)
        assert answer.status == 200, answer.text
        return answer.json()


@pytest.fixture
def nj(database: Database) -> Instance:
    return Instance(database)


def texts(*values: Any) -> list[bytes | None]:
    return [None if value is None else orjson.dumps(value) for value in values]


def test_dictionaries_tell_types_apart_and_widen() -> None:
    values = texts(1, True, "1", 1.0, [1], ["1"], [1.0], [True], {"a": 1}, "true", [], [1, "1"], None, "b")
    dictionary = Dictionary()
    found = dictionary.encode(values)
    assert found.dtype == np.uint8
    assert len(set(found.tolist())) == len(values)
    assert dictionary.encode(values).tolist() == found.tolist()
    wide = dictionary.encode(texts(*range(300)))
    assert wide.dtype == np.uint16
    assert dictionary.encode(texts(*range(70_000))).dtype == np.uint32
    assert dictionary.encode(values).tolist() == found.tolist()
    assert dictionary.used(wide).tolist() == sorted(wide.tolist())


def test_dictionaries_know_their_lists() -> None:
    dictionary = Dictionary()
    code = {value: int(dictionary.encode([value])[0]) for value in texts([1, 2.5], [], [True], [1, None], {"a": [1]})}
    assert dictionary.lists == [(code[b"[1,2.5]"], (1, 2.5))]
    dictionary.encode(texts("[1]", ["a", "b"], [1, "b"]))
    assert [members for _, members in dictionary.lists] == [(1, 2.5), ("a", "b")]


def test_dictionaries_know_their_texts() -> None:
    dictionary = Dictionary()

    def known() -> list[tuple[bytes, bytes]]:
        return [(dictionary.by_code[code] or b"", text) for code, text in zip(*dictionary.texts, strict=True)]

    dictionary.encode(texts("a", 1, None, ["b", 'c"'], [1, "d"], [2], {"e": "f"}))
    first = known()
    assert sorted(first) == [(b'"a"', b"a"), (b'["b","c\\""]', b"b"), (b'["b","c\\""]', b'c"')]
    dictionary.encode([b'"\\u00e9\\n"', b'"a"', '"\u00e9"'.encode()])
    assert known()[:3] == first
    assert sorted(known()[3:]) == sorted(
        [(b'"\\u00e9\\n"', "\u00e9\n".encode()), ('"\u00e9"'.encode(), "\u00e9".encode())]
    )


def test_dictionaries_know_numbers_however_they_are_written() -> None:
    dictionary = Dictionary()
    values = [b"1e16", b"1e+16", b"0.5", b"-0.0", b"0.0", b"7", b"-7", b'"0.5"', b"true", b"[0.5]", None]
    code = dict(zip(values, dictionary.encode(values).tolist(), strict=True))
    wanted = {1e16: [code[b"1e16"], code[b"1e+16"]], 0.5: [code[b"0.5"]], 0.0: [code[b"-0.0"], code[b"0.0"]]}
    assert {number: sorted(codes) for number, codes in dictionary.floats.items()} == {
        number: sorted(codes) for number, codes in wanted.items()
    }
    dictionary.encode([b"5e-1"])
    assert len(dictionary.floats[0.5]) == 2


def test_values_that_nobody_has_any_more_go() -> None:
    dictionary = Dictionary()
    values = texts("a", None, [1, 2], True, 2.5)
    column = Column(dictionary, dictionary.encode(values))
    for number in range(1100):
        column = column.replaced(np.array([1]), column.dictionary.encode(texts(f"value {number}")))
    assert len(column.dictionary.by_code) < 300
    values[1] = b'"value 1099"'
    assert [column.dictionary.by_code[code] for code in column.codes.tolist()] == values
    assert [members for _, members in column.dictionary.lists] == [(1, 2)]


def test_tables_change_rows_and_share_columns() -> None:
    builder = Builder(MAIN)
    for annotation in ({"bodyid": 10, "a": 1, "b": 1}, {"bodyid": 20, "a": 2}, {"bodyid": 30, "a": 3}):
        builder.add(encode(annotation))
    table = Table(np.array([10, 20, 30], np.uint64), {MAIN: builder.columns()})
    one = table.changed(np.array([20], np.uint64), {MAIN: [{"a": b"2", "c": b'"new"'}]})
    assert one.column(MAIN, "a") is table.column(MAIN, "a")
    assert one.column(MAIN, "b") is table.column(MAIN, "b")
    changes = [{"a": b"0"}, None, {"b": b"9"}, {"c": b'"end"'}]
    several = one.changed(np.array([5, 10, 30, 40], np.uint64), {MAIN: changes})
    found = b"".join(several.texts(np.arange(4), several.shown(Selection())))
    assert json.loads(b"[%b]" % found) == [
        {"bodyid": 5, "a": 0},
        {"bodyid": 20, "a": 2, "c": "new"},
        {"bodyid": 30, "b": 9},
        {"bodyid": 40, "c": "end"},
    ]
    nothing = several.changed(several.bodies, {MAIN: [None] * 4})
    assert len(nothing.bodies) == 0
    assert not any(column.codes.any() for column in nothing.sections[MAIN].values())
    assert json.loads(b"".join(table.texts(np.array([1]), table.shown(Selection())))) == {"bodyid": 20, "a": 2}


def test_changes_as_they_are_remembered() -> None:
    some = Changed(5, 2, np.array([1, 2**64 - 1], np.uint64))
    found = Changed.decode(some.encode())
    assert (found.generation, found.version) == (5, 2)
    assert found.bodies is not None
    assert found.bodies.tolist() == [1, 2**64 - 1]
    many = Changed(6, 2, np.arange(rows.MOST_BODIES + 1, dtype=np.uint64))
    assert Changed.decode(many.encode()).bodies is None


def test_a_table_that_lags_far_behind_is_made_anew(nj: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "REMEMBERED", 4)
    monkeypatch.setattr("dvidcore.datatypes.neuronjson.tables.REMEMBERED", 4)
    nj.post({"bodyid": 1, "a": 0})
    for step in (1, 3, 4, 5, 9):
        for number in range(step):
            nj.post({"bodyid": 2 + number, "a": step})
        assert nj.query({"a": step}) == list(range(2, 2 + step))
        assert 1 in nj.query({"a": 0})


def test_sections_are_read_when_they_are_asked_for(nj: Instance) -> None:
    nj.post({"bodyid": 1, "a": 0}, {"bodyid": 2, "a": 0, "a_user": "bob"})
    assert nj.query({"a": 0}) == [1, 2]
    _, root = nj.data.database.resolve(nj.root)

    def sections() -> set[int]:
        table = nj.data.tables._entries[root.id].table
        assert table is not None
        return set(table.sections)

    assert sections() == {MAIN}
    nj.post({"bodyid": 3, "a": 0})
    assert nj.query({"a_user": "bob"}) == [2]
    assert sections() == {MAIN, USERS}
    assert len(nj.query({"a": 0}, "show=time")) == 3
    assert sections() == {MAIN, USERS, TIMES}
    nj.post({"bodyid": 3, "a": 1, "a_user": "bob"})
    assert nj.query({"a_user": "bob"}) == [2, 3]


def test_a_write_that_outgrows_a_batch(nj: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StagedWrite.__init__, "__defaults__", (100_000,))
    text = "x" * 500
    nj.post({"bodyid": 1, "a": "first", "b": text})
    assert nj.query({"a": "first"}) == [1]
    threads = [
        threading.Thread(target=nj.post, args=[{"bodyid": body, "a": name, "b": text} for body in range(1, 1001)])
        for name in "xyz"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(len(nj.query({"a": name})) for name in "xyz") == [0, 0, 1000]
    nj.post(*({"bodyid": body, "a": "bad", "b": text} for body in range(1, 1001)), {"bodyid": 0}, status=400)
    assert nj.query({"a": "bad"}) == []
    assert list(nj.data.engine.scan(*prefix_range(STAGE))) == []


def test_a_writer_waits_for_a_large_write_of_another_process(nj: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "PATIENCE", 0.05)
    nj.post({"bodyid": 1, "a": 1})
    claim, done = Batch(), Batch()
    claim.put(nj.data.rows.claimed, rows.pack_u64(2))
    done.put(nj.data.rows.generation, rows.pack_u64(2))
    nj.data.engine.write(claim)
    nj.post({"bodyid": 2, "a": 1}, status=Unavailable.status)
    assert nj.query({"a": 1}) == [1]
    nj.data.engine.write(done)
    nj.post({"bodyid": 2, "a": 1})
    assert nj.query({"a": 1}) == [1, 2]  # what generation 2 changed is not known: all is read again


def test_readers_see_whole_writes(nj: Instance) -> None:
    """A writer replaces the values of all annotations at once; no query ever finds two of them."""
    bodies = range(1, 101)
    nj.post(*({"bodyid": body, "mark": 0} for body in bodies))

    def read() -> None:
        assert len({found["mark"] for found in nj.query({"mark": "exists/1"}, "")}) == 1

    with beside(read, read, read):
        for mark in range(1, 25):
            nj.post(*({"bodyid": body, "mark": mark} for body in bodies))
    assert len(nj.query({"mark": 24})) == 100


WRITER = """
import json, sys
sys.path.insert(0, sys.argv[2])
from apiclient import Client
from dvidcore.repos import Database, OneStore
from dvidcore.storage import open_engine

with Database.open({"main": open_engine("lmdb", sys.argv[1])}, OneStore("main")) as database:
    client = Client(database)
    for number in range(60):
        body = {"bodyid": number % 7 + 1, f"{sys.argv[3]}{number}": number}
        answer = client.post(f"{sys.argv[4]}/key/{body['bodyid']}?u=child", body)
        assert answer.status == 200, answer.text
"""


def test_processes_over_one_store_see_what_the_others_write(tmp_path: Path) -> None:
    """Two processes write the same bodies while this one asks and writes too: no field is lost, no table is old."""
    here = Path(__file__).resolve().parent
    environment = {**os.environ, "PYTHONPATH": str(here.parent / "src")}
    with Database.open({"main": open_engine("lmdb", str(tmp_path))}, OneStore("main")) as database:
        nj = Instance(database)
        children = [
            subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(here), name, nj.path], env=environment)
            for name in "xy"
        ]
        number = 0
        while any(child.poll() is None for child in children) or number < 10:
            nj.post({"bodyid": number % 7 + 1, f"z{number}": number})
            assert nj.query({f"z{number}": number}) == [number % 7 + 1]
            number += 1
        assert [child.returncode for child in children] == [0, 0]
        for name, count in (("x", 60), ("y", 60), ("z", number)):
            for i in range(count):
                assert nj.query({f"{name}{i}": i}) == [i % 7 + 1]
