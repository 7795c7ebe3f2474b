"""labelblk: voxels in every form, what a request may not ask for, and where it does other than DVID."""

from __future__ import annotations

import gzip
import hashlib
import struct

import lz4.block
import numpy as np
import pytest

from dvidcore.repos import Database
from labelmap_client import image, png_labels
from legacy_labels import Legacy, Volume, cells, picture

SHAPE = (24, 32, 48)
BLOCK = "16,8,24"
OFFSET = (-24, 16, -16)


@pytest.fixture
def legacy(database: Database) -> Legacy:
    made = Legacy(database)
    made.client.instance(made.root, "blk", "labelblk", BlockSize=BLOCK, VoxelSize="4,4,10.5", Background="9")
    made.client.instance(made.root, "kv", "keyvalue")
    return made


@pytest.fixture
def volume(legacy: Legacy) -> Volume:
    made = cells(1, SHAPE, [1, 2, 3, 2**40, 2**64 - 1])
    legacy.write(made, OFFSET)
    return made


def inside(volume: Volume, offset: tuple[int, int, int], shape: tuple[int, int, int]) -> Volume:
    """A box of the stored volume, 0 around it."""
    around = np.zeros([n + 200 for n in SHAPE], np.uint64)
    around[100 : 100 + SHAPE[0], 100 : 100 + SHAPE[1], 100 : 100 + SHAPE[2]] = volume
    low = [100 + o - at for o, at in zip(offset, OFFSET, strict=True)]
    return around[tuple(slice(a, a + n) for a, n in zip(low, shape, strict=True))]


@pytest.mark.parametrize("block", ["8,8,8", "32,32,32", "24,8,40", "64,64,64"])
def test_block_sizes(database: Database, block: str) -> None:
    legacy = Legacy(database)
    legacy.client.instance(legacy.root, "blk", "labelblk", BlockSize=block)
    x, y, z = map(int, block.split(","))
    volume = cells(2, (2 * z, y, x), [4, 5, 6])
    legacy.write(volume, (-z, 0, 0))
    assert np.array_equal(legacy.read((2 * z, y, x), (-z, 0, 0)), volume)
    assert np.array_equal(legacy.read((3, 5, 7), (-2, 1, 0)), volume[z - 2 : z + 1, 1:6, :7])


def test_volumes_in_every_compression(legacy: Legacy, volume: Volume) -> None:
    path = "blk/raw/0_1_2/40_24_16/-20_12_-20"
    expected = inside(volume, (-20, 12, -20), (16, 24, 40))
    plain = legacy.get(path)
    assert plain.headers["content-type"] == "application/octet-stream"
    assert plain.body == expected.tobytes() == legacy.get(f"{path}/nd").body
    assert legacy.get(path.replace("raw", "isotropic")).body == plain.body
    packed = legacy.get(f"{path}?compression=lz4").body
    assert lz4.block.decompress(packed, uncompressed_size=expected.nbytes) == plain.body
    zipped = legacy.get(f"{path}?compression=gzip")
    assert gzip.decompress(zipped.body) == plain.body and "content-encoding" not in zipped.headers
    google = legacy.get(f"{path}?compression=google").body
    packed = legacy.get(f"{path}?compression=googlegzip")
    assert gzip.decompress(packed.body) == google and packed.headers["content-encoding"] == "gzip"


def test_posts_in_every_compression(legacy: Legacy) -> None:
    volume = cells(3, (24, 8, 16), [7, 8])
    raw = volume.tobytes()
    for k, (query, body) in enumerate(
        (
            ("", raw),
            ("?compression=lz4", lz4.block.compress(raw, store_size=False)),
            ("?compression=gzip", gzip.compress(raw)),
        )
    ):
        legacy.done(f"blk/raw/0_1_2/16_8_24/{16 * k}_0_0{query}", body)
        assert np.array_equal(legacy.read((24, 8, 16), (0, 0, 16 * k)), volume)


def test_scale_and_supervoxels_are_no_parameters_of_it(legacy: Legacy, volume: Volume) -> None:
    assert np.array_equal(legacy.read(SHAPE, OFFSET, query="?scale=3&supervoxels=true"), volume)
    legacy.write(volume + np.uint64(1), OFFSET, query="?scale=2")
    assert np.array_equal(legacy.read(SHAPE, OFFSET), volume + np.uint64(1))


def test_points(legacy: Legacy, volume: Volume) -> None:
    points = [[-16, 16, -24], [0, 20, -1], [31, 47, -1], [500, 0, 0]]
    expected = [int(inside(volume, (z, y, x), (1, 1, 1))[0, 0, 0]) if x < 99 else 0 for x, y, z in points]
    answer = legacy.get("blk/labels", points)
    assert answer.json() == expected and answer.headers["content-type"] == "application/json"
    one = legacy.get("blk/label/-16_16_-24")
    assert one.json() == {"Label": expected[0]} and one.headers["content-type"] == "application/json"
    body = b"[[-16, 16, -24]]"
    digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
    assert legacy.get(f"blk/labels?hash={digest}", body).json() == expected[:1]
    assert "hash" in legacy.refused("GET", "blk/labels?hash=00", body)
    assert legacy.get("blk/labels", []).json() == []


def test_the_stream_of_blocks(legacy: Legacy, volume: Volume) -> None:
    legacy.write(np.zeros((24, 8, 16), np.uint64), (48, 0, 0))
    for query, unpacked in (
        ("", lambda data: lz4.block.decompress(data, uncompressed_size=8 * 16 * 8 * 24)),
        ("?compression=lz4", lambda data: lz4.block.decompress(data, uncompressed_size=8 * 16 * 8 * 24)),
        ("?compression=uncompressed", bytes),
    ):
        body = legacy.get(f"blk/blocks/64_64_120/-32_0_-48{query}").body
        found, at = [], 0
        while at < len(body):
            x, y, z, n = struct.unpack_from("<3iI", body, at)
            data = np.frombuffer(unpacked(body[at + 16 : at + 16 + n]), "<u8").reshape(24, 8, 16)
            found.append((z, y, x))
            expected = inside(volume, (24 * z, 8 * y, 16 * x), (24, 8, 16)) if z < 2 else np.zeros((24, 8, 16))
            assert np.array_equal(data, expected)
            at += 16 + n
        assert found == [(-1, y, x) for y in range(2, 6) for x in (-1, 0, 1)] + [(2, 0, 0)]
    assert legacy.get("blk/blocks/16_8_24/320_0_0").body == b""


def test_slices_are_always_images_of_16_bit_rgba(legacy: Legacy, volume: Volume) -> None:
    answer = legacy.get("blk/raw/xy/40_30/-16_16_-20")
    assert answer.headers["content-type"] == "image/png"
    assert np.array_equal(png_labels(answer.body), inside(volume, (-20, 16, -16), (1, 30, 40))[0])
    opaque = np.full((24, 8, 16), 0xFFFF_0000_0000_0001, np.uint64)
    legacy.write(opaque, (0, 0, 160))
    assert np.array_equal(png_labels(legacy.get("blk/raw/xy/16_8/160_0_0").body), opaque[0])


def test_isotropic_slices_take_the_nearest_voxel(legacy: Legacy, volume: Volume) -> None:
    """x is 4 and z 10.5 nm: of 21 rows there are 8 in the volume."""
    found = png_labels(legacy.get("blk/isotropic/xz/40_21/-16_20_-24").body)
    source = inside(volume, (-24, 20, -16), (8, 1, 40))[:, 0]
    assert np.array_equal(found, source[np.arange(21) * 8 // 21])


def test_pseudocolor(legacy: Legacy) -> None:
    colours = {0: "63852a", 1: "53075d", 23: "15b0c8"}
    for label, expected in colours.items():
        legacy.write(np.full((24, 8, 16), label, np.uint64))
        assert bytes(image(legacy.get("blk/pseudocolor/xy/1_1/0_0_0").body)[0, 0]).hex() == expected


def test_info_and_metadata(legacy: Legacy) -> None:
    empty = legacy.get("blk/info").json()
    assert set(empty) == {"Base", "Extended"}
    assert empty["Base"]["TypeURL"] == "github.com/janelia-flyem/dvid/datatype/labelblk"
    assert empty["Extended"] == {
        "Values": [{"DataType": "uint64", "Label": "labelblk"}],
        "Interpolable": False,
        "BlockSize": [16, 8, 24],
        "VoxelSize": [4, 4, 10.5],
        "VoxelUnits": ["nanometers"] * 3,
        **dict.fromkeys(("MinPoint", "MaxPoint", "MinIndex", "MaxIndex")),
        "Background": 9,
        "GridStore": "",
        "ScaleLevel": 0,
    }
    assert [(axis["Size"], axis["Offset"]) for axis in legacy.get("blk/metadata").json()["Axes"]] == [(0, 0)] * 3
    legacy.write(np.zeros(SHAPE, np.uint64), OFFSET)
    shown = legacy.get("blk/info").json()["Extended"]
    assert (shown["MinPoint"], shown["MaxPoint"]) == ([-16, 16, -24], [31, 47, -1])
    answer = legacy.get("blk/metadata")
    assert answer.headers["content-type"] == "application/vnd.dvid-nd-data+json"
    assert [(axis["Size"], axis["Offset"]) for axis in answer.json()["Axes"]] == [(48, -16), (32, 16), (24, -24)]
    legacy.done("blk/resolution", [8, 8, 20.25])
    assert legacy.get("blk/info").json()["Extended"]["VoxelSize"] == [8, 8, 20.25]


def test_a_block_of_zeros_hides_the_parents(legacy: Legacy, volume: Volume) -> None:
    legacy.client.commit(legacy.root)
    child = legacy.client.child(legacy.root)
    legacy.write(np.zeros((24, 8, 16), np.uint64), OFFSET, node=child)
    expected = volume.copy()
    expected[:, :8, :16] = 0
    assert np.array_equal(legacy.read(SHAPE, OFFSET, node=child), expected)
    assert np.array_equal(legacy.read(SHAPE, OFFSET), volume)
    for path, body in (("blk/resolution", [1, 1, 1]), ("blk/sync", {"sync": ""}), ("blk/raw/0_1_2/16_8_24/0_0_0", b"")):
        legacy.refused("POST", path, body)


BAD_GETS = [
    *("label/1_2", "label/1_2_3_4", "label", "label/a_2_3", "blocks", "blocks/16_8_24", "blocks/0_0_0/0_0_0"),
    *("blocks/16_8_24/1_0_0", "blocks/16_8_24/0_0_0?compression=gzip", "blocks/16_8_24/0_0_0?compression=blocks"),
    *(
        "raw/0_1_2/0_0_0/0_0_0",
        "raw/0_1_2/-1_1_1/0_0_0",
        "raw/0_1_2/9999999999_1_1/0_0_0",
        "raw/0_1_2/1_1_1/0_0_9999999999",
    ),
    *("raw/0_1_2/2000000000_2000000000_2000000000/0_0_0", "raw/0_1_2/1_1_1/2147483647_0_0_0", "raw/xy/0_4/0_0_0"),
    *("raw/0_1_2/12_8_8/0_0_0?compression=google", "raw/0_1_2/1_1_1/0_0_0?compression=zip", "raw/9_9/1_1/0_0_0"),
    *("raw/0_1_2/1_1_1/0_0_0?roi=kv", "raw/0_1_2/1_1_1/0_0_0?roi=none", "pseudocolor/0_1_2/1_1_1/0_0_0"),
    *("resolution", "sync", "specificblocks?blocks=0,0,0", "sparsevol/3", "maxlabel", "extents", "nosuch"),
]


@pytest.mark.parametrize("path", BAD_GETS)
def test_bad_gets(legacy: Legacy, path: str) -> None:
    legacy.refused("GET", f"blk/{path}")


@pytest.mark.parametrize("body", [[[1, 2]], [[1, 2, 3, 4]], [[1.5, 2, 3]], {"a": 1}, b"[[1,2", [[2**31, 0, 0]]])
def test_bad_points(legacy: Legacy, body: object) -> None:
    legacy.refused("GET", "blk/labels", body)


RAW = np.ones((24, 8, 16), np.uint64).tobytes()
BAD_POSTS = [
    *(("raw/0_1_2/16_8_24/0_0_0", body) for body in (RAW[:-8], RAW + b"12345678", b"")),
    *((f"raw/0_1_2/16_8_24/0_0_0?compression={name}", RAW) for name in ("lz4", "gzip", "zip", "google")),
    *((f"raw/0_1_2/16_8_24/{offset}", RAW) for offset in ("1_0_0", "0_-4_0", "0_0", "0_0_9999999999", "a_0_0")),
    *((f"raw/0_1_2/{size}/0_0_0", RAW) for size in ("0_0_0", "-16_8_24", "16_8_12", "16_8", "4294967312_8_24")),
    *((path, RAW) for path in ("raw/xy/16_8/0_0_0", "isotropic/0_1_2/16_8_24/0_0_0", "pseudocolor/xy/16_8/0_0_0")),
    *(
        (path, RAW)
        for path in ("blocks", "blocks/16_8_24/0_0_0", "specificblocks", "nosuch", "raw/0_1_2/16_8_24/0_0_0?roi=no")
    ),
    *(("resolution", body) for body in (b"x", [4, 4], [4, 4, 0], [4, 4, "5"], {}, [1, 2, -3], b"")),
    *(("sync", body) for body in ({"sync": "kv"}, {"sync": "none"}, b"x", {"sync": 4})),
    *((path, [[0, 0, 0]]) for path in ("info", "label/0_0_0", "metadata", "labels")),
]


def test_bad_posts_change_nothing(legacy: Legacy, volume: Volume) -> None:
    before, info = picture(legacy, ("blk",)), legacy.get("blk/info").json()
    for path, body in BAD_POSTS:
        legacy.refused("POST", f"blk/{path}", body)
    legacy.refused("DELETE", "blk/label/0_0_0")
    legacy.refused("PUT", "blk/raw/0_1_2/16_8_24/0_0_0", RAW)
    assert picture(legacy, ("blk",)) == before
    assert legacy.get("blk/info").json() == info


@pytest.mark.parametrize("size", ["16,16", "0,0,0", "10,16,16", "-8,8,8", "a,b,c", "2048,8,8"])
def test_block_sizes_that_are_refused(legacy: Legacy, size: str) -> None:
    for kind in ("labelblk", "labelvol"):
        config = {"typename": kind, "dataname": "other", "BlockSize": size}
        assert legacy.client.post(f"/api/repo/{legacy.root}/instance", config).status == 400
    assert legacy.get("other/info").status == 400


def test_only_blocks_of_one_size_follow_each_other(legacy: Legacy) -> None:
    for name, kind, block in (
        ("vol", "labelvol", "16,16,16"),
        ("half", "labelblk", BLOCK),
        ("same", "labelvol", BLOCK),
    ):
        legacy.client.instance(legacy.root, name, kind, BlockSize=block)
    assert "blocks of" in legacy.refused("POST", "blk/sync", {"sync": "vol"})
    assert "blocks of" in legacy.refused("POST", "vol/sync", {"sync": "blk"})
    assert "multiples of 16" in legacy.refused("POST", "half/sync", {"sync": "blk"})
    config = {"typename": "labelvol", "dataname": "new", "BlockSize": "32,32,32", "sync": "blk"}
    assert legacy.client.post(f"/api/repo/{legacy.root}/instance", config).status == 400
    assert legacy.get("blk/info").json()["Base"]["Syncs"] == []
    legacy.done("blk/sync", {"sync": "same"})
    assert legacy.get("blk/info").json()["Base"]["Syncs"] == ["same"]
    legacy.done("blk/sync?replace=true", {"sync": ""})
    assert legacy.get("blk/info").json()["Base"]["Syncs"] == []
