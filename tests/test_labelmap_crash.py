"""kill -9 of a server while labels come in and bodies are merged: afterwards everything agrees with the voxels.

Each writer owns a column of blocks, so what may be there is known: of each column, the last volume that was acknowledged
or one that was sent after it, whole. Index, records, extents, largest label and all scales are recomputed from it.
"""

from __future__ import annotations

import http.client
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import orjson
import pytest

from dvidcore.datatypes.base import Call
from dvidcore.datatypes.labels.labelmap import LabelMap
from dvidcore.datatypes.registry import Instances
from dvidcore.geometry import ZYX
from dvidcore.mutations import log
from dvidcore.repos import Database
from dvidcore.storage import open_engine
from server_process import ServerProcess
from test_labelmap_writes import SIDE, Model, Volume, compare, random_volume, stored_volume, stream

COLUMNS = [(-2, -2), (-2, 0), (0, -2), (0, 0)]  # lowest block (y, x) of each writer: 2 x 2 blocks, z from -3 to 2
MERGED = [1, 2, 3, 7]  # supervoxels that the merges put into body 100


def volume_of(writer: int, step: int) -> Volume:
    """What a writer sends at a step: a column of 6 x 2 x 2 blocks. Every one has all labels that are merged."""
    volume = random_volume(np.random.default_rng([writer, step]), (6 * SIDE, 2 * SIDE, 2 * SIDE))
    volume[::SIDE, 0, :6] = [*MERGED, 100, 1000 + step]
    return volume


class Writer:
    """Posts its column again and again, by turns as raw volume and as blocks; knows what was acknowledged."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.y, self.x = COLUMNS[index]
        self.acknowledged = self.sent = -1

    def run(self, server: ServerProcess, path: str) -> None:
        while True:
            self.sent += 1
            volume = volume_of(self.index, self.sent)
            z, y, x = volume.shape
            try:
                if self.sent % 2:
                    box = f"{x}_{y}_{z}/{self.x * SIDE}_{self.y * SIDE}_{-3 * SIDE}"
                    status, text = server.ask("POST", f"{path}/raw/0_1_2/{box}", volume.tobytes())
                else:
                    status, text = server.ask("POST", f"{path}/blocks?downres=true", stream(self.blocks(volume)))
            except (OSError, http.client.HTTPException):
                return
            assert status == 200, text
            self.acknowledged = self.sent

    def blocks(self, volume: Volume) -> dict[ZYX, Volume]:
        return {
            ZYX(z - 3, self.y + y, self.x + x): volume[
                z * SIDE : (z + 1) * SIDE, y * SIDE : (y + 1) * SIDE, x * SIDE : (x + 1) * SIDE
            ]
            for z, y, x in np.ndindex(6, 2, 2)
        }

    def place(self, model: Model, stored: Volume) -> None:
        """Finds which volume is stored in the column and writes it into the model."""
        y, x = (self.y + 3) * SIDE, (self.x + 3) * SIDE
        column = stored[:, y : y + 2 * SIDE, x : x + 2 * SIDE]
        for step in range(max(self.acknowledged, 0), self.sent + 1):
            if (column == volume_of(self.index, step)).all():
                self.acknowledged = step
                model.write(ZYX(-3, self.y, self.x), volume_of(self.index, step))
                return
        assert self.acknowledged < 0, f"column {self.index} holds none of {self.acknowledged} … {self.sent}"
        assert not column.any(), f"column {self.index} holds a part of a write"


def merge_one(server: ServerProcess, path: str, acknowledged: set[int]) -> None:
    for body in MERGED:
        try:
            status, _ = server.ask("POST", f"{path}/merge", [100, body])
        except (OSError, http.client.HTTPException):
            return
        if status == 200:
            acknowledged.add(body)


def run_and_kill(folder: Path, kills: int, seed: int, engine: str) -> None:
    rng = random.Random(seed)
    writers = [Writer(k) for k in range(len(COLUMNS))]
    merged: set[int] = set()
    highest = 0
    path = ""
    for _ in range(kills):
        server = ServerProcess(folder).wait_until_up()
        if not path:
            root = orjson.loads(server.ask("POST", "/api/repos")[1])["root"]
            size = f"{SIDE},{SIDE},{SIDE}"
            config = {"typename": "labelmap", "dataname": "seg", "BlockSize": size, "MaxDownresLevel": "2"}
            assert server.ask("POST", f"/api/repo/{root}/instance", config)[0] == 200
            path = f"/api/node/{root}/seg"
        with ThreadPoolExecutor(len(writers) + 1) as pool:
            jobs = [pool.submit(w.run, server, path) for w in writers]
            jobs.append(pool.submit(merge_one, server, path, merged))
            time.sleep(rng.uniform(0.02, 0.5))
            server.kill()
        for job in jobs:
            job.result()
        highest = check(folder, writers, merged, highest, engine)


def check(folder: Path, writers: list[Writer], merged: set[int], highest: int, engine: str) -> int:
    """Opens the store and compares all of it; answers the largest label so far."""
    with Database.open({"default": open_engine(engine, str(folder))}) as database:
        repo = next(iter(database.repos.values()))
        label = Instances(database).named(repo, "seg")
        assert isinstance(label, LabelMap)
        node = repo.dag.root
        call = Call(label.engine, node, database.ancestry_for(repo, node, label.record))
        stored = stored_volume(label, call, 0)
        model = Model()
        for writer in writers:
            writer.place(model, stored)
        bodies = dict(zip(*(a.tolist() for a in label.mapping.at(call).items()), strict=True))
        assert set(bodies.values()) <= {100}
        assert merged <= set(bodies), "an acknowledged merge is lost"
        logged = [orjson.loads(r) for r in log.records(call.snapshot, label.record.id, node.id)]
        assert sorted(b for r in logged for b in r["Labels"]) == sorted(bodies)
        model.mapping = bodies
        model.largest = max(model.largest, highest)
        compare(label, call, model)
        call.close()
        return model.largest


def test_killed_while_labels_come_in(tmp_path: Path) -> None:
    run_and_kill(tmp_path / "data", kills=6, seed=1, engine="leveldb")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 6))
def test_killed_often_while_labels_come_in(tmp_path: Path, seed: int) -> None:
    run_and_kill(tmp_path / "data", kills=25, seed=seed, engine="leveldb")
