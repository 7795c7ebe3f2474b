"""Volumes in every format, from a folder, a web server and an S3-compatible one, read as they were written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

from remote_tools import OFFSET, FileServer, Remote, client, expected, precomputed, serving, write

SHAPE = (70, 50, 40)
RNG = np.random.default_rng(1)
GRAY = RNG.integers(0, 255, SHAPE, np.uint8)
LABELS = RNG.integers(0, 9, SHAPE).astype(np.uint64) << np.uint64(40)
COLOURS = RNG.integers(0, 255, (*SHAPE, 3), np.uint8)
ZYX = GRAY.transpose(2, 1, 0)


@dataclass
class Case:
    """What a folder holds, and what an instance of it should show."""

    voxels: np.ndarray
    origin: tuple[int, int, int] = (0, 0, 0)
    kind: str = "image"
    format: str = "precomputed"
    settings: tuple[tuple[str, str], ...] = ()


def _ome(folder: Path, version: int) -> None:
    driver = "zarr" if version == 2 else "zarr3"
    for k in range(2):
        write({"driver": driver}, ZYX[None, :: 2**k, :: 2**k, :: 2**k], folder / str(k))
    attributes = {
        "multiscales": [
            {
                "axes": [
                    {"name": "c", "type": "channel"},
                    *({"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"),
                ],
                "datasets": [
                    {
                        "path": str(k),
                        "coordinateTransformations": [
                            {"type": "scale", "scale": [1, 0.04 * 2**k, 0.008 * 2**k, 0.008 * 2**k]}
                        ],
                    }
                    for k in range(2)
                ],
            }
        ]
    }
    if version == 2:
        (folder / ".zgroup").write_text('{"zarr_format": 2}')
        (folder / ".zattrs").write_text(json.dumps(attributes))
    else:
        group = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": attributes}}
        (folder / "zarr.json").write_text(json.dumps(group))


def _n5(folder: Path) -> None:
    for k in range(2):
        write(
            {"driver": "n5", "metadata": {"blockSize": [32, 16, 16]}}, GRAY[:: 2**k, :: 2**k, :: 2**k], folder / f"s{k}"
        )
        path = folder / f"s{k}" / "attributes.json"
        found = json.loads(path.read_text())
        path.write_text(json.dumps(found | {"downsamplingFactors": [2**k] * 3}))
    (folder / "attributes.json").write_text(json.dumps({"pixelResolution": {"dimensions": [8, 8, 40], "unit": "nm"}}))


CASES: dict[str, Case] = {
    "raw": Case(GRAY, OFFSET),
    "jpeg": Case(np.full(SHAPE, 77, np.uint8), OFFSET),
    "sharded": Case(GRAY, OFFSET),
    "segmentation": Case(LABELS, OFFSET, "segmentation"),
    "colours": Case(COLOURS, OFFSET),
    "zarr2": Case(GRAY, format="zarr"),
    "zarr3": Case(GRAY, format="zarr3"),
    "zarr3-sharded": Case(GRAY, format="zarr3"),
    "zarr-xyz": Case(GRAY, format="zarr", settings=(("Axes", "xyz"),)),
    "ome2": Case(GRAY, format="zarr"),
    "ome3": Case(GRAY, format="zarr3"),
    "n5": Case(GRAY, format="n5"),
    "n5-scales": Case(GRAY, format="n5"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each case."""
    root = tmp_path_factory.mktemp("volumes")
    one = GRAY[..., None]
    write(precomputed(one), one, root / "raw")
    flat = CASES["jpeg"].voxels[..., None]
    write(precomputed(flat, encoding="jpeg"), flat, root / "jpeg")
    write(precomputed(one, sharded=True), one, root / "sharded")
    labels = LABELS[..., None]
    write(precomputed(labels, kind="segmentation", encoding="compressed_segmentation"), labels, root / "segmentation")
    write(precomputed(COLOURS), COLOURS, root / "colours")
    write({"driver": "zarr", "metadata": {"chunks": [16, 32, 32]}}, ZYX, root / "zarr2")
    write({"driver": "zarr3"}, ZYX, root / "zarr3")
    sharding = {
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [32, 32, 64]}},
        "codecs": [
            {
                "name": "sharding_indexed",
                "configuration": {"chunk_shape": [16, 16, 16], "codecs": [{"name": "bytes"}, {"name": "gzip"}]},
            }
        ],
    }
    write({"driver": "zarr3", "metadata": sharding}, ZYX, root / "zarr3-sharded")
    write({"driver": "zarr"}, GRAY, root / "zarr-xyz")
    _ome(root / "ome2", 2)
    _ome(root / "ome3", 3)
    write({"driver": "n5", "metadata": {"blockSize": [32, 32, 16]}}, GRAY, root / "n5")
    _n5(root / "n5-scales")
    return root


def check(remote: Remote, case: Case) -> None:
    """Boxes inside, across each side and outside of the volume."""
    extended, (x, y, z) = remote.extended, case.origin
    assert (extended["Format"], extended["Kind"]) == (case.format, case.kind)
    assert extended["MinPoint"] == [x, y, z]
    assert extended["MaxPoint"] == [x + 69, y + 49, z + 39]
    for offset, size in (
        ((x, y, z), SHAPE),
        ((x + 5, y + 7, z + 9), (40, 30, 20)),
        ((x - 3, y - 2, z - 1), (80, 60, 50)),
        ((x + 30, y + 30, z + 15), (2, 2, 1)),
        ((x + 69, y - 5, z + 39), (4, 9, 4)),
        ((x + 70, y, z), (3, 3, 3)),
        ((1000, -1000, 0), (3, 4, 5)),
    ):
        assert (remote.box(offset, size) == expected(case.voxels, case.origin, offset, size)).all(), (offset, size)


@pytest.mark.parametrize("name", CASES)
def test_a_folder(folder: Path, name: str) -> None:
    case = CASES[name]
    with client(allowed=(f"file://{folder}",)) as app:
        check(Remote(app, f"file://{folder}/{name}/", **dict(case.settings)), case)


@pytest.mark.parametrize("name", ["raw", "sharded", "segmentation", "zarr2", "ome3", "n5-scales"])
def test_a_web_server(folder: Path, name: str) -> None:
    with serving(FileServer(folder)) as server, client(allowed=(server.url,)) as app:
        check(Remote(app, f"{server.url}/{name}"), CASES[name])


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3-compatible server with the bucket ``volumes``."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (("AWS_ACCESS_KEY_ID", "one"), ("AWS_SECRET_ACCESS_KEY", "two")):
                patch.setenv(name, value)
            boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket="volumes")
            yield endpoint
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("raw", precomputed(GRAY[..., None])),
        ("sharded", precomputed(GRAY[..., None], sharded=True)),
        ("segmentation", precomputed(LABELS[..., None], kind="segmentation", encoding="compressed_segmentation")),
        ("zarr2", {"driver": "zarr"}),
        ("zarr3", {"driver": "zarr3"}),
        ("n5", {"driver": "n5"}),
    ],
)
def test_an_s3_server(s3: str, name: str, spec: dict[str, Any]) -> None:
    case = CASES[name]
    kvstore = {
        "driver": "s3",
        "bucket": "volumes",
        "path": f"deep/{name}/",
        "endpoint": s3,
        "aws_region": "us-east-1",
        "aws_credentials": {"type": "environment"},
    }
    voxels = case.voxels[..., None] if case.format == "precomputed" else ZYX if "zarr" in name else GRAY
    write({**spec, "kvstore": kvstore}, voxels)
    settings = {"s3_endpoint": s3, "s3_credentials": "environment", "allowed": ("s3://volumes/deep",)}
    with client(**settings) as app:
        check(Remote(app, f"s3://volumes/deep/{name}"), case)
        missing = app.post(
            f"/api/repo/{app.repo()}/instance",
            {"typename": "remotevolume", "dataname": "a", "URL": "s3://volumes/deep/no"},
        )
        assert missing.status == 400
        assert "there is no precomputed" in missing.text


@pytest.mark.parametrize("name", ["ome2", "ome3", "n5-scales"])
def test_scales(folder: Path, name: str) -> None:
    with client(allowed=(f"file://{folder}",)) as app:
        remote = Remote(app, f"file://{folder}/{name}")
        extended = remote.extended
        assert extended["MaxDownresLevel"] == 1
        assert extended["VoxelSize"] == [8, 8, 40]
        assert extended["VoxelUnits"] == ["nanometers"] * 3
        assert extended["Scales"][1]["VoxelSize"] == [16, 16, 80]
        assert extended["Scales"][1]["Size"] == [35, 25, 20]
        assert (
            remote.box((1, 2, 3), (35, 25, 20), "?scale=1")
            == expected(GRAY[::2, ::2, ::2], (0, 0, 0), (1, 2, 3), (35, 25, 20))
        ).all()
        assert remote.get("raw/0_1_2/1_1_1/0_0_0?scale=2").status == 400


def test_a_format_that_the_url_names(folder: Path) -> None:
    with client(allowed=(f"file://{folder}",)) as app:
        check(Remote(app, f"precomputed://file://{folder}/raw"), CASES["raw"])
        uuid = app.repo()
        for settings in ({"URL": f"zarr://file://{folder}/raw"}, {"URL": f"file://{folder}/raw", "Format": "n5"}):
            answer = app.post(f"/api/repo/{uuid}/instance", {"typename": "remotevolume", "dataname": "a", **settings})
            assert answer.status == 400, answer.text
            assert "there is no" in answer.text
        assert app.get(f"/api/node/{uuid}/a/info").status == 400
