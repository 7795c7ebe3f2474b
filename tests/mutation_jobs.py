"""Mutations that several threads send to a labelmap that is killed, each to a region and bodies of its own.

Other threads may change what follows it (``follower_jobs``).

A job's requests are random, and go one after the other. What was answered, or is found in the log, is done; the model
of the region says what follows.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import orjson

from apiclient import Client
from dvidcore import labels
from dvidcore.geometry import ZYX
from dvidcore.repos import Database, DatabaseOptions, OneStore
from dvidcore.storage import open_engine
from label_model import SIDE, Block, Frame, Mask, Version
from split_model import sparse
from test_labelmap_writes import Volume, stream

JOBS = 4
OWN = 1 << 20
"""Labels that a job may choose by itself, from ``OWN * (job + 1)`` on; those that the server gives are larger."""
OPTIONS = DatabaseOptions(allow_labelmap_split=True)
FRAMES = [Frame((-4, 4 * (number // 2), 4 * (number % 2)), (2, 2, 2)) for number in range(JOBS)]
"""The region of each job."""
Record = dict[str, Any]


class Apart(OneStore):
    """Annotations in a store of their own."""

    def store_for(self, typename: str, tags: Mapping[str, str], name_uuid: str, data_uuid: str) -> str:
        return "apart" if typename == "annotation" else self.metadata


@dataclass(frozen=True)
class Place:
    """Where a database is; ``apart``: with ``Apart``."""

    folder: Path
    engine: str
    apart: bool = False

    def opened(self) -> Database:
        names = ("default", "apart") if self.apart else ("default",)
        stores = {name: open_engine(self.engine, str(self.folder / name)) for name in names}
        return Database.open(stores, Apart() if self.apart else OneStore(), options=OPTIONS)


@dataclass
class Request:
    """What is sent. ``details`` is what the model needs beside the log record."""

    kind: str
    path: str
    body: bytes
    details: dict[str, Any]
    instance: str = "seg"
    verb: str = "POST"

    def is_told_by(self, record: Record) -> bool:
        """Whether a log record may be of this request."""
        told, action = self.details, record["Action"]
        if action != f"{self.kind}-complete":
            return False
        if action == "merge-complete":
            return record["Target"] == told["target"] and set(record["Labels"]) == set(told["merged"])
        if action == "cleave-complete":
            listed = set(record["CleavedSupervoxels"])
            return record["OrigLabel"] == told["body"] and listed == set(told["supervoxels"])
        if action == "renumber-complete":
            return (record["NewLabel"], record["OrigLabel"]) in told["pairs"]
        named: bool = record["Supervoxel" if action == "split-supervoxel-complete" else "Target"] == told["label"]
        return named

    def apply(self, version: Version, record: Record | None) -> None:
        """Does to the model what the request did; ``record`` is that of the log, None for voxels."""
        told = self.details
        if record is None:
            version.write(told["blocks"], downres=True)
            version.grow(told["blocks"])
            return
        if self.kind == "merge":
            members = version.members()
            version.map((s, told["target"]) for body in told["merged"] for s in members[body])
        elif self.kind == "cleave":
            made = record["CleavedLabel"]
            version.map([*((s, made) for s in told["supervoxels"]), (made, 0)])
        elif self.kind == "renumber":
            for new, old in told["pairs"]:
                members = version.members()
                entries = [] if new in version.mapping else [(new, 0)]
                version.map([*entries, *((s, new) for s in members[old])])
        elif self.kind == "split-supervoxel":
            ids = {told["label"]: (record["SplitSupervoxel"], record["RemainSupervoxel"])}
            body = version.body(told["label"])
            self._relabel(version, ids, body, body)
        else:
            ids = {int(old): (new["Split"], new["Remain"]) for old, new in record["SVSplits"].items()}
            self._relabel(version, ids, record["NewLabel"], told["label"])

    def _relabel(self, version: Version, ids: dict[int, tuple[int, int]], inside: int, outside: int) -> None:
        mask: Mask = self.details["mask"]
        old = version.levels[0]
        new = old.copy()
        for label, (split, remain) in ids.items():
            new[(old == label) & mask] = split
            new[(old == label) & ~mask] = remain
        touched = [at for at, counts in version.counts.items() if not counts.keys().isdisjoint(ids)]
        version.write({at: new[version.frame.part(0, at)].copy() for at in touched}, downres=True)
        for label, (split, remain) in ids.items():
            version.map([(split, inside), (remain, outside), (label, 0)])


class Work(Protocol):
    """What a thread does."""

    number: int
    sent: int
    """How many requests were sent: it chooses the random numbers of the next."""

    def next_request(self) -> Request: ...

    def learn(self, client: Client, node: str, request: Request, mutation: int | None) -> None:
        """Takes over what an acknowledged request did, whose mutation id may have been answered."""


@dataclass
class Job:
    """One thread's requests, and the model of its region as far as it is known."""

    number: int
    version: Version
    sent: int = 0
    """How many requests were sent: it chooses the random numbers and labels of the next."""

    @classmethod
    def create(cls, number: int, root: tuple[int, str]) -> Job:
        return cls(number, Version.root(*root, FRAMES[number]))

    def learn(self, client: Client, node: str, request: Request, mutation: int | None) -> None:
        """Takes over what an acknowledged request did."""
        record = None
        if request.kind != "blocks":
            records = orjson.loads(client.get(f"{node}/seg/mutations").body)
            record = find_record(records, request, mutation, frozenset())
        request.apply(self.version, record)

    def own(self, place: int) -> int:
        """A label that only this job, and only its present request, uses."""
        return OWN * (self.number + 1) + 16 * self.sent + place

    def next_request(self) -> Request:
        """A random request that must succeed."""
        self.sent += 1
        rng = np.random.default_rng([self.number, self.sent])
        members = self.version.members()
        kinds = ["blocks", "split-supervoxel", "split", "renumber"] if members else ["blocks"]
        kinds += ["merge"] * 3 if len(members) > 1 else []
        divisible = sorted(body for body, of_body in members.items() if len(of_body) > 1)
        kinds += ["cleave"] * 3 if divisible else []
        kind = str(rng.choice(kinds))
        if kind == "merge":
            target, *merged = rng.permutation(sorted(members))[: rng.integers(2, 5)].tolist()
            return self._listed("merge", "merge", [target, *merged], {"target": target, "merged": merged})
        if kind == "cleave":
            body = int(rng.choice(divisible))
            within = sorted(members[body])
            chosen = rng.permutation(within)[: rng.integers(1, len(within))].tolist()
            return self._listed("cleave", f"cleave/{body}", chosen, {"body": body, "supervoxels": chosen})
        if kind == "renumber":
            old = rng.permutation(sorted(members))[: rng.integers(1, 4)].tolist()
            pairs = [(self.own(place), body) for place, body in enumerate(old)]
            return self._listed("renumber", "renumber", [n for pair in pairs for n in pair], {"pairs": pairs})
        if kind == "split-supervoxel" and (
            request := self._split(rng, kind, {s: {s} for m in members.values() for s in m})
        ):
            return request
        if kind == "split" and (request := self._split(rng, kind, {body: set(m) for body, m in members.items()})):
            return request
        return self._blocks(rng)

    def _listed(self, kind: str, path: str, listed: list[int], details: dict[str, Any]) -> Request:
        return Request(kind, path, orjson.dumps(listed), details)

    def _split(self, rng: np.random.Generator, kind: str, wholes: dict[int, set[int]]) -> Request | None:
        label = int(rng.choice(sorted(wholes)))
        whole = np.isin(self.version.levels[0], sorted(wholes[label]))
        at = np.argwhere(whole)
        if len(at) < 2:
            return None
        height = at @ rng.normal(size=3)
        mask = np.zeros_like(whole)
        mask[tuple(at[height < np.sort(height)[rng.integers(1, len(at))]].T)] = True
        origin = [low * SIDE for low in self.version.frame.low]
        return Request(kind, f"{kind}/{label}", sparse(labels.from_mask(mask, origin)), {"label": label, "mask": mask})

    def _blocks(self, rng: np.random.Generator) -> Request:
        frame, version = self.version.frame, self.version
        there = sorted({s for counts in version.counts.values() for s in counts})
        pool = [*rng.permutation(there)[:3].tolist(), *(self.own(place) for place in range(4))]
        every = frame.blocks()
        chosen = [every[k] for k in rng.permutation(len(every))[: rng.integers(1, 5)]]
        blocks: dict[Block, Volume] = {}
        for at in chosen:
            coarse = rng.choice(np.array([0, *pool], np.uint64), (4, 4, 4))
            blocks[at] = coarse.repeat(4, 0).repeat(4, 1).repeat(4, 2)
        body = stream({ZYX(*at): volume for at, volume in blocks.items()})
        return Request("blocks", "blocks?downres=true", body, {"blocks": blocks})


@dataclass
class Progress:
    """What is known of a job's requests since a process began."""

    done: list[tuple[Request, int | None]] = field(default_factory=list)
    """Acknowledged, with the mutation id that was answered."""
    waiting: Request | None = None
    """Sent, and not acknowledged."""


def victim(place: Place, node: str, jobs: Sequence[Work], pipe: Connection) -> None:
    """Does all jobs in threads of this process, over the application without a server, and reports through the pipe."""
    talk = threading.Lock()

    def report(*message: Any) -> None:
        with talk:
            pipe.send(message)

    def run(job: Work) -> None:
        try:
            while True:
                request = job.next_request()
                report("begin", job.number, request)
                answer = client(request.verb, f"{node}/{request.instance}/{request.path}", request.body)
                assert answer.status == 200, (request.kind, request.path, answer.text)
                told = orjson.loads(answer.body) if answer.body else {}
                report("done", job.number, told.get("MutationID"))
                job.learn(client, node, request, told.get("MutationID"))
        except Exception as e:
            report("failed", job.number, repr(e))

    with place.opened() as database:
        client = Client(database)
        report("ready", -1, None)
        threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def find_record(records: list[Record], request: Request, mutation: int | None, others: frozenset[int]) -> Record | None:
    """The last record that tells of a request, and has its mutation id where that is known; none of ``others``."""
    for record in reversed(records):
        number = record["MutationID"]
        if mutation in (None, number) and number not in others and request.is_told_by(record):
            return record
    return None
