"""A labelmap over the HTTP API beside a numpy model of what it holds, and decoders of its answers."""

from __future__ import annotations

import gzip
import io
import json
import struct
from functools import cache
from typing import Any

import lz4.block
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from apiclient import Answer, Client
from dvidcore import blocks, labels
from dvidcore.repos import Database
from reference_labels import read_segmentation
from reference_runs import field
from test_labelmap_writes import downsample

Volume = NDArray[np.uint64]
ZYX = tuple[int, int, int]

BLOCK: ZYX = (32, 16, 48)
LABELS = np.array([1, 2, 3, 50, 51, 2**31, 2**32 + 1, 2**63, 2**64 - 1], np.uint64)


def blobs(shape: ZYX, seed: int) -> Volume:
    """Blobs of a few labels up to 2^64 - 1, with background and single voxels strewn over them."""
    return _blobs(shape, seed).copy()


@cache
def _blobs(shape: ZYX, seed: int) -> Volume:
    rng = np.random.default_rng(seed)
    seeds = rng.random((len(LABELS), 3)) * shape
    at = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    volume = LABELS[((at[..., None, :] - seeds) ** 2).sum(-1).argmin(-1)]
    speckle = rng.random(shape)
    volume = np.where(speckle < 0.01, rng.choice(LABELS, shape), volume)
    coarse = rng.random([-(-n // 8) for n in shape]) < 0.2
    return np.where(coarse.repeat(8, 0).repeat(8, 1).repeat(8, 2)[tuple(map(slice, shape))], np.uint64(0), volume)


def xyz(point: ZYX) -> str:
    return "_".join(map(str, reversed(point)))


class Seg:
    """A labelmap instance at one version. The model is a box of voxels at ``origin`` and the body of each supervoxel."""

    def __init__(self, client: Client, node: str, name: str = "seg", block: ZYX = BLOCK, scales: int = 2) -> None:
        self.client, self.node, self.name, self.block, self.scales = client, node, name, block, scales
        self.origin: ZYX = (0, 0, 0)
        self.voxels: Volume = np.zeros((0, 0, 0), np.uint64)
        self.body_of: dict[int, int] = {}
        self._forget()

    def _forget(self) -> None:
        self._levels: list[Volume] = []
        self._runs: dict[tuple[tuple[int, ...], int], list[list[int]]] = {}
        self._present: list[int] | None = None

    @classmethod
    def create(
        cls, database: Database, block: ZYX = BLOCK, scales: int = 2, typename: str = "labelmap", **config: str
    ) -> Seg:
        client = Client(database)
        node = client.repo()
        size = ",".join(map(str, reversed(block)))
        client.instance(node, "seg", typename, BlockSize=size, MaxDownresLevel=str(scales), **config)
        return cls(client, node, block=block, scales=scales)

    def at(self, node: str) -> Seg:
        """The same instance at another version, the model as it is now."""
        other = Seg(self.client, node, self.name, self.block, self.scales)
        other.origin, other.voxels, other.body_of = self.origin, self.voxels.copy(), dict(self.body_of)
        return other

    def child(self) -> Seg:
        self.client.commit(self.node)
        return self.at(self.client.child(self.node))

    # -- requests ------------------------------------------------------------------------------------------------------

    def ask(self, path: str, body: Any = None, verb: str = "GET") -> Answer:
        return self.client(verb, f"/api/node/{self.node}/{self.name}/{path}", body)

    def get(self, path: str, body: Any = None) -> bytes:
        answer = self.ask(path, body)
        assert answer.status == 200, (path, answer.status, answer.text)
        return answer.body

    def json(self, path: str, body: Any = None) -> Any:
        return json.loads(self.get(path, body))

    def post(self, path: str, body: Any = None) -> Answer:
        answer = self.ask(path, body, "POST")
        assert answer.status == 200, (path, answer.status, answer.text)
        return answer

    def refused(self, path: str, body: Any = None, verb: str = "GET", status: int = 400) -> str:
        answer = self.ask(path, body, verb)
        assert answer.status == status, (path, answer.status, answer.body[:100])
        return answer.text

    def write(self, volume: Volume, origin: ZYX) -> None:
        """Posts a volume; the first one is the model's box, later ones must lie in it."""
        self.post(f"raw/0_1_2/{xyz(volume.shape)}/{xyz(origin)}", volume.tobytes())
        if not self.voxels.size:
            self.origin, self.voxels = origin, np.zeros_like(volume)
        begin = [a - b for a, b in zip(origin, self.origin, strict=True)]
        self.voxels[tuple(slice(a, a + n) for a, n in zip(begin, volume.shape, strict=True))] = volume
        self._forget()

    def merge(self, target: int, *merged: int) -> None:
        self.post("merge", [target, *merged])
        for supervoxel in self.present():
            if self.body_of.get(supervoxel, supervoxel) in merged:
                self.body_of[supervoxel] = target

    # -- the model -----------------------------------------------------------------------------------------------------

    def bodies(self, volume: Volume) -> Volume:
        out = volume.copy()
        for supervoxel, body in self.body_of.items():
            out[volume == supervoxel] = body
        return out

    def level(self, scale: int) -> tuple[Volume, ZYX]:
        """The model's supervoxels at a scale, and where they start; the origin must be a multiple of 2^scale."""
        if not self._levels:
            self._levels = [self.voxels]
        while len(self._levels) <= scale:
            self._levels.append(downsample(self._levels[-1]))
        volume, (z, y, x) = self._levels[scale], self.origin
        return volume, (z >> scale, y >> scale, x >> scale)

    def cut(self, offset: ZYX, size: ZYX, scale: int = 0, supervoxels: bool = False) -> Volume:
        """What a read of a box must answer."""
        out = np.zeros(size, np.uint64)
        if scale > self.scales:
            return out
        volume, origin = self.level(scale)
        to, source = [], []
        for o, n, first, m in zip(offset, size, origin, volume.shape, strict=True):
            low, high = max(o, first), min(o + n, first + m)
            to.append(slice(low - o, max(high, low) - o))
            source.append(slice(low - first, max(high, low) - first))
        out[tuple(to)] = volume[tuple(source)]
        return out if supervoxels else self.bodies(out)

    def runs(self, members: list[int], scale: int = 0) -> list[list[int]]:
        """The maximal runs x, y, z, length of some supervoxels, sorted by z, y, x."""
        if (key := (tuple(members), scale)) not in self._runs:
            self._runs[key] = self._runs_of(members, scale)
        return self._runs[key]

    def _runs_of(self, members: list[int], scale: int) -> list[list[int]]:
        volume, (z0, y0, x0) = self.level(scale)
        mask = np.zeros((*volume.shape[:2], volume.shape[2] + 2), np.int8)
        mask[:, :, 1:-1] = np.isin(volume, np.array(members, np.uint64))
        step = np.diff(mask, axis=2)
        z, y, x = np.nonzero(step == 1)
        length = np.nonzero(step == -1)[2] - x
        found: list[list[int]] = np.stack((x + x0, y + y0, z + z0, length), axis=1).tolist()
        return found

    def supervoxels(self, body: int) -> list[int]:
        return [v for v in self.present() if v and self.body_of.get(v, v) == body]

    def present(self) -> list[int]:
        """All labels in the voxels, ascending."""
        if self._present is None:
            self._present = sorted(set(self.voxels.ravel().tolist()))
        return self._present

    def blocks(self, members: list[int]) -> list[ZYX]:
        """The blocks (z, y, x) of some supervoxels, sorted."""
        by, bx = self.block[1:]
        found = {(z // self.block[0], y // by, k // bx) for x, y, z, n in self.runs(members) for k in (x, x + n - 1)}
        # A run that passes through a whole block ends in none of its voxels.
        found |= {
            (z // self.block[0], y // by, b)
            for x, y, z, n in self.runs(members)
            if n > bx
            for b in range(x // bx, (x + n) // bx)
        }
        return sorted(found)


# -- decoders ----------------------------------------------------------------------------------------------------------


def volume(data: bytes, size: ZYX, compression: str = "") -> Volume:
    """A GET raw answer."""
    if compression == "googlegzip":
        data = gzip.decompress(data)
    if compression.startswith("google"):
        return read_segmentation(data, size)
    if compression == "lz4":
        data = lz4.block.decompress(data, uncompressed_size=8 * int(np.prod(size)))
    elif compression == "gzip":
        data = gzip.decompress(data)
    return np.frombuffer(data, "<u8").reshape(size)


def records(data: bytes) -> list[tuple[ZYX, bytes]]:
    """The records of a block stream: (block coordinate z, y, x, payload)."""
    at, out = 0, []
    while at < len(data):
        x, y, z, n = struct.unpack_from("<3iI", data, at)
        out.append(((z, y, x), data[at + 16 : at + 16 + n]))
        at += 16 + n
    assert at == len(data)
    return out


def payload(data: bytes, compression: str, block: ZYX) -> Volume:
    if compression == "blocks":
        return blocks.decode(gzip.decompress(data))
    return volume(data, block, "" if compression == "uncompressed" else compression)


def pack_stream(placed: dict[ZYX, Volume]) -> bytes:
    out = []
    for (z, y, x), voxels in placed.items():
        packed = gzip.compress(blocks.encode(np.ascontiguousarray(voxels)), 1)
        out.append(struct.pack("<3iI", x, y, z, len(packed)) + packed)
    return b"".join(out)


def pack_index(label: int, index: dict[ZYX, dict[int, int]], surface: int = 0, *change: Any) -> bytes:
    """A LabelIndex message of {block (z, y, x): {supervoxel: voxels}}; ``change``: last mutation id, time, user, app."""
    rows = [(*at, supervoxel, n) for at in sorted(index) for supervoxel, n in sorted(index[at].items())]
    coords = np.array([row[:3] for row in rows], np.int32).reshape(-1, 3)
    supervoxels = np.array([row[3] for row in rows], np.uint64)
    counts = np.array([row[4] for row in rows], np.uint32)
    return labels.encode_index(label, coords, supervoxels, counts, np.full(len(rows), surface, np.uint64), *change)


def pack_indices(*messages: bytes) -> bytes:
    return labels.encode_indices(messages)


def pack_mappings(*operations: tuple[int, list[int]]) -> bytes:
    """A MappingOps message of (body, supervoxels)."""
    return b"".join(
        field(1, field(1, 7) + field(2, body) + b"".join(field(3, s) for s in supervoxels))
        for body, supervoxels in operations
    )


def spans(data: bytes) -> list[list[int]]:
    """Runs without a header."""
    found: list[list[int]] = np.frombuffer(data, "<i4").reshape(-1, 4).tolist()
    return found


def rles(data: bytes) -> list[list[int]]:
    head = struct.unpack_from("<4B2I", data)
    found = spans(data[12:])
    assert head == (0, 3, 0, 0, 0, len(found))
    return found


def png_labels(data: bytes) -> Volume:
    """A label image: 16-bit RGBA, read from the PNG's own bytes, since Pillow makes 8 bits of them."""
    import zlib

    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, packed, head = 8, b"", ()
    while at < len(data):
        n, name = struct.unpack_from(">I4s", data, at)
        if name == b"IHDR":
            head = struct.unpack_from(">IIBBBBB", data, at + 8)
        elif name == b"IDAT":
            packed += data[at + 8 : at + 8 + n]
        at += 12 + n
    width, height, *kind = head
    assert kind == [16, 6, 0, 0, 0]
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 1 + 8 * width)
    out = np.zeros((height, 8 * width), np.uint8)
    for y, row in enumerate(rows):
        line = row[1:].reshape(width, 8)
        if row[0] == 1:
            out[y] = np.cumsum(line, axis=0, dtype=np.uint8).ravel()
        else:
            assert row[0] in (0, 2)
            out[y] = row[1:] + (out[y - 1] if row[0] == 2 and y else 0)
    return out.view("<u8")


def image(data: bytes) -> NDArray[Any]:
    return np.asarray(Image.open(io.BytesIO(data)))


def binary_blocks(data: bytes, block: ZYX) -> tuple[int, dict[ZYX, NDArray[np.bool_]]]:
    """format=blocks: (label, first voxel z, y, x → mask)."""
    gx, gy, gz, label = struct.unpack_from("<3IQ", data)
    assert (8 * gz, 8 * gy, 8 * gx) == block
    at, out = 20, {}
    while at < len(data):
        x, y, z, flag = struct.unpack_from("<3iB", data, at)
        at += 13
        parts = np.full((gz * gy * gx, 512), flag == 1)
        if flag == 2:
            for part in parts:
                kind = data[at]
                at += 1
                part[:] = kind == 1
                if kind == 2:
                    part[:] = np.unpackbits(np.frombuffer(data, np.uint8, 64, at), bitorder="little")
                    at += 64
        mask = parts.reshape(gz, gy, gx, 8, 8, 8).transpose(0, 3, 1, 4, 2, 5).reshape(block)
        assert (z, y, x) not in out
        out[z, y, x] = mask
    return label, out
