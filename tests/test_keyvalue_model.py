"""keyvalue against a model: random writes, commits, branches and merges, compared at every version."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvidcore import wire
from dvidcore.datatypes.call import BytesBody, Call
from dvidcore.datatypes.keyvalue import KeyValue
from dvidcore.datatypes.registry import Instances
from dvidcore.errors import BadRequest, Conflict, NotFound
from dvidcore.repos import Database, DatabaseOptions, OneStore
from dvidcore.storage import open_engine
from dvidcore.storage.keys import STAGE, prefix_range
from dvidcore.storage.staged import StagedWrite
from dvidcore.versions import Node

KEYS = ["a", "aa", "b", "z", "ü"]
"""In the order of their bytes."""


@dataclass
class Version:
    """What was written at a version (``None``: deleted), and where it is in the graph."""

    node: Node
    parents: list[Version]
    written: dict[str, bytes | None] = field(default_factory=dict)

    def ancestors(self) -> list[Version]:
        found = [self]
        for version in found:
            found += [parent for parent in version.parents if parent not in found]
        return found

    def seen(self, key: str) -> list[bytes]:
        """The values of a key that this version sees: none, one, or several in conflict."""
        writers = [version for version in self.ancestors() if key in version.written]
        hidden = {id(above) for writer in writers for above in writer.ancestors()[1:]}
        values = [writer.written[key] for writer in writers if id(writer) not in hidden]
        return [value for value in values if value is not None]


class World:
    """One repo, its instance, and the model of each of its versions."""

    def __init__(self, database: Database, **config: str) -> None:
        self.database = database
        self.repo = database.new_repo()
        root = self.repo.dag.root
        given = {"typename": "keyvalue", "dataname": "kv", **config}
        instance = Instances(database).create(self.repo, root, given)
        assert isinstance(instance, KeyValue)
        self.instance = instance
        self.versions = [Version(root, [])]

    def call(self, version: Version, body: bytes = b"") -> Call:
        ancestry = self.database.ancestry_for(self.repo, version.node, self.instance.record)
        return Call(self.instance.engine, version.node, ancestry, body=BytesBody(body))

    def commit(self, version: Version) -> None:
        if not version.node.locked:
            self.database.commit(self.repo, version.node)

    def check(self, version: Version) -> None:
        """Compares all that can be read at a version with the model."""
        expected = {key: version.seen(key) for key in KEYS}
        call = self.call(version)
        assert json.loads(self.instance.get_keys(call).body) == [key for key in KEYS if expected[key]]  # type: ignore[arg-type]
        for key, values in expected.items():
            if len(values) > 1:
                with pytest.raises(Conflict, match=key):
                    self.instance.get_key(call, key)
            elif values:
                assert bytes(self.instance.get_key(call, key).body) == values[0]  # type: ignore[arg-type]
            else:
                with pytest.raises(NotFound):
                    self.instance.get_key(call, key)
        for first, last in (("a", "z"), ("a", "b"), ("aa", "z"), ("b", "é"), ("z", "a")):
            inside = {key: expected[key] for key in KEYS if first.encode() <= key.encode() <= last.encode()}
            names = [key for key, values in inside.items() if values]
            assert json.loads(self.instance.get_keyrange(call, first, last).body) == names  # type: ignore[arg-type]
            if any(len(values) > 1 for values in inside.values()):
                with pytest.raises(Conflict):
                    self.instance.get_keyrangevalues(call, first, last)
                continue
            message = self.instance.get_keyrangevalues(call, first, last).body
            assert isinstance(message, bytes)
            read = list(wire.read_key_values(io.BytesIO(message).read))
            assert read == [(key, values[0]) for key, values in inside.items() if values]
        call.close()


steps = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "bulk", "delete", "child", "branch", "merge"]),
        st.integers(0, 1000),
        st.integers(0, 1000),
        st.sampled_from(KEYS),
        st.binary(max_size=3) | st.just(b"long " * 100),
    ),
    max_size=30,
)


def run(world: World, steps: list[tuple[str, int, int, str, bytes]]) -> None:
    """Carries out steps in the instance and in the model."""
    for number, (action, one, two, key, value) in enumerate(steps):
        version = world.versions[one % len(world.versions)]
        if action in ("put", "bulk", "delete"):
            if version.node.locked:
                continue
            if action == "put":
                world.instance.post_key(world.call(version, value), key)
                version.written[key] = value
            elif action == "bulk":
                pairs = [(key, b"first"), (KEYS[two % len(KEYS)], value), (key, value)]
                world.instance.post_keyvalues(world.call(version, wire.encode_key_values(pairs)))
                version.written |= dict(pairs)
            else:
                world.instance.delete_key(world.call(version), key)
                version.written[key] = None
            continue
        parents = [version]
        if action == "merge":
            other = world.versions[two % len(world.versions)]
            if other is version:
                continue
            parents.append(other)
        for parent in parents:
            world.commit(parent)
        database, repo = world.database, world.repo
        if action == "merge":
            node = database.merge(repo, [parent.node for parent in parents])
        elif action == "branch" or repo.dag.leaf(version.node.branch) is not version.node:
            node = database.branch(repo, version.node, f"side {number}")
        else:
            node = database.new_version(repo, version.node)
        world.versions.append(Version(node, parents))


@pytest.mark.parametrize(("kind", "examples"), [("memory", 60), ("lmdb", 15), ("leveldb", 15)])
def test_versions_see_what_the_model_sees(kind: str, examples: int, tmp_path: Path) -> None:
    engine = open_engine(kind, str(tmp_path))
    options = DatabaseOptions(sync=False)
    with Database.open({"main": engine}, OneStore("main"), options=options) as database:

        @given(steps, st.sampled_from([{}, {"Compression": "none"}, {"Compression": "gzip", "Checksum": "crc32"}]))
        @settings(max_examples=examples, deadline=None)
        def example(steps: list[tuple[str, int, int, str, bytes]], config: dict[str, str]) -> None:
            world = World(database, **config)
            run(world, steps)
            for version in world.versions:
                world.check(version)

        example()


def test_an_unversioned_instance_has_one_set_of_pairs(database: Database) -> None:
    world = World(database, Versioned="false")
    root = world.versions[0]
    world.instance.post_key(world.call(root, b"1"), "a")
    world.commit(root)
    child = Version(database.new_version(world.repo, root.node), [root])
    world.instance.post_key(world.call(child, b"2"), "a")
    assert world.instance.get_key(world.call(root), "a").body == b"2"
    world.instance.delete_key(world.call(root), "a")
    with pytest.raises(NotFound):
        world.instance.get_key(world.call(child), "a")
    actions = [
        [record["Action"] for record in json.loads(world.instance.get_mutations(world.call(version)).body)]  # type: ignore[arg-type]
        for version in (root, child)
    ]
    assert actions == [["postkv", "delete"], ["postkv"]]  # the log goes by the version of the request


def test_neighbours_in_the_store_are_not_seen(database: Database) -> None:
    worlds = [World(database) for _ in range(3)]
    for i, world in enumerate(worlds):
        for key in ("\x01", "a", "\U0010ffff" * 10):
            world.instance.post_key(world.call(world.versions[0], b"%d" % i), key)
    for i, world in enumerate(worlds):
        call = world.call(world.versions[0])
        answer = world.instance.get_keyrangevalues(call, "\x01", "\U0010ffff" * 11).body
        assert isinstance(answer, bytes)
        pairs = list(wire.read_key_values(io.BytesIO(answer).read))
        assert pairs == [(key, b"%d" % i) for key in ("\x01", "a", "\U0010ffff" * 10)]


def test_readers_see_whole_bulk_writes(database: Database) -> None:
    """Writers replace all of some keys at once; no reader ever sees values of two of them."""
    world = World(database)
    root = world.versions[0]
    keys = [f"k{i:03}" for i in range(200)]

    def post(mark: bytes) -> None:
        world.instance.post_keyvalues(world.call(root, wire.encode_key_values([(key, mark) for key in keys])))

    post(b"start")
    stop = threading.Event()
    failures: list[object] = []

    def write(name: int) -> None:
        for i in range(15):
            post(b"%d %d" % (name, i))

    def read() -> None:
        while not stop.is_set():
            call = world.call(root)
            answer = world.instance.get_keyrangevalues(call, "k", "l").body
            call.close()
            assert isinstance(answer, bytes)
            values = {value for _, value in wire.read_key_values(io.BytesIO(answer).read)}
            if len(values) != 1:
                failures.append(values)

    readers = [threading.Thread(target=read) for _ in range(2)]
    writers = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for thread in readers + writers:
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in readers:
        thread.join()
    assert not failures
    log = json.loads(world.instance.get_mutations(world.call(root)).body)  # type: ignore[arg-type]
    assert len(log) == 46 * len(keys)


WRITER = """
import sys
from dvidcore import wire
from dvidcore.datatypes.call import BytesBody, Call
from dvidcore.datatypes.registry import Instances
from dvidcore.repos import Database
from dvidcore.storage import open_engine
from dvidcore.storage.keys import STAGE, prefix_range
from dvidcore.storage.staged import StagedWrite

database = Database.open({"main": open_engine("leveldb", sys.argv[1])})
repo = next(iter(database.repos.values()))
instance = Instances(database).named(repo, "kv")
root = repo.dag.root
for i in range(100_000):
    body = wire.encode_key_values([(f"k{j:03}", b"%d" % i) for j in range(100)])
    call = Call(instance.engine, root, database.ancestry_for(repo, root, instance.record), body=BytesBody(body))
    instance.post_keyvalues(call)
    print(i, flush=True)
"""


def test_a_killed_writer_leaves_whole_requests_with_their_log(tmp_path: Path) -> None:
    path = str(tmp_path / "store")
    source = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1] / "src")}
    with Database.open({"main": open_engine("leveldb", path)}) as database:
        World(database)
    for turn in range(3):
        child = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, env=source)
        assert child.stdout is not None
        first = child.stdout.readline()
        time.sleep(random.Random(turn).uniform(0.02, 0.15))
        child.send_signal(signal.SIGKILL)
        lines = (first + child.communicate()[0]).split()
        acknowledged = int(lines[-1])
        with Database.open({"main": open_engine("leveldb", path)}) as database:
            repo = next(iter(database.repos.values()))
            instance = Instances(database).named(repo, "kv")
            assert isinstance(instance, KeyValue)
            root = repo.dag.root
            call = Call(instance.engine, root, database.ancestry_for(repo, root, instance.record))
            answer = instance.get_keyrangevalues(call, "k", "l").body
            assert isinstance(answer, bytes)
            values = [value for _, value in wire.read_key_values(io.BytesIO(answer).read)]
            assert len(values) == 100
            assert len(set(values)) == 1
            assert int(values[0]) in (acknowledged, acknowledged + 1)
            records = json.loads(b"".join(_joined(instance, call)))
            assert len(records) % 100 == 0
            call.close()


def _joined(instance: KeyValue, call: Call) -> Iterator[bytes]:
    body = instance.get_mutations(call).body
    assert body is not None
    if isinstance(body, bytes):
        yield body
    else:
        yield from body  # type: ignore[misc]


def test_a_bulk_write_that_outgrows_a_batch(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Staged writes of two threads leave the pairs of one of them."""
    monkeypatch.setattr(StagedWrite.__init__, "__defaults__", (100_000,))
    world = World(database, Compression="none")
    root = world.versions[0]
    keys = [f"k{i:03}" for i in range(300)]

    def post(mark: bytes) -> None:
        pairs = [(key, mark * 1000) for key in keys]
        world.instance.post_keyvalues(world.call(root, wire.encode_key_values(pairs)))

    threads = [threading.Thread(target=post, args=(b"%d" % n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    body = world.instance.get_keyrangevalues(world.call(root), "k", "l").body
    assert isinstance(body, bytes)
    pairs = list(wire.read_key_values(io.BytesIO(body).read))
    assert [key for key, _ in pairs] == keys
    assert len({value for _, value in pairs}) == 1
    assert len(json.loads(world.instance.get_mutations(world.call(root)).body)) == 1200  # type: ignore[arg-type]
    bad = wire.encode_key_values([*((key, bytes(1000)) for key in keys), ("a/b", b"")])
    with pytest.raises(BadRequest, match="a/b"):
        world.instance.post_keyvalues(world.call(root, bad))
    assert list(world.instance.engine.scan(*prefix_range(STAGE))) == []
    assert world.instance.get_keyrangevalues(world.call(root), "k", "l").body == body
