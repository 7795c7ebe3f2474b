"""What clients send to a labelmap while it is killed, step by step, so that it is known what may be there afterwards.

A job sends its steps one after the other, several jobs side by side. Of each job the store holds the last step that was
acknowledged, or one that was sent after it, whole.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from apiclient import Client
from dvidcore import labels
from dvidcore.geometry import ZYX
from dvidcore.repos import Database
from dvidcore.storage import open_engine
from test_labelmap_writes import SIDE, Index, Model, Volume, index_message, mapping_ops, random_volume, stream

Post = Callable[[str, bytes], int]
"""Sends a body to a path of the instance; answers the status, raises OSError where nobody answers."""
Report = Callable[[str, int], None]

TARGET, MERGED = 100, [1, 2, 3, 7]
"""The body that merges make, and the supervoxels that they put into it."""
BODIES = [2**50 + k for k in range(3)]
"""Bodies whose indices are posted; no voxel has their supervoxels."""
SUPERVOXELS = [2**52 + k for k in range(200)]
"""Supervoxels that are mapped together; no voxel has them."""
MAPPED = 2**53
CREATED = {"typename": "labelmap", "dataname": "seg", "BlockSize": f"{SIDE},{SIDE},{SIDE}", "MaxDownresLevel": "2"}


@dataclass
class Job:
    """What was sent and what was acknowledged of it, by step; -1 for nothing."""

    name: str
    sent: int = -1
    acknowledged: int = -1

    def send(self, step: int, post: Post) -> int:
        """Sends a step; answers the status."""
        raise NotImplementedError

    def run(self, post: Post, begin: Report, done: Report) -> None:
        """Sends step after step until nobody answers."""
        step = self.sent
        while True:
            step += 1
            begin(self.name, step)
            try:
                status = self.send(step, post)
            except OSError:
                return
            assert status == 200, (self.name, step, status)
            done(self.name, step)

    def possible(self) -> range:
        """The steps one of which is stored; where none was acknowledged, perhaps nothing is."""
        return range(max(self.acknowledged, 0), self.sent + 1)


class Column(Job):
    """Posts a column of 6 x 2 x 2 blocks again and again, by turns as raw volume and as blocks."""

    def __init__(self, y: int, x: int) -> None:
        """``y``, ``x``: its lowest block; along z it goes from -3 to 2."""
        super().__init__(f"column {y} {x}")
        self.y, self.x = y, x

    def volume(self, step: int) -> Volume:
        """Every volume has all labels that are merged, and one of its own."""
        volume = random_volume(np.random.default_rng([self.y + 9, self.x + 9, step]), (6 * SIDE, 2 * SIDE, 2 * SIDE))
        volume[::SIDE, 0, :6] = [*MERGED, TARGET, 1000 + step]
        return volume

    def send(self, step: int, post: Post) -> int:
        volume = self.volume(step)
        if step % 2:
            z, y, x = volume.shape
            return post(f"raw/0_1_2/{x}_{y}_{z}/{self.x * SIDE}_{self.y * SIDE}_{-3 * SIDE}", volume.tobytes())
        placed = {
            ZYX(z - 3, self.y + y, self.x + x): volume[
                z * SIDE : (z + 1) * SIDE, y * SIDE : (y + 1) * SIDE, x * SIDE : (x + 1) * SIDE
            ]
            for z, y, x in np.ndindex(6, 2, 2)
        }
        return post("blocks?downres=true", stream(placed))

    def place(self, model: Model, stored: Volume) -> None:
        """Finds which volume is stored in the column and writes it into the model."""
        y, x = (self.y + 3) * SIDE, (self.x + 3) * SIDE
        column = stored[:, y : y + 2 * SIDE, x : x + 2 * SIDE]
        for step in self.possible():
            if (column == self.volume(step)).all():
                self.acknowledged = step
                model.write(ZYX(-3, self.y, self.x), self.volume(step))
                return
        assert self.acknowledged < 0, f"{self.name} holds none of {self.acknowledged} … {self.sent}"
        assert not column.any(), f"{self.name} holds a part of a write"


class Indices(Job):
    """Posts the indices of BODIES, at each step other blocks and one body in four without any."""

    def __init__(self) -> None:
        super().__init__("indices")

    def indices(self, step: int) -> dict[int, Index]:
        return {
            body: {} if (step + k) % 4 == 0 else {(k, -1, (step + x) % 40): {body + 10: step + 1} for x in range(5)}
            for k, body in enumerate(BODIES)
        }

    def send(self, step: int, post: Post) -> int:
        return post("indices", labels.encode_indices([index_message(*item) for item in self.indices(step).items()]))

    def place(self, model: Model, stored: dict[int, Index]) -> None:
        """Finds which indices are stored and puts them into the model."""
        for step in self.possible():
            posted = {body: index for body, index in self.indices(step).items() if index}
            if stored == posted:
                self.acknowledged = step
                model.posted = posted
                model.largest = max(model.largest, *BODIES)
                return
        assert self.acknowledged < 0 and not stored, f"indices of no step {self.acknowledged} … {self.sent}: {stored}"


class Mappings(Job):
    """Maps SUPERVOXELS, all of them to one body, at each step another."""

    def __init__(self) -> None:
        super().__init__("mappings")

    def send(self, step: int, post: Post) -> int:
        return post("mappings", mapping_ops([(supervoxel, MAPPED + step) for supervoxel in SUPERVOXELS]))

    def place(self, model: Model, stored: dict[int, int]) -> None:
        """Checks that they map to the body of one step and puts them into the model."""
        bodies = set(stored.values())
        if self.acknowledged < 0 and not bodies:
            return
        assert len(bodies) == 1 and sorted(stored) == SUPERVOXELS, "a part of a mapping"
        self.acknowledged = bodies.pop() - MAPPED
        assert self.acknowledged in range(self.sent + 1)
        model.mapping |= stored


class Merges(Job):
    """Merges each of MERGED, again after every kill; what is merged already is refused."""

    def __init__(self) -> None:
        super().__init__("merges")

    def run(self, post: Post, begin: Report, done: Report) -> None:
        for step, body in enumerate(MERGED):
            try:
                if post("merge", b"[%d,%d]" % (TARGET, body)) == 200:
                    done(self.name, step)
            except OSError:
                return


def all_jobs() -> list[Job]:
    return [*(Column(y, x) for y in (-2, 0) for x in (-2, 0)), Indices(), Mappings(), Merges()]


# -- a process that does them by itself --------------------------------------------------------------------------------


def victim(folder: Path, engine: str, path: str, sent: dict[str, int], pipe: Connection) -> None:
    """Does all jobs in threads of this process, over the application without a server, and reports through the pipe."""
    talk = threading.Lock()

    def report(kind: str) -> Report:
        def send(name: str, step: int) -> None:
            with talk:
                pipe.send((kind, name, step))

        return send

    def run(job: Job) -> None:
        try:
            job.run(lambda where, body: client.post(f"{path}/{where}", body).status, report("begin"), report("done"))
        except Exception as e:
            report(f"failed: {e!r}")(job.name, job.sent)

    with Database.open({"default": open_engine(engine, str(folder))}) as database:
        client = Client(database)
        report("ready")("", 0)
        threads = []
        for job in all_jobs():
            job.sent = sent[job.name]
            threads.append(threading.Thread(target=run, args=(job,)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
