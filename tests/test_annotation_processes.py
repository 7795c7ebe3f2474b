"""Annotations while several processes write one store: here two databases over one LMDB, which share nothing else."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from annotation_model import SHAPE, World, element
from apiclient import Client
from dvidcore.repos import Database
from dvidcore.storage import open_engine
from dvidcore.storage.lmdb import LMDB


def opened(folder: Path) -> Database:
    return Database.open({"main": open_engine("lmdb", str(folder))})


def test_two_processes_post_to_the_same_blocks_while_bodies_merge(tmp_path: Path) -> None:
    with opened(tmp_path) as one:
        world = World(one)
        world.write(np.broadcast_to(np.arange(SHAPE[2], dtype=np.uint64) // 8 + 1, SHAPE))
        assert LMDB.shared
        with Database.open(one.stores, one.assign) as two:
            other = Client(two)
            batches = [
                [element((x, y, k), "PreSyn", ["a"]) for x in range(0, 96, 7)] for y in range(8) for k in range(2)
            ]

            def post(client: Client, some: slice) -> None:
                for batch in batches[some]:
                    answer = client.post(f"/api/node/{world.root}/ann/elements", batch)
                    assert answer.status == 200, answer.text

            threads = [
                threading.Thread(target=post, args=(world.client, slice(0, None, 2))),
                threading.Thread(target=post, args=(other, slice(1, None, 2))),
                threading.Thread(target=lambda: [world.merge(1, body) for body in (3, 5, 7)]),
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for batch in batches:
                world.state.elements |= {tuple(e["Pos"]): e for e in batch}
            world.agree()
            assert world.findings() == []
