"""Image instances where DVID is weak: each point of the specification's list, and what creation refuses."""

import numpy as np
import pytest

from apiclient import Client
from image_client import DTYPES, Volume, image, noise

BLOCK = (32, 32, 32)


@pytest.fixture
def client(database):
    return Client(database)


@pytest.fixture
def gray(client):
    return Volume.create(client)


@pytest.fixture
def filled(gray):
    """A uint8 instance with one block, and what a refused request must leave as it was."""
    gray.put(noise(1, BLOCK), (0, 0, 0))
    before = gray.read((-8, -8, -8), (48, 48, 48)), gray.get("info").json()
    yield gray
    np.testing.assert_array_equal(gray.read((-8, -8, -8), (48, 48, 48)), before[0])
    assert gray.get("info").json() == before[1]


# -- creation ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        {"BlockSize": "64"},
        {"BlockSize": "64,64"},
        {"BlockSize": "64,64,64,64"},
        {"BlockSize": "64_64_64"},
        {"BlockSize": "0,64,64"},
        {"BlockSize": "-64,64,64"},
        {"BlockSize": "a,b,c"},
        {"BlockSize": "64.5,64,64"},
        {"BlockSize": "2000000,64,64"},
        {"BlockSize": "1024,1024,1024"},
        {"BlockSize": [64, 64, 64]},
        {"VoxelSize": "4,4"},
        {"VoxelSize": "4,x,4"},
        {"VoxelSize": "4,0,4"},
        {"VoxelSize": "4,-4,4"},
        {"VoxelSize": "nan,4,4"},
        {"VoxelSize": "inf,4,4"},
        {"VoxelSize": "1e39,4,4"},
        {"VoxelSize": "1e-60,4,4"},
        {"VoxelUnits": "nanometers"},
        {"VoxelUnits": "a,b"},
        {"MinPoint": "1"},
        {"MinPoint": "1,2,3"},
        {"MinPoint": "1,2,3", "MaxPoint": "1,2,2"},
        {"Background": "256"},
        {"Background": "-1"},
        {"Background": "+1"},
        {"Background": " 1"},
        {"Background": "red"},
        {"Background": 5},
        {"ScaleLevel": "two"},
        {"GridStore": "nosuchstore"},
        {"Compression": ""},
        {"Compression": "zstd"},
        {"Compression": "gzip:99"},
        {"Compression": "jpeg:0"},
        {"Compression": "jpeg:101"},
        {"Checksum": "md5"},
        {"typename": "uint16blk", "Compression": "jpeg"},
        {"typename": "rgba8blk", "Compression": "jpeg"},
        {"typename": "float32blk", "Compression": "jpeg:80"},
        {"typename": "uint7blk"},
    ],
)
def test_creation_refuses(client, config):
    root = client.repo()
    answer = client.post(f"/api/repo/{root}/instance", {"typename": "uint8blk", "dataname": "bad", **config})
    assert answer.status == 400 and answer.text.strip()
    assert client.get(f"/api/repo/{root}/info").json()["DataInstances"] == {}


def test_voxel_sizes_show_as_float32_in_the_shortest_form(client):
    volume = Volume.create(client, VoxelSize="3.14159265358979,33.3,1e3", BlockSize=" 16, 24 ,8")
    extended = volume.get("info").json()["Extended"]
    assert extended["VoxelSize"] == [3.1415927, 33.3, 1000]
    assert extended["BlockSize"] == [16, 24, 8]
    assert b'"VoxelSize":[3.1415927,33.3,1000]' in volume.get("info").body


# -- writing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("typename", sorted(DTYPES))
def test_post_blocks_takes_whole_voxels_or_nothing(client, typename):
    volume = Volume.create(client, typename, BlockSize="16,16,16")
    span = noise(2, (3, 16, 16, 16, *volume.channels), volume.dtype)
    data = span.tobytes()
    for body in (data[:-1], data + b"\0", data[: 3 * 16**3] if span.itemsize > 1 else data[:9], b""):
        assert volume.post("blocks/0_0_0/3", body).status == 400
        assert not any(volume.get("blocks/0_0_0/3").body)
    for count in (0, -1, -3):
        assert volume.post(f"blocks/0_0_0/{count}", data).status == 400
    assert volume.post("blocks/0_0_0/3", data).status == 200
    assert volume.get("blocks/0_0_0/3").body == data


def test_a_long_body_that_is_short_by_a_byte_stores_nothing(gray):
    assert gray.post("blocks/0_0_0/1100", bytes([7]) * (1100 * 32**3 - 1)).status == 400
    assert gray.get("subvolblocks/35200_32_32/0_0_0").body == b""


@pytest.mark.parametrize(
    ("path", "length"),
    [
        ("raw/0_1_2/32_32_32/1_0_0", 32**3),
        ("raw/0_1_2/32_32_32/0_0_-8", 32**3),
        ("raw/0_1_2/31_32_32/0_0_0", 31 * 32 * 32),
        ("raw/0_1_2/32_32_32/0_0_0", 100),
        ("raw/0_1_2/32_32_32/0_0_0", 32**3 + 1),
        ("raw/0_1_2/32_32_32/0_0_0", 0),
        ("raw/0_1_2/0_0_0/0_0_0", 0),
        ("raw/0_1_2/-32_-32_32/0_0_0", 32**3),
        ("raw/xy/32_32/0_0_0", 1024),
        ("isotropic/0_1_2/32_32_32/0_0_0", 32**3),
        ("raw/0_1_2/32_32/0_0_0", 1024),
        ("raw/0_1_2/32_32_32/0_0", 32**3),
        ("raw/0_1_2/32_32_32", 32**3),
        ("raw/0_1_2/32_x_32/0_0_0", 32**3),
        ("raw/0_1_2/32_32_32/0_0_0?roi=nosuch", 32**3),
        ("info", 2),
        ("metadata", 2),
        ("arb/0_0_0/80_0_0/0_80_0/8", 2),
        ("rawkey/1", 2),
        ("nosuch", 2),
    ],
)
def test_refused_posts_change_nothing(filled, path, length):
    answer = filled.post(path, b"\x05" * length)
    assert answer.status == 400 and answer.text.strip()


@pytest.mark.parametrize("verb", ["PUT", "DELETE", "PATCH"])
def test_other_verbs_change_nothing(filled, verb):
    for path in ("raw/0_1_2/32_32_32/0_0_0", "blocks/0_0_0/1"):
        assert 400 <= filled.client(verb, f"{filled.path}/{path}", bytes(32**3)).status < 500


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        [],
        7,
        {},
        {"MinPoint": [0, 0, 0]},
        {"MinPoint": "a", "MaxPoint": [1, 2, 3]},
        {"MinPoint": [1.5, 2, 3], "MaxPoint": [4, 5, 6]},
        {"MinPoint": [0, 0], "MaxPoint": [1, 1]},
        {"MinPoint": [0, 0, 0, 0], "MaxPoint": [1, 1, 1, 1]},
        {"MinPoint": [0, 0, 2], "MaxPoint": [1, 1, 1]},
        {"MinPoint": [0, 0, 0], "MaxPoint": [1, 1, 2**31]},
        {"MinPoint": [True, 0, 0], "MaxPoint": [1, 1, 1]},
    ],
)
def test_extents_are_two_points_in_order(filled, body):
    assert filled.post("extents", body).status == 400


@pytest.mark.parametrize(
    "body", [b"", b"{}", 7, [], [1, 2], [1, 2, 3, 4], [1, "x", 2], [1, 0, 2], [1, -1, 2], [1, True, 2], b"[1,1e99,2]"]
)
def test_resolution_is_three_positive_numbers(filled, body):
    assert filled.post("resolution", body).status == 400


# -- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("typename", sorted(DTYPES))
def test_absent_voxels_are_the_background_everywhere(client, typename):
    """As a value of the type: 200 as uint16 is not 0xc8c8."""
    volume = Volume.create(client, typename, Background="200", BlockSize="16,16,16")
    stored = noise(3, (16, 16, 16, *volume.channels), volume.dtype)
    volume.put(stored, (0, 0, 16))
    block = np.full(stored.shape, 200, volume.dtype)
    np.testing.assert_array_equal(volume.read((0, 0, 0), (16, 16, 32)), np.concatenate([block, stored], 2))
    np.testing.assert_array_equal(volume.read((500, 0, 0), (16, 16, 16)), block)
    assert volume.get("blocks/0_0_0/3").body == block.tobytes() + stored.tobytes() + block.tobytes()
    if typename in ("uint8blk", "uint16blk", "rgba8blk"):
        assert (image(volume.get("raw/xy/16_16/0_0_0").body) == 200).all()
        assert (image(volume.get("isotropic/xz/16_16/0_0_0").body) == 200).all()
    if typename in ("uint8blk", "rgba8blk"):
        assert (image(volume.get("arb/8000_0_0/8100_0_0/8000_90_0/10").body) == 200).all()


@pytest.mark.parametrize(
    "path",
    [
        "raw",
        "raw/xy",
        "raw/xy/8_8",
        "raw/0_1_2/8_8_8",
        "raw/1_0/8_8/0_0_0",
        "raw/arb/8_8/0_0_0",
        "raw/0_1_2_3/8_8_8/0_0_0",
        "raw/xy/8_8_8/0_0_0",
        "raw/xy/8/0_0_0",
        "raw/xy/8_8/0_0",
        "raw/xy/8_8/0_0_0_0",
        "raw/xy/0_8/0_0_0",
        "raw/xy/-3_8/0_0_0",
        "raw/xy/-3_-8/0_0_0",
        "raw/0_1_2/0_8_8/0_0_0",
        "raw/0_1_2/-8_-8_8/0_0_0",
        "raw/0_1_2/8_8/0_0_0",
        "raw/0_1_2/a_8_8/0_0_0",
        "raw/0_1_2/8.5_8_8/0_0_0",
        "raw/0_1_2/8-8-8/0_0_0",
        "raw/0_1_2/8_8_8/99999999999_0_0",
        "raw/0_1_2/8_8_8/2147483647_0_0",
        "raw/xy/8_8/2147483647_0_0",
        "raw/xy/8_8/0_0_0/webp",
        "raw/xy/8_8/0_0_0/gif",
        "raw/xy/8_8/0_0_0/PNG",
        "raw/xy/8_8/0_0_0/jpg:abc",
        "raw/0_1_2/8_8_8/0_0_0?roi=nosuch",
        "raw/xy/8_8/0_0_0?roi=nosuch&attenuation=3",
        "isotropic/xy/8_8/0_0_0?roi=nosuch",
        "isotropic/xy",
        "isotropic/nosuch/8_8/0_0_0",
        "blocks/0_0_0/-1",
        "specificblocks?blocks=0,0,0&compression=jpeg",
        "extents",
        "resolution",
        "rawkey/1",
        "nosuch",
    ],
)
def test_refused_gets(filled, path):
    answer = filled.get(path)
    assert answer.status == 400 and answer.text.strip()


@pytest.mark.parametrize("typename", ["uint32blk", "uint64blk", "float32blk"])
def test_numbers_that_are_no_intensities_are_not_shown_as_such(client, typename):
    volume = Volume.create(client, typename, BlockSize="16,16,16")
    voxels = noise(4, (16, 16, 16), volume.dtype)
    if typename == "float32blk":
        voxels[0, 0, :4] = [np.nan, np.inf, -np.inf, -0.0]
    volume.put(voxels, (0, 0, 0))
    for path in (
        "raw/xy/16_16/0_0_0/jpg",
        "raw/xy/16_16/0_0_0/bmp",
        "isotropic/xy/16_16/0_0_0",
        "raw/0_1_2/16_16_16/0_0_0/jpg",
        "arb/0_0_0/80_0_0/0_80_0/8",
    ):
        assert volume.get(path).status == 400, path
    assert volume.read((0, 0, 0), (16, 16, 16)).tobytes() == voxels.tobytes()
    assert volume.get("raw/xy/16_16/0_0_0").status == 200
    assert volume.get("raw/xy/16_16/0_0_0/tif").status == 200


def test_arb_is_for_intensities_of_a_byte(client):
    volume = Volume.create(client, "uint16blk")
    assert volume.get("arb/0_0_0/80_0_0/0_80_0/8").status == 400


# -- extents ----------------------------------------------------------------------------------------------------------


def test_extents_are_posted_under_keys_of_any_case(gray):
    assert gray.post("extents", {"minpoint": [1, 2, 3], "MAXPOINT": [4, 5, 6]}).status == 200
    assert gray.extents() == ([1, 2, 3], [4, 5, 6])


def test_units_are_kept_to_the_letter(client):
    volume = Volume.create(client, VoxelUnits="microns, nanometers,ÅU ")
    assert volume.get("info").json()["Extended"]["VoxelUnits"] == ["microns", " nanometers", "ÅU "]


def test_extents_start_from_those_of_the_creation(client):
    volume = Volume.create(client, MinPoint="1,2,3", MaxPoint="100,70,40")
    assert volume.extents() == ([1, 2, 3], [100, 70, 40])
    volume.put(noise(5, BLOCK), (0, 0, 128))
    assert volume.extents() == ([1, 0, 0], [159, 70, 40])


def test_a_parent_does_not_show_its_childs_extents(client, gray):
    client.commit(gray.uuid)
    child = gray.at(client.child(gray.uuid))
    child.put(noise(6, BLOCK), (0, 0, 0))
    assert gray.extents() == (None, None)
    assert child.extents() == ([0, 0, 0], [31, 31, 31])
