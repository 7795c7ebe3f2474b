"""The endpoints of a volume elsewhere: images, labels, channels, tiles, blocks, and that it is never written."""

from __future__ import annotations

import gzip
import io
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lz4.block
import numpy as np
import pytest
from PIL import Image

from apiclient import Client
from dvidcore import blocks
from dvidcore.config import RemoteConfig
from dvidcore.datatypes.labels.reading.slices import murmur3
from dvidcore.datatypes.remote.scale import Scale
from dvidcore.geometry import ZYX
from dvidcore.repos import Database, DatabaseOptions
from dvidcore.storage.memory import Memory
from remote_tools import OFFSET, Remote, client, expected, precomputed, write

SHAPE = (70, 50, 40)
RNG = np.random.default_rng(5)
GRAY = RNG.integers(0, 255, SHAPE, np.uint8)
LABELS = RNG.integers(0, 9, SHAPE).astype(np.uint64) << np.uint64(40)
COLOURS = RNG.integers(0, 255, (*SHAPE, 3), np.uint8)
FLOATS = RNG.random(SHAPE, np.float32)
SIGNED = RNG.integers(-99, 99, SHAPE, np.int16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("volumes")
    write(precomputed(GRAY[..., None]), GRAY[..., None], root / "gray")
    labels = LABELS[..., None]
    write(precomputed(labels, kind="segmentation", encoding="compressed_segmentation"), labels, root / "labels")
    write(precomputed(COLOURS), COLOURS, root / "colours")
    write({"driver": "zarr"}, FLOATS, root / "floats")
    write({"driver": "zarr"}, SIGNED, root / "signed")
    write({"driver": "zarr"}, np.zeros((2, 3, 4, 5), np.uint8), root / "times")
    write({"driver": "zarr"}, np.zeros((3, 4), np.complex64), root / "complex")
    write({"driver": "zarr"}, RNG.integers(0, 255, (4, 5), np.uint8), root / "flat")
    return root


@pytest.fixture
def app(folder: Path) -> Iterator[Client]:
    with client(allowed=(f"file://{folder}",)) as app:
        yield app


@pytest.fixture
def gray(app: Client, folder: Path) -> Remote:
    return Remote(app, f"file://{folder}/gray")


@pytest.fixture
def labels(app: Client, folder: Path) -> Remote:
    return Remote(app, f"file://{folder}/labels")


def picture(answer: Any, kind: str = "png") -> np.ndarray:
    assert (answer.status, answer.headers["content-type"]) == (200, f"image/{kind}"), answer.text
    return np.asarray(Image.open(io.BytesIO(answer.body)))


def test_what_it_says_about_itself(gray: Remote) -> None:
    info = gray.get("info").json()
    assert info["Base"]["TypeName"] == "remotevolume"
    extended = info["Extended"]
    assert extended["Values"] == [{"DataType": "uint8", "Label": "uint8"}]
    assert (extended["BlockSize"], extended["VoxelSize"]) == ([32, 32, 16], [8, 8, 40])
    assert (extended["MinIndex"], extended["MaxIndex"]) == ([-1, 0, 0], [1, 1, 2])
    assert extended["Interpolable"] is True
    extents = {"MinPoint": [-10, 5, 3], "MaxPoint": [59, 54, 42]}
    assert info["Extents"] == gray.get("extents").json() == extents
    metadata = gray.get("metadata").json()
    assert [(axis["Size"], axis["Offset"], axis["Resolution"]) for axis in metadata["Axes"]] == [
        (70, -10, 8),
        (50, 5, 8),
        (40, 3, 40),
    ]
    assert "raw/0_1_2" not in gray.get("help").text and "remotevolume" in gray.client.get("/api/help").text


@pytest.mark.parametrize(("dims", "axes"), [("xy", (0, 1)), ("xz", (0, 2)), ("yz", (1, 2))])
def test_slices(gray: Remote, labels: Remote, dims: str, axes: tuple[int, int]) -> None:
    size = [1, 1, 1]
    size[axes[0]], size[axes[1]] = 30, 20
    offset = (-15, 0, 10)
    for remote, voxels in ((gray, GRAY), (labels, LABELS)):
        wanted = expected(voxels, OFFSET, offset, tuple(size)).reshape(20, 30)
        answer = remote.get(f"raw/{dims}/30_20/-15_0_10")
        if remote is gray:
            assert (picture(answer) == wanted).all()
            assert (picture(remote.get(f"raw/{dims}/30_20/-15_0_10/tif"), "tiff") == wanted).all()
            assert picture(remote.get(f"raw/{dims}/30_20/-15_0_10/jpg:90"), "jpeg").shape == (20, 30)
        else:
            assert answer.status == 200
            assert remote.get(f"raw/{dims}/30_20/-15_0_10/jpg").status == 400
            colours = picture(remote.get(f"pseudocolor/{dims}/30_20/-15_0_10"))
            assert (colours[..., 0] == murmur3(wanted) >> np.uint32(24)).all()


def test_slices_of_other_types(app: Client, folder: Path) -> None:
    floats = Remote(app, f"file://{folder}/floats", Axes="xyz")
    rgba = picture(floats.get("raw/xy/70_50/0_0_7"))
    assert (rgba.copy().view("<f4")[..., 0] == FLOATS[:, :, 7].T).all()
    signed = Remote(app, f"file://{folder}/signed", Axes="xyz")
    assert (signed.box((0, 0, 0), SHAPE) == SIGNED.transpose(2, 1, 0)).all()
    assert (picture(signed.get("raw/xy/70_50/0_0_7")).astype(np.uint16).view(np.int16) == SIGNED[:, :, 7].T).all()
    flat = Remote(app, f"file://{folder}/flat")
    assert flat.extended["Scales"][0]["Size"] == [5, 4, 1]
    for remote in (floats, signed):
        for path in ("label/1_1_1", "pseudocolor/xy/3_3/0_0_0", "raw/0_1_2/8_8_8/0_0_0?compression=google"):
            answer = remote.get(path)
            assert (answer.status, "unsigned" in answer.text) == (400, True), answer.text


def test_channels(app: Client, folder: Path) -> None:
    remote = Remote(app, f"file://{folder}/colours")
    offset, size = (-12, 0, 3), (40, 30, 5)
    wanted = expected(COLOURS, OFFSET, offset, size)
    assert (remote.box(offset, size) == wanted).all()
    assert (remote.box(offset, size, "?channel=1") == wanted[..., 1]).all()
    assert (picture(remote.get("raw/xy/40_30/-12_0_3")) == wanted[0]).all()
    assert (picture(remote.get("raw/xy/40_30/-12_0_3?channel=2")) == wanted[0, ..., 2]).all()
    assert remote.get("raw/xy/40_30/-12_0_3?channel=3").status == 400
    assert [value["Label"] for value in remote.extended["Values"]] == ["channel0", "channel1", "channel2"]
    assert remote.get("label/0_5_3").status == 400


def test_compressions_of_a_box(labels: Remote) -> None:
    path = "raw/0_1_2/64_48_40/-10_5_3"
    plain = labels.get(path).body
    assert lz4.block.decompress(labels.get(f"{path}?compression=lz4").body, len(plain)) == plain
    assert gzip.decompress(labels.get(f"{path}?compression=gzip").body) == plain
    volume = np.frombuffer(plain, np.uint64).reshape(40, 48, 64)
    segmentation = labels.get(f"{path}?compression=google")
    assert segmentation.body == blocks.compressed_segmentation(volume)
    assert gzip.decompress(labels.get(f"{path}?compression=googlegzip").body) == segmentation.body
    assert labels.get(f"{path}?compression=zip").status == 400


def test_a_box_as_jpeg(gray: Remote) -> None:
    assert picture(gray.get("raw/0_1_2/32_32_16/0_5_3/jpg"), "jpeg").shape == (512, 32)


def test_isotropic(gray: Remote, labels: Remote) -> None:
    """Voxels are 8 nm wide and 40 deep: in xz each layer becomes five rows."""
    for remote, voxels in ((gray, GRAY), (labels, LABELS)):
        answer = remote.get("isotropic/xz/70_200/-10_20_3")
        wanted = voxels[:, 15].T.repeat(5, axis=0)
        if remote is gray:
            assert (picture(answer) == wanted).all()
        else:
            assert answer.status == 200
            assert answer.body == remote.get("isotropic/xz/70_200/-10_20_3/png").body
    assert gray.get("isotropic/0_1_2/8_8_8/0_5_3").body == gray.get("raw/0_1_2/8_8_8/0_5_3").body


def test_labels_at_points(labels: Remote) -> None:
    points = RNG.integers((-20, -5, -5), (70, 60, 50), (300, 3))
    wanted = [int(expected(LABELS, OFFSET, tuple(p), (1, 1, 1))[0, 0, 0]) for p in points]
    answer = labels.get("labels", points.tolist())
    assert answer.json() == wanted
    x, y, z = points[0]
    assert labels.get(f"label/{x}_{y}_{z}").json() == {"Label": wanted[0]}
    assert labels.get("labels", []).json() == []
    assert labels.get("labels", [[1, 2]]).status == 400
    assert labels.get("label/0_0_0?scale=1").status == 400


def test_tiles(gray: Remote) -> None:
    tile = picture(gray.get("tile/xy/0/0_0_10?tilesize=64"))
    assert (tile == expected(GRAY, OFFSET, (0, 0, 10), (64, 64, 1))[0]).all()
    tile = picture(gray.get("tile/xz/0/-1_20_0/jpg?tilesize=32"), "jpeg")
    assert tile.shape == (32, 32)
    assert picture(gray.get("tile/yz/0/0_0_0")).shape == (512, 512)
    assert not picture(gray.get("tile/xy/0/5_5_5")).any()
    assert gray.get("tile/xy/0/5_5_5?noblanks=true").status == 404
    assert gray.get("tile/xy/0/0_0_10?noblanks=true").status == 200
    for path in (
        "tile/xy/1/0_0_0",
        "tile/xy/-1/0_0_0",
        "tile/vol/0/0_0_0",
        "tile/xy/0/9999999_0_0",
        "tile/xy/0/0_0_0?tilesize=0",
    ):
        assert gray.get(path).status == 400, path


def stream(data: bytes) -> Iterator[tuple[tuple[int, ...], bytes]]:
    at = 0
    while at < len(data):
        *coord, n = struct.unpack_from("<4i", data, at)
        yield tuple(coord), data[at + 16 : at + 16 + n]
        at += 16 + n


UNPACK = {
    "uncompressed": bytes,
    "": bytes,
    "lz4": lambda data: lz4.block.decompress(data[4:], struct.unpack("<I", data[:4])[0]),
    "gzip": gzip.decompress,
}


def test_blocks(gray: Remote, app: Client, folder: Path) -> None:
    """Those that touch the volume, whole, whatever its own chunks are."""
    for compression, unpack in UNPACK.items():
        answer = gray.get(f"subvolblocks/160_96_64/-64_-32_-16?compression={compression}")
        found = dict(stream(answer.body))
        assert sorted(found) == [(x, y, z) for x in (-1, 0, 1) for y in (0, 1) for z in (0, 1, 2)]
        for coord, data in found.items():
            offset = tuple(c * b for c, b in zip(coord, (32, 32, 16), strict=True))
            assert unpack(data) == expected(GRAY, OFFSET, offset, (32, 32, 16)).tobytes()
        listed = gray.get(f"specificblocks?blocks=1,0,0,9,9,9,-1,0,2&compression={compression}")
        assert list(stream(listed.body)) == [(c, found[c]) for c in ((1, 0, 0), (-1, 0, 2))]
    row = gray.get("blocks/-2_0_0/4").body
    assert row == b"".join(expected(GRAY, OFFSET, (x, 0, 0), (32, 32, 16)).tobytes() for x in (-64, -32, 0, 32))
    jpeg = dict(stream(gray.get("specificblocks?blocks=0,0,0&compression=jpeg").body))
    assert Image.open(io.BytesIO(jpeg[0, 0, 0])).size == (32, 512)
    kept = Remote(app, f"file://{folder}/gray", Compression="jpeg:95", BlockSize="16,16,16")
    assert kept.get("info").json()["Base"]["Compression"] == "jpeg compression, level 16"
    assert Image.open(io.BytesIO(dict(stream(kept.get("specificblocks?blocks=0,1,1").body))[0, 1, 1])).size == (16, 256)
    for path in (
        "subvolblocks/160_96_65/-64_-32_-16",
        "subvolblocks/32_32_16/0_0_0?compression=zip",
        "specificblocks?blocks=1,2",
        "blocks/0_0_0/-1",
        "blocks/99999999_0_0/2",
    ):
        assert gray.get(path).status == 400, path


@pytest.mark.parametrize("sharded", [False, True])
def test_jpeg_chunks_are_passed_on(tmp_path: Path, sharded: bool) -> None:
    """Whole ones to the byte; those at the far sides are filled up with zeros; absent ones are left out."""
    voxels = np.kron(RNG.integers(0, 255, (5, 4, 3), np.uint8), np.ones((14, 14, 14), np.uint8))[:70, :50, :40, None]
    write(precomputed(voxels, encoding="jpeg", offset=(-32, 64, 16), sharded=sharded), voxels, tmp_path)
    with client(allowed=(f"file://{tmp_path}",)) as app:
        remote = Remote(app, f"file://{tmp_path}", Compression="jpeg")
        everything = remote.get("subvolblocks/96_64_48/-32_64_16").body
        found = dict(stream(everything))
        assert sorted(found) == [(x, y, z) for x in (-1, 0, 1) for y in (2, 3) for z in (1, 2, 3)]
        if not sharded:
            stored = (tmp_path / "8_8_40" / "0-32_64-96_16-32").read_bytes()
            assert found[0, 2, 1] == stored
            (tmp_path / "8_8_40" / "0-32_64-96_16-32").unlink()
            assert remote.get("specificblocks?blocks=0,2,1").body == b""
        decoded = remote.box((-32, 64, 16), (96, 64, 48))
        for (x, y, z), data in found.items():
            image = np.asarray(Image.open(io.BytesIO(data))).reshape(16, 32, 32)
            wanted = decoded[16 * (z - 1) : 16 * z, 32 * (y - 2) : 32 * (y - 1), 32 * (x + 1) : 32 * (x + 2)]
            whole = x < 1 and y < 3 and z < 3
            if (x, y, z) != (0, 2, 1):
                assert np.abs(image.astype(int) - wanted).mean() < (0.1 if whole else 12), (x, y, z)


def test_oblique_planes(app: Client, gray: Remote) -> None:
    """As of an image instance that holds the same voxels."""
    stored = app.instance(gray.uuid, "stored", "uint8blk", BlockSize="16,16,16", VoxelSize="8,8,40")
    box = expected(GRAY, OFFSET, (-16, 0, 0), (80, 64, 48))
    assert app.post(f"{stored}/raw/0_1_2/80_64_48/-16_0_0", np.ascontiguousarray(box).tobytes()).status == 200
    path = "arb/-80_0_120/400_100_900/-40_400_300/9"
    assert (picture(gray.get(path)) == picture(app.get(f"{stored}/{path}"))).all()
    assert gray.get("arb/0_0_0/0_0_0/0_0_0/8").status == 400


def test_roi(gray: Remote) -> None:
    client, uuid = gray.client, gray.uuid
    roi = client.instance(uuid, "part", "roi", BlockSize="32,32,32")
    assert client.post(f"{roi}/roi", [[0, 0, 0, 0]]).status == 200
    wanted = expected(GRAY, OFFSET, (0, 5, 3), (50, 40, 30)).copy()
    wanted[:, 27:] = wanted[:, :, 32:] = wanted[29:] = 0
    assert (gray.box((0, 5, 3), (50, 40, 30), "?roi=part") == wanted).all()
    assert (picture(gray.get("raw/xy/50_40/0_5_3?roi=part")) == wanted[0]).all()
    assert gray.get("raw/xy/50_40/0_5_3?roi=other").status == 400


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("POST", "raw/0_1_2/32_32_16/0_0_0"),
        ("POST", "blocks/0_0_0/1"),
        ("PUT", "raw/0_1_2/32_32_16/0_0_0"),
        ("POST", "extents"),
        ("POST", "labels"),
        ("DELETE", "tile/xy/0/0_0_0"),
        ("POST", "info"),
    ],
)
def test_it_is_never_written(gray: Remote, verb: str, path: str) -> None:
    answer = gray.client(verb, f"{gray.path}/{path}", b"x" * 16384)
    assert answer.status == 400
    assert f"does not take {verb}, only GET" in answer.text


def test_every_version_shows_the_same(gray: Remote) -> None:
    client = gray.client
    client.commit(gray.uuid)
    child = client.child(gray.uuid)
    path = "raw/0_1_2/30_30_30/0_0_0"
    assert client.get(f"/api/node/{child}/there/{path}").body == gray.get(path).body


@pytest.mark.parametrize(
    "path",
    [
        "raw/0_1_2/0_1_1/0_0_0",
        "raw/0_1_2/1_1/0_0_0",
        "raw/arb/1_1/0_0_0",
        "raw/xy/1_1_1/0_0_0",
        "raw/xy/1_1/0_0",
        "raw/xy/1_1/0_0_0/webp",
        "raw/xy/1_1/0_0_0?scale=1",
        "raw/xy/1_1/0_0_0?scale=-1",
        "raw/xy/1_1/2147483647_0_0/png?channel=-1",
        "raw/0_1_2/2_1_1/2147483647_0_0",
        "raw/xy/99999_99999/0_0_0",
        "nosuch",
    ],
)
def test_bad_requests(gray: Remote, path: str) -> None:
    assert gray.get(path).status == 400


def test_the_largest_answer_counts_what_must_be_read(folder: Path) -> None:
    """A column of voxels is few bytes, but each of its chunks is read whole."""
    options = DatabaseOptions(remote=RemoteConfig(allowed=(f"file://{folder}",)), max_data_request=32 * 32 * 16 * 2)
    with Database.open({"main": Memory.open("")}, options=options) as database:
        remote = Remote(Client(database), f"file://{folder}/gray")
        assert remote.get("raw/0_1_2/1_1_32/0_5_3").status == 200
        for path in ("raw/0_1_2/1_1_40/0_5_3", "raw/xz/1_40/0_5_3", "raw/0_1_2/64_64_64/900_0_0"):
            answer = remote.get(path)
            assert (answer.status, "maxDataRequest" in answer.text) == (400, True), answer.text
        assert remote.get("labels", [[0, 5, z] for z in range(3, 43)]).status == 400


@pytest.mark.parametrize(
    ("name", "settings", "text"),
    [
        ("times", {"Axes": "tzyx"}, 'axis "t"'),
        ("times", {"Axes": "zyx"}, "names 3 axes"),
        ("times", {"Axes": "zzyx"}, "each axis once"),
        ("times", {"Axes": "abcd"}, "each axis once"),
        ("times", {"Axes": "a b"}, "a letter"),
        ("complex", {}, "complex64"),
        ("labels", {"Compression": "jpeg"}, "jpeg"),
        ("gray", {"Compression": "snappy"}, "Compression"),
        ("gray", {"Format": "hdf5"}, "Format"),
        ("gray", {"Axes": "xyz"}, "Axes"),
        ("nosuch", {}, "no precomputed, zarr, zarr3 or n5"),
        ("gray/8_8_40", {}, "no precomputed"),
    ],
)
def test_volumes_that_are_not_shown(app: Client, folder: Path, name: str, settings: dict[str, str], text: str) -> None:
    config = {"typename": "remotevolume", "dataname": "there", "URL": f"file://{folder}/{name}", **settings}
    answer = app.post(f"/api/repo/{app.repo()}/instance", config)
    assert (answer.status, text in answer.text) == (400, True), answer.text


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"scales": 3}', '{"scales": []}', '{"scales": [{"resolution": [0, 1, 2]}]}']
)
def test_metadata_that_are_damaged(tmp_path: Path, text: str) -> None:
    (tmp_path / "info").write_text(text)
    with client(allowed=(f"file://{tmp_path}",)) as app:
        config = {"typename": "remotevolume", "dataname": "there", "URL": f"file://{tmp_path}"}
        assert app.post(f"/api/repo/{app.repo()}/instance", config).status == 400


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("zarr.json", '{"attributes": [1]}'),
        ("zarr.json", '{"node_type": "array", "shape": 3}'),
        ("zarr.json", '{"attributes": {"ome": 7}}'),
        ("zarr.json", '{"attributes": {"multiscales": [{"axes": 5}]}}'),
        ("zarr.json", '{"attributes": {"multiscales": [{"datasets": 5}]}}'),
        ("zarr.json", '{"attributes": {"multiscales": [{"coordinateTransformations": 1.5}]}}'),
        (".zarray", '{"shape": 3}'),
        ("attributes.json", '{"dimensions": 3}'),
        ("attributes.json", '{"dimensions": [3, 4, 5], "pixelResolution": {"dimensions": {"x": 1}}}'),
    ],
)
def test_metadata_of_other_types_than_they_should_be(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with client(allowed=(f"file://{tmp_path}",)) as app:
        config = {"typename": "remotevolume", "dataname": "there", "URL": f"file://{tmp_path}"}
        answer = app.post(f"/api/repo/{app.repo()}/instance", config)
        assert (answer.status, "URL" in answer.text) == (400, True), answer.text


def test_blocks_that_are_read_together_touch_few_chunks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks in large chunks are few bytes, but each of the chunks is decoded whole."""
    import tensorstore as ts

    spec = {"driver": "neuroglancer_precomputed", "kvstore": {"driver": "file", "path": f"{folder}/gray/"}}
    store = ts.open(spec, open=True, read=True).result()[..., 0].transpose()
    together = list[int]()

    def wait(start: Any) -> Any:
        future = start()
        found = future.result(timeout=60)
        together.append(len(found))
        return found

    scale = Scale(store, np.dtype(np.uint8), (16, 32, 32), wait)
    chunk = 16 * 32 * 32
    offsets = [ZYX(z, y, x) for x in range(-10, 60, 8) for y in range(5, 55, 8) for z in range(3, 43, 8)]
    for chunks, most in ((1, 16), (2, 32)):
        monkeypatch.setattr("dvidcore.datatypes.remote.scale.PART", chunks * chunk)
        together.clear()
        found = list(scale.boxes(sorted(offsets), (8, 8, 8)))
        assert max(together) <= most and sum(together) == len(offsets)
        for (z, y, x), voxels in zip(sorted(offsets), found, strict=True):
            assert (voxels.transpose() == expected(GRAY, OFFSET, (x, y, z), (8, 8, 8)).transpose()).all()
    together.clear()
    apart = [ZYX(3, 5, -10), ZYX(19, 5, -10), ZYX(35, 5, -10), ZYX(3, 37, -10)]
    monkeypatch.setattr("dvidcore.datatypes.remote.scale.PART", chunk)
    assert len(list(scale.boxes(apart, (8, 8, 8)))) == 4 and together == [1] * 4


def test_datasets_do_not_lead_out_of_a_volume(tmp_path: Path, folder: Path) -> None:
    (tmp_path / ".zgroup").write_text("{}")
    (tmp_path / ".zattrs").write_text(
        f'{{"multiscales": [{{"axes": ["z", "y", "x"], "datasets": [{{"path": "../{folder.name}/floats"}}]}}]}}'
    )
    with client(allowed=(f"file://{tmp_path}",)) as app:
        config = {"typename": "remotevolume", "dataname": "there", "URL": f"file://{tmp_path}"}
        answer = app.post(f"/api/repo/{app.repo()}/instance", config)
        assert (answer.status, "parts must not be" in answer.text) == (400, True), answer.text


def test_without_the_extra() -> None:
    """An installation without tensorstore starts, and says what is missing."""
    code = """
import sys
sys.modules["tensorstore"] = None
from remote_tools import client
with client(allowed=("s3://b",)) as app:
    answer = app.post(f"/api/repo/{app.repo()}/instance", {"typename": "remotevolume", "dataname": "a", "URL": "s3://b/a"})
    print(answer.status, answer.text)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True, env=environment)
    assert out.stdout.startswith("501 ")
    assert "dvidcore[remote]" in out.stdout
