"""Splits of a labelmap over the HTTP API beside a numpy model: every scale, every block's bytes, every index row."""

from __future__ import annotations

import gzip
import json
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apiclient import Client
from dvidcore import blocks, labels
from dvidcore.repos import Database
from labelmap_client import ZYX, Volume, records, xyz
from test_labelmap_writes import downsample

BLOCK: ZYX = (16, 16, 32)
SCALES = 2
Mask = NDArray[np.bool_]


def sparse(runs: Any, header: bytes = b"\0\3\0\0\0\0\0\0") -> bytes:
    """A binary sparse volume of runs x, y, z, length."""
    rows = np.asarray(runs, np.int32).reshape(-1, 4)
    return header + struct.pack("<I", len(rows)) + rows.tobytes()


def chopped(mask: Mask, origin: ZYX, rng: np.random.Generator) -> NDArray[np.int32]:
    """The voxels of a mask as runs that are cut anywhere, in random order."""
    out = []
    for x, y, z, n in labels.from_mask(mask, origin).tolist():
        while n:
            length = n if rng.random() < 0.7 else int(rng.integers(1, n + 1))
            out.append((x, y, z, length))
            x, n = x + length, n - length
    return rng.permutation(np.array(out, np.int32).reshape(-1, 4))


class SplitSeg:
    """A labelmap at one version. The model: voxels of each scale of a box at ``origin``, and the mapping's entries."""

    def __init__(self, client: Client, node: str, volume: Volume, origin: ZYX) -> None:
        self.client, self.node, self.origin = client, node, origin
        self.levels = [volume.copy()]
        for _ in range(SCALES):
            self.levels.append(downsample(self.levels[-1]))
        self.body_of: dict[int, int] = {}
        self.next = int(volume.max()) + 1

    @classmethod
    def create(cls, database: Database, volume: Volume, origin: ZYX = (0, 0, 0), **settings: str) -> SplitSeg:
        """``volume`` is of whole blocks, two or more a side, and the origin a multiple of a block of the coarsest scale."""
        client = Client(database)
        node = client.repo()
        size = ",".join(map(str, reversed(BLOCK)))
        client.instance(node, "seg", "labelmap", BlockSize=size, MaxDownresLevel=str(SCALES), **settings)
        made = cls(client, node, volume, origin)
        made.post(f"raw/0_1_2/{xyz(volume.shape)}/{xyz(origin)}", volume.tobytes())
        return made

    def at(self, node: str) -> SplitSeg:
        """The same instance at another version, the model as it is now."""
        other = SplitSeg(self.client, node, self.levels[0], self.origin)
        other.levels = [level.copy() for level in self.levels]
        other.body_of, other.next = dict(self.body_of), self.next
        return other

    # -- requests ------------------------------------------------------------------------------------------------------

    def ask(self, path: str, body: Any = None, verb: str = "GET") -> Any:
        return self.client(verb, f"/api/node/{self.node}/seg/{path}", body)

    def get(self, path: str, body: Any = None) -> bytes:
        answer = self.ask(path, body)
        assert answer.status == 200, (path, answer.status, answer.text)
        data: bytes = answer.body
        return data

    def json(self, path: str, body: Any = None) -> Any:
        return json.loads(self.get(path, body))

    def post(self, path: str, body: Any = None) -> Any:
        answer = self.ask(path, body, "POST")
        assert answer.status == 200, (path, answer.status, answer.text)
        return answer

    def refused(self, path: str, body: bytes, status: int = 400) -> str:
        """A request that must be refused and leave everything as it was; answers what it was told."""
        before = self.state()
        answer = self.ask(path, body, "POST")
        assert answer.status == status, (path, answer.status, answer.text)
        assert self.state() == before
        text: str = answer.text
        return text

    def merge(self, target: int, *merged: int) -> None:
        self.post("merge", [target, *merged])
        for supervoxel in np.unique(self.levels[0]).tolist():
            if supervoxel and self.body(supervoxel) in merged:
                self.body_of[supervoxel] = target

    def split(
        self, supervoxel: int, mask: Mask, query: str = "", runs: NDArray[np.int32] | None = None
    ) -> tuple[int, int]:
        """Splits, checks the answer and changes the model. ``mask`` is over the box; ``runs`` are sent for it."""
        given = labels.from_mask(mask, self.origin) if runs is None else runs
        answer = self.post(f"split-supervoxel/{supervoxel}?{query}", sparse(given)).json()
        assert sorted(answer) == ["MutationID", "RemainSupervoxel", "SplitSupervoxel"]
        split, remain = answer["SplitSupervoxel"], answer["RemainSupervoxel"]
        wanted = dict(pair.split("=") for pair in query.split("&") if pair)
        for name, label in (("split", split), ("remain", remain)):
            assert label == int(wanted.get(name, self.next))
            self.next = max(self.next, label + 1)
        self.apply({supervoxel: (split, remain)}, mask, downres=wanted.get("downres") != "false")
        body = self.body(supervoxel)
        self.body_of |= {split: body, remain: body, supervoxel: 0}
        return split, remain

    # -- the model -----------------------------------------------------------------------------------------------------

    def body(self, supervoxel: int) -> int:
        return self.body_of.get(supervoxel, supervoxel)

    def apply(self, change: dict[int, tuple[int, int]], mask: Mask, *, downres: bool) -> None:
        """Changes voxels, and votes the octants under each block of scale 0 that changed, scale by scale."""
        old = self.levels[0].copy()
        for supervoxel, (inside, outside) in change.items():
            self.levels[0][(old == supervoxel) & mask] = inside
            self.levels[0][(old == supervoxel) & ~mask] = outside
        changed = {tuple(b // n for b, n in zip(at, BLOCK, strict=True)) for at in np.argwhere(self.levels[0] != old)}
        for scale in range(1, SCALES + 1 if downres else 1):
            voted = downsample(self.levels[scale - 1])
            for at in changed:
                octant = tuple(slice(a * n // 2, (a + 1) * n // 2) for a, n in zip(at, BLOCK, strict=True))
                self.levels[scale][octant] = voted[octant]
            changed = {tuple(a >> 1 for a in at) for at in changed}

    def index(self) -> dict[int, dict[ZYX, dict[int, int]]]:
        """Body → block → supervoxel → voxels."""
        out: dict[int, dict[ZYX, dict[int, int]]] = {}
        volume = self.levels[0]
        for at in np.ndindex(*(s // b for s, b in zip(volume.shape, BLOCK, strict=True))):
            part = volume[tuple(slice(a * b, (a + 1) * b) for a, b in zip(at, BLOCK, strict=True))]
            block = tuple(a + o // b for a, o, b in zip(at, self.origin, BLOCK, strict=True))
            for supervoxel, count in zip(*(c.tolist() for c in np.unique(part, return_counts=True)), strict=True):
                if supervoxel:
                    out.setdefault(self.body(supervoxel), {}).setdefault(block, {})[supervoxel] = count
        return out

    # -- comparison ----------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Everything that can be read is as the model says."""
        for scale, level in enumerate(self.levels):
            self.check_scale(scale, level)
        wanted = self.index()
        assert self.json("existing-labels") == sorted(wanted)
        for body, rows in wanted.items():
            self.check_body(body, rows)
        entries = {int(a): int(b) for a, b in map(str.split, self.get("mappings").decode().splitlines())}
        assert entries == {s: b for s, b in self.body_of.items() if s != b}
        assert self.json("nextlabel") == {"nextlabel": self.next}

    def check_scale(self, scale: int, level: Volume) -> None:
        size, offset = xyz(level.shape), xyz(tuple(o >> scale for o in self.origin))
        answer = self.get(f"raw/0_1_2/{size}/{offset}?supervoxels=true&scale={scale}")
        np.testing.assert_array_equal(np.frombuffer(answer, "<u8").reshape(level.shape), level)
        if any(n % b for n, b in zip(level.shape, BLOCK, strict=True)):
            return
        for at, packed in records(
            self.get(f"blocks/{size}/{offset}?compression=blocks&supervoxels=true&scale={scale}")
        ):
            low = [a * b - (o >> scale) for a, b, o in zip(at, BLOCK, self.origin, strict=True)]
            part = level[tuple(slice(a, a + b) for a, b in zip(low, BLOCK, strict=True))]
            assert gzip.decompress(packed) == blocks.encode(np.ascontiguousarray(part)), "not as voxels are coded"

    def check_body(self, body: int, rows: dict[ZYX, dict[int, int]]) -> None:
        label, coords, supervoxels, counts, *_ = labels.decode_index(self.get(f"index/{body}"))
        found: dict[ZYX, dict[int, int]] = {}
        for at, supervoxel, count in zip(coords.tolist(), supervoxels.tolist(), counts.tolist(), strict=True):
            found.setdefault(tuple(at), {})[supervoxel] = count
        assert (label, found) == (body, rows)
        voxels = sum(sum(row.values()) for row in rows.values())
        assert self.json(f"size/{body}") == {"voxels": voxels}
        assert self.json(f"index/{body}?metadata-only=true")["num_voxels"] == voxels
        assert self.json(f"sparsevol-size/{body}")["numblocks"] == len(rows)

    def state(self) -> tuple[Any, ...]:
        """What a refused request must not change."""
        bodies = self.json("existing-labels")
        volumes = []
        for scale, level in enumerate(self.levels):
            offset = xyz(tuple(o >> scale for o in self.origin))
            volumes.append(self.get(f"raw/0_1_2/{xyz(level.shape)}/{offset}?supervoxels=true&scale={scale}"))
        return bodies, self.get("indices", bodies), self.get("mappings"), self.get("nextlabel"), volumes
