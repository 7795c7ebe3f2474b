"""Image instances over the WSGI application, as numpy arrays, for tests."""

from __future__ import annotations

import gzip
import io
import struct
from typing import Any

import lz4.block
import numpy as np
import snappy
from PIL import Image

from apiclient import Answer, Client

DTYPES = {
    "uint8blk": ("<u1", ()),
    "uint16blk": ("<u2", ()),
    "uint32blk": ("<u4", ()),
    "uint64blk": ("<u8", ()),
    "float32blk": ("<f4", ()),
    "rgba8blk": ("<u1", (4,)),
}
UNPACK = {
    "none": lambda data: data,
    "lz4": lambda data: lz4.block.decompress(data[4:], struct.unpack("<I", data[:4])[0]),
    "snappy": snappy.uncompress,
    "gzip": gzip.decompress,
}


def xyz(zyx: Any) -> str:
    """``"x_y_z"`` of a size or offset in Z, Y, X order (a channel axis is left out)."""
    return "_".join(str(int(n)) for n in tuple(zyx)[:3][::-1])


def noise(seed: int, shape: tuple[int, ...], dtype: str = "<u1") -> np.ndarray:
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def image(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


class Volume:
    """One image instance at one version."""

    def __init__(self, client: Client, uuid: str, name: str, typename: str = "uint8blk") -> None:
        self.client, self.uuid, self.name, self.typename = client, uuid, name, typename
        self.path = f"/api/node/{uuid}/{name}"
        self.dtype, self.channels = DTYPES[typename]

    @classmethod
    def create(
        cls, client: Client, typename: str = "uint8blk", name: str = "gray", uuid: str | None = None, **settings: str
    ) -> Volume:
        uuid = uuid or client.repo()
        client.instance(uuid, name, typename, **settings)
        return cls(client, uuid, name, typename)

    def at(self, uuid: str) -> Volume:
        return Volume(self.client, uuid, self.name, self.typename)

    def get(self, path: str) -> Answer:
        return self.client.get(f"{self.path}/{path}")

    def post(self, path: str, body: Any = None) -> Answer:
        return self.client.post(f"{self.path}/{path}", body)

    def put(self, voxels: np.ndarray, offset: tuple[int, int, int], query: str = "") -> None:
        answer = self.post(f"raw/0_1_2/{xyz(voxels.shape)}/{xyz(offset)}{query}", voxels.tobytes())
        assert (answer.status, answer.body) == (200, b""), answer.text

    def read(self, offset: Any, size: Any) -> np.ndarray:
        answer = self.get(f"raw/0_1_2/{xyz(size)}/{xyz(offset)}")
        assert answer.status == 200, answer.text
        return np.frombuffer(answer.body, self.dtype).reshape(*size, *self.channels)

    def blocks(self, path: str, compression: str, shape: tuple[int, ...] = (32, 32, 32)) -> dict[Any, np.ndarray]:
        """(z, y, x) → voxels of a stream of blocks."""
        answer = self.get(path)
        assert answer.status == 200, answer.text
        data, at, out = answer.body, 0, {}
        while at < len(data):
            x, y, z, n = struct.unpack_from("<4i", data, at)
            payload = UNPACK[compression](data[at + 16 : at + 16 + n])
            out[z, y, x] = np.frombuffer(payload, self.dtype).reshape(*shape, *self.channels)
            at += 16 + n
        assert at == len(data)
        return out

    def extents(self) -> tuple[Any, Any]:
        found = self.get("info").json()["Extents"]
        return found["MinPoint"], found["MaxPoint"]


class Lattice:
    """The model: a version's voxels in a finite part of space that starts at ``low``, the background elsewhere."""

    def __init__(self, low: int, side: int, dtype: str, channels: tuple[int, ...] = (), background: int = 0) -> None:
        self.low = low
        self.voxels = np.full((side,) * 3 + channels, background, dtype)

    def copy(self) -> Lattice:
        other = object.__new__(Lattice)
        other.low, other.voxels = self.low, self.voxels.copy()
        return other

    def __getitem__(self, box: tuple[Any, Any]) -> np.ndarray:
        """The view of a box: (offset, size)."""
        return self.voxels[tuple(slice(o - self.low, o - self.low + s) for o, s in zip(*box, strict=True))]
