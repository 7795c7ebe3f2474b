"""The turns of writers: batches side by side, a staged write alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial

import pytest

from apiclient import Client
from dvidcore import wire
from dvidcore.datatypes.tarsupervoxels import tar
from dvidcore.datatypes.turns import Turns
from dvidcore.repos import Database, OneStore
from dvidcore.storage.engine import Batch, Key
from dvidcore.storage.memory import Memory
from dvidcore.storage.staged import StagedWrite


def started(task):
    thread = threading.Thread(target=task, daemon=True)
    thread.start()
    return thread


def test_many_share():
    turns, together = Turns(), threading.Barrier(4)

    def share():
        with turns.shared():
            together.wait(120)

    threads = [started(share) for _ in range(4)]
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()


def test_who_is_alone_waits_for_those_who_share_and_goes_before_later_ones():
    turns, order = Turns(), []
    with ExitStack() as first:
        first.enter_context(turns.shared())

        def alone():
            with turns.alone():
                order.append("alone")

        def late():
            with turns.shared():
                order.append("late")

        threads = [started(alone)]
        while not turns._waiting:
            time.sleep(0.001)
        threads.append(started(late))
        time.sleep(0.05)
        assert order == []
    for thread in threads:
        thread.join(120)
    assert order == ["alone", "late"]


def test_nobody_else_is_there_with_who_is_alone():
    turns, inside, seen = Turns(), set(), []

    def work(k):
        for step in range(50):
            single = (k + step) % 3 == 0
            with turns.alone() if single else turns.shared():
                inside.add(k)
                if single:
                    seen.append(len(inside))
                inside.discard(k)

    threads = [started(lambda k=k: work(k)) for k in range(6)]
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    assert set(seen) == {1}


class Interrupted(Memory):
    """A store in which something else is done after some writes."""

    def __init__(self) -> None:
        super().__init__()
        self.left = -1
        self.other: Callable[[], None] = lambda: None

    def write(self, batch: Batch, *, sync: bool = True, guard: Mapping[Key, bytes | None] | None = None) -> None:
        super().write(batch, sync=sync, guard=guard)
        self.left -= 1
        if self.left == 0:
            self.other()


@pytest.mark.parametrize("typename", ["keyvalue", "tarsupervoxels"])
def test_a_small_write_comes_before_or_after_a_staged_one(typename: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what both write all is of one of them, whenever the small one comes."""
    for module in ("keyvalue", "tarsupervoxels.datatype"):
        monkeypatch.setattr(f"dvidcore.datatypes.{module}.StagedWrite", partial(StagedWrite, limit=4000))
    for place in range(1, 60, 4):
        engine = Interrupted()
        with Database.open({"main": engine}, OneStore("main")) as database:
            client = Client(database)
            path = client.instance(client.repo(), "data", typename, Extension="dat", Compression="none")

            def post(value: bytes, count: int, client: Client = client, path: str = path) -> None:
                # The small write is of the first and the last.
                names = [f"{k}.dat" for k in range(100, 200)][:: 99 // (count - 1)]
                if typename == "keyvalue":
                    body, word = wire.encode_key_values([(name, value * 200) for name in names]), "keyvalues"
                else:
                    body, word = b"".join(tar.pieces((name, value * 200) for name in names)), "load"
                answer = client.post(f"{path}/{word}", body)
                assert answer.status == 200, answer.text

            small = threading.Thread(target=post, args=(b"s", 2))

            def interrupt(small: threading.Thread = small) -> None:
                small.start()
                small.join(0.1)

            engine.left, engine.other = place, interrupt
            post(b"b", 100)
            if small.ident is None:
                break
            small.join(120)
            word = "key/{}.dat" if typename == "keyvalue" else "supervoxel/{}"
            first, last = (client.get(f"{path}/{word.format(k)}").body for k in (100, 199))
            assert first == last, f"after {place} writes"
    assert place > 10
