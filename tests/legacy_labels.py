"""labelblk, labelvol and labelarray over the HTTP API, beside a numpy model of their voxels.

Volumes are uint64 (z, y, x); points and the runs of sparse volumes are x, y, z.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apiclient import Answer, Client
from dvidcore.checking import Finding, check
from dvidcore.repos import Database

Volume = NDArray[np.uint64]
Mask = NDArray[np.bool_]
ZYX = tuple[int, int, int]
Voxels = frozenset[ZYX]

SIDE = 16


def cells(seed: int, shape: ZYX, labels: list[int]) -> Volume:
    """Touching bodies of these labels, with some background."""
    rng = np.random.default_rng(seed)
    seeds = rng.random((len(labels), 3)) * shape
    at = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    volume = np.array(labels, np.uint64)[((at[..., None, :] - seeds) ** 2).sum(-1).argmin(-1)]
    volume[rng.random(shape) < 0.1] = 0
    return volume


def runs_of(mask: Mask, origin: ZYX = (0, 0, 0)) -> list[list[int]]:
    """The runs along x of a mask whose first voxel is ``origin`` (z, y, x): by z, y, x."""
    edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (0, 0), (1, 1))))
    starts, ends = np.argwhere(edges == 1), np.argwhere(edges == -1)
    oz, oy, ox = origin
    return [
        [ox + x, oy + y, oz + z, end - x] for (z, y, x), (_, _, end) in zip(starts.tolist(), ends.tolist(), strict=True)
    ]


def cut_runs_of(mask: Mask, origin: ZYX = (0, 0, 0), side: int = SIDE) -> list[list[int]]:
    """The same, cut at the borders of blocks: block after block. ``origin`` is a block's first voxel."""
    out = []
    for z, y, x in np.ndindex(*(n // side for n in mask.shape)):
        part = mask[z * side : (z + 1) * side, y * side : (y + 1) * side, x * side : (x + 1) * side]
        out += runs_of(part, (origin[0] + z * side, origin[1] + y * side, origin[2] + x * side))
    return out


def blocks_of(mask: Mask, origin: ZYX = (0, 0, 0), side: int = SIDE) -> list[list[int]]:
    """The blocks that hold voxels of a mask, as runs along x."""
    z, y, x = (n // side for n in mask.shape)
    some = mask.reshape(z, side, y, side, x, side).any((1, 3, 5))
    return runs_of(some, (origin[0] // side, origin[1] // side, origin[2] // side))


def halved(volume: Volume, zeros: bool) -> Volume:
    """Half the resolution by majority: with ``zeros`` 0 votes and the larger label wins a tie, else the smaller."""
    z, y, x = (n // 2 for n in volume.shape)
    eight = volume.reshape(z, 2, y, 2, x, 2).transpose(0, 2, 4, 1, 3, 5).reshape(z, y, x, 8)
    votes = (eight[..., :, None] == eight[..., None, :]).sum(-1)
    if zeros:
        most: Volume = np.where(votes == votes.max(-1, keepdims=True), eight, 0).max(-1)
        return most
    votes[eight == 0] = 0
    top = np.uint64(2**64 - 1)
    least: Volume = np.where((votes == votes.max(-1, keepdims=True)) & (eight > 0), eight, top).min(-1)
    return np.where((eight == 0).all(-1), 0, least)


def pack(runs: Any, header: tuple[int, ...] = (0, 3, 0, 0, 0), count: int | None = None) -> bytes:
    """A sparse volume as the body of a request."""
    rows = np.asarray(runs, "<i4").reshape(-1, 4)
    return struct.pack("<4B2I", *header, len(rows) if count is None else count) + rows.tobytes()


def unpack(body: bytes) -> list[list[int]]:
    """The runs of an answer, in their order."""
    kind, dimensions, axis, reserved, voxels, count = struct.unpack_from("<4B2I", body)
    assert (kind, dimensions, axis, reserved, voxels) == (0, 3, 0, 0, 0)
    runs = np.frombuffer(body, "<i4", offset=12).reshape(-1, 4)
    assert len(runs) == count
    return runs.tolist()


class Legacy:
    """Instances of one repo: ``blk`` and its ``vol``, ``half`` and ``quarter`` of it, or an ``arr``."""

    def __init__(self, database: Database, root: str = "") -> None:
        """In a new repo, or at a version of one that is there."""
        self.database = database
        self.client = Client(database)
        self.root = root or self.client.repo()

    def pair(self, block: str = "16,16,16", chain: tuple[str, ...] = ("half", "quarter")) -> Legacy:
        """A labelblk and a labelvol that follow each other, and labelblks each of half the resolution of the one before."""
        for name, kind in (("blk", "labelblk"), ("vol", "labelvol"), *((name, "labelblk") for name in chain)):
            self.client.instance(self.root, name, kind, BlockSize=block)
        for name, source in (("vol", "blk"), ("blk", "vol"), *zip(chain, ("blk", *chain), strict=False)):
            assert self.post(f"{name}/sync", {"sync": source}).status == 200
        return self

    def array(self, scales: int = 2, **config: str) -> Legacy:
        """A labelarray."""
        self.client.instance(
            self.root, "arr", "labelarray", BlockSize="16,16,16", MaxDownresLevel=str(scales), **config
        )
        return self

    def ask(self, verb: str, path: str, body: Any = None, node: str = "") -> Answer:
        return self.client(verb, f"/api/node/{node or self.root}/{path}", body)

    def get(self, path: str, body: Any = None, node: str = "") -> Answer:
        return self.ask("GET", path, body, node)

    def post(self, path: str, body: Any = None, node: str = "") -> Answer:
        return self.ask("POST", path, body, node)

    def done(self, path: str, body: Any = None, node: str = "") -> Answer:
        answer = self.post(path, body, node)
        assert answer.status == 200, answer.text
        return answer

    def refused(self, verb: str, path: str, body: Any = None, node: str = "", status: int = 400) -> str:
        answer = self.ask(verb, path, body, node)
        assert answer.status == status, (path, answer.status, answer.text)
        assert answer.text or status == 404
        return answer.text

    def write(
        self, volume: Volume, offset: ZYX = (0, 0, 0), name: str = "blk", query: str = "", node: str = ""
    ) -> None:
        z, y, x = volume.shape
        path = f"{name}/raw/0_1_2/{x}_{y}_{z}/{'_'.join(map(str, offset[::-1]))}{query}"
        self.done(path, np.ascontiguousarray(volume, "<u8").tobytes(), node)

    def read(self, shape: ZYX, offset: ZYX = (0, 0, 0), name: str = "blk", query: str = "", node: str = "") -> Volume:
        z, y, x = shape
        answer = self.get(f"{name}/raw/0_1_2/{x}_{y}_{z}/{'_'.join(map(str, offset[::-1]))}{query}", node=node)
        assert answer.status == 200, answer.text
        return np.frombuffer(answer.body, "<u8").reshape(shape)

    def runs(self, label: int, query: str = "", name: str = "vol", node: str = "") -> list[list[int]] | None:
        """The runs of a label, None where there is none."""
        answer = self.get(f"{name}/sparsevol/{label}{query}", node=node)
        if answer.status == 404:
            assert not answer.body
            return None
        assert answer.status == 200, answer.text
        return unpack(answer.body)

    def coarse(self, label: int, name: str = "vol", node: str = "") -> list[list[int]] | None:
        answer = self.get(f"{name}/sparsevol-coarse/{label}", node=node)
        return unpack(answer.body) if answer.status == 200 else None

    def number(self, what: str, name: str = "vol", node: str = "") -> int:
        """``nextlabel`` or ``maxlabel``."""
        answer = self.get(f"{name}/{what}", node=node)
        assert answer.status == 200, answer.text
        found: int = answer.json()[what]
        return found

    def findings(self) -> list[Finding]:
        """What ``dvidcore check`` has to say."""
        out: list[Finding] = []
        check(self.database, out.append)
        return out

    # -- comparing -----------------------------------------------------------------------------------------------------

    def pair_is(self, volume: Volume, offset: ZYX = (0, 0, 0), node: str = "", chain: tuple[str, ...] = ()) -> None:
        """Voxels, sparse volumes and the chain are those of a volume, outside of which nothing was written."""
        assert np.array_equal(self.read(volume.shape, offset, node=node), volume)
        for label in np.unique(volume[volume != 0]).tolist():
            mask = volume == label
            assert self.runs(label, node=node) == cut_runs_of(mask, offset), label
            assert self.coarse(label, node=node) == blocks_of(mask, offset), label
        level, at = volume, offset
        for name in chain:
            level, at = halved(level, zeros=True), (at[0] // 2, at[1] // 2, at[2] // 2)
            assert np.array_equal(self.read(level.shape, at, name, node=node), level), name

    def array_is(self, volume: Volume, offset: ZYX = (0, 0, 0), node: str = "", scales: int = 2) -> None:
        """Voxels of all scales and the index of a labelarray are those of a volume."""
        for label in np.unique(volume[volume != 0]).tolist():
            mask = volume == label
            assert self.runs(label, name="arr", node=node) == runs_of(mask, offset), label
            assert self.coarse(label, name="arr", node=node) == blocks_of(mask, offset), label
        level, at = volume, offset
        for scale in range(scales + 1):
            found = self.read(level.shape, at, "arr", f"?scale={scale}", node)
            assert np.array_equal(found, level), scale
            level, at = halved(level, zeros=False), (at[0] // 2, at[1] // 2, at[2] // 2)


def picture(legacy: Legacy, names: tuple[str, ...]) -> dict[bytes, bytes]:
    """All rows of instances: what must not change where a request is refused."""
    from dvidcore.storage.keys import instance_range

    found: dict[bytes, bytes] = {}
    repo = next(iter(legacy.database.repos.values()))
    for name in names:
        record = repo.instances[name]
        rows = legacy.database.engine_of(record).scan(*instance_range(record.id))
        found |= {bytes(key): bytes(value) for key, value in rows}
    return found
