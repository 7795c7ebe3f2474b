"""kill -9 while bodies are merged, cleaved, renumbered and split, and voxels written: nothing is lost, nothing is half.

So it is with what follows the labelmap, and is changed meanwhile: the elements of an annotation, their counts, the files
of supervoxels. After each kill the store is checked as ``dvidcore check`` does; what was answered must be there, and what
was under way wholly or not at all: voxels of all scales, index, mapping and log, elements, tags, bodies, counts, files.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from annotation_model import XYZ
from apiclient import Client
from dvidcore import labels
from dvidcore.checking import check
from dvidcore.datatypes.following import INTENT
from dvidcore.repos import Database
from dvidcore.storage.keys import kind_range
from follower_jobs import Elements, Files, Follower, compare_elements, compare_files
from label_model import SIDE
from mutation_jobs import JOBS, OWN, Job, Place, Progress, Record, Request, find_record, victim
from test_labelmap_writes import Index, Volume
from victims import kill_after

ENGINE = "leveldb"
CONFIG = {"BlockSize": f"{SIDE},{SIDE},{SIDE}", "MaxDownresLevel": "2"}


class Store:
    """A store with a labelmap that is mutated and killed, again and again, at one version after the other.

    An annotation follows it, a labelsz that, and a tarsupervoxels has files of its supervoxels. ``apart``: the annotation
    is in a store of its own.
    """

    def __init__(self, folder: Path, apart: bool) -> None:
        self.place = Place(folder, ENGINE, apart)
        self.steps = 0
        self.kinds: set[str] = set()
        self.intents = 0
        """Changes that a kill left to be followed."""
        with self.place.opened() as database:
            client = Client(database)
            self.uuid = client.repo()
            client.instance(self.uuid, "seg", "labelmap", **CONFIG)
            client.instance(self.uuid, "ann", "annotation", sync="seg")
            client.instance(self.uuid, "sizes", "labelsz", sync="ann")
            client.instance(self.uuid, "meshes", "tarsupervoxels", sync="seg", Extension="drc")
            assert client.admin("POST", f"{self.path}/maxlabel/{OWN * (JOBS + 1)}").status == 200
            self.jobs = [Job.create(number, (1, self.uuid)) for number in range(JOBS)]
        self.elements = [Elements(JOBS), Elements(JOBS + 1)]
        self.files = Files(JOBS + 2)
        self.known: set[int] = set()
        """Mutation ids of this version whose records are accounted for."""

    @property
    def followers(self) -> list[Follower]:
        return [*self.elements, self.files]

    @property
    def node(self) -> str:
        return f"/api/node/{self.uuid}"

    @property
    def path(self) -> str:
        return f"{self.node}/seg"

    def kill(self, seconds: float, after_a_step: bool) -> None:
        """Lets a process mutate, kills it, and checks what it leaves."""
        works: list[Job | Follower] = [*self.jobs, *self.followers]
        progress = [Progress() for _ in works]
        self.files.pool = sorted({s for of_body in self.members().values() for s in of_body}) or [1]

        def receive(kind: str, number: int, told: Any) -> bool:
            assert kind in ("begin", "done"), (kind, number, told)
            if kind == "begin":
                progress[number].waiting = told
                works[number].sent += 1
                return False
            request = progress[number].waiting
            assert request is not None
            progress[number].done.append((request, told))
            progress[number].waiting = None
            self.steps += 1
            self.kinds.add(request.kind)
            return True

        kill_after(victim, (self.place, self.node, works), receive, seconds, after_a_step)
        with self.place.opened() as database:
            self.intents += intents(database)
            outcome = check(database, print, strict=True)
            assert outcome.serious == 0
            assert intents(database) == 0
            client = Client(database)
            self.take(client, progress[:JOBS])
            self.compare(client)
            for follower, of_job in zip(self.followers, progress[JOBS:], strict=True):
                follower.settle(client, self.node, [request for request, _ in of_job.done], of_job.waiting)
            compare_elements(client, self.node, self.elements, self.body)
            compare_files(client, self.node, self.files, self.members())

    def members(self) -> dict[int, dict[int, int]]:
        """The supervoxels of each body, and their voxels."""
        return {body: of_body for job in self.jobs for body, of_body in job.version.members().items()}

    def body(self, pos: XYZ) -> int:
        """The body at a position."""
        for job in self.jobs:
            at = tuple(p - low * SIDE for p, low in zip(reversed(pos), job.version.frame.low, strict=True))
            level = job.version.levels[0]
            if all(0 <= a < n for a, n in zip(at, level.shape, strict=True)):
                return job.version.body(int(level[at]))
        return 0

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
        with self.place.opened() as database:
            client = Client(database)
            client.commit(self.uuid)
            self.uuid = client.child(self.uuid)
        for job in self.jobs:
            job.version = job.version.child(job.version.id + 1, self.uuid)
        self.known = set()


def intents(database: Database) -> int:
    """How many changes are still to be followed."""
    records = [record for repo in database.repos.values() for record in repo.instances.values()]
    rows = (database.engine_of(r).scan(*kind_range(r.id, INTENT), keys_only=True) for r in records)
    return sum(1 for of_source in rows for _ in of_source)


@pytest.mark.parametrize("kills", [100, pytest.param(500, marks=pytest.mark.slow)])
def test_a_process_is_killed_while_bodies_change(tmp_path: Path, kills: int) -> None:
    """So many times, and until every kind of request was done."""
    store, rng = Store(tmp_path, apart=False), random.Random(kills)
    labels_changed = {"blocks", "merge", "cleave", "renumber", "split-supervoxel", "split"}
    kinds = {*labels_changed, "elements", "move", "delete", "load", "file", "no-file"}
    k = 0
    while k < kills or store.kinds != kinds:
        assert k < 10 * kills, kinds - store.kinds
        if k % 25 == 24:
            store.next_version()
        store.kill(rng.uniform(0, 0.2), after_a_step=k % 2 == 0)
        k += 1
    assert store.steps >= kills // 2
    assert store.intents == 0


def test_a_process_is_killed_while_labels_are_followed_in_another_store(tmp_path: Path) -> None:
    """Fifteen times, and until a kill has left something to be followed."""
    store, rng = Store(tmp_path, apart=True), random.Random(1)
    k = 0
    while k < 15 or not store.intents:
        assert k < 300
        if k == 10:
            store.next_version()
        store.kill(rng.uniform(0, 0.2), after_a_step=k % 2 == 0)
        k += 1
