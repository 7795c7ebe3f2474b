"""Requests to what follows a labelmap that is killed: elements of an annotation, and files of supervoxels.

Each job has elements or files of its own, and its requests are logged under its name. So what was answered, or is found
in the log, is done.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import orjson

from annotation_model import (
    INDEX_TYPES,
    KINDS,
    RELATIONS,
    TAGS,
    XYZ,
    Element,
    bare,
    element,
    in_order,
    move,
    ranking,
    redirect,
    underscored,
)
from apiclient import Client
from dvidcore.mutations import log
from label_model import SIDE
from mutation_jobs import FRAMES, Request
from test_tarsupervoxels import packed, unpacked

MANY = 40
"""Files from which on no supervoxel gets its first one."""


@dataclass
class Follower(ABC):
    """One thread's requests, and all that it has stored."""

    instance: ClassVar[str]
    number: int
    sent: int = 0
    state: dict[Any, Any] = field(default_factory=dict)
    done: int = 0
    """Requests that were carried out, so records in the log."""

    @property
    def user(self) -> str:
        return f"job{self.number}"

    def request(self, kind: str, verb: str, path: str, body: bytes = b"", **details: Any) -> Request:
        return Request(kind, f"{path}?u={self.user}", body, details, self.instance, verb)

    def learn(self, client: Client, node: str, request: Request, mutation: int | None) -> None:
        """Takes over what an acknowledged request did."""
        self.apply(request)
        self.done += 1

    def next_request(self) -> Request:
        """A random request that must succeed."""
        self.sent += 1
        return self.some_request(np.random.default_rng([self.number, self.sent]))

    def settle(self, client: Client, node: str, acknowledged: list[Request], waiting: Request | None) -> None:
        """Takes over what was done in a process that was killed, and compares it with what is stored."""
        for request in acknowledged:
            self.learn(client, node, request, None)
        logged = self._logged(client)
        assert logged in (self.done, self.done + (waiting is not None)), f"{logged} records of {self.user}"
        if waiting is not None and logged > self.done:
            self.learn(client, node, waiting, None)
        assert self.stored(client, node) == self.state, self.user

    def _logged(self, client: Client) -> int:
        found = 0
        for repo in client.server.database.repos.values():
            record = repo.instances[self.instance]
            with client.server.database.engine_of(record).snapshot() as snapshot:
                for version in repo.dag.nodes:
                    records = map(orjson.loads, log.records(snapshot, record.id, version))
                    found += sum(told["User"] == self.user for told in records)
        return found

    @abstractmethod
    def some_request(self, rng: np.random.Generator) -> Request:
        """A request that must succeed."""

    @abstractmethod
    def apply(self, request: Request) -> None:
        """Does to the state what a request does."""

    @abstractmethod
    def stored(self, client: Client, node: str) -> dict[Any, Any]:
        """What the store has of the state."""


class Elements(Follower):
    """Posts, moves and deletes elements; ``state`` has them by position."""

    instance = "ann"

    def some_request(self, rng: np.random.Generator) -> Request:
        kind = str(rng.choice(["elements", "elements", "move", "delete"] if self.state else ["elements"]))
        if kind == "elements":
            given = [self._element(rng, pos) for pos in {self._place(rng): None for _ in range(rng.integers(1, 8))}]
            return self.request(kind, "POST", kind, orjson.dumps(given), elements=given)
        old, new = sorted(self.state)[rng.integers(len(self.state))], self._place(rng)
        if kind == "move" and new not in self.state:
            return self.request(kind, "POST", f"move/{underscored(old)}/{underscored(new)}", old=old, new=new)
        return self.request("delete", "DELETE", f"element/{underscored(old)}", old=old)

    def _place(self, rng: np.random.Generator) -> XYZ:
        """One of few positions in the regions of all label jobs, and of this job alone."""
        frame = FRAMES[rng.integers(len(FRAMES))]
        z, y, x = (
            low * SIDE + 8 * int(rng.integers(n * SIDE // 8)) for low, n in zip(frame.low, frame.shape, strict=True)
        )
        return x + self.number % 2, y, z

    def _element(self, rng: np.random.Generator, pos: XYZ) -> Element:
        tags = [tag for tag in TAGS if rng.random() < 0.3]
        rels = [(str(rng.choice(RELATIONS)), self._place(rng)) for _ in range(rng.integers(3))]
        return element(pos, str(rng.choice(KINDS)), tags, {"sent": str(self.sent)}, rels)

    def apply(self, request: Request) -> None:
        told = request.details
        if request.kind == "elements":
            self.state |= {tuple(one["Pos"]): one for one in told["elements"]}
        elif request.kind == "move":
            move(self.state, told["old"], told["new"], SIDE)
        else:
            redirect(self.state, self.state.pop(told["old"]), None, SIDE)

    def stored(self, client: Client, node: str) -> dict[XYZ, Element]:
        found = client.get(f"{node}/ann/all-elements").json()
        every = {tuple(one["Pos"]): one for part in found.values() for one in part}
        return {pos: one for pos, one in every.items() if pos[0] % 2 == self.number % 2}


def compare_elements(client: Client, node: str, jobs: list[Elements], body: Callable[[XYZ], int]) -> None:
    """What tags, bodies and counts tell of the elements of all jobs; ``body`` says on which body a position is."""
    elements: list[Element] = [one for job in jobs for one in job.state.values()]
    on: dict[int, list[Element]] = {}
    for one in elements:
        on.setdefault(body(tuple(one["Pos"])), []).append(one)
    on.pop(0, None)
    largest = sorted(on, key=lambda label: len(on[label]))[-10:]
    listed = [(f"label/{label}", on[label]) for label in largest]
    listed += [(f"tag/{tag}", [one for one in elements if tag in one["Tags"]]) for tag in TAGS]
    for path, right in listed:
        assert in_order(client.get(f"{node}/ann/{path}?relationships=true").json()) == in_order(right), path
        assert in_order(client.get(f"{node}/ann/{path}").json()) == in_order([bare(one) for one in right]), path
    for index_type in INDEX_TYPES:
        found = client.get(f"{node}/sizes/top/{1 << 20}/{index_type}").json()
        assert found == ranking(elements, body, index_type), index_type


@dataclass
class Files(Follower):
    """Posts, loads and deletes files; ``state`` has them by supervoxel."""

    instance = "meshes"
    pool: list[int] = field(default_factory=lambda: [1])
    """Supervoxels that may get files."""

    def some_request(self, rng: np.random.Generator) -> Request:
        pool = self.pool if len(self.state) < MANY else sorted(self.state)
        kind = str(rng.choice(["load", "load", "file", "no-file"] if self.state else ["load"]))
        if kind == "no-file":
            supervoxel = sorted(self.state)[rng.integers(len(self.state))]
            return self.request(kind, "DELETE", f"supervoxel/{supervoxel}", files={supervoxel: None})
        chosen = rng.permutation(np.array(pool, np.uint64))[: rng.integers(1, 8) if kind == "load" else 1].tolist()
        files = {supervoxel: rng.bytes(int(rng.integers(3000))) for supervoxel in chosen}
        if kind == "file":
            return self.request(kind, "POST", f"supervoxel/{chosen[0]}", files[chosen[0]], files=files)
        return self.request(kind, "POST", kind, packed({f"{s}.drc": data for s, data in files.items()}), files=files)

    def apply(self, request: Request) -> None:
        for supervoxel, data in request.details["files"].items():
            self.state.pop(supervoxel, None)
            if data is not None:
                self.state[supervoxel] = data

    def stored(self, client: Client, node: str) -> dict[int, bytes]:
        asked = sorted({*self.state, *self.pool})
        there = client("GET", f"{node}/meshes/exists", asked).json()
        found = [supervoxel for supervoxel, exists in zip(asked, there, strict=True) if exists]
        return {supervoxel: client.get(f"{node}/meshes/supervoxel/{supervoxel}").body for supervoxel in found}


def compare_files(client: Client, node: str, job: Files, members: dict[int, dict[int, int]]) -> None:
    """The tar files of some bodies; ``members`` are the supervoxels of all."""
    for body in sorted(members, key=lambda body: len(job.state.keys() & members[body].keys()))[-3:]:
        names = {f"{s}.drc" if s in job.state else f"{s}.missing": job.state.get(s, b"") for s in members[body]}
        assert unpacked(client.get(f"{node}/meshes/tarfile/{body}").body) == names, body
        missing = client.get(f"{node}/meshes/missing/{body}").json()
        assert missing == sorted(members[body].keys() - job.state.keys()), body
