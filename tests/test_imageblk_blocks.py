"""Image instances: the endpoints of whole blocks, in every stored form."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from apiclient import Client
from dvidcore.storage.keys import data_prefix, kind_range
from image_client import Volume, noise

COMPRESSIONS = ["none", "snappy", "lz4", "gzip", "gzip:1", "gzip:9"]


@pytest.fixture
def client(database):
    return Client(database)


@pytest.fixture
def gray(client):
    return Volume.create(client)


def smooth(shape):
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    return (127 + 60 * np.sin(x / 9) + 50 * np.cos(y / 11 + z / 13)).astype(np.uint8)


# -- blocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("typename", ["uint8blk", "uint64blk", "rgba8blk"])
def test_blocks_along_x_both_ways(client, typename):
    volume = Volume.create(client, typename, BlockSize="16,8,4")
    shape = (4, 8, 16, *volume.channels)
    span = noise(1, (5, *shape), volume.dtype)
    assert volume.post("blocks/-2_-1_3/5", span.tobytes()).body == b""
    assert volume.get("blocks/-2_-1_3/5").body == span.tobytes()
    assert volume.get("blocks/-2_-1_3/0").body == b""
    absent = bytes(span[0].nbytes)
    assert volume.get("blocks/-4_-1_3/9").body == 2 * absent + span.tobytes() + 2 * absent
    assert volume.get("blocks/-2_0_3/1").body == absent
    np.testing.assert_array_equal(volume.read((12, -8, -16), (4, 8, 32)), np.concatenate(span[1:3], 2))
    assert volume.extents() == (None, None)


def test_long_spans_are_streamed(gray):
    block = noise(2, (32, 32, 32)).tobytes()
    assert gray.post("blocks/700_0_0/3", block * 3).status == 200
    answer = gray.get("blocks/0_0_0/1100")
    assert answer.headers["content-length"] == str(1100 << 15)
    assert answer.body == bytes(700 << 15) + 3 * block + bytes(397 << 15)


def test_spans_beyond_int32_voxels(gray):
    last = 2**26 - 1
    block = noise(3, (32, 32, 32)).tobytes()
    assert gray.post(f"blocks/{last}_{-last - 1}_{last}/1", block).status == 200
    assert gray.get(f"blocks/{last}_{-last - 1}_{last}/1").body == block
    for start, count in ((f"{last}_0_0", 2), (f"{last + 1}_0_0", 1), (f"0_{-last - 2}_0", 1), ("0_0_2147483647", 1)):
        assert gray.get(f"blocks/{start}/{count}").status == 400
        assert gray.post(f"blocks/{start}/{count}", block * count).status == 400


@pytest.mark.parametrize(
    "path", ["blocks", "blocks/0_0_0", "blocks/0_0/1", "blocks/a_0_0/1", "blocks/0_0_0/x", "blocks/0_0_0/1/2"]
)
def test_malformed_paths(gray, path):
    assert gray.get(path).status == 400
    assert gray.post(path, bytes(32**3)).status == 400


# -- streams of blocks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("checksum", ["none", "crc32"])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_streams_in_the_stored_form(client, compression, checksum):
    """Also blocks that do not compress, which are stored plain, are sent in the form that the client expects."""
    volume = Volume.create(client, Compression=compression, Checksum=checksum)
    voxels = np.concatenate([smooth((32, 32, 64)), noise(4, (32, 32, 64))], 1)
    volume.put(voxels, (-32, 0, 32))
    expected = {(-1, y, x): voxels[:, 32 * y : 32 * y + 32, 32 * x - 32 : 32 * x] for y in (0, 1) for x in (1, 2)}
    form = compression.partition(":")[0]
    for path, kind in (
        ("subvolblocks/64_64_32/32_0_-32", form),
        ("subvolblocks/128_96_96/0_-32_-64", form),
        ("subvolblocks/64_64_32/32_0_-32?compression=uncompressed", "none"),
        ("specificblocks?blocks=1,0,-1,2,0,-1,1,1,-1,2,1,-1,9,9,9", form),
        ("specificblocks?blocks=2,1,-1,1,0,-1,2,0,-1,1,1,-1&compression=uncompressed", "none"),
    ):
        found = volume.blocks(path, kind)
        assert found.keys() == expected.keys()
        for coord, block in expected.items():
            np.testing.assert_array_equal(found[coord], block)
    assert list(volume.blocks("subvolblocks/64_64_32/32_0_-32", form)) == sorted(expected)


def test_nothing_stored_is_an_empty_stream(gray):
    for path in (
        "subvolblocks/64_64_64/0_0_0",
        "specificblocks?blocks=0,0,0",
        "specificblocks",
        "specificblocks?blocks=",
    ):
        answer = gray.get(path)
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["content-type"] == "application/octet-stream"


def test_prefetch_answers_nothing(gray):
    gray.put(noise(5, (32, 32, 32)), (0, 0, 0))
    for word, length in (("on", 0), ("true", 0), ("false", 16 + 32**3)):
        answer = gray.get(f"specificblocks?blocks=0,0,0&compression=uncompressed&prefetch={word}")
        assert len(answer.body) == length


def test_long_streams(client):
    volume = Volume.create(client, "uint64blk")
    slab = noise(6, (32, 192, 192), "<u8")
    for z in (0, 32, 96, 128):
        volume.put(slab, (z, 0, 0))
    found = volume.blocks("subvolblocks/192_192_160/0_0_0?compression=uncompressed", "none")
    assert list(found) == [(z, y, x) for z in (0, 1, 3, 4) for y in range(6) for x in range(6)]
    np.testing.assert_array_equal(found[4, 5, 0], slab[:, 160:, :32])


@pytest.mark.parametrize(
    "path",
    [
        "subvolblocks/63_64_64/0_0_0",
        "subvolblocks/64_64_64/1_0_0",
        "subvolblocks/64_64/0_0",
        "subvolblocks/64_64_64/0_0",
        "subvolblocks/64_64_64",
        "subvolblocks",
        "subvolblocks/0_64_64/0_0_0",
        "subvolblocks/-64_-64_64/0_0_0",
        "subvolblocks/64_64_64/0_0_0?compression=lz4",
        "subvolblocks/64_64_64/0_0_0?compression=none",
        "subvolblocks/64_64_64/0_0_0?compression=jpeg",
        "specificblocks?blocks=1,2",
        "specificblocks?blocks=1,2,3,4",
        "specificblocks?blocks=a,b,c",
        "specificblocks?blocks=1.5,2,3",
        "specificblocks?blocks=1,%202,3",
        "specificblocks?blocks=0,0,2147483648",
        "specificblocks?blocks=0,0,0&compression=lz4",
    ],
)
def test_what_streams_refuse(gray, path):
    assert gray.get(path).status == 400


def test_streams_take_no_post(gray):
    assert gray.post("subvolblocks/32_32_32/0_0_0", bytes(32**3)).status == 400
    assert gray.post("specificblocks?blocks=0,0,0", bytes(32**3)).status == 400


# -- jpeg -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("compression", "side"), [("jpeg", 32), ("jpeg:95", 64), ("jpeg", 128)])
def test_blocks_stored_as_jpeg(client, compression, side):
    volume = Volume.create(client, Compression=compression, BlockSize=f"{side},{side},{side}")
    voxels = smooth((side, side, 2 * side))
    volume.put(voxels, (side, 0, -side))
    assert f"jpeg compression, level {side}" == volume.get("info").json()["Base"]["Compression"]
    for tail in ("", "?compression=jpeg"):
        data = volume.get(f"subvolblocks/{2 * side}_{side}_{side}/{-side}_0_{side}{tail}").body
        x, y, z, n = struct.unpack_from("<4i", data)
        assert (x, y, z) == (-1, 0, 1)
        picture = Image.open(io.BytesIO(data[16 : 16 + n]))
        assert (picture.format, picture.mode, picture.size) == ("JPEG", "L", (side, side * side))
        block = np.asarray(picture).reshape(side, side, side).astype(int)
        assert np.abs(block - voxels[:, :, :side]).max() < 16
    near = volume.read((side, 0, -side), voxels.shape).astype(int)
    assert np.abs(near - voxels).max() < 16
    plain = volume.blocks("specificblocks?blocks=0,0,1&compression=uncompressed", "none", (side,) * 3)
    np.testing.assert_array_equal(plain[1, 0, 0], near[:, :, side:])


def test_blocks_with_more_rows_than_a_jpeg_are_kept_lossless(client):
    volume = Volume.create(client, Compression="jpeg", BlockSize="16,256,256")
    voxels = noise(7, (256, 256, 16))
    volume.put(voxels, (0, 0, 0))
    np.testing.assert_array_equal(volume.read((0, 0, 0), voxels.shape), voxels)
    assert volume.get("subvolblocks/16_256_256/0_0_0").status == 400
    assert len(volume.get("subvolblocks/16_256_256/0_0_0?compression=uncompressed").body) == 16 + voxels.nbytes


# -- damage -----------------------------------------------------------------------------------------------------------


def test_a_damaged_block_is_an_error_and_not_voxels(client, database):
    volume = Volume.create(client, Compression="none", Checksum="crc32")
    volume.put(noise(8, (32, 32, 32)), (0, 0, 0))
    (repo,) = database.repos.values()
    engine = database.engine_of(repo.instances["gray"])
    from dvidcore.storage.engine import Batch

    ((key, value),) = engine.scan(*kind_range(repo.instances["gray"].id, 1))
    assert key.startswith(data_prefix(repo.instances["gray"].id, 1))
    for broken in (value[:-1] + bytes([value[-1] ^ 1]), value[:100], b"\x00" + bytes(9)):
        batch = Batch()
        batch.put(key, broken)
        engine.write(batch)
        for path in ("raw/0_1_2/8_8_8/0_0_0", "blocks/0_0_0/1", "subvolblocks/32_32_32/0_0_0?compression=uncompressed"):
            answer = volume.get(path)
            assert answer.status == 500 and "damaged" in answer.text
