"""Images against Pillow's decoders."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from dvidcore import codecs, images
from dvidcore.errors import BadRequest, StoreError


def smooth(shape: tuple[int, ...], dtype: type = np.uint8) -> np.ndarray:
    """A field without edges, which JPEG keeps well."""
    grid = np.meshgrid(*(np.linspace(0, 2.5, n) for n in shape), indexing="ij")
    field = 0.5 + 0.45 * np.sin(sum((i + 1) * g for i, g in enumerate(grid)))
    return (field * np.iinfo(dtype).max).astype(dtype)


def noise(shape: tuple[int, ...], dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(1).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def decoded(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def png_samples(data: bytes) -> np.ndarray:
    """The channels of a PNG by an independent reading of the format: Pillow narrows 16-bit colour."""
    import struct
    import zlib

    at, idat, header = 8, b"", b""
    while at < len(data):
        n, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + n]
        assert struct.unpack(">I", data[at + 8 + n : at + 12 + n])[0] == zlib.crc32(kind + body)
        if kind == b"IHDR":
            header = body
        elif kind == b"IDAT":
            idat += body
        at += 12 + n
    width, height, depth, color, *rest = struct.unpack(">IIBBBBB", header)
    assert rest == [0, 0, 0]
    channels = {0: 1, 2: 3, 6: 4}[color]
    size = channels * depth // 8
    rows = np.frombuffer(zlib.decompress(idat), np.uint8).reshape(height, 1 + width * size)
    out = np.zeros((height, width * size), np.uint8)
    for y, row in enumerate(rows):
        if row[0] == 1:
            out[y] = np.add.accumulate(row[1:].reshape(width, size), axis=0, dtype=np.uint8).ravel()
        else:
            assert row[0] == 2
            out[y] = row[1:] + (out[y - 1] if y else 0)
    samples = out if depth == 8 else out.view(">u2")
    return samples.reshape((height, width) if channels == 1 else (height, width, channels))


@given(
    st.sampled_from([("u1", ()), ("u1", (3,)), ("u1", (4,)), ("<u2", ()), (">u2", ()), ("<u2", (4,)), (">u2", (4,))]),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.data(),
)
@settings(max_examples=60, deadline=None)
def test_png_and_tiff_are_lossless(
    kind: tuple[str, tuple[int, ...]], size: tuple[int, int], data: st.DataObject
) -> None:
    dtype, channels = kind
    image = data.draw(hnp.arrays(np.dtype(dtype), size + channels))
    assert np.array_equal(png_samples(images.encode_png(image)), image)
    if not (dtype != "u1" and channels):  # Pillow reads no 16-bit RGBA
        assert np.array_equal(decoded(images.encode_png(image)), image)
        assert np.array_equal(decoded(images.encode_tiff(image)), image)


def test_tiff_of_16_bit_colour_keeps_the_upper_bytes_where_pillow_narrows_it() -> None:
    image = noise((7, 5, 4), np.uint16)
    with Image.open(io.BytesIO(images.encode_tiff(image))) as tiff:
        assert tiff.size == (5, 7)
        assert tiff.tag_v2[258] == (16, 16, 16, 16)
        assert tiff.tag_v2[259] == 8


def test_a_plane_that_is_not_contiguous() -> None:
    volume = noise((6, 7, 8))
    for plane in (volume[:, 3], volume[:, :, 2], volume[::2, 1, ::-1]):
        assert np.array_equal(decoded(images.encode_png(plane)), plane)
        assert np.array_equal(decoded(images.encode_tiff(plane)), plane)
        assert np.array_equal(decoded(images.encode_bmp(plane)), plane)
        assert decoded(images.encode_jpeg(plane)).shape == plane.shape


def test_labels_show_their_bytes_in_memory_order() -> None:
    labels = noise((5, 4), np.uint64)
    shown = png_samples(images.encode_png(images.pixels(labels)))
    assert shown.dtype == np.dtype(">u2")
    assert shown.tobytes() == labels.astype("<u8").tobytes()


@pytest.mark.parametrize("dtype", [np.uint32, np.float32])
def test_four_byte_voxels_show_their_bytes(dtype: type) -> None:
    plane = noise((5, 4), np.uint32).view(dtype)
    assert png_samples(images.encode_png(images.pixels(plane))).tobytes() == plane.tobytes()
    assert np.array_equal(images.pixels(plane.T), images.pixels(np.ascontiguousarray(plane.T)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_gray_is_shown_as_it_is(dtype: type) -> None:
    plane = noise((5, 4), dtype)
    assert images.pixels(plane) is plane


def test_jpeg_is_near_and_gets_better_with_quality() -> None:
    image = smooth((40, 30))
    errors = []
    for quality in (5, 50, 80, 100):
        shown = decoded(images.encode_jpeg(image, quality))
        errors.append(np.abs(shown.astype(int) - image).mean())
    assert errors == sorted(errors, reverse=True)
    assert errors[-2] < 2
    assert errors[-1] < 1


def test_jpeg_of_colour_is_multiplied_by_alpha() -> None:
    image = np.full((16, 16, 4), 200, np.uint8)
    image[..., 3] = 255
    assert np.abs(decoded(images.encode_jpeg(image)).astype(int) - 200).max() <= 2
    image[..., 3] = 51
    shown = decoded(images.encode_jpeg(image))
    assert shown.shape == (16, 16, 3)
    assert np.abs(shown.astype(int) - 40).max() <= 2


def test_16_bit_gray_is_narrowed_and_becomes_rgb_where_the_format_has_8() -> None:
    image = smooth((20, 30), np.uint16)
    upper = np.stack([image >> 8] * 3, axis=2)
    assert np.array_equal(decoded(images.encode_bmp(image)), upper)
    assert np.abs(decoded(images.encode_jpeg(image, 95)).astype(int) - upper).max() <= 6


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3), (6, 5, 4)])
def test_bmp_is_lossless(shape: tuple[int, ...]) -> None:
    image = noise(shape)
    shown = decoded(images.encode_bmp(image))
    assert np.array_equal(shown, image[..., :3] if len(shape) == 3 else image)  # Pillow reads 32 bits as RGB


def test_bmp_has_the_alpha_of_colour() -> None:
    image = noise((2, 1, 4))
    assert images.encode_bmp(image)[-8:] == image[::-1, :, [2, 1, 0, 3]].tobytes()


@pytest.mark.parametrize("kind", sorted(images.CONTENT_TYPES))
def test_encode_by_kind_writes_what_the_content_type_says(kind: str) -> None:
    with Image.open(io.BytesIO(images.encode(smooth((8, 9)), kind))) as image:
        assert image.get_format_mimetype() == images.CONTENT_TYPES[kind]
        assert image.size == (9, 8)


@pytest.mark.parametrize(
    ("text", "kind", "quality"),
    [
        ("", "png", 80),
        ("png", "png", 80),
        ("jpg", "jpg", 80),
        ("jpeg", "jpg", 80),
        ("jpg:95", "jpg", 95),
        ("jpeg:1", "jpg", 1),
        ("jpg:0", "jpg", 1),
        ("jpg:-7", "jpg", 1),
        ("jpeg:101", "jpg", 100),
        ("tif", "tiff", 80),
        ("tiff", "tiff", 80),
        ("bmp", "bmp", 80),
        ("png:3", "png", 3),
        ("tiff:1", "tiff", 1),
        ("bmp:500", "bmp", 100),
    ],
)
def test_formats(text: str, kind: str, quality: int) -> None:
    assert images.parse_format(text) == (kind, quality)


@pytest.mark.parametrize(
    "text", ["PNG", "Jpg", "webp", "gif", "jpg:", "jpg:abc", "jpg:1.5", "png:x", ":80", "bmp:", "jpg:8:0"]
)
def test_formats_that_are_none(text: str) -> None:
    with pytest.raises(BadRequest):
        images.parse_format(text)


@pytest.mark.parametrize("image", [np.zeros(4, np.uint8), np.zeros((2, 2), np.int8), np.zeros((2, 2, 2), np.uint8),
                                   np.zeros((0, 4), np.uint8), np.zeros((3, 3), np.uint64)])  # fmt: skip
def test_an_array_that_is_no_image(image: np.ndarray) -> None:
    for kind in images.CONTENT_TYPES:
        with pytest.raises(ValueError, match="image"):
            images.encode(image, kind)


@pytest.mark.parametrize("shape", [(4, 8, 16), (32, 32, 32), (3, 5, 7), (2, 3, 130)])
@pytest.mark.parametrize("checksum", ["none", "crc32"])
def test_a_block_as_jpeg(shape: tuple[int, int, int], checksum: str) -> None:
    block = smooth(shape)
    value = images.pack_jpeg(block, 90, checksum)
    assert codecs.stored_form(value)[0] == "jpeg"
    with Image.open(io.BytesIO(codecs.transcode(value, "jpeg"))) as image:
        assert image.size == (shape[2], shape[0] * shape[1])
    voxels = np.frombuffer(codecs.unpack(value), np.uint8).reshape(shape)
    assert np.abs(voxels.astype(int) - block).mean() < 4


def test_a_block_of_more_rows_than_jpeg_holds_is_kept_exactly() -> None:
    block = np.zeros((300, 300, 2), np.uint8)
    block[:, 5] = 9
    assert bytes(codecs.unpack(images.pack_jpeg(block))) == block.tobytes()


def test_a_jpeg_of_too_many_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="65500"):
        images.encode_jpeg(np.zeros((65501, 1), np.uint8))


@pytest.mark.parametrize("cut", [0, 2, 40, 300])
def test_a_damaged_jpeg_block(cut: int) -> None:
    value = images.pack_jpeg(noise((8, 8, 8)))
    with pytest.raises(StoreError):
        codecs.unpack(value[: 1 + cut])


def test_colour_jpeg_decodes_to_gray() -> None:
    assert images.decode_jpeg(images.encode_jpeg(np.full((8, 8, 3), 77, np.uint8))).tolist() == [[77] * 8] * 8
