"""kill -9 while bodies are merged, cleaved, renumbered and split, and voxels written: nothing is lost, nothing is half.

After each kill the store is checked as ``dvidcore check`` does; what was answered must be there, and what was under way
wholly or not at all: voxels of all scales, index, mapping and log.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from apiclient import Client
from dvidcore import labels
from dvidcore.checking import check
from dvidcore.repos import Database
from dvidcore.storage import open_engine
from label_model import SIDE
from mutation_jobs import JOBS, OPTIONS, OWN, Job, Progress, Record, Request, find_record, victim
from test_labelmap_writes import Index, Volume
from victims import kill_after

ENGINE = "leveldb"
CONFIG = {"BlockSize": f"{SIDE},{SIDE},{SIDE}", "MaxDownresLevel": "2"}


class Store:
    """A store with a labelmap that is mutated and killed, again and again, at one version after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.steps = 0
        self.kinds: set[str] = set()
        with self.opened() as database:
            client = Client(database)
            self.uuid = client.repo()
            client.instance(self.uuid, "seg", "labelmap", **CONFIG)
            assert client.admin("POST", f"{self.path}/maxlabel/{OWN * (JOBS + 1)}").status == 200
            self.jobs = [Job.create(number, (1, self.uuid)) for number in range(JOBS)]
        self.known: set[int] = set()
        """Mutation ids of this version whose records are accounted for."""

    def opened(self) -> Database:
        return Database.open({"default": open_engine(ENGINE, str(self.folder))}, options=OPTIONS)

    @property
    def path(self) -> str:
        return f"/api/node/{self.uuid}/seg"

    def kill(self, seconds: float, after_a_step: bool) -> None:
        """Lets a process mutate, kills it, and checks what it leaves."""
        progress = [Progress() for _ in self.jobs]

        def receive(kind: str, number: int, told: Any) -> bool:
            assert kind in ("begin", "done"), (kind, number, told)
            if kind == "begin":
                progress[number].waiting = told
                self.jobs[number].sent += 1
                return False
            request = progress[number].waiting
            assert request is not None
            progress[number].done.append((request, told))
            progress[number].waiting = None
            self.steps += 1
            self.kinds.add(request.kind)
            return True

        kill_after(victim, (self.folder, ENGINE, self.path, self.jobs), receive, seconds, after_a_step)
        with self.opened() as database:
            outcome = check(database, print, strict=True)
            assert outcome.serious == 0
            client = Client(database)
            self.take(client, progress)
            self.compare(client)

    def take(self, client: Client, progress: list[Progress]) -> None:
        """Finds what was done of what was sent and does it to the models."""
        records: list[Record] = orjson.loads(client.get(f"{self.path}/mutations").body)
        told = {record["MutationID"]: record for record in records}
        assert len(told) == len(records)
        acknowledged = {mutation for p in progress for _, mutation in p.done if mutation is not None}
        assert acknowledged <= {*told}, "an acknowledged mutation is not in the log"
        for job, of_job in zip(self.jobs, progress, strict=True):
            for request, mutation in of_job.done:
                self._apply(job, request, mutation, records)
        for job, of_job in zip(self.jobs, progress, strict=True):
            waiting = of_job.waiting
            if waiting is None:
                continue
            if waiting.kind == "blocks":
                if self._was_written(client, job, waiting):
                    waiting.apply(job.version, None)
            elif find_record(records, waiting, None, frozenset(self.known | acknowledged)):
                self._apply(job, waiting, None, records)
        assert self.known == {*told}, "the log tells of what nobody did"

    def _apply(self, job: Job, request: Request, mutation: int | None, records: list[Record]) -> None:
        record = None
        if request.kind != "blocks":
            record = find_record(records, request, mutation, frozenset(self.known))
            assert record is not None, "an acknowledged mutation is not in the log"
            self.known.add(record["MutationID"])
            if request.kind == "renumber":  # a mutation for each pair
                mine = [r for r in records if request.is_told_by(r)]
                assert len(mine) == len(request.details["pairs"])
                self.known |= {r["MutationID"] for r in mine}
        request.apply(job.version, record)

    def _was_written(self, client: Client, job: Job, request: Request) -> bool:
        """Whether voxels are there that nobody was told of; they are all there or none is."""
        stored = self.volume(client, job, 0)
        frame = job.version.frame
        is_new = [(stored[frame.part(0, at)] == v).all() for at, v in request.details["blocks"].items()]
        is_old = [
            (stored[frame.part(0, at)] == job.version.levels[0][frame.part(0, at)]).all()
            for at in request.details["blocks"]
        ]
        assert all(is_new) or all(is_old), "a part of a write"
        return all(is_new) and not all(is_old)

    def volume(self, client: Client, job: Job, scale: int) -> Volume:
        shape = job.version.levels[scale].shape
        size = "_".join(str(n) for n in reversed(shape))
        offset = "_".join(str((low >> scale) * SIDE) for low in reversed(job.version.frame.low))
        answer = client.get(f"{self.path}/raw/0_1_2/{size}/{offset}?supervoxels=true&scale={scale}")
        return np.frombuffer(answer.body, "<u8").reshape(shape)

    def compare(self, client: Client) -> None:
        """All that the store holds with the models of all jobs."""
        index: dict[int, Index] = {}
        mapping: dict[int, int] = {}
        for job in self.jobs:
            for scale, level in enumerate(job.version.levels):
                assert (self.volume(client, job, scale) == level).all(), f"job {job.number}, scale {scale}"
            index |= job.version.index()
            mapping |= job.version.mapping
        bodies = orjson.loads(client.get(f"{self.path}/existing-labels").body)
        assert bodies == sorted(index)
        messages = labels.decode_indices(client("GET", f"{self.path}/indices", bodies).body)
        for body, message in zip(bodies, messages, strict=True):
            _, coords, supervoxels, counts, *_ = labels.decode_index(message)
            found: Index = {}
            for at, supervoxel, n in zip(coords.tolist(), supervoxels.tolist(), counts.tolist(), strict=True):
                found.setdefault(tuple(at), {})[supervoxel] = n
            assert found == index[body], f"index of {body}"
        lines = client.get(f"{self.path}/mappings").text.splitlines()
        listed = {int(s): int(b) for s, b in map(str.split, lines)}
        assert listed == {s: b for s, b in mapping.items() if s != b}

    def next_version(self) -> None:
        """Goes on in a child version."""
        with self.opened() as database:
            client = Client(database)
            client.commit(self.uuid)
            self.uuid = client.child(self.uuid)
        for job in self.jobs:
            job.version = job.version.child(job.version.id + 1, self.uuid)
        self.known = set()


@pytest.mark.parametrize("kills", [100, pytest.param(500, marks=pytest.mark.slow)])
def test_a_process_is_killed_while_bodies_change(tmp_path: Path, kills: int) -> None:
    store, rng = Store(tmp_path / "data"), random.Random(kills)
    for k in range(kills):
        if k % 25 == 24:
            store.next_version()
        store.kill(rng.uniform(0, 0.2), after_a_step=k % 2 == 0)
    assert store.steps >= kills // 2
    assert store.kinds == {"blocks", "merge", "cleave", "renumber", "split-supervoxel", "split"}
