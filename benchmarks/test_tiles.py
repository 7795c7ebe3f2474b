"""What tiles and scales cost inside dvidcore: the endpoints called directly, over a LevelDB store.

``pytest benchmarks/test_tiles.py``; the figure to look at is the minimum. The volume is generated, 256 x 256 x 256
voxels whose grain does not compress, and tiles have 256 pixels a side.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from dvidcore.api.start import opened_server
from dvidcore.config import from_folder
from dvidcore.datatypes.call import BytesBody, Call, Reply
from dvidcore.datatypes.imageblk.downres import halved
from dvidcore.datatypes.imageblk.elements import FLOAT32, RGBA8, UINT8, UINT16, UINT64, Element
from dvidcore.datatypes.imageblk.planes import Plane
from dvidcore.datatypes.imagetile import ImageTile
from dvidcore.geometry import ZYX
from dvidcore.samples import generate

SIZE = 256
TILE = {"TileSize": [SIZE, SIZE, SIZE]}
LEVELS = {"0": {"Resolution": [8, 8, 8], **TILE}, "1": {"Resolution": [16, 16, 16], **TILE}}


class Tiled:
    """A volume with its tiles, stored or not, and calls of the endpoints as the API makes them."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.repo = server.database.new_repo("bench")
        self.node = self.repo.dag.root
        self.voxels = generate(SIZE).gray

    def create(self, name: str, typename: str, **settings: str) -> Any:
        return self.server.instances.create(self.repo, self.node, {"typename": typename, "dataname": name, **settings})

    def call(self, instance: Any, handler: str, body: bytes = b"", **arguments: Any) -> int:
        """The bytes of the answer."""
        ancestry = self.server.database.ancestry_for(self.repo, self.node, instance.record)
        call = Call(instance.engine, self.node, ancestry, body=BytesBody(body))
        try:
            answer = getattr(instance, handler)(call, **arguments)
            return len(answer.body) if isinstance(answer, Reply) else 0
        finally:
            call.close()

    def post(self, instance: Any) -> int:
        size = f"{SIZE}_{SIZE}_{SIZE}"
        arguments = {"dims": "0_1_2", "size": size, "offset": ZYX(0, 0, 0), "roi": None, "mutate": False}
        return self.call(instance, "post_raw", self.voxels.tobytes(), **arguments)


@pytest.fixture(scope="module")
def tiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiled]:
    folder: Path = tmp_path_factory.mktemp("store")
    with opened_server(from_folder(folder), admin_token="") as server:
        made = Tiled(server)
        made.post(made.create("gray", "uint8blk"))
        yield made


@pytest.mark.parametrize("format", ["png", "jpg", "lz4"])
@pytest.mark.parametrize("stored", [True, False], ids=["stored", "cut"])
@pytest.mark.parametrize("scale", [0, 1])
def test_tile(benchmark: Any, tiled: Tiled, format: str, stored: bool, scale: int) -> None:
    name = f"tiles-{format}-{stored}-{scale}"
    tiles: ImageTile = tiled.create(name, "imagetile", Source="gray", Format=format)
    tiles.set_metadata({"Levels": LEVELS})
    if stored:
        body = orjson.dumps(LEVELS)
        tiled.call(tiles, "post_generate", body, zrange=(100, 100), planes=[Plane(2, 1)])
        assert tiles.generation.wait(120)
    tiles = tiled.server.instances.named(tiled.repo, name)
    assert benchmark(tiled.call, tiles, "get_tile", plane="xy", scale=scale, coord=ZYX(100, 0, 0)) > 1000


@pytest.mark.parametrize("levels", ["0", "1", "3"])
def test_post_with_scales(benchmark: Any, tiled: Tiled, levels: str) -> None:
    instance = tiled.create(f"scaled-{levels}", "uint8blk", MaxDownresLevel=levels)
    benchmark.pedantic(tiled.post, (instance,), rounds=10, warmup_rounds=1)


@pytest.mark.parametrize("element", [UINT8, UINT16, UINT64, FLOAT32, RGBA8], ids=lambda e: e.name)
@pytest.mark.parametrize("method", ["mean", "majority", "nearest"])
def test_halving(benchmark: Any, element: Element, method: str) -> None:
    """128 x 128 x 128 voxels to half the resolution: noise, and for the majority cells of 9 x 9 x 9."""
    side = 9 if method == "majority" else 1
    volume = np.random.default_rng(1).integers(0, 200, element.shape((128, 128, 128))).astype(element.dtype)
    for axis in range(3):
        volume = volume.repeat(side, axis).take(range(128), axis)
    benchmark(halved, volume, method, element)
