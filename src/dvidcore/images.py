"""Images as answers: PNG, JPEG, TIFF and BMP of an array, and JPEG as a compression of blocks.

Arrays are (row, column) or (row, column, channel): uint8 gray, RGB, RGBA; uint16 gray, RGBA. PNG and TIFF are written
here, with filters that suit microscopy and a fast deflate; JPEG and BMP by Pillow, which is imported on first use.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from struct import Struct, pack
from typing import Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from dvidcore import codecs
from dvidcore.errors import BadRequest
from dvidcore.geometry import parse_int

Array = NDArray[Any]

CONTENT_TYPES: Mapping[str, str] = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "tiff": "image/tiff",
    "bmp": "image/bmp",
}
"""By the kind that ``parse_format`` answers."""

DEFAULT_QUALITY = 80
_KINDS = {"": "png", "png": "png", "jpg": "jpg", "jpeg": "jpg", "tif": "tiff", "tiff": "tiff", "bmp": "bmp"}
_JPEG_SIDE = 65500
"""The most rows or columns that libjpeg takes."""


def parse_format(text: str) -> tuple[str, int]:
    """The format part of a URL as a key of ``CONTENT_TYPES`` and a JPEG quality.

    ``""`` is PNG; ``jpg:Q`` and ``jpeg:Q`` have a quality, clamped to 1 … 100, default 80. The other formats have
    none, and a number behind them changes nothing, as clients that add one to every name rely on. BadRequest for any
    other name (case matters) and for a Q that is no integer.
    """
    name, colon, quality = text.partition(":")
    kind = _KINDS.get(name)
    if kind is None or (colon and not name):
        raise BadRequest(f'format: "{text[:40]}" is not one of png, jpg, jpeg, jpg:Q, jpeg:Q, tif, tiff, bmp')
    if not colon:
        return kind, DEFAULT_QUALITY
    return kind, min(max(parse_int(quality, "quality of the format"), 1), 100)


def pixels(plane: Array) -> Array:
    """A plane of voxels as pixels that show every bit of them, without a copy where it is contiguous.

    uint8, uint16 and (row, column, 4) uint8 stay as they are; uint32 and float32 become their four little-endian bytes
    as R, G, B, A; uint64 its eight bytes in memory order as four big-endian 16-bit channels.
    """
    size = plane.dtype.itemsize
    if plane.ndim == 3 or size <= 2:
        return plane
    channel = np.dtype("u1") if size == 4 else np.dtype(">u2")
    whole = np.ascontiguousarray(plane, plane.dtype.newbyteorder("<"))
    return whole.view(channel).reshape(*plane.shape, 4)


def encode(image: Array, kind: str, quality: int = DEFAULT_QUALITY) -> bytes:
    """The image in a format of ``CONTENT_TYPES``."""
    if kind == "png":
        return encode_png(image)
    if kind == "jpg":
        return encode_jpeg(image, quality)
    if kind == "tiff":
        return encode_tiff(image)
    return encode_bmp(image)


def _samples(image: Array) -> int:
    """Channels of an image; ValueError for an array that is none."""
    channels = 1 if image.ndim == 2 else image.shape[2] if image.ndim == 3 else 0
    if image.dtype.kind != "u" or (image.dtype.itemsize, channels) not in ((1, 1), (1, 3), (1, 4), (2, 1), (2, 4)):
        raise ValueError(f"no image: {image.dtype} of shape {image.shape}")
    if image.size == 0:
        raise ValueError(f"an image without pixels: shape {image.shape}")
    return channels


# -- PNG ------------------------------------------------------------------------------------------------------------

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_IHDR = Struct(">IIBBBBB")
_COLOR = {1: 0, 3: 2, 4: 6}
_SUB, _UP = 1, 2


def _chunk(name: bytes, data: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    crc = isal_zlib.crc32(data, isal_zlib.crc32(name))
    return len(data).to_bytes(4, "big"), name, data, crc.to_bytes(4, "big")


def encode_png(image: Array) -> bytes:
    """A PNG, not interlaced: one filter for all rows, deflate at ISA-L's level 1.

    Linear; 0.6 ms for 512 x 512 gray bytes. 16-bit channels are stored big-endian, so a ``>u2`` array is not swapped.
    """
    channels = _samples(image)
    height, width = image.shape[:2]
    depth = image.dtype.itemsize
    rows = np.ascontiguousarray(image, image.dtype.newbyteorder(">")).reshape(height, -1).view(np.uint8)
    pixel = channels * depth
    filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
    body = filtered[:, 1:]
    if pixel <= 2:
        # Neighbours along a column: as good as along a row for gray, and needs no care for the pixel's size.
        filtered[:, 0] = _UP
        body[0] = rows[0]
        np.subtract(rows[1:], rows[:-1], out=body[1:])
    else:
        filtered[:, 0] = _SUB
        body[:, :pixel] = rows[:, :pixel]
        np.subtract(rows[:, pixel:], rows[:, :-pixel], out=body[:, pixel:])
    header = _IHDR.pack(width, height, 8 * depth, _COLOR[channels], 0, 0, 0)
    data = isal_zlib.compress(filtered, 1, 15)
    return b"".join((_SIGNATURE, *_chunk(b"IHDR", header), *_chunk(b"IDAT", data), *_chunk(b"IEND", b"")))


# -- TIFF -----------------------------------------------------------------------------------------------------------

_SHORT, _LONG = 3, 4


def encode_tiff(image: Array) -> bytes:
    """A little-endian TIFF of one deflated strip with horizontal differences; alpha is not premultiplied."""
    channels = _samples(image)
    height, width = image.shape[:2]
    depth = image.dtype.itemsize
    flat = np.ascontiguousarray(image, image.dtype.newbyteorder("<")).reshape(height, width, channels)
    differences = flat.copy()
    np.subtract(flat[:, 1:], flat[:, :-1], out=differences[:, 1:])
    strip: bytes = isal_zlib.compress(differences, 1, 15)

    entries = [  # tag, type, values: in order of the tags, as the format demands
        (256, _LONG, [width]),
        (257, _LONG, [height]),
        (258, _SHORT, [8 * depth] * channels),
        (259, _SHORT, [8]),  # deflate
        (262, _SHORT, [1 if channels == 1 else 2]),  # black is zero, or RGB
        (273, _LONG, [8]),  # the strip is behind the header
        (277, _SHORT, [channels]),
        (278, _LONG, [height]),
        (279, _LONG, [len(strip)]),
        (284, _SHORT, [1]),  # channels side by side
        (317, _SHORT, [2]),  # horizontal differences
    ]
    if channels == 4:
        entries.append((338, _SHORT, [2]))  # unassociated alpha
    padding = b"\0" * (len(strip) & 1)
    directory = 8 + len(strip) + len(padding)
    extra_at = directory + 2 + 12 * len(entries) + 4
    table, extra = [pack("<H", len(entries))], b""
    for tag, kind, values in entries:
        data = pack(f"<{len(values)}{'H' if kind == _SHORT else 'I'}", *values)
        if len(data) > 4:
            data, extra = pack("<I", extra_at + len(extra)), extra + data
        table.append(pack("<HHI", tag, kind, len(values)) + data.ljust(4, b"\0"))
    return b"".join((pack("<2sHI", b"II", 42, directory), strip, padding, *table, b"\0\0\0\0", extra))


# -- JPEG and BMP ---------------------------------------------------------------------------------------------------


def _bytes_deep(image: Array) -> Array:
    """8 bits a channel: of 16 the upper ones. Gray of 16 bits becomes RGB, as clients of DVID get it."""
    _samples(image)
    if image.dtype.itemsize == 1:
        return image
    upper: Array = (image >> 8).astype(np.uint8)
    return upper if upper.ndim == 3 else np.repeat(upper[..., None], 3, axis=2)


def encode_jpeg(image: Array, quality: int = DEFAULT_QUALITY) -> bytes:
    """A JPEG, grayscale for gray of 8 bits, else RGB. Colours are multiplied by alpha, since JPEG has none.

    Raises ValueError for more than 65500 rows or columns.
    """
    from PIL import Image

    shown = _bytes_deep(image)
    if max(shown.shape[:2]) > _JPEG_SIDE:
        raise ValueError(f"JPEG holds at most {_JPEG_SIDE} rows and columns, not {shown.shape[0]} x {shown.shape[1]}")
    if shown.ndim == 3 and shown.shape[2] == 4:
        colour, alpha = shown[..., :3], shown[..., 3:]
        if alpha.min() == 255:
            shown = colour
        else:
            shown = (colour.astype(np.uint16) * alpha // 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(shown)).save(out, "JPEG", quality=quality)
    return out.getvalue()


def decode_jpeg(data: codecs.Buffer) -> NDArray[np.uint8]:
    """A JPEG as gray bytes (row, column); ValueError where it is damaged."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            return np.asarray(image if image.mode == "L" else image.convert("L"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as e:
        raise ValueError(f"not a JPEG: {e}") from None


def encode_bmp(image: Array) -> bytes:
    """A BMP: 8-bit gray for gray of 8 bits, else RGB or RGBA."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(_bytes_deep(image))).save(out, "BMP")
    return out.getvalue()


def pack_jpeg(block: NDArray[np.uint8], quality: int = DEFAULT_QUALITY, checksum: str = "none") -> bytes:
    """A block (z, y, x) of bytes as a stored value: a grayscale JPEG of X columns and Y·Z rows. Lossy.

    ``codecs.unpack`` answers its voxels. A block of more rows than JPEG holds is stored with LZ4.
    """
    depth, height, width = block.shape
    if depth * height > _JPEG_SIDE or width > _JPEG_SIDE:
        return codecs.pack(np.ascontiguousarray(block).data, "lz4", checksum)
    return codecs.wrap(encode_jpeg(block.reshape(depth * height, width), quality), "jpeg", checksum)
