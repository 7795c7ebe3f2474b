"""Image instances: boxes of voxels and slices against a numpy model, in all types, block sizes and compressions."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apiclient import Client
from dvidcore.datatypes.imageblk import stored
from dvidcore.repos import Database, OneStore
from dvidcore.storage.memory import Memory
from image_client import DTYPES, Lattice, Volume, image, noise, xyz


@pytest.fixture
def client(database):
    return Client(database)


@pytest.fixture
def gray(client):
    return Volume.create(client)


def fresh(typename, **config):
    return Volume.create(Client(Database.open({"main": Memory.open("")}, OneStore("main"))), typename, **config)


# -- boxes ------------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.data_too_large])
@given(st.data())
def test_any_box_reads_as_what_was_written(data):
    """Random writes of whole blocks, then random boxes, against one array."""
    draw = data.draw
    typename = draw(st.sampled_from(sorted(DTYPES)))
    block = draw(st.tuples(*[st.sampled_from([4, 8, 13, 16])] * 3))  # z, y, x
    compression = draw(st.sampled_from(["none", "lz4", "snappy", "gzip", "gzip:1"]))
    checksum = draw(st.sampled_from(["none", "crc32"]))
    background = draw(st.sampled_from([0, 7, 255]))
    volume = fresh(
        typename,
        BlockSize=",".join(map(str, block[::-1])),
        Compression=compression,
        Checksum=checksum,
        Background=str(background),
    )
    model = Lattice(-64, 128, volume.dtype, volume.channels, background)
    for _ in range(draw(st.integers(1, 4))):
        low = [draw(st.integers(-2, 1)) for _ in range(3)]
        count = [draw(st.integers(1, 2)) for _ in range(3)]
        offset, size = ([k * b for k, b in zip(of, block, strict=True)] for of in (low, count))
        voxels = noise(draw(st.integers(0, 99)), (*size, *volume.channels), volume.dtype)
        if draw(st.booleans()):
            voxels[:] = voxels.flat[0]
        volume.put(voxels, offset)
        model[offset, size][:] = voxels
    for _ in range(3):
        offset = [draw(st.integers(-40, 40)) for _ in range(3)]
        size = [draw(st.integers(1, 24)) for _ in range(3)]
        np.testing.assert_array_equal(volume.read(offset, size), model[offset, size])


@pytest.mark.parametrize("typename", sorted(DTYPES))
def test_every_type_keeps_its_values(client, typename):
    volume = Volume.create(client, typename)
    voxels = noise(3, (32, 64, 32, *volume.channels), volume.dtype)
    volume.put(voxels, (-32, 0, 32))
    np.testing.assert_array_equal(volume.read((-32, 0, 32), (32, 64, 32)), voxels)
    described = volume.get("info").json()["Extended"]["Values"]
    assert len(described) == (4 if volume.channels else 1)
    assert described[0]["DataType"] == np.dtype(volume.dtype).name


def test_nothing_stored_is_zeros(gray):
    assert not gray.read((-5, 10**9, 77), (3, 4, 5)).any()
    assert gray.get("raw/0_1_2/5_4_3/0_0_0").headers["content-type"] == "application/octet-stream"


def test_names_of_the_volume_and_formats_that_do_not_matter(gray):
    voxels = noise(1, (32, 32, 32))
    gray.put(voxels, (0, 0, 0))
    for path in ("raw/vol", "raw/VOL", "raw/0,1,2", "isotropic/0_1_2"):
        for tail in ("", "/", "/octet-stream", "/nosuch"):
            answer = gray.get(f"{path}/8_9_10/1_2_3{tail}")
            assert answer.body == voxels[3:13, 2:11, 1:9].tobytes()


def test_a_format_behind_a_write_does_not_matter(gray):
    body = bytes([9]) * 32**3
    for tail in ("octet-stream", "jpg", "octet-stream/", ""):
        assert gray.post(f"raw/0_1_2/32_32_32/32_0_0/{tail}", body).status == 200
        assert gray.get(f"raw/0_1_2/32_32_32/32_0_0/{tail}").status == 200
    assert gray.post("raw/0_1_2/32_32_32/0_0_0/octet-stream/x", body).status == 400
    assert gray.extents() == ([32, 0, 0], [63, 31, 31])


def test_a_box_at_the_edge_of_the_lattice(gray):
    low, high = -(2**31), 2**31 - 32
    corner = noise(2, (32, 32, 32))
    for offset in ((low, low, low), (high, high, high)):
        gray.put(corner, offset)
        np.testing.assert_array_equal(gray.read(offset, (32, 32, 32)), corner)
    assert gray.extents() == ([low] * 3, [2**31 - 1] * 3)
    assert gray.get(f"raw/0_1_2/33_32_32/{high}_0_0").status == 400


def test_long_answers_are_streamed_whole(client):
    """More than is made at once: in pieces of whole layers, which together are the volume."""
    volume = Volume.create(client, "uint64blk")
    voxels = noise(5, (64, 192, 192), "<u8")
    for z in (0, 64, 128):
        volume.put(voxels, (z, 0, 0))
    answer = volume.get("raw/0_1_2/190_191_192/1_0_0")
    assert answer.headers["content-length"] == str(190 * 191 * 192 * 8)
    assert answer.body == np.concatenate([voxels] * 3)[:, :191, 1:191].tobytes()


@pytest.mark.parametrize("slab", [1 << 10, 5000, 1 << 14])
def test_pieces_of_a_stream_follow_each_other(client, database, monkeypatch, slab):
    """Also where a piece ends within a block, or within a plane."""
    monkeypatch.setattr(stored, "SLAB", slab)
    monkeypatch.setattr(stored, "WIDE_SLAB", slab)
    monkeypatch.setattr(stored, "PART", 1 << 13)
    monkeypatch.setattr(stored, "HELD", 1 << 13)
    gray = Volume.create(client, BlockSize="16,16,16", Background="9")
    voxels = noise(6, (48, 64, 80))
    gray.put(voxels, (16, 0, 16))
    (repo,) = database.repos.values()
    instance = client.server.instances.named(repo, "gray")
    offset, size = (10, 3, 7), (50, 59, 77)
    model = Lattice(0, 128, "u1", background=9)
    model[(16, 0, 16), (48, 64, 80)][:] = voxels
    with instance.engine.snapshot() as snapshot:
        from dvidcore.geometry import ZYX
        from dvidcore.storage.versioned import View

        view = View(snapshot, database.ancestry_for(repo, repo.dag.root, instance.record))
        pieces = [bytes(piece) for piece in instance.stored.stream(view, ZYX(*offset), ZYX(*size))]
        whole = instance.stored.read(view, ZYX(*offset), ZYX(*size))
    assert len(pieces) > 1 and max(map(len, pieces)) <= max(slab, 77)
    assert b"".join(pieces) == whole.tobytes() == model[offset, size].tobytes()


def test_three_gib_is_the_most(gray):
    assert gray.get("raw/0_1_2/1024_1024_3073/0_0_0").status == 400
    assert gray.get("raw/xy/100000_100000/0_0_0").status == 400
    assert gray.get("subvolblocks/1024_1024_3104/0_0_0").status == 400
    assert gray.get("blocks/0_0_0/98305").status == 400
    answer = gray.get("raw/0_1_2/1024_1024_3072/0_0_0")
    assert (answer.status, answer.headers["content-length"]) == (200, str(3 << 30))
    assert not any(next(answer.pieces))
    answer.pieces.close()


# -- slices -----------------------------------------------------------------------------------------------------------

PLANES = {"xy": (2, 1), "xz": (2, 0), "yz": (1, 0)}


@pytest.mark.parametrize("plane", ["xy", "xz", "yz"])
def test_slices_are_planes_of_the_volume(gray, plane):
    voxels = noise(8, (64, 96, 64))
    gray.put(voxels, (0, 32, -32))
    columns, rows = PLANES[plane]
    model = Lattice(-64, 256, "u1")
    model[(0, 32, -32), voxels.shape][:] = voxels
    offset = (17, 40, -40)
    size = [1, 1, 1]
    size[columns], size[rows] = 50, 41
    expected = model[offset, size].reshape(41, 50)
    numbers = {"xy": "0_1", "xz": "0_2", "yz": "1_2"}[plane]
    for name in (plane, plane.upper(), numbers, numbers.replace("_", ",")):
        for tail in ("", "/png", "/tif", "/tiff", "/bmp"):
            answer = gray.get(f"raw/{name}/50_41/{xyz(offset)}{tail}")
            kind = {"": "png", "/tif": "tiff"}.get(tail, tail[1:])
            assert (answer.status, answer.headers["content-type"]) == (200, f"image/{kind}")
            np.testing.assert_array_equal(image(answer.body), expected)


def smooth(shape):
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    return (127 + 60 * np.sin(x / 9) + 50 * np.cos(y / 11 + z / 13)).astype(np.uint8)


def test_jpegs(gray):
    voxels = smooth((32, 64, 64))
    gray.put(voxels, (0, 0, 0))
    sizes = {}
    for tail in ("jpg", "jpeg", "jpg:95", "jpeg:30", "jpg:1", "jpg:-7", "jpg:1000"):
        answer = gray.get(f"raw/xy/64_64/0_0_5/{tail}")
        assert answer.headers["content-type"] == "image/jpeg"
        sizes[tail] = len(answer.body)
        if tail in ("jpg", "jpeg", "jpg:95"):
            assert np.abs(image(answer.body).astype(int) - voxels[5]).max() < 16
    assert sizes["jpg:1"] == sizes["jpg:-7"] < sizes["jpeg:30"] < sizes["jpg"] < sizes["jpg:95"] < sizes["jpg:1000"]
    for tail in ("jpg", "jpeg"):
        answer = gray.get(f"raw/0_1_2/40_20_10/3_4_5/{tail}")
        assert answer.headers["content-type"] == "image/jpeg"
        assert np.abs(image(answer.body).astype(int) - voxels[5:15, 4:24, 3:43].reshape(200, 40)).max() < 16


def test_a_jpeg_has_no_more_rows_than_the_format(gray):
    assert gray.get("raw/0_1_2/10_256_256/0_0_0/jpg").status == 400
    assert gray.get("raw/xy/65501_1/0_0_0/jpg").status == 400
    assert gray.get("raw/xy/65501_1/0_0_0").status == 200


@pytest.mark.parametrize("typename", ["uint16blk", "uint32blk", "uint64blk", "float32blk", "rgba8blk"])
def test_png_shows_every_bit_of_a_voxel(client, typename):
    volume = Volume.create(client, typename, BlockSize="16,16,16")
    voxels = noise(9, (16, 16, 32, *volume.channels), volume.dtype)
    volume.put(voxels, (0, 0, 0))
    plane = voxels[3]
    got = image(volume.get("raw/xy/32_16/0_0_3").body)
    if typename == "uint64blk":  # Pillow reads the upper bytes of 16-bit channels
        np.testing.assert_array_equal(got, plane.view(np.uint8).reshape(16, 32, 4, 2)[..., 0])
    elif typename in ("uint32blk", "float32blk"):
        np.testing.assert_array_equal(got, plane.view(np.uint8).reshape(16, 32, 4))
    else:
        np.testing.assert_array_equal(got, plane)


def test_colours_as_jpeg_are_multiplied_by_alpha(client):
    volume = Volume.create(client, "rgba8blk")
    voxels = np.full((32, 32, 32, 4), 200, np.uint8)
    voxels[:, :, :16, 3], voxels[:, :, 16:, 3] = 255, 128
    volume.put(voxels, (0, 0, 0))
    got = image(volume.get("raw/xy/32_32/0_0_0/jpg:95").body)
    assert abs(int(got[:, :15].mean()) - 200) < 3 and abs(int(got[:, 17:].mean()) - 100) < 3


def test_head_is_get_without_the_body(gray):
    gray.put(noise(4, (32, 32, 32)), (0, 0, 0))
    for path in ("raw/0_1_2/32_32_32/0_0_0", "raw/xy/32_32/0_0_0", "blocks/0_0_0/1", "info", "metadata"):
        answer = gray.client("HEAD", f"{gray.path}/{path}")
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["content-length"] == str(len(gray.get(path).body))


# -- throttling -------------------------------------------------------------------------------------------------------


def test_a_second_throttled_request_is_told_to_come_again(gray):
    voxels = noise(5, (32, 32, 32))
    gray.put(voxels, (0, 0, 0))
    assert gray.client.admin("POST", "/api/server/settings", {"throttle": "1"}).status == 200
    first = gray.get("raw/0_1_2/1024_1024_64/0_0_0?throttle=true")
    for path in ("raw/0_1_2/8_8_8/0_0_0", "subvolblocks/32_32_32/0_0_0"):
        for value in ("true", "on"):
            assert gray.get(f"{path}?throttle={value}").status == 503
        assert gray.get(f"{path}?throttle=yes").status == 200
        assert gray.get(path).status == 200
    assert gray.post("raw/0_1_2/32_32_32/0_0_0?throttle=on", voxels.tobytes()).status == 503
    for plane in ("xy", "XZ", "1_2", "0,1"):  # slices are never throttled
        for kind in ("raw", "isotropic"):
            assert gray.get(f"{kind}/{plane}/8_8/0_0_0?throttle=on").status == 200
            assert gray.get(f"{kind}/{plane}/8_8/0_0_0/jpg?throttle=true").status == 200
    first.pieces.close()
    assert gray.get("raw/0_1_2/8_8_8/0_0_0?throttle=true").status == 200
    assert gray.post("raw/0_1_2/32_32_32/0_0_0?throttle=on", voxels.tobytes()).status == 200
    assert gray.get("raw/0_1_2/0_8_8/0_0_0?throttle=on").status == 400
    assert gray.get("raw/0_1_2/8_8_8/0_0_0?throttle=true").status == 200
