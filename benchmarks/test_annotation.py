"""What annotations cost inside dvidcore: the endpoints called directly, over a LevelDB store.

``pytest benchmarks/test_annotation.py``; the figure to look at is the minimum. Labels are cells of 32 x 32 x 32 voxels
that belong to 300 bodies, 512 voxels along each axis. There are 60,000 elements at random places in one instance;
``million`` posts 1,000,000 block by block and says how large the store became.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from dvidcore import blocks
from dvidcore.api.start import opened_server
from dvidcore.config import from_folder
from dvidcore.datatypes.base import DataType
from dvidcore.datatypes.call import BytesBody, Call, Reply
from dvidcore.geometry import ZYX
from dvidcore.storage.leveldb import LevelDB

SIDE = 512
BODIES = 300


class Store:
    """Labels and annotations that follow them, and calls of their endpoints as the API makes them."""

    def __init__(self, folder: Path, server: Any) -> None:
        self.folder, self.server = folder, server
        self.repo = server.database.new_repo("bench")
        self.node = self.repo.dag.root
        self.labels = self.made("labelmap", "seg", BlockSize="64,64,64", MaxDownresLevel="0")
        self.call(self.labels, "post_blocks", _stream(), scale=0, downres=False, noindexing=False, compression="blocks")

    def made(self, typename: str, name: str, **config: str) -> DataType:
        config = {"typename": typename, "dataname": name, **config}
        found: DataType = self.server.instances.create(self.repo, self.node, config)
        return found

    def annotations(self, name: str) -> DataType:
        return self.made("annotation", name, sync="seg")

    def call(self, instance: DataType, handler: str, body: bytes = b"", **arguments: Any) -> int:
        """The bytes of the answer."""
        ancestry = self.server.database.ancestry_for(self.repo, self.node, instance.record)
        call = Call(instance.engine, self.node, ancestry, body=BytesBody(body))
        try:
            answer = getattr(instance, handler)(call, **arguments)
            if not isinstance(answer, Reply):
                return 0
            held = answer.body
            return sum(map(len, held)) if isinstance(held, Iterator) else len(held or b"")
        finally:
            call.close()

    def post(self, instance: DataType, elements: bytes) -> None:
        self.call(instance, "post_elements", elements, kafkalog="on")

    def size(self) -> int:
        """Bytes on the disk, once what was overwritten is gone."""
        engine = self.labels.engine
        assert isinstance(engine, LevelDB)
        engine.reclaim()
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())


def _stream() -> bytes:
    """All blocks: 8 cells in each, bodies at random."""
    rng = np.random.default_rng(1)
    cell = np.arange(8, dtype=np.uint64).reshape(2, 2, 2).repeat(32, 0).repeat(32, 1).repeat(32, 2)
    block = blocks.encode(cell)
    out = []
    n = SIDE // 64
    for z, y, x in np.ndindex(n, n, n):
        packed = gzip.compress(blocks.with_palette(block, rng.integers(1, BODIES + 1, 8).astype(np.uint64)), 1)
        out.append(struct.pack("<3iI", x, y, z, len(packed)) + packed)
    return b"".join(out)


def _elements(positions: list[list[int]]) -> bytes:
    """Synapses of one presynaptic element and four partners each."""
    out = []
    for k, pos in enumerate(positions):
        pre = k % 5 == 0
        to = positions[(k + 1) % len(positions)] if pre else positions[k - k % 5]
        out.append(
            {
                "Pos": pos,
                "Kind": "PreSyn" if pre else "PostSyn",
                "Tags": [],
                "Prop": {"conf": f"0.{100 + k % 900}", "user": "bench"},
                "Rels": [{"Rel": "PreSynTo" if pre else "PostSynTo", "To": to}],
            }
        )
    return orjson.dumps(out)


def _batches(count: int, seed: int = 5) -> list[bytes]:
    rng = np.random.default_rng(seed)
    return [_elements(rng.integers(0, SIDE, (1000, 3)).tolist()) for _ in range(count)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder: Path = tmp_path_factory.mktemp("store")
    with opened_server(from_folder(folder), admin_token="") as server:
        yield Store(folder, server)


@pytest.fixture(scope="module")
def filled(store: Store) -> DataType:
    made = store.annotations("filled")
    for batch in _batches(60):
        store.post(made, batch)
    return made


def test_post_1000(benchmark: Any, store: Store) -> None:
    names = iter(range(1000))
    batches = _batches(20)

    def post() -> None:
        made = store.annotations(f"posted{next(names)}")
        for batch in batches:
            store.post(made, batch)

    benchmark.pedantic(post, rounds=3)
    benchmark.extra_info["elements"] = 20_000


def test_get_128(benchmark: Any, store: Store, filled: DataType) -> None:
    assert benchmark(store.call, filled, "get_elements", size=ZYX(128, 128, 128), offset=ZYX(100, 70, 33)) > 50_000


@pytest.mark.parametrize("relationships", ["", "true", "verbose"])
def test_label(benchmark: Any, store: Store, filled: DataType, relationships: str) -> None:
    """Some 200 elements."""
    assert benchmark(store.call, filled, "get_label", label=7, relationships=relationships) > 5_000


def test_all_elements(benchmark: Any, store: Store, filled: DataType) -> None:
    assert benchmark(store.call, filled, "get_all_elements") > 6_000_000


def test_million(benchmark: Any, store: Store) -> None:
    """1,000,000 elements, a block's in each request."""
    made = store.annotations("million")
    rng = np.random.default_rng(9)
    n, each = SIDE // 64, 1_000_000 // (SIDE // 64) ** 3
    posts = []
    for z, y, x in np.ndindex(n, n, n):
        corner = np.array((64 * x, 64 * y, 64 * z))
        posts.append(_elements((rng.integers(0, 64, (each, 3)) + corner).tolist()))
    before = store.size()

    def post() -> None:
        for elements in posts:
            store.post(made, elements)

    benchmark.pedantic(post, rounds=1)
    benchmark.extra_info["elements"] = each * n**3
    benchmark.extra_info["bytes of JSON"] = sum(map(len, posts))
    benchmark.extra_info["bytes of the store"] = store.size() - before


def test_label_of_a_million(benchmark: Any, store: Store) -> None:
    """Some 3,300 elements."""
    made = store.server.instances.named(store.repo, "million")
    assert benchmark(store.call, made, "get_label", label=7, relationships="") > 100_000
