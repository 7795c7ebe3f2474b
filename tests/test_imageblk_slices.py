"""Stretched and oblique slices of image instances, against plain Python that follows the specification to the letter."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiclient import Client
from dvidcore.datatypes.imageblk import planes
from image_client import Lattice, Volume, image, noise


@pytest.fixture
def client(database):
    return Client(database)


# -- isotropic --------------------------------------------------------------------------------------------------------


def stretched(source, width, height):
    """Each target pixel: the mean of the source pixels under it, weighted by area, rounded down."""
    sh, sw = source.shape
    out = np.zeros((height, width), int)
    for row in range(height):
        for column in range(width):
            total = 0
            for y in range(row * sh // height, -(-(row + 1) * sh // height)):
                for x in range(column * sw // width, -(-(column + 1) * sw // width)):
                    wide = min((x + 1) * width, (column + 1) * sw) - max(x * width, column * sw)
                    high = min((y + 1) * height, (row + 1) * sh) - max(y * height, row * sh)
                    total += int(source[y, x]) * wide * high
            out[row, column] = total // (sw * sh)
    return out


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 14), st.booleans(), st.sampled_from(["<u1", "<u2"]))
def test_resampling_is_the_exact_mean(rows, columns, count, tall, dtype):
    source = noise(rows * 13 + columns, (rows, columns), dtype)
    width, height = (columns, count) if tall else (count, rows)
    np.testing.assert_array_equal(planes.resample(source, width, height), stretched(source, width, height))


def test_resampling_keeps_channels_apart():
    source = noise(1, (5, 7, 4))
    got = planes.resample(source, 7, 9)
    assert got.shape == (9, 7, 4) and got.dtype == np.uint8
    for channel in range(4):
        np.testing.assert_array_equal(got[..., channel], stretched(source[..., channel], 7, 9))


@pytest.mark.parametrize(
    ("plane", "axes", "have"), [("xy", (2, 1), (60, 25)), ("xz", (2, 0), (60, 20)), ("yz", (1, 0), (60, 40))]
)
def test_isotropic_slices_read_fewer_voxels_along_the_coarse_axis(client, plane, axes, have):
    gray = Volume.create(client, VoxelSize="4,8,10")
    voxels = noise(2, (64, 64, 96))
    gray.put(voxels, (0, 0, 0))
    offset = (2, 5, 3)
    model = Lattice(0, 128, "u1")
    model[(0, 0, 0), voxels.shape][:] = voxels
    size = [1, 1, 1]
    size[axes[0]], size[axes[1]] = have
    source = model[offset, size].reshape(have[::-1])
    got = image(gray.get(f"isotropic/{plane}/60_50/3_5_2").body)
    np.testing.assert_array_equal(got, stretched(source, 60, 50))


def test_isotropic_of_square_voxels_is_raw(client):
    gray = Volume.create(client)
    gray.put(noise(3, (32, 32, 32)), (0, 0, 0))
    assert gray.get("isotropic/xz/20_20/3_4_5").body == gray.get("raw/xz/20_20/3_4_5").body


def test_isotropic_of_a_very_coarse_axis_shows_at_least_one_voxel(client):
    gray = Volume.create(client, VoxelSize="1,1,100")
    voxels = noise(4, (32, 32, 32))
    gray.put(voxels, (0, 0, 0))
    got = image(gray.get("isotropic/xz/20_3/0_5_7").body)
    np.testing.assert_array_equal(got, np.repeat(voxels[7:8, 5, :20], 3, 0))


def test_pixels_of_stretched_slices_are_limited(client):
    gray = Volume.create(client, VoxelSize="1,1,100")
    assert gray.get("isotropic/xz/10000_10000/0_0_0").status == 400


# -- arb --------------------------------------------------------------------------------------------------------------


def oblique(model, corners, res, resolution):
    """The specification, point by point. Corners, as in the URL, are x, y, z; so is ``resolution``."""
    tl, tr, bl = (list(map(float, c)) for c in corners)
    nx, ny = (math.floor(math.dist(tl, end) / res) for end in (tr, bl))
    across = [(b - a) / nx if nx else 0.0 for a, b in zip(tl, tr, strict=True)]
    down = [(b - a) / ny if ny else 0.0 for a, b in zip(tl, bl, strict=True)]
    out = np.zeros((ny + 1, nx + 1), np.uint8)
    start = list(tl)
    for row in range(ny + 1):
        point = list(start)
        for column in range(nx + 1):
            low = [math.floor(p / r) for p, r in zip(point, resolution, strict=True)]
            high = [math.ceil(p / r) for p, r in zip(point, resolution, strict=True)]
            f = [
                (p - a * r) / ((b - a) * r) if b > a else 0.0
                for p, a, b, r in zip(point, low, high, resolution, strict=True)
            ]

            def value(z, y, x):
                return float(model[(z, y, x), (1, 1, 1)][0, 0, 0])

            def along_x(z, y):
                return value(z, y, low[0]) * (1 - f[0]) + value(z, y, high[0]) * f[0]  # noqa: B023

            def along_y(z):
                return along_x(z, low[1]) * (1 - f[1]) + along_x(z, high[1]) * f[1]  # noqa: B023

            c = along_y(low[2]) * (1 - f[2]) + along_y(high[2]) * f[2]
            out[row, column] = min(math.floor(c + 0.5), 255)
            point = [p + d for p, d in zip(point, across, strict=True)]
        start = [p + d for p, d in zip(start, down, strict=True)]
    return out


@pytest.fixture
def tissue(client):
    """uint8, resolution 4, 8, 10, and the model of what it holds."""
    gray = Volume.create(client, VoxelSize="4,8,10", BlockSize="16,16,16", Background="3")
    model = Lattice(-64, 256, "u1", background=3)
    voxels = noise(5, (32, 48, 64))
    gray.put(voxels, (0, 0, 0))
    model[(0, 0, 0), voxels.shape][:] = voxels
    return gray, model


@pytest.mark.parametrize(
    ("corners", "res"),
    [
        ([(0, 0, 100), (200, 0, 100), (0, 300, 100)], 4),
        ([(40, 80, 60), (40, 300, 60), (40, 80, 250)], 8.5),
        ([(10.5, 20.25, 30), (250.5, 120.25, 130), (60, 300, 44.4)], 7.3),
        ([(-50, -60, -70), (200, 300, 300), (300, -60, 200)], 20),
        ([(252, 376, 310), (0, 376, 310), (252, 0, 310)], 12),
        ([(100, 100, 100), (105, 100, 100), (100, 105, 100)], 50),
    ],
)
def test_oblique_slices_are_interpolated_as_specified(tissue, corners, res):
    gray, model = tissue
    path = "/".join("_".join(map(str, c)) for c in corners)
    answer = gray.get(f"arb/{path}/{res}")
    assert answer.headers["content-type"] == "image/png"
    np.testing.assert_array_equal(np.atleast_2d(image(answer.body)), oblique(model, corners, res, (4.0, 8.0, 10.0)))


def test_oblique_slices_of_a_coarser_scale(client):
    gray = Volume.create(client, VoxelSize="4,8,10", BlockSize="16,16,16", Background="3", MaxDownresLevel="2")
    gray.put(noise(6, (64, 64, 64)), (0, 0, 0))
    corners = [(10.5, 20.25, 30), (250.5, 120.25, 130), (60, 300, 44.4)]
    path = "arb/" + "/".join("_".join(map(str, c)) for c in corners) + "/7.3"
    for scale in (1, 2):
        side = 64 >> scale
        coarse = gray.get(f"raw/0_1_2/{side}_{side}_{side}/0_0_0?scale={scale}").body
        model = Lattice(-64, 256, "u1", background=3)
        model[(0, 0, 0), (side,) * 3][:] = np.frombuffer(coarse, np.uint8).reshape(side, side, side)
        expected = oblique(model, corners, 7.3, [r * 2**scale for r in (4.0, 8.0, 10.0)])
        np.testing.assert_array_equal(image(gray.get(f"{path}?scale={scale}").body), expected)
        assert gray.get(f"{path}/png?scale={scale}").body == gray.get(f"{path}?scale={scale}").body
    for scale in (3, -1):
        assert gray.get(f"{path}?scale={scale}").status == 400


def test_oblique_slices_come_in_all_formats(tissue):
    gray, _ = tissue
    for tail, kind in (("png", "png"), ("jpg:70", "jpeg"), ("tif", "tiff"), ("bmp", "bmp")):
        answer = gray.get(f"arb/0_0_0/200_0_0/0_300_0/4/{tail}")
        assert (answer.status, answer.headers["content-type"]) == (200, f"image/{kind}")
        assert image(answer.body).shape[:2] == (76, 51)


def test_an_oblique_slice_far_larger_than_its_blocks(client):
    """Each pixel lies in a block of its own: memory is bounded by one block."""
    gray = Volume.create(client)
    answer = gray.get("arb/0_0_0/16000000_0_8000000/0_16000000_0/60000")
    assert image(answer.body).shape == (267, 299)


@pytest.mark.parametrize(
    "path",
    [
        "0_0_0/80_0_0/0_80_0",
        "0_0/80_0_0/0_80_0/8",
        "0_0_0/80_0_0/0_80_0_0/8",
        "a_0_0/80_0_0/0_80_0/8",
        "nan_0_0/80_0_0/0_80_0/8",
        "0_0_0/inf_0_0/0_80_0/8",
        "0_0_0/80_0_0/0_80_0/x",
        "0_0_0/80_0_0/0_80_0/8/webp",
        "0_0_0/80_0_0/0_80_0/0",
        "0_0_0/80_0_0/0_80_0/-4",
        "0_0_0/80_0_0/0_80_0/nan",
        "0_0_0/80_0_0/0_80_0/1e-9",
        "0_0_0/80000_0_0/0_80000_0/1",
        "0_0_0/80_0_0/160_0_0/8",
        "0_0_0/80_0_0/80_0_0/8",
        "0_0_0/0_0_0/0_80_0/8",
        "0_0_0/1e300_0_0/0_1e300_0/1e299",
        "0_0_0/1e12_0_0/0_1e12_0/1e11",
    ],
)
def test_what_arb_refuses(tissue, path):
    answer = tissue[0].get(f"arb/{path}")
    assert answer.status == 400 and answer.text.strip()


def test_arb_refuses_a_scale_that_is_not_there(client):
    gray = Volume.create(client, VoxelSize="4.5,8,10")
    for scale in (1, 5000):  # of which two to the power is no float
        answer = gray.get(f"arb/0_0_0/80_0_0/0_80_0/8?scale={scale}")
        assert answer.status == 400 and "scale" in answer.text
