"""GET raw, slices, isotropic and pseudocolor of a labelmap, against a numpy model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvidcore import budget
from dvidcore.datatypes.labels.reading import volume as volumes
from dvidcore.datatypes.labels.reading.slices import murmur3
from dvidcore.repos import Database, OneStore
from dvidcore.storage.memory import Memory
from labelmap_client import BLOCK, Seg, blobs, image, png_labels, volume, xyz

ORIGIN = (-64, -32, -96)
COMPRESSIONS = ["", "lz4", "gzip", "google", "googlegzip"]


@pytest.fixture(scope="module")
def seg() -> Iterator[Seg]:
    with Database.open({"main": Memory.open("")}, OneStore("main")) as database:
        seg = Seg.create(database)
        seg.write(blobs((128, 64, 192), 0), ORIGIN)
        seg.merge(50, 51, 2**64 - 1)
        yield seg


boxes = st.tuples(
    st.tuples(st.integers(-80, 80), st.integers(-50, 50), st.integers(-120, 120)),
    st.tuples(st.integers(1, 70), st.integers(1, 50), st.integers(1, 90)),
)


@settings(max_examples=40, deadline=None)
@given(boxes, st.integers(0, 3), st.booleans(), st.sampled_from(COMPRESSIONS[:3]))
def test_any_box_at_any_scale(seg, box, scale, supervoxels, compression):
    offset, size = box
    query = f"scale={scale}&compression={compression}" + ("&supervoxels=true" if supervoxels else "")
    got = volume(seg.get(f"raw/0_1_2/{xyz(size)}/{xyz(offset)}?{query}"), size, compression)
    np.testing.assert_array_equal(got, seg.cut(offset, size, scale, supervoxels))


@settings(max_examples=15, deadline=None)
@given(boxes, st.sampled_from(["google", "googlegzip"]))
def test_compressed_segmentation_of_any_offset(seg, box, compression):
    offset, size = box[0], tuple(8 * (n // 16 + 1) for n in box[1])
    answer = seg.ask(f"raw/0_1_2/{xyz(size)}/{xyz(offset)}?compression={compression}")
    assert answer.headers.get("content-encoding") == ("gzip" if compression == "googlegzip" else None)
    np.testing.assert_array_equal(volume(answer.body, size, compression), seg.cut(offset, size))


@pytest.mark.parametrize("compression", ["", "gzip", "google", "googlegzip"])
@pytest.mark.parametrize("limit", [1, 100_000, 700_000])
@pytest.mark.parametrize("share", [0, 1 << 30])
def test_an_answer_in_slabs_is_the_same(seg, monkeypatch, *, compression, limit, share):
    monkeypatch.setattr(volumes, "STREAMED", limit)
    monkeypatch.setattr(budget.answers, "limit", share)
    size, offset = (120, 48, 88), (-59, -20, -71)
    answer = seg.ask(f"raw/0_1_2/{xyz(size)}/{xyz(offset)}?compression={compression}")
    assert answer.status == 200
    if not compression:
        assert int(answer.headers["content-length"]) == 8 * 120 * 48 * 88
    np.testing.assert_array_equal(volume(answer.body, size, compression), seg.cut(offset, size))


def test_a_slab_is_bounded_by_its_bytes(seg, monkeypatch):
    monkeypatch.setattr(volumes, "STREAMED", 8 * 48 * 88 * 3)
    monkeypatch.setattr(budget.answers, "limit", 0)
    answer = seg.ask(f"raw/0_1_2/{xyz((40, 48, 88))}/{xyz((-59, -20, -71))}")
    np.testing.assert_array_equal(volume(answer.body, (40, 48, 88)), seg.cut((-59, -20, -71), (40, 48, 88)))


def test_tables_beyond_24_bits_are_refused(seg, monkeypatch):
    monkeypatch.setattr(volumes, "_TABLE_LIMIT", 2000)
    for limit in (1, 100_000):
        monkeypatch.setattr(volumes, "STREAMED", limit)
        text = seg.refused(f"raw/0_1_2/{xyz((96, 48, 88))}/{xyz(ORIGIN)}?compression=google")
        assert "24 bits" in text


@pytest.mark.parametrize("dims", ["0_1_2", "0,1,2", "vol", "Vol"])
def test_names_of_the_volume(seg, dims):
    got = volume(seg.get(f"raw/{dims}/20_21_22/-30_-20_-10"), (22, 21, 20))
    np.testing.assert_array_equal(got, seg.cut((-10, -20, -30), (22, 21, 20)))


PLANES = {
    **dict.fromkeys(("xy", "XY", "0_1", "0,1"), (2, 1)),
    **dict.fromkeys(("xz", "0_2", "0,2"), (2, 0)),
    **dict.fromkeys(("yz", "Yz", "1_2", "1,2"), (1, 0)),
}


def plane(seg, dims, width, height, offset, *, scale=0, supervoxels=False):
    """The model's slice as (height, width)."""
    across, down = PLANES[dims]
    size = [1, 1, 1]
    size[across], size[down] = width, height
    return seg.cut(offset, tuple(size), scale, supervoxels).squeeze(axis=3 - across - down)


@pytest.mark.parametrize("dims", PLANES)
@pytest.mark.parametrize("scale", [0, 1])
def test_slices(seg, dims, scale):
    for offset, width, height in [((-20, -10, -30), 50, 40), ((3, 5, 7), 1, 1), ((-70, -40, -100), 130, 90)]:
        path = f"raw/{dims}/{width}_{height}/{xyz(offset)}?scale={scale}"
        answer = seg.ask(path)
        assert answer.headers["content-type"] == "image/png"
        np.testing.assert_array_equal(png_labels(answer.body), plane(seg, dims, width, height, offset, scale=scale))
        got = png_labels(seg.get(path + "&supervoxels=true&compression=gzip"))
        np.testing.assert_array_equal(got, plane(seg, dims, width, height, offset, scale=scale, supervoxels=True))


@pytest.mark.parametrize(
    ("format", "kind"),
    [("png", "png"), ("jpg", "jpeg"), ("jpg:40", "jpeg"), ("tiff", "tiff"), ("bmp", "bmp")],
)
def test_formats(seg, format, kind):
    for what in ("raw", "isotropic", "pseudocolor"):
        answer = seg.ask(f"{what}/xz/31_17/-30_-20_-10/{format}")
        assert (answer.status, answer.headers["content-type"]) == (200, f"image/{kind}")
        if kind != "tiff":  # of 16-bit RGBA Pillow reads no TIFF
            assert image(answer.body).shape[:2] == (17, 31)


def test_isotropic_is_raw_where_voxel_sizes_are_equal(seg):
    for path in ("0_1_2/20_21_22/-30_-20_-10", "xy/50_40/-30_-20_-10", "yz/50_40/-30_-20_-10"):
        assert seg.get(f"isotropic/{path}") == seg.get(f"raw/{path}")


def nearest(source, width, height):
    rows, columns = source.shape
    return np.array([[source[y * rows // height, x * columns // width] for x in range(width)] for y in range(height)])


@pytest.mark.parametrize(
    ("voxel", "dims", "read"),
    [
        ((4, 4, 40), "xz", (60, 5)),  # 50 rows of 4 in 40: int(50 * 4/40 + 0.5)
        ((4, 4, 40), "xy", (60, 50)),
        ((10, 4, 4), "xy", (24, 50)),  # int(60 * 4/10 + 0.5) columns
        ((3, 7, 1), "yz", (9, 50)),
    ],
)
def test_isotropic_shows_the_nearest_label(database, voxel, dims, read):
    seg = Seg.create(database, VoxelSize=",".join(map(str, voxel)))
    seg.write(blobs((64, 64, 96), 3), (0, 0, 0))
    source = plane(seg, dims, *read, (3, 2, 5))
    got = png_labels(seg.get(f"isotropic/{dims}/60_50/5_2_3"))
    np.testing.assert_array_equal(got, nearest(source, 60, 50))


def test_pseudocolor_is_the_hash_of_the_body(seg):
    got = image(seg.get("pseudocolor/xy/80_60/-60_-40_-10"))
    hashed = murmur3(plane(seg, "xy", 80, 60, (-10, -40, -60)))
    want = np.stack([hashed >> 24 & 255, hashed >> 16 & 255, hashed >> 8 & 255], axis=-1)
    np.testing.assert_array_equal(got, want)


def murmur3_of_bytes(data: bytes) -> int:
    """MurmurHash3 x86 32-bit, seed 0, in plain integers."""
    h = 0
    for at in range(0, len(data), 4):
        k = int.from_bytes(data[at : at + 4], "little") * 0xCC9E2D51 & 0xFFFFFFFF
        k = (k << 15 | k >> 17) * 0x1B873593 & 0xFFFFFFFF
        h ^= k
        h = ((h << 13 | h >> 19) & 0xFFFFFFFF) * 5 + 0xE6546B64 & 0xFFFFFFFF
    h ^= len(data)
    h = (h ^ h >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    h = (h ^ h >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return h ^ h >> 16


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20))
def test_murmur3(labels):
    want = [murmur3_of_bytes(label.to_bytes(8, "little")) for label in labels]
    assert murmur3(np.array(labels, np.uint64)).tolist() == want


def test_label_0_has_its_known_colour():
    assert murmur3(np.zeros(1, np.uint64))[0] == 0x63852AFC


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("raw/0_1_2/0_8_8/0_0_0", "size"),
        ("raw/0_1_2/8_-8_8/0_0_0", "size"),
        ("raw/0_1_2/8_8/0_0_0", "size"),
        ("raw/0_1_2/8_8_8/0_0", "offset"),
        ("raw/0_1_2/8_8_8/0_0_x", "offset"),
        ("raw/0_1_2/8_8_8/2147483647_0_0", "int32"),
        ("raw/0_1_2/8_8_8/0_0_0?compression=zip", "compression"),
        ("isotropic/0_1_2/8_8_8/0_0_0?compression=zip", "compression"),
        ("raw/0_1_2/9_8_8/0_0_0?compression=google", "size"),
        ("raw/0_1_2/8_8_8/0_0_0?scale=x", "scale"),
        ("raw/0_1_2/8_8_8/0_0_0?scale=-1", "scale"),
        ("raw/0_1_2/4000_4000_4000/0_0_0", "size"),
        ("raw/0_1_2/2147483647_2147483647_2147483647/0_0_0", "size"),
        ("raw/0_1_3/8_8_8/0_0_0", "dims"),
        ("raw/1_0/8_8/0_0_0", "dims"),
        ("raw/xy/8_8_8/0_0_0", "size"),
        ("raw/xy/8_0/0_0_0", "size"),
        ("raw/xy/8_8/0_0_0/gif", "format"),
        ("raw/xy/70000_2/0_0_0/jpg", "size"),
        ("raw/xy/8_8/0_0_0?roi=nope", "roi"),
        ("raw/xy/100000_100000/0_0_0", "size"),
        ("isotropic/xy/8_8_8/0_0_0", "size"),
        ("pseudocolor/0_1_2/8_8_8/0_0_0", "dims"),
        ("pseudocolor/xy/8_8/0_0_0/gif", "format"),
        ("raw", "raw"),
    ],
)
def test_refusals_name_the_argument(seg, path, says):
    assert says in seg.refused(path)


def test_a_slice_has_no_compression(seg):
    plain = seg.get("raw/xy/8_8/0_0_0")
    for word in ("zip", "lz4", "google"):
        assert seg.get(f"raw/xy/8_8/0_0_0?compression={word}") == plain


@pytest.mark.parametrize("size", ["0_16_32", "48_0_32", "0_0_0", "-48_-16_32", "48_16", "48_16_32_1"])
def test_a_posted_volume_has_voxels(seg, size):
    before = seg.get("info"), seg.get("listlabels?sizes=true")
    assert "size" in seg.refused(f"raw/0_1_2/{size}/0_0_0", b"", "POST")
    assert (seg.get("info"), seg.get("listlabels?sizes=true")) == before


def test_a_format_behind_a_written_volume_does_not_matter(seg):
    size = seg.block[::-1]
    body = np.full(seg.block, 77, np.uint64).tobytes()
    for tail in ("nd", "octet-stream/"):
        path = "raw/0_1_2/{}_{}_{}/480_0_0/".format(*size) + tail
        seg.post(path, body)
        assert seg.get(path) == body


@pytest.mark.parametrize("word", ["isotropic/0_1_2/48_16_32/0_0_0", "pseudocolor/xy/48_16/0_0_0", "raw/xy/48_16/0_0_0"])
def test_only_volumes_are_posted(seg, word):
    seg.refused(word, np.zeros(BLOCK, np.uint64).tobytes(), "POST")
