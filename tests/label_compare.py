"""What a labelmap answers beside what the model says, for every version."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from apiclient import Client
from dvidcore import labels
from dvidcore.checking import check
from dvidcore.repos import Database
from label_model import FRAME, SCALES, SIDE, Model, Version
from test_labelmap_writes import Index

FRESH = 40
"""Of the labels behind the largest one that voxels may get."""
CONFIG = {"BlockSize": f"{SIDE},{SIDE},{SIDE}", "MaxDownresLevel": str(SCALES)}


class Compared:
    """A repo with one labelmap and its model."""

    def __init__(self, database: Database, seed: int, *, stale: bool) -> None:
        """``seed`` of what is picked out. ``stale``: the coarser scales need not be the vote of the finer ones."""
        self.database = database
        self.client = Client(database)
        self.rng = np.random.default_rng(seed)
        self.stale = stale
        self.root = self.client.repo()
        self.client.instance(self.root, "seg", "labelmap", **CONFIG)
        self.model = Model(self._id(self.root), self.root)

    # -- requests ------------------------------------------------------------------------------------------------------

    def _id(self, uuid: str) -> int:
        return next(n.id for r in self.database.repos.values() for n in r.dag.nodes.values() if n.uuid == uuid)

    def ask(self, version: Version, verb: str, path: str, body: Any = None) -> Any:
        return self.client(verb, f"/api/node/{version.uuid}/seg/{path}", body)

    def post(self, version: Version, path: str, body: Any = None) -> Any:
        answer = self.ask(version, "POST", path, body)
        assert answer.status == 200, (path, body if not isinstance(body, bytes) else len(body), answer.text)
        return answer

    def refused(self, version: Version, path: str, body: Any = None) -> None:
        answer = self.ask(version, "POST", path, body)
        assert answer.status == 400, (path, answer.status)

    def get(self, version: Version, path: str, body: Any = None) -> bytes:
        answer = self.ask(version, "GET", path, body)
        assert answer.status == 200, (path, answer.status, answer.text)
        data: bytes = answer.body
        return data

    def json(self, version: Version, path: str, body: Any = None) -> Any:
        return json.loads(self.get(version, path, body))

    # -- picks --------------------------------------------------------------------------------------------------------

    def pick(self, items: Any) -> Any:
        listed = sorted(items)
        return listed[self.rng.integers(len(listed))]

    def some(self, items: Any, most: int) -> list[Any]:
        listed = sorted(items)
        return [listed[k] for k in self.rng.permutation(len(listed))[: self.rng.integers(1, most + 1)]]

    def pick_version(self) -> Version:
        versions = list(self.model.versions.values())
        return versions[self.rng.integers(len(versions))]

    def unused(self) -> int:
        """A label that nothing has, perhaps far away."""
        reach = FRESH
        while (label := self.model.maximum + int(self.rng.integers(1, reach))) in self.model.existing:
            reach += 1  # labels may have been given out beyond the maximum, all that are near
        return label

    # -- comparison ----------------------------------------------------------------------------------------------------

    def compare_all(self) -> None:
        for version in self.model.versions.values():
            self.compare(version)
        outcome = check(self.database, print, strict=not self.stale)
        assert outcome.serious == 0

    def compare(self, version: Version) -> None:
        """Everything that can be read of a version."""
        for scale, level in enumerate(version.levels):
            size = "_".join(str(n) for n in reversed(level.shape))
            offset = "_".join(str((low >> scale) * SIDE) for low in reversed(FRAME.low))
            for supervoxels in ("true", "false"):
                query = f"raw/0_1_2/{size}/{offset}?scale={scale}&supervoxels={supervoxels}"
                stored = np.frombuffer(self.get(version, query), "<u8").reshape(level.shape)
                expected = level if supervoxels == "true" else version.bodies_of(level)
                assert (stored == expected).all(), f"scale {scale}, supervoxels={supervoxels}"
        self.compare_bodies(version)
        entries = self.get(version, "mappings").decode().splitlines()
        listed = {int(s): int(b) for s, b in map(str.split, entries)}
        assert listed == {s: b for s, b in version.mapping.items() if s != b}
        there = {s for counts in version.counts.values() for s in counts}
        asked = sorted({*version.mapping, *there, self.unused(), 0})
        own = version.members()
        expected_bodies = [
            version.mapping[s] if s in version.mapping else s if s in own.get(s, {}) else 0 for s in asked
        ]
        assert self.json(version, "mapping", asked) == expected_bodies
        self.compare_wholes(version)

    def compare_bodies(self, version: Version) -> None:
        index, members = version.index(), version.members()
        bodies = sorted(index)
        assert self.json(version, "existing-labels") == bodies
        messages = labels.decode_indices(self.get(version, "indices", bodies))
        for body, message in zip(bodies, messages, strict=True):
            assert _index_of(message, body) == index[body], f"index of {body}"
        sizes = [sum(members[body].values()) for body in bodies]
        assert self.json(version, "sizes", bodies) == sizes
        pairs = np.frombuffer(self.get(version, "listlabels?sizes=true"), "<u8").reshape(-1, 2).tolist()
        assert pairs == [list(pair) for pair in zip(bodies, sizes, strict=True)]
        supervoxels = sorted((s, n) for of_body in members.values() for s, n in of_body.items())
        asked = [s for s, _ in supervoxels]
        assert self.json(version, "sizes?supervoxels=true", asked) == [n for _, n in supervoxels]
        for body in self.some(bodies, 3) if bodies else ():
            self.compare_body(version, body, index[body], members[body])

    def compare_body(self, version: Version, body: int, index: Index, members: dict[int, int]) -> None:
        listed = self.json(version, f"supervoxel-sizes/{body}")
        assert dict(zip(listed["supervoxels"], listed["sizes"], strict=True)) == members
        assert self.json(version, f"sparsevol-size/{body}")["numblocks"] == len(index)
        wanted = [(str(body), np.isin(version.levels[0], sorted(members)))]
        supervoxel = self.pick(members)
        wanted.append((f"{supervoxel}?supervoxels=true", version.levels[0] == supervoxel))
        for name, mask in wanted:
            runs = np.frombuffer(self.get(version, f"sparsevol/{name}"), "<i4", offset=12).reshape(-1, 4)
            origin = [low * SIDE for low in FRAME.low]
            assert (labels.to_mask(runs, origin, mask.shape).astype(bool) == mask).all(), f"sparsevol {name}"
        scale = int(self.rng.integers(1, SCALES + 1))
        mask = version.bodies_of(version.levels[scale]) == body
        runs = np.frombuffer(self.get(version, f"sparsevol/{body}?scale={scale}"), "<i4", offset=12).reshape(-1, 4)
        if not self.stale:  # else voxels of a body may stand where its index has no block
            origin = [low * SIDE >> scale for low in FRAME.low]
            assert (labels.to_mask(runs, origin, mask.shape).astype(bool) == mask).all(), f"sparsevol at {scale}"

    def compare_wholes(self, version: Version) -> None:
        """Counters, extents, splits, the log."""
        answer = self.ask(version, "GET", "maxlabel")
        assert (answer.json()["maxlabel"] if answer.status == 200 else 0) == version.largest
        assert self.json(version, "nextlabel") == {"nextlabel": self.model.following()}
        extended = self.json(version, "info")["Extended"]
        for name, corner in (("MinPoint", version.low), ("MaxPoint", version.high)):
            assert extended[name] == (None if corner is None else corner[::-1])
        split = self.json(version, "supervoxel-splits")
        told = {uuid: [tuple(s[1:]) for s in splits] for uuid, splits in zip(split[::2], split[1::2], strict=True)}
        line = [version, *(self.model.versions[a] for a in version.ancestors)]
        assert told == {v.uuid: v.splits for v in line if v.splits}
        actions = [record["Action"].removesuffix("-complete") for record in self.json(version, "mutations")]
        assert actions == version.actions


def _index_of(message: Any, body: int) -> Index:
    label, coords, supervoxels, counts, *_ = labels.decode_index(message)
    assert label == body
    out: Index = {}
    for at, supervoxel, n in zip(coords.tolist(), supervoxels.tolist(), counts.tolist(), strict=True):
        out.setdefault(tuple(at), {})[supervoxel] = n
    return out
