"""Mutations beside each other and beside readers: nothing is lost, and a request sees the state of one moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import orjson
import pytest

from apiclient import Client
from dvidcore.datatypes.call import Call
from dvidcore.datatypes.labels.labelmap import LabelMap
from dvidcore.datatypes.labels.writing.transaction import Transaction, write
from dvidcore.datatypes.registry import Instances
from dvidcore.errors import BadRequest
from dvidcore.geometry import ZYX
from dvidcore.repos import Database
from dvidcore.storage.leveldb import LevelDB
from labelmap_client import pack_mappings
from side_by_side import beside
from test_labelmap_writes import SIDE, World, compare

T = TypeVar("T")

COUNT = 64
SIZE = SIDE**3 // 8
EVERY = np.arange(1, COUNT + 1, dtype=np.uint64)


@pytest.fixture(params=["memory", "leveldb"])
def world(request: pytest.FixtureRequest, tmp_path: Path, database: Database) -> World:
    """Supervoxels 1 to 64, each an eighth of a block."""
    if request.param == "leveldb":
        database = Database.open({"main": LevelDB.open(str(tmp_path / "db"))})
        request.addfinalizer(database.close)
    made = World(database)
    volume = EVERY.reshape(4, 4, 4).repeat(SIDE // 2, 0).repeat(SIDE // 2, 1).repeat(SIDE // 2, 2)
    made.post_raw(made.open[0], ZYX(0, 0, 0), volume)
    return made


def same_instance(world: World) -> LabelMap:
    return world.label


def another_process(world: World) -> LabelMap:
    """The instance without the locks and caches of ``world.label``, as another process on the same store has it."""
    label = Instances(world.database).named(world.repo, "seg")
    assert isinstance(label, LabelMap)
    return label


def ask(world: World, label: LabelMap, endpoint: str, body: Any = b"", /, **arguments: Any) -> Any:
    call = world.call(world.open[0], body if isinstance(body, bytes) else orjson.dumps(body))
    try:
        return getattr(label, endpoint)(call, **arguments)
    finally:
        call.close()


def in_threads(count: int, work: Callable[[int], None]) -> None:
    with ThreadPoolExecutor(count) as pool:
        for job in [pool.submit(work, k) for k in range(count)]:
            job.result()


def check(world: World, mapping: dict[int, int]) -> None:
    model = world.models[world.open[0].id]
    model.mapping = mapping
    model.largest = max(COUNT, *mapping)
    call = world.call(world.open[0])
    compare(another_process(world), call, model)
    call.close()


# -- writers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("writer", [same_instance, another_process])
def test_32_parallel_merges_into_one_body_lose_nothing(world: World, writer: Callable[[World], LabelMap]) -> None:
    labels = [writer(world) for _ in range(32)]
    start = threading.Barrier(32)

    def work(k: int) -> None:
        start.wait()
        ask(world, labels[k], "post_merge", [1, k + 2])

    in_threads(32, work)
    check(world, {k + 2: 1 for k in range(32)})
    call = world.call(world.open[0])
    records = orjson.loads(b"".join(labels[0].get_mutations(call, userid="").body))  # type: ignore[arg-type]
    assert sorted(record["Labels"][0] for record in records) == list(range(2, 34))
    call.close()


@pytest.mark.parametrize("writer", [same_instance, another_process])
def test_parallel_mutations_of_different_bodies(world: World, writer: Callable[[World], LabelMap]) -> None:
    """Each thread works on eight supervoxels of its own; new labels are given out once."""
    labels = [writer(world) for _ in range(8)]
    made: list[list[int]] = [[] for _ in labels]
    mapping: dict[int, int] = {}

    def work(k: int) -> None:
        own = [8 * k + n for n in range(1, 9)]
        ask(world, labels[k], "post_merge", own)
        for _ in range(2):
            new = ask(world, labels[k], "post_cleave", own[4:], label=own[0])["CleavedLabel"]
            made[k].append(new)
            ask(world, labels[k], "post_merge", [own[0], new])
        made[k].append(ask(world, labels[k], "post_cleave", own[2:4], label=own[0])["CleavedLabel"])
        ask(world, labels[k], "post_renumber", [own[1], own[0]])
        mapping.update(dict.fromkeys(own, own[1]) | dict.fromkeys(own[2:4], made[k][-1]))

    in_threads(8, work)
    given = [new for some in made for new in some]
    assert len(set(given)) == len(given) == 24
    assert min(given) > COUNT
    check(world, mapping | dict.fromkeys(given, 0))


def test_conflicting_mutations_leave_what_some_order_would(world: World) -> None:
    """All threads cleave the same supervoxels off the same body: each leaves it once."""
    ask(world, world.label, "post_merge", list(range(1, 17)))
    cleaved: list[tuple[int, int]] = []
    refused: list[int] = []

    def work(_: int) -> None:
        for supervoxel in range(2, 17):
            try:
                answer = ask(world, world.label, "post_cleave", [supervoxel], label=1)
                cleaved.append((supervoxel, answer["CleavedLabel"]))
            except ValueError:
                refused.append(supervoxel)

    in_threads(4, work)
    assert sorted(supervoxel for supervoxel, _ in cleaved) == list(range(2, 17)) and len(refused) == 45
    check(world, dict(cleaved) | dict.fromkeys((new for _, new in cleaved), 0))
    assert ask(world, world.label, "get_nextlabel") == {"nextlabel": COUNT + 16}


# -- readers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("writer", [same_instance, another_process])
def test_readers_see_mapping_and_index_of_one_moment(world: World, writer: Callable[[World], LabelMap]) -> None:
    """A supervoxel's size is looked up in the body that it maps to, where it always is."""
    supervoxels = EVERY.tolist()
    reading, writing = writer(world), writer(world)

    def read() -> None:
        sizes = ask(world, reading, "get_sizes", supervoxels, supervoxels=True, hash="")
        assert sizes == [SIZE] * COUNT
        bodies = ask(world, reading, "get_mapping", supervoxels, nolookup=False, hash="")
        assert 0 not in bodies and len(set(bodies)) in (56 + 8, 56 + 1, 56 + 2)
        assert len(set(bodies[1:8])) in (1, 7)

    with beside(read, read):
        ask(world, writing, "post_merge", supervoxels[:8])
        for _ in range(12):
            ask(world, writing, "post_renumber", [1000, 1])
            new = ask(world, writing, "post_cleave", supervoxels[1:8], label=1000)["CleavedLabel"]
            ask(world, writing, "post_renumber", [1, 1000])
            ask(world, writing, "post_merge", [1, new])


class Held:
    """A request that began at some moment, and what it must see of the mapping for as long as it lasts."""

    def __init__(self, world: World, expected: dict[int, int]) -> None:
        self.call: Call = world.call(world.open[0])
        assert self.call.snapshot is not None
        self.mapped = world.label.mapping.at(self.call)
        self.expected = dict(expected)

    def check(self, label: LabelMap) -> None:
        for mapped in (self.mapped, label.mapping.at(self.call)):
            asked = np.concatenate((EVERY, [np.uint64(0), np.uint64(777)]))
            assert mapped.bodies(asked).tolist() == [self.expected.get(n, n) for n in asked.tolist()]
            assert mapped.has_entry(asked).tolist() == [n in self.expected for n in asked.tolist()]
            visible = sorted((s, b) for s, b in self.expected.items() if s != b)
            supervoxels, bodies = mapped.items()
            assert list(zip(supervoxels.tolist(), bodies.tolist(), strict=True)) == visible


@pytest.mark.parametrize("writer", [same_instance, another_process])
def test_a_request_keeps_the_mapping_of_its_snapshot(world: World, writer: Callable[[World], LabelMap]) -> None:
    rng = np.random.default_rng(3)
    now: dict[int, int] = {}
    held: list[Held] = []
    writers = [writer(world), world.label]
    for step in range(60):
        if step % 3 == 0:
            held.append(Held(world, now))
        supervoxels = rng.choice(EVERY, 3, replace=False).tolist()
        body = int(rng.integers(0, COUNT))
        ask(world, writers[step % 2], "post_mappings", pack_mappings((body, supervoxels)))
        now |= dict.fromkeys(supervoxels, body)
        for one in held:
            one.check(world.label)
    for one in held:
        one.check(another_process(world))
        one.call.close()


def test_a_request_outlasts_what_the_cache_remembers(world: World) -> None:
    ask(world, world.label, "post_mappings", pack_mappings((2, [1])))
    held = Held(world, {1: 2})
    for step in range(1100):
        ask(world, world.label, "post_mappings", pack_mappings((step % 7, [step % 5 + 1])))
    held.check(world.label)
    held.call.close()


# -- labels of mutations under way -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("writer", "mine"), [(same_instance, [65, 66]), (another_process, [68, 69])])
def test_labels_are_given_out_once_beside_a_long_mutation(
    world: World, writer: Callable[[World], LabelMap], mine: list[int]
) -> None:
    """This process knows what the mutation has taken; overtaken by another process, it takes others."""
    others: list[dict[str, int]] = []

    def change(transaction: Transaction) -> list[int]:
        given = list(transaction.new_labels(2))
        if not others:
            others.append(ask(world, writer(world), "post_nextlabel", count=3))
        transaction.map(np.array(given, np.uint64), np.zeros(2, np.uint64))
        return given

    assert ask_to_write(world, change) == mine
    assert set(range(others[0]["start"], others[0]["end"] + 1)) | set(mine) == set(range(65, 70))
    assert ask(world, world.label, "get_nextlabel") == {"nextlabel": 70}


def test_a_mutation_that_fails_uses_up_no_label(world: World) -> None:
    def change(transaction: Transaction) -> None:
        transaction.new_labels(5)
        raise BadRequest("it cannot be done")

    for _ in range(2):
        with pytest.raises(BadRequest):
            ask_to_write(world, change)
    assert ask(world, world.label, "post_nextlabel", count=1) == {"start": 65, "end": 65}


def test_a_label_that_came_to_be_is_not_given_out(world: World) -> None:
    """Voxels of the very label that a mutation has taken are stored before it is."""
    attempts: list[int] = []

    def change(transaction: Transaction) -> int:
        (given,) = transaction.new_labels(1)
        if not attempts:
            world.post_raw(world.open[0], ZYX(1, 1, 1), np.full((SIDE, SIDE, SIDE), given, np.uint64))
        attempts.append(given)
        transaction.map(np.array([given], np.uint64), np.zeros(1, np.uint64))
        return given

    assert ask_to_write(world, change) == 66
    assert attempts == [65, 66]


def ask_to_write(world: World, change: Callable[[Transaction], T]) -> T:
    call = world.call(world.open[0])
    try:
        return write(world.label, call, change, bodies=[1])
    finally:
        call.close()


# -- followers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bodies", [[1], []])
def test_writers_of_followers_give_way_to_a_mutation_that_they_overtake(database: Database, bodies: list[int]) -> None:
    """Here an element is posted in each attempt to commit, as long as that is possible."""
    client = Client(database)
    root = client.repo()
    seg, ann = (
        client.instance(root, "seg", "labelmap", BlockSize="16,16,16"),
        client.instance(root, "ann", "annotation"),
    )
    volume = np.arange(1, 4097, dtype=np.uint64) // 2048 + 1
    assert client.post(f"{seg}/raw/0_1_2/16_16_16/0_0_0", volume.tobytes()).status == 200
    assert client.post(f"{ann}/sync", {"sync": "seg"}).status == 200
    repo, node = database.resolve(root)
    label = client.server.instances.named(repo, "seg")
    assert isinstance(label, LabelMap)
    posts: list[threading.Thread] = []

    def post(*_: Any) -> None:
        if len(posts) < 20:
            element = {"Pos": [len(posts), 0, 15], "Kind": "PreSyn", "Tags": []}
            posts.append(threading.Thread(target=client.post, args=(f"{ann}/elements", [element])))
            posts[-1].start()
            posts[-1].join(0.5)  # it may have to wait for this very commit

    def change(attempt: Transaction) -> None:
        attempt.at_commit(post)
        attempt.map(np.array([2], np.uint64), np.array([1], np.uint64))
        attempt.tell("merge", bodies={2: 1})

    call = Call(label.engine, node, database.ancestry_for(repo, node, label.record))
    write(label, call, change, bodies=bodies)
    call.close()
    assert len(posts) < 20
    for thread in posts:
        thread.join()
    found = client.get(f"{ann}/label/1").json()
    assert sorted(element["Pos"][0] for element in found) == list(range(len(posts)))


@pytest.mark.parametrize("writer", [same_instance, another_process])
def test_a_mapping_that_is_posted_meanwhile_starts_a_mutation_anew(
    world: World, writer: Callable[[World], LabelMap]
) -> None:
    other, found = writer(world), []

    def change(attempt: Transaction) -> None:
        found.append(attempt.mapped().body(7))
        if len(found) == 1:
            ask(world, other, "post_mappings", pack_mappings((9, [7])))
        attempt.map(np.array([8], np.uint64), np.array(found[-1:], np.uint64))

    call = world.call(world.open[0])
    write(world.label, call, change, bodies=[1])
    call.close()
    assert found == [7, 9]
    assert ask(world, another_process(world), "get_mapping", [7, 8], hash="", nolookup=True) == [9, 9]


def test_others_write_while_a_mutation_that_was_overtaken_computes_again(world: World) -> None:
    tries = []

    def change(attempt: Transaction) -> None:
        tries.append(attempt.record(1))
        if len(tries) == 1:
            world.post_raw(world.open[0], ZYX(0, 0, 0), np.ones((SIDE, SIDE, SIDE), np.uint64))
        elif len(tries) == 2:
            other = threading.Thread(target=ask, args=(world, world.label, "post_nextlabel"), kwargs={"count": 1})
            other.start()
            other.join(120)
            assert not other.is_alive()
        attempt.map(np.array([8], np.uint64), np.array([9], np.uint64))

    call = world.call(world.open[0])
    write(world.label, call, change, bodies=[1])
    call.close()
    assert len(tries) == 2
