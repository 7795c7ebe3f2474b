"""``roi=`` on images and labels: what reads show and what writes store, against numpy."""

from __future__ import annotations

import gzip
from typing import Any

import lz4.block
import numpy as np
import pytest

from apiclient import Client
from dvidcore import blocks
from dvidcore.datatypes.imageblk import volumes
from dvidcore.datatypes.labels.reading import volume as label_volume
from image_client import Volume, image, noise, xyz
from roi_model import some_spans, voxels

LOW, SIZE = (-32, -64, -96), (96, 128, 160)
AREA = some_spans(7, (3, 4, 5), (-1, -2, -3))
"""Of blocks of 32 voxels, over the box at LOW."""


@pytest.fixture
def client(database):
    return Client(database)


def area(client: Client, uuid: str, spans: Any = AREA, name: str = "area", **config: str) -> None:
    client.instance(uuid, name, "roi", **config)
    answer = client.post(f"/api/node/{uuid}/{name}/roi", spans)
    assert answer.status == 200, answer.text


def inside(offset: Any, size: Any, spans: Any = AREA) -> np.ndarray:
    return voxels(spans, tuple(offset), tuple(size))


def boxes(seed: int, count: int) -> Any:
    """(offset, size) in and around the box at LOW."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield rng.integers(-120, 60, 3).tolist(), rng.integers(1, 90, 3).tolist()


# -- images -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("typename", ["uint8blk", "uint16blk", "float32blk", "rgba8blk"])
def test_images_are_blanked_outside(client, typename):
    gray = Volume.create(client, typename, Background="30")
    area(client, gray.uuid)
    stored = noise(1, (*SIZE, *gray.channels), gray.dtype)
    gray.put(stored, LOW)
    for offset, size in boxes(2, 6):
        whole = gray.read(offset, size)
        keep = inside(offset, size)[(..., *[None] * len(gray.channels))]
        answer = gray.get(f"raw/0_1_2/{xyz(size)}/{xyz(offset)}?roi=area")
        found = np.frombuffer(answer.body, gray.dtype).reshape(whole.shape)
        np.testing.assert_array_equal(found, np.where(keep, whole, np.array(30, gray.dtype)))
        again = gray.get(f"isotropic/0_1_2/{xyz(size)}/{xyz(offset)}?roi=area")
        assert again.body == answer.body


@pytest.fixture
def gray(client):
    """A uint8 instance with AREA beside it."""
    volume = Volume.create(client)
    area(client, volume.uuid)
    volume.put(noise(1, SIZE), LOW)
    return volume


def test_slices(gray):
    for dims, size, offset in (
        ("xy", (1, 70, 90), (5, -20, -70)),
        ("xz", (60, 1, 80), (-9, 3, -40)),
        ("yz", (50, 60, 1), (0, -60, 31)),
    ):
        w, h = (n for n in reversed(size) if n > 1)
        wanted = np.where(inside(offset, size), gray.read(offset, size), 0).squeeze()
        for word in ("raw", "isotropic"):
            answer = gray.get(f"{word}/{dims}/{w}_{h}/{xyz(offset)}?roi=area")
            np.testing.assert_array_equal(image(answer.body), wanted)


def test_slices_are_masked_before_they_are_stretched(client):
    gray = Volume.create(client, VoxelSize="8,8,16")
    area(client, gray.uuid, [[0, 0, 0, 0]])
    gray.put(np.full((64, 32, 64), 200, np.uint8), (0, 0, 0))
    found = image(gray.get("isotropic/xz/64_128/0_0_0?roi=area").body)
    wanted = np.zeros((128, 64), np.uint8)
    wanted[:64, :32] = 200
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("power", [1, 3, 7])
def test_attenuation(gray, power):
    offset, size = (-40, -70, -100), (100, 90, 110)
    whole, keep = gray.read(offset, size), inside(offset, size)
    answer = gray.get(f"raw/0_1_2/{xyz(size)}/{xyz(offset)}?roi=area&attenuation={power}")
    found = np.frombuffer(answer.body, np.uint8).reshape(size)
    np.testing.assert_array_equal(found, np.where(keep, whole, whole >> power))
    shown = image(gray.get(f"raw/xy/110_90/{xyz(offset)}?roi=area&attenuation={power}").body)
    np.testing.assert_array_equal(shown, found[0])


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("roi=nosuch", "nosuch"),
        ("roi=gray", "gray"),
        ("roi=area&attenuation=0", "attenuation"),
        ("roi=area&attenuation=8", "attenuation"),
        ("roi=area&attenuation=x", "attenuation"),
        ("attenuation=3", "attenuation"),
    ],
)
def test_refused_queries(gray, query, says):
    for path in ("raw/0_1_2/8_8_8/0_0_0", "raw/xy/8_8/0_0_0", "isotropic/xz/8_8/0_0_0"):
        answer = gray.get(f"{path}?{query}")
        assert answer.status == 400 and says in answer.text


@pytest.mark.parametrize("typename", ["uint16blk", "float32blk", "rgba8blk"])
def test_attenuation_is_of_uint8(client, typename):
    volume = Volume.create(client, typename)
    area(client, volume.uuid)
    answer = volume.get("raw/0_1_2/8_8_8/0_0_0?roi=area&attenuation=2")
    assert answer.status == 400 and "uint8blk" in answer.text


def test_large_answers_are_masked_piece_by_piece(gray, monkeypatch):
    offset, size = (-40, -70, -100), (100, 90, 110)
    path = f"raw/0_1_2/{xyz(size)}/{xyz(offset)}?roi=area"
    whole = gray.get(path).body
    monkeypatch.setattr(volumes, "MAX_BUFFER", 1000)
    monkeypatch.setattr("dvidcore.datatypes.imageblk.stored.SLAB", 90 * 110 * 7)
    monkeypatch.setattr("dvidcore.datatypes.imageblk.stored.WIDE_SLAB", 90 * 110 * 7)
    monkeypatch.setattr("dvidcore.datatypes.imageblk.stored.PART", 5 * 32**3)
    assert gray.get(path).body == whole


@pytest.mark.parametrize("block", ["64,64,64", "16,48,8"])
def test_reads_compare_voxels_where_blocks_differ(gray, block):
    shape = tuple(map(int, block.split(",")))[::-1]
    spans = some_spans(9, (4, 4, 4), (-2, -2, -2))
    area(gray.client, gray.uuid, spans, "other", BlockSize=block)
    offset, size = (-40, -70, -100), (100, 90, 110)
    found = np.frombuffer(gray.get(f"raw/0_1_2/{xyz(size)}/{xyz(offset)}?roi=other").body, np.uint8).reshape(size)
    keep = voxels(spans, offset, size, shape)
    np.testing.assert_array_equal(found, np.where(keep, gray.read(offset, size), 0))


@pytest.mark.parametrize("query", ["?roi=area", "?roi=area&mutate=true"])
def test_writes_keep_what_is_outside(gray, query):
    before, new = gray.read(LOW, SIZE), noise(11, SIZE)
    gray.put(new, LOW, query)
    np.testing.assert_array_equal(gray.read(LOW, SIZE), np.where(inside(LOW, SIZE), new, before))


def test_only_blocks_inside_are_stored(client, monkeypatch):
    monkeypatch.setattr(volumes, "SLAB", 32 * 128 * 160)
    gray = Volume.create(client)
    area(client, gray.uuid)
    gray.put(noise(1, SIZE), LOW, "?roi=area")
    stored = gray.blocks(f"subvolblocks/{xyz(SIZE)}/{xyz(LOW)}?compression=uncompressed", "none")
    assert sorted(stored) == [(z, y, x) for z, y, x0, x1 in AREA for x in range(x0, x1 + 1)]
    assert gray.extents() == ([-96, -64, -32], [63, 63, 63]), "the box of the request"


def test_an_empty_roi_stores_nothing_but_extents(client):
    gray = Volume.create(client)
    area(client, gray.uuid, [])
    gray.put(noise(1, (32, 32, 32)), (0, 0, 0), "?roi=area")
    assert not gray.read((0, 0, 0), (32, 32, 32)).any()
    assert gray.extents() == ([0, 0, 0], [31, 31, 31])


def test_refused_writes_store_nothing(gray):
    area(gray.client, gray.uuid, AREA, "other", BlockSize="64,64,64")
    before, extents = gray.read(LOW, SIZE), gray.extents()
    for name, length in (("nosuch", 32**3), ("gray", 32**3), ("other", 32**3), ("area", 32**3 - 1)):
        answer = gray.post(f"raw/0_1_2/32_32_32/320_0_0?roi={name}", b"\x01" * length)
        assert answer.status == 400 and answer.text.strip()
    np.testing.assert_array_equal(gray.read(LOW, SIZE), before)
    assert gray.extents() == extents


def test_the_roi_of_the_version(gray):
    client = gray.client
    client.commit(gray.uuid)
    child = client.child(gray.uuid)
    assert client.post(f"/api/node/{child}/area/roi", [[0, 0, 0, 0]]).status == 200
    for volume, spans in ((gray, AREA), (gray.at(child), [[0, 0, 0, 0]])):
        found = np.frombuffer(volume.get(f"raw/0_1_2/{xyz(SIZE)}/{xyz(LOW)}?roi=area").body, np.uint8).reshape(SIZE)
        np.testing.assert_array_equal(found, np.where(inside(LOW, SIZE, spans), gray.read(LOW, SIZE), 0))


def test_an_unversioned_roi_limits_a_versioned_volume(gray):
    client = gray.client
    area(client, gray.uuid, [[0, 0, 0, 0]], "flat", versioned="false")
    client.commit(gray.uuid)
    child = gray.at(client.child(gray.uuid))
    found = np.frombuffer(child.get("raw/0_1_2/64_32_32/0_0_0?roi=flat").body, np.uint8).reshape(32, 32, 64)
    np.testing.assert_array_equal(
        found, np.where(inside((0, 0, 0), found.shape, [[0, 0, 0, 0]]), gray.read((0, 0, 0), found.shape), 0)
    )


# -- labels -----------------------------------------------------------------------------------------------------------


class Labels:
    """A labelmap of 32-voxel blocks with AREA beside it."""

    def __init__(self, client: Client, voxels: np.ndarray | None = None, scales: int = 1) -> None:
        self.client, self.uuid = client, client.repo()
        config = {"BlockSize": "32,32,32", "MaxDownresLevel": str(scales)}
        self.path = client.instance(self.uuid, "seg", "labelmap", **config)
        area(client, self.uuid)
        if voxels is not None:
            self.put(voxels, LOW)

    def put(self, voxels: np.ndarray, offset: Any, query: str = "") -> None:
        answer = self.client.post(f"{self.path}/raw/0_1_2/{xyz(voxels.shape)}/{xyz(offset)}{query}", voxels.tobytes())
        assert (answer.status, answer.body) == (200, b""), answer.text

    def body(self, path: str) -> bytes:
        answer = self.client.get(f"{self.path}/{path}")
        assert answer.status == 200, answer.text
        return answer.body

    def read(self, offset: Any, size: Any, query: str = "") -> np.ndarray:
        return np.frombuffer(self.body(f"raw/0_1_2/{xyz(size)}/{xyz(offset)}{query}"), np.uint64).reshape(size)


def some_labels(seed: int, shape: Any = SIZE) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 9, [-(-n // 8) for n in shape], np.uint64)
    return np.kron(coarse, np.ones((8, 8, 8), np.uint64))[tuple(map(slice, shape))] * np.uint64(2**40 + 1)


@pytest.fixture
def seg(client):
    return Labels(client, some_labels(3))


def test_labels_are_zero_outside(seg):
    for offset, size in boxes(4, 8):
        wanted = np.where(inside(offset, size), seg.read(offset, size), 0)
        np.testing.assert_array_equal(seg.read(offset, size, "?roi=area"), wanted)
        np.testing.assert_array_equal(seg.read(offset, size, "?roi=area&supervoxels=true"), wanted)


def test_bodies_are_masked_too(seg):
    labels = np.unique(seg.read(LOW, SIZE))[1:].tolist()
    assert seg.client.post(f"{seg.path}/merge", labels[:4]).status == 200
    wanted = np.where(inside(LOW, SIZE), seg.read(LOW, SIZE), 0)
    assert len(np.unique(wanted)) == len(labels) - 2
    np.testing.assert_array_equal(seg.read(LOW, SIZE, "?roi=area"), wanted)


def test_every_compression_is_masked(seg, monkeypatch):
    offset, size = (-40, -70, -100), (96, 88, 104)
    path = f"raw/0_1_2/{xyz(size)}/{xyz(offset)}?roi=area"
    wanted = np.where(inside(offset, size), seg.read(offset, size), 0)
    for streamed in (label_volume.STREAMED, 1 << 16):
        monkeypatch.setattr(label_volume, "STREAMED", streamed)
        assert seg.body(path) == wanted.tobytes()
        assert lz4.block.decompress(seg.body(path + "&compression=lz4"), wanted.nbytes) == wanted.tobytes()
        assert gzip.decompress(seg.body(path + "&compression=gzip")) == wanted.tobytes()
    monkeypatch.undo()
    google = seg.body(path + "&compression=google")
    assert google == bytes(blocks.compressed_segmentation(np.ascontiguousarray(wanted)))


def test_slices_of_labels(seg):
    for dims, size, offset in (
        ("xy", (1, 70, 90), (5, -20, -70)),
        ("xz", (60, 1, 80), (-9, 3, -40)),
        ("yz", (50, 60, 1), (0, -60, 31)),
    ):
        w, h = (n for n in reversed(size) if n > 1)
        where, masked = f"{dims}/{w}_{h}/{xyz(offset)}", ~inside(offset, size).squeeze()
        raw = seg.body(f"raw/{where}?roi=area")
        assert raw != seg.body(f"raw/{where}")
        assert raw == seg.body(f"isotropic/{where}?roi=area")
        colours, plain = (image(seg.body(f"pseudocolor/{where}{query}")) for query in ("?roi=area", ""))
        zero = image(seg.body("pseudocolor/xy/1_1/900_900_900"))[0, 0]
        np.testing.assert_array_equal(colours, np.where(masked[..., None], zero, plain))


@pytest.mark.parametrize("block", ["64,64,64", "16,48,8"])
def test_labels_compare_voxels_where_blocks_differ(seg, block):
    shape = tuple(map(int, block.split(",")))[::-1]
    spans = some_spans(9, (4, 4, 4), (-2, -2, -2))
    area(seg.client, seg.uuid, spans, "other", BlockSize=block)
    offset, size = (-40, -70, -100), (100, 90, 110)
    wanted = np.where(voxels(spans, offset, size, shape), seg.read(offset, size), 0)
    np.testing.assert_array_equal(seg.read(offset, size, "?roi=other"), wanted)


def test_only_blocks_inside_are_written(client):
    seg, old, new = Labels(client), some_labels(5), some_labels(6)
    keep = inside(LOW, SIZE)
    for query in ("?roi=area", "?roi=area&mutate=true"):
        seg.put(old, LOW, query)
        np.testing.assert_array_equal(seg.read(LOW, SIZE), np.where(keep, old, 0))
    found = client.get(f"{seg.path}/info").json()["Extents"]
    assert (found["MinPoint"], found["MaxPoint"]) == ([-96, -64, -32], [63, 63, 63]), "the box of the request"
    seg.put(old, LOW)
    seg.put(new, LOW, "?roi=area")
    now = np.where(keep, new, old)
    np.testing.assert_array_equal(seg.read(LOW, SIZE), now)
    labels, sizes = np.unique(now, return_counts=True)
    assert client.get(f"{seg.path}/sizes", body=labels[1:].tolist()).json() == sizes[1:].tolist()
    # Coarser scales are those of the same voxels posted whole.
    other = Labels(client, now)
    half = [n // 2 for n in SIZE]
    at = [n // 2 for n in LOW]
    np.testing.assert_array_equal(seg.read(at, half, "?scale=1"), other.read(at, half, "?scale=1"))


@pytest.mark.parametrize("indexed", ["true", "false"])
def test_nothing_inside_writes_nothing_but_extents(client, indexed):
    root = client.repo()
    path = client.instance(root, "seg", "labelmap", BlockSize="32,32,32", IndexedLabels=indexed)
    area(client, root, [])
    body = np.full((32, 32, 64), 5, np.uint64).tobytes()
    assert client.post(f"{path}/raw/0_1_2/64_32_32/-32_0_0?roi=area", body).status == 200
    assert not any(client.get(f"{path}/raw/0_1_2/64_32_32/-32_0_0").body)
    assert client.get(f"{path}/blocks/64_32_32/-32_0_0").body == b""
    assert client.get(f"{path}/existing-labels").json() == []
    found = client.get(f"{path}/info").json()["Extents"]
    assert (found["MinPoint"], found["MaxPoint"]) == ([-32, 0, 0], [31, 31, 31])


def test_refusals_of_labels(seg):
    before = seg.read(LOW, SIZE)
    area(seg.client, seg.uuid, AREA, "other", BlockSize="64,64,64")
    for path in (
        "raw/0_1_2/32_32_32/0_0_0?roi=nosuch",
        "raw/0_1_2/32_32_32/0_0_0?roi=seg",
        "raw/0_1_2/32_32_32/0_0_0?roi=area&scale=1",
        "raw/xy/32_32/0_0_0?roi=area&scale=1",
        "isotropic/xy/32_32/0_0_0?roi=nosuch",
        "pseudocolor/xy/32_32/0_0_0?roi=nosuch",
        "pseudocolor/xy/32_32/0_0_0?roi=area&scale=1",
    ):
        answer = seg.client.get(f"{seg.path}/{path}")
        assert answer.status == 400 and "roi" in answer.text
    whole = np.full((32, 32, 32), 9, np.uint64).tobytes()
    for name, body in (("nosuch", whole), ("seg", whole), ("other", whole), ("area", whole[8:])):
        answer = seg.client.post(f"{seg.path}/raw/0_1_2/32_32_32/0_0_0?roi={name}", body)
        assert answer.status == 400 and answer.text.strip()
    np.testing.assert_array_equal(seg.read(LOW, SIZE), before)
