"""What requests for grayscale cost inside dvidcore: the endpoints called directly, over a LevelDB store.

``pytest benchmarks/test_imageblk.py``; the figure to look at is the minimum. The volume is generated, 256 x 256 x 256
voxels in blocks of 32 x 32 x 32, and its grain does not compress: blocks are stored plain.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvidcore.api.start import opened_server
from dvidcore.config import from_folder
from dvidcore.datatypes.call import BytesBody, Call, Reply
from dvidcore.datatypes.imageblk import UInt8Block
from dvidcore.geometry import ZYX
from dvidcore.samples import generate

SIZE = 256
WHOLE = "256_256_256"
ORIGIN = ZYX(0, 0, 0)


class Volume:
    """A filled instance, and calls of its endpoints as the API makes them."""

    def __init__(self, instance: UInt8Block, node: Any, ancestry: Any, voxels: bytes) -> None:
        self.instance, self.node, self.ancestry, self.voxels = instance, node, ancestry, voxels

    def call(self, handler: str, body: bytes = b"", **arguments: Any) -> int:
        """The bytes of the answer."""
        call = Call(self.instance.engine, self.node, self.ancestry, body=BytesBody(body))
        try:
            answer = getattr(self.instance, handler)(call, **arguments)
            if not isinstance(answer, Reply):
                return 0
            held = answer.body
            return sum(map(len, held)) if isinstance(held, Iterator) else len(held or b"")
        finally:
            call.close()

    def post(self) -> int:
        return self.call("post_raw", self.voxels, dims="0_1_2", size=WHOLE, offset=ORIGIN, roi=None, mutate=False)

    def get(self, dims: str, size: str, offset: ZYX = ORIGIN, format: str = "") -> int:
        return self.call("get_raw", dims=dims, size=size, offset=offset, roi=None, attenuation=None, format=format)


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Volume]:
    folder: Path = tmp_path_factory.mktemp("store")
    with opened_server(from_folder(folder), admin_token="") as server:
        repo = server.database.new_repo("bench")
        node = repo.dag.root
        made = server.instances.create(repo, node, {"typename": "uint8blk", "dataname": "gray"})
        assert isinstance(made, UInt8Block)
        ancestry = server.database.ancestry_for(repo, node, made.record)
        filled = Volume(made, node, ancestry, generate(SIZE).gray.tobytes())
        filled.post()
        yield filled


def test_post_256(benchmark: Any, volume: Volume) -> None:
    benchmark.pedantic(volume.post, rounds=10, warmup_rounds=1)


@pytest.mark.parametrize("side", [64, 192])
def test_get(benchmark: Any, volume: Volume, side: int) -> None:
    assert benchmark(volume.get, "0_1_2", f"{side}_{side}_{side}", ZYX(17, 33, 5)) == side**3


@pytest.mark.parametrize("format", ["png", "jpg", "tif"])
@pytest.mark.parametrize("plane", ["xy", "xz", "yz"])
def test_slice(benchmark: Any, volume: Volume, plane: str, format: str) -> None:
    assert benchmark(volume.get, plane, "256_256", ORIGIN, format)


def test_specificblocks(benchmark: Any, volume: Volume) -> None:
    chosen = np.random.default_rng(1).permutation(512)[:64]
    blocks = ",".join(f"{k % 8},{k // 8 % 8},{k // 64}" for k in chosen.tolist())
    arguments = {"blocks": blocks, "compression": "uncompressed", "prefetch": False}
    assert benchmark(volume.call, "get_specificblocks", **arguments) == 64 * (16 + 32**3)


def test_subvolblocks(benchmark: Any, volume: Volume) -> None:
    arguments = {"size": ZYX(SIZE, SIZE, SIZE), "offset": ORIGIN, "compression": "uncompressed"}
    assert benchmark(volume.call, "get_subvolblocks", **arguments) == 512 * (16 + 32**3)


def test_oblique(benchmark: Any, volume: Volume) -> None:
    corners = {"top_left": "100_200_300", "top_right": "1700_900_500", "bottom_left": "200_1500_1400"}
    assert benchmark(volume.call, "get_arb", **corners, res="8")
