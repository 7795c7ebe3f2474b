"""What labelgraph and tarsupervoxels take: the WSGI application called directly, over LevelDB.

``pytest benchmarks/test_graph_tar.py``; the figure to look at is the minimum. The graph has 50 000 vertices and 200 000
edges; the body has 20 000 supervoxels with meshes of 2 KB, a tenth of them missing.
"""

from __future__ import annotations

import io
import os
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from dvidcore.api.app import create_app
from dvidcore.api.start import opened_server
from dvidcore.config import from_folder
from dvidcore.datatypes.tarsupervoxels import tar
from wsgi import call

VERTICES, EDGES = 50_000, 200_000
SUPERVOXELS, MESH = 20_000, 2_000


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder: Path = tmp_path_factory.mktemp("store")
    with opened_server(from_folder(folder), admin_token="") as server:
        yield create_app(server)


@pytest.fixture(scope="module")
def node(application: Any) -> str:
    root = orjson.loads(call(application, "POST", "/api/repos"))["root"]
    for given in (
        {"typename": "labelgraph", "dataname": "graph"},
        {"typename": "labelmap", "dataname": "seg", "BlockSize": "64,64,64"},
        {"typename": "tarsupervoxels", "dataname": "meshes", "Extension": "drc"},
    ):
        call(application, "POST", f"/api/repo/{root}/instance", orjson.dumps(given))
    return f"/api/node/{root}"


def graph(vertices: Any, edges: Any) -> bytes:
    return orjson.dumps(
        {
            "Vertices": [{"Id": v, "Weight": v / 2} for v in vertices],
            "Edges": [{"Id1": a, "Id2": b, "Weight": 1.5} for a, b in edges],
        }
    )


@pytest.fixture(scope="module")
def whole() -> bytes:
    rng = np.random.default_rng(1)
    pairs = np.sort(rng.integers(1, VERTICES, (EDGES, 2), endpoint=True), axis=1)
    pairs = np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0)
    return graph(range(1, VERTICES + 1), pairs.tolist())


@pytest.fixture(scope="module")
def filled(application: Any, node: str, whole: bytes) -> str:
    call(application, "POST", f"{node}/graph/subgraph", whole)
    return f"{node}/graph"


def test_post_subgraph(benchmark: Any, application: Any, node: str, whole: bytes) -> None:
    benchmark.extra_info["bytes"] = len(whole)
    benchmark.pedantic(call, (application, "POST", f"{node}/graph/subgraph", whole), rounds=3)


def test_get_subgraph(benchmark: Any, application: Any, filled: str) -> None:
    benchmark.extra_info["bytes"] = len(call(application, "GET", f"{filled}/subgraph"))
    benchmark.pedantic(call, (application, "GET", f"{filled}/subgraph"), rounds=3)


def test_get_subgraph_of_1000(benchmark: Any, application: Any, filled: str) -> None:
    benchmark(call, application, "GET", f"{filled}/subgraph", graph(range(1, 1001), []))


def test_neighbors(benchmark: Any, application: Any, filled: str) -> None:
    benchmark(call, application, "GET", f"{filled}/neighbors/77")


def test_weight_of_1000(benchmark: Any, application: Any, filled: str) -> None:
    body = graph(range(1, 1001), [(v, v + 1) for v in range(1, 1000)])
    benchmark(call, application, "POST", f"{filled}/weight", body)


def test_weight_of_one_edge(benchmark: Any, application: Any, filled: str) -> None:
    benchmark(call, application, "POST", f"{filled}/weight", graph([1, 2], [(1, 2)]))


def test_transaction_over_1000(benchmark: Any, application: Any, filled: str) -> None:
    """Reads the ids and writes 100 bytes of each vertex."""
    numbers = range(1, 1001)
    path = f"{filled}/propertytransaction/vertices/features"
    pairs = [word for vertex in numbers for word in (vertex, 0)]
    read = struct.pack(f"<{2 + 2000}Q", 1000, *pairs, 0)

    def both() -> None:
        answer = call(application, "GET", path, read)
        values = b"".join(struct.pack("<QQ", vertex, 100) + bytes(100) for vertex in numbers)
        call(application, "POST", path, answer[: 8 + 16_000] + struct.pack("<Q", 1000) + values)

    benchmark(both)


@pytest.fixture(scope="module")
def body(application: Any, node: str) -> str:
    """A body of many supervoxels: each is one row of voxels."""
    labels = np.arange(64**2 * 320, dtype=np.uint64) // 64 + 1
    labels = np.minimum(labels, SUPERVOXELS)
    call(application, "POST", f"{node}/seg/raw/0_1_2/64_64_320/0_0_0", labels.tobytes())
    call(application, "POST", f"{node}/seg/merge", orjson.dumps(list(range(1, SUPERVOXELS + 1))))
    call(application, "POST", f"{node}/meshes/sync", b'{"sync": "seg"}')
    call(application, "POST", f"{node}/meshes/load", archive())
    return f"{node}/meshes"


def archive() -> bytes:
    numbers = [n for n in range(1, SUPERVOXELS + 1) if n % 10]
    return b"".join(bytes(p) for p in tar.pieces((f"{n}.drc", os.urandom(MESH)) for n in numbers))


def test_load(benchmark: Any, application: Any, body: str) -> None:
    data = archive()
    benchmark.extra_info["bytes"] = len(data)
    benchmark.pedantic(call, (application, "POST", f"{body}/load", data), rounds=3)


def test_tarfile(benchmark: Any, application: Any, body: str) -> None:
    answer = call(application, "GET", f"{body}/tarfile/1")
    with tarfile.open(fileobj=io.BytesIO(answer)) as found:
        assert len(found.getnames()) == SUPERVOXELS
    benchmark.extra_info["bytes"] = len(answer)
    benchmark.pedantic(call, (application, "GET", f"{body}/tarfile/1"), rounds=3)


def test_missing(benchmark: Any, application: Any, body: str) -> None:
    benchmark(call, application, "GET", f"{body}/missing/1")


def test_exists(benchmark: Any, application: Any, body: str) -> None:
    benchmark(call, application, "GET", f"{body}/exists", orjson.dumps(list(range(1, 10_001))))
