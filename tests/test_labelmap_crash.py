"""kill -9 while labels come in, bodies are merged, indices and mappings are posted: afterwards everything agrees.

What may be there is known of each job (``label_jobs``). Index, records, mapping, extents, largest label and all scales
are recomputed from it.
"""

from __future__ import annotations

import http.client
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pytest

from dvidcore.datatypes.call import Call
from dvidcore.datatypes.labels.labelmap import LabelMap
from dvidcore.datatypes.labels.writing import counters
from dvidcore.datatypes.registry import Instances
from dvidcore.mutations import log
from dvidcore.repos import Database
from dvidcore.storage import open_engine
from label_jobs import BODIES, CREATED, MAPPED, MERGED, TARGET, Column, Indices, Job, Mappings, all_jobs, victim
from server_process import ServerProcess
from test_labelmap_writes import Index, Model, compare, stored_volume
from victims import kill_after

ENGINE = "leveldb"


class Store:
    """A store with a labelmap that is written and killed, again and again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs = {job.name: job for job in all_jobs()}
        self.merged: set[int] = set()
        """Supervoxels whose merge was acknowledged."""
        self.largest = 0
        self.steps = 0
        with self.opened() as database:
            repo = database.new_repo()
            Instances(database).create(repo, repo.dag.root, CREATED)
            self.path = f"/api/node/{repo.root}/seg"

    def opened(self) -> Database:
        return Database.open({"default": open_engine(ENGINE, str(self.folder))})

    def begin(self, name: str, step: int) -> None:
        self.jobs[name].sent = step

    def done(self, name: str, step: int) -> None:
        self.steps += 1
        if name == "merges":
            self.merged.add(MERGED[step])
        else:
            self.jobs[name].acknowledged = step

    def kill_process(self, seconds: float, after_a_step: bool) -> None:
        """Lets a process do the jobs by itself, and kills it so long after it is ready, or after its first step."""
        sent = {name: job.sent for name, job in self.jobs.items()}

        def receive(kind: str, name: str, step: int) -> bool:
            assert kind in ("begin", "done"), (kind, name, step)
            (self.begin if kind == "begin" else self.done)(name, step)
            return kind == "done"

        kill_after(victim, (self.folder, ENGINE, self.path, sent), receive, seconds, after_a_step)

    def kill_server(self, seconds: float, after_a_step: bool) -> None:
        """Does the jobs as clients of a server, and kills that so long after the start, or after the first step."""
        before = self.steps
        server = ServerProcess(self.folder).wait_until_up()

        def post(where: str, body: bytes) -> int:
            try:
                return server.ask("POST", f"{self.path}/{where}", body)[0]
            except http.client.HTTPException as e:
                raise OSError from e

        with ThreadPoolExecutor(len(self.jobs)) as pool:
            running = [pool.submit(job.run, post, self.begin, self.done) for job in self.jobs.values()]
            while after_a_step and self.steps == before and not all(job.done() for job in running):
                time.sleep(0.002)
            time.sleep(seconds)
            server.kill()
        for job in running:
            job.result()

    def check(self) -> None:
        """Opens the store, finds the step that it holds of each job, and compares all of it."""
        with self.opened() as database:
            repo = next(iter(database.repos.values()))
            label = Instances(database).named(repo, "seg")
            assert isinstance(label, LabelMap)
            node = repo.dag.root
            call = Call(label.engine, node, database.ancestry_for(repo, node, label.record))
            model = self.model(label, call)
            logged = [orjson.loads(r) for r in log.records(call.snapshot, label.record.id, node.id)]
            assert sorted(b for r in logged for b in r["Labels"]) == [s for s in sorted(model.mapping) if s in MERGED]
            model.largest = self.largest = max(model.largest, self.largest)
            compare(label, call, model)
            assert counters.counters(label, call.snapshot).maximum >= max([self.largest, *model.mapping.values()])
            call.close()

    def model(self, label: LabelMap, call: Call) -> Model:
        """What the store must hold, by what it holds of each job."""
        model = Model()
        mapping = dict(zip(*(a.tolist() for a in label.mapping.at(call).items()), strict=True))
        assert {body for body in mapping.values() if body < MAPPED} <= {TARGET}
        assert self.merged <= set(mapping), "an acknowledged merge is lost"
        model.mapping = {supervoxel: body for supervoxel, body in mapping.items() if body == TARGET}
        voxels = stored_volume(label, call, 0)
        for job in self.jobs.values():
            if isinstance(job, Column):
                job.place(model, voxels)
            elif isinstance(job, Indices):
                job.place(model, posted_indices(label, call))
            elif isinstance(job, Mappings):
                job.place(model, {supervoxel: body for supervoxel, body in mapping.items() if body >= MAPPED})
        return model


def posted_indices(label: LabelMap, call: Call) -> dict[int, Index]:
    out: dict[int, Index] = {}
    for body in BODIES:
        if columns := label.index.columns(call.view, body):
            for at, supervoxel, voxels in zip(*(c.tolist() for c in columns[:3]), strict=True):
                out.setdefault(body, {}).setdefault(tuple(at), {})[supervoxel] = voxels
    return out


@pytest.mark.parametrize("kills", [100, pytest.param(400, marks=pytest.mark.slow)])
def test_a_process_is_killed_while_labels_come_in(tmp_path: Path, kills: int) -> None:
    store, rng = Store(tmp_path / "data"), random.Random(kills)
    for k in range(kills):
        store.kill_process(rng.uniform(0, 0.3), after_a_step=k % 2 == 0)
        store.check()
    assert store.steps >= kills // 2


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_a_server_is_killed_while_labels_come_in(tmp_path: Path, kills: int) -> None:
    store, rng = Store(tmp_path / "data"), random.Random(kills)
    for k in range(kills):
        store.kill_server(rng.uniform(0, 0.3), after_a_step=k % 2 == 0)
        store.check()
    assert store.steps >= kills // 2


def test_every_job_takes_part() -> None:
    assert {type(job) for job in all_jobs()} == set(Job.__subclasses__())
