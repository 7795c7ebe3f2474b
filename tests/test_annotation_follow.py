"""Annotations that follow labels while others write, across stores, through failures and the death of the process."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from annotation_model import SHAPE, SIDE, World, element
from apiclient import Client
from dvidcore.datatypes.annotation import rows as annotation
from dvidcore.errors import StoreError
from dvidcore.repos import Database
from dvidcore.storage import open_engine
from dvidcore.storage.engine import Batch
from dvidcore.storage.memory import Memory
from server_process import ServerProcess


def slabs() -> np.ndarray[Any, Any]:
    """Labels 1 to 12, 8 voxels each along x."""
    return np.broadcast_to(np.arange(SHAPE[2], dtype=np.uint64) // 8 + 1, SHAPE)


# -- at the same time --------------------------------------------------------------------------------------------------


def test_parallel_posts_to_one_block_lose_nothing(database: Database) -> None:
    world = World(database)
    world.write(slabs())
    batches = [[element((x, y, k), "PreSyn", ["a"]) for x in range(30)] for y in range(4) for k in range(5)]
    with ThreadPoolExecutor(6) as pool:
        for answer in pool.map(lambda batch: world.ask("POST", "ann/elements", batch), batches):
            assert answer.status == 200, answer.text
    for batch in batches:
        world.state.elements |= {tuple(e["Pos"]): e for e in batch}
    world.agree()


def test_posts_beside_merges_end_on_the_right_bodies(database: Database) -> None:
    world = World(database)
    world.write(slabs())
    batches = [[element((x, y, 3), "PostSyn", ["a"]) for x in range(0, 96, 3)] for y in range(12)]

    def post() -> None:
        for batch in batches:
            world.post("ann/elements", batch)

    def change() -> None:
        for body in range(2, 12, 2):
            world.merge(1, body)
            world.write(np.full((32, 32, 32), 40 + body, np.uint64), (body % 3, 0, 0))

    threads = [threading.Thread(target=work) for work in (post, change)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for batch in batches:
        world.state.elements |= {tuple(e["Pos"]): e for e in batch}
    world.agree()
    assert world.findings() == []


class Overtaking(Memory):
    """An engine in which another writer comes first, as a process over the same store would."""

    def __init__(self, generation: int = annotation.GENERATION) -> None:
        """``generation``: the kind of row by whose guard the writes are known that others come before."""
        super().__init__("overtaking")
        self.generation = generation
        self.before: list[Callable[[], None]] = []
        self._between = False

    def write(self, batch: Batch, *, sync: bool = True, guard: Mapping[bytes, bytes | None] | None = None) -> None:
        if guard and self.before and not self._between and any(key[5] == self.generation for key in guard):
            self._between = True
            self.before.pop()()
            self._between = False
        super().write(batch, sync=sync, guard=guard)


def test_a_post_that_was_overtaken_by_a_merge_looks_again() -> None:
    engine = Overtaking()
    with Database.open({"main": engine}) as database:
        world = World(database)
        world.write(slabs())
        engine.before = [lambda: world.merge(3, 1), lambda: world.merge(1, 2)]  # the last one first
        world.put(element((1, 1, 1)), element((9, 1, 1)), element((17, 1, 1)))
        assert not engine.before
        world.agree()
        assert len(world.get("ann/label/3")) == 3


def test_a_merge_that_was_overtaken_by_a_post_looks_again() -> None:
    engine = Overtaking()
    with Database.open({"main": engine}) as database:
        world = World(database)
        world.write(slabs())
        world.put(element((1, 1, 1)))
        engine.before = [lambda: world.put(element((9, 1, 1)))]
        world.merge(3, 2)
        assert not engine.before
        world.agree()


# -- failures ----------------------------------------------------------------------------------------------------------


class Breaking(Memory):
    """An engine whose writes fail when told to."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.left = -1
        """Writes until one fails; negative: none does."""

    def write(self, batch: Batch, *, sync: bool = True, guard: Mapping[bytes, bytes | None] | None = None) -> None:
        if self.left == 0:
            self.left = -1
            raise StoreError("the disk is full")
        self.left -= self.left > 0
        super().write(batch, sync=sync, guard=guard)


@pytest.mark.parametrize("change", ["put", "delete", "move", "merge", "write"])
def test_a_write_that_fails_changes_nothing(change: str) -> None:
    engine = Breaking("main")
    with Database.open({"main": engine}) as database:
        world = World(database)
        world.write(slabs())
        world.put(element((1, 1, 1), "PreSyn", ["a"]), element((9, 1, 1), "Gap", rels=[("GroupedWith", (1, 1, 1))]))
        done: Callable[[], object] = {
            "put": lambda: world.put(element((1, 1, 1), "Gap", ["b"]), element((70, 1, 1))),
            "delete": lambda: world.delete((9, 1, 1)),
            "move": lambda: world.move((1, 1, 1), (70, 40, 5)),
            "merge": lambda: world.merge(2, 1),
            "write": lambda: world.write(np.full((32, 32, 32), 33, np.uint64)),
        }[change]
        engine.left = 0
        with pytest.raises(AssertionError):
            done()
        assert engine.left == -1
        world.agree()
        assert world.findings() == []
        done()
        world.agree()


def copied(engine: Memory) -> Breaking:
    made, batch = Breaking(engine.path), Batch()
    for key, value in engine.scan(b"", b"\xff" * 40):
        batch.put(key, value)
    made.write(batch)
    return made


# -- kill -9 -----------------------------------------------------------------------------------------------------------


def test_rows_agree_after_a_kill(tmp_path: Path) -> None:
    def opened() -> Database:
        return Database.open({"default": open_engine("leveldb", str(tmp_path))})

    with opened() as database:
        world = World(database)
        world.write(slabs())
    random = Random(5)
    for seconds in (0.05, 0.3):
        server = ServerProcess(tmp_path).wait_until_up()
        begun = threading.Event()

        def work(k: int, server: ServerProcess = server, begun: threading.Event = begun) -> None:
            for count in range(10_000):
                if k == 0:
                    block = np.full(SIDE**3, 100 + random.randrange(9), "<u8")
                    path, body = f"seg/raw/0_1_2/32_32_32/{SIDE * (count % 3)}_0_0?mutate=true", block.tobytes()
                else:
                    pos = [random.randrange(96), random.randrange(64), random.randrange(32)]
                    elements = [element(pos, "PreSyn", ["a"]), element((k, count % 64, 5), "Gap", ["b"])]
                    path, body = "ann/elements", json.dumps(elements).encode()
                try:
                    server.ask("POST", f"/api/node/{world.root}/{path}", body)
                except (OSError, http.client.HTTPException):
                    return
                if k:
                    begun.set()  # elements are there

        with ThreadPoolExecutor(3) as pool:
            running = [pool.submit(work, k) for k in range(3)]
            assert begun.wait(120)
            time.sleep(seconds)
            server.kill()
        for job in running:
            job.result()
        with opened() as database:
            world.database, world.client = database, Client(database)
            assert world.findings() == []
            posted = {tuple(e["Pos"]) for part in world.get("ann/all-elements").values() for e in part}
            tagged = {tuple(e["Pos"]) for tag in ("a", "b") for e in world.get(f"ann/tag/{tag}")}
            assert posted == tagged and posted


def test_reload_goes_on_after_the_death_of_the_process() -> None:
    """A row says that it is under way, so the next start begins it again."""
    engine = Breaking("main")
    with Database.open({"main": engine}) as database:
        world = World(database)
        world.write(slabs())
        blocks = {f"{b},0,0": [element((32 * b + k, 1, 1), "PreSyn", ["a"]) for k in range(3)] for b in range(3)}
        world.post("ann/blocks", blocks)
        data = world.client.server.instances.named(database.repo_of(world.root), "ann")
        batch = Batch()
        batch.put(data.reloads.key(database.resolve(world.root)[1].id), data.reloads.started)  # type: ignore[attr-defined]
        engine.write(batch)  # what a killed process leaves
        assert world.get("ann/info")["Extended"]["Reload"]["State"] == "running"
        for verb, path, body in (
            ("POST", "elements", []),
            ("POST", "blocks", {}),
            ("POST", "labels", {}),
            ("POST", "move/1_1_1/5_1_1", None),
            ("DELETE", "element/1_1_1", None),
            ("POST", "reload", None),
        ):
            assert "being reloaded" in world.refused(verb, f"ann/{path}", body)
        assert world.get("ann/tag/a") == []
        kept = copied(engine)
    with Database.open({"main": kept}) as database:
        world.database, world.client = database, Client(database)
        world.get("ann/scan")
        data = world.client.server.instances.named(database.repo_of(world.root), "ann")
        assert data.reloads.wait(database.resolve(world.root)[1].id, 120)  # type: ignore[attr-defined]
        assert world.get("ann/info")["Extended"] == {}
        for part in blocks.values():
            world.put(*part)
        assert world.findings() == []
        world.agree()


def test_a_reload_that_fails_says_so_and_leaves_what_was_there() -> None:
    engine = Breaking("main")
    with Database.open({"main": engine}) as database:
        world = World(database)
        world.write(slabs())
        world.put(element((1, 1, 1), "PreSyn", ["a"]))
        world.post("ann/blocks", {"1,0,0": [element((40, 1, 1), "Gap", ["a"])]})
        data = world.client.server.instances.named(database.repo_of(world.root), "ann")
        node = database.resolve(world.root)[1]
        engine.left = 1
        world.post("ann/reload")
        assert data.reloads.wait(node.id, 120)  # type: ignore[attr-defined]
        state = world.get("ann/info")["Extended"]["Reload"]
        assert state["State"] == "failed" and "disk is full" in state["Error"]
        assert [e["Pos"] for e in world.get("ann/label/1")] == [[1, 1, 1]]
        world.post("ann/elements", [])
        world.post("ann/reload")
        assert data.reloads.wait(node.id, 120)  # type: ignore[attr-defined]
        assert world.get("ann/info")["Extended"] == {} and len(world.get("ann/tag/a")) == 2
