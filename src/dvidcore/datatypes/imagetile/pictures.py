"""The bytes of tiles: which are accepted, how they are kept, and what is shown where there is none.

A tile is kept as it came, as PNG or JPEG. With the format ``lz4`` its pixels are kept: a header (height and width,
uint32 each, channels and bytes per channel, uint8 each, little-endian) and the rows, compressed as one LZ4 block.
"""

from __future__ import annotations

import io
import struct
import zlib
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvidcore import codecs, images
from dvidcore.datatypes.imagetile.levels import MAX_PIXELS, MAX_SIDE
from dvidcore.errors import BadRequest, StoreError

FORMATS = {"lz4": 0, "png": 1, "jpg": 2}
"""DVID's numbers of the encodings, as ``info`` shows them."""

_PILLOW = {"lz4": "PNG", "png": "PNG", "jpg": "JPEG"}
_KEPT_PIXELS = 1 << 20
_HEADER = struct.Struct("<IIBB")
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)


def parse_picture(data: bytes, format: str) -> NDArray[Any]:
    """The pixels of a tile that a client sends, (row, column) or (row, column, channel).

    Raises BadRequest where the bytes are not one whole image of the format, or of more pixels than a tile may have.
    """
    from PIL import Image

    name = _PILLOW[format]
    try:
        with Image.open(io.BytesIO(data), formats=[name]) as image:
            width, height = image.size
            if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
                raise BadRequest(f"the tile has {width} x {height} pixels; at most {MAX_SIDE} a side, 2^26 together")
            return _pixels(image)
    except BadRequest:
        raise
    except (*_DAMAGED, Image.DecompressionBombError) as e:
        raise BadRequest(f"the body is not a whole {name} image: {e}") from None


def _pixels(image: Any) -> NDArray[Any]:
    if image.mode.startswith("I"):  # 16-bit gray
        return np.asarray(image).astype(np.uint16)
    return np.asarray(image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGBA"))


def pack(data: bytes, pixels: NDArray[Any], format: str, checksum: str) -> bytes:
    """A tile's stored value: ``data`` as it came, or its pixels where the format is lz4."""
    if format != "lz4":
        return codecs.pack(data, "none", checksum)
    height, width = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    head = _HEADER.pack(height, width, channels, pixels.dtype.itemsize)
    return codecs.pack(head + np.ascontiguousarray(pixels).tobytes(), "lz4", checksum)


def encode(pixels: NDArray[np.uint8], format: str, checksum: str) -> bytes:
    """The stored value of a tile that is made here, from its gray pixels."""
    if format == "lz4":
        return pack(b"", pixels, format, checksum)
    return codecs.pack(images.encode(pixels, format), "none", checksum)


def answer(value: codecs.Buffer, format: str) -> tuple[bytes | memoryview, str]:
    """A stored tile as it is sent, and its content type."""
    data = codecs.unpack(value)
    if format == "lz4":
        return images.encode_png(_unpack_pixels(data)), images.CONTENT_TYPES["png"]
    return data, images.CONTENT_TYPES[format]


def _unpack_pixels(data: bytes | memoryview) -> NDArray[Any]:
    try:
        height, width, channels, depth = _HEADER.unpack_from(data)
        shape = (height, width) if channels == 1 else (height, width, channels)
        return np.frombuffer(data, f"<u{depth}", offset=_HEADER.size).reshape(shape)
    except (struct.error, ValueError, TypeError) as e:
        raise StoreError(f"a stored tile is damaged: {e}") from None


def gray(value: codecs.Buffer, format: str) -> NDArray[np.uint8]:
    """The pixels of a stored tile as gray bytes (row, column)."""
    from PIL import Image

    data = codecs.unpack(value)
    if format == "lz4":
        pixels = _unpack_pixels(data)
        if pixels.dtype.itemsize == 2:
            pixels = (pixels >> 8).astype(np.uint8)
        return pixels if pixels.ndim == 2 else np.asarray(Image.fromarray(pixels).convert("L"))
    try:
        with Image.open(io.BytesIO(data), formats=[_PILLOW[format]]) as image:
            if image.mode.startswith("I"):
                return (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
            return np.asarray(image if image.mode == "L" else image.convert("L"))
    except _DAMAGED as e:
        raise StoreError(f"a stored tile is damaged: {e}") from None


def placeholder(height: int, width: int, text: str) -> NDArray[np.uint8]:
    """What stands for a missing tile where placeholders are wanted: a frame, a cross and what is missing."""
    from PIL import Image, ImageDraw

    image = Image.new("L", (width, height), 32)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width - 1, height - 1), outline=128)
    draw.line((0, 0, width - 1, height - 1), fill=64)
    draw.line((0, height - 1, width - 1, 0), fill=64)
    draw.text((4, 2), text, fill=255)
    return np.asarray(image)


def blank(height: int, width: int, kind: str, quality: int) -> bytes:
    """A black image, encoded; one of usual size is kept."""
    make = _blank if height * width <= _KEPT_PIXELS else _blank.__wrapped__
    return make(height, width, kind, quality)


@lru_cache(maxsize=32)
def _blank(height: int, width: int, kind: str, quality: int) -> bytes:
    return images.encode(np.zeros((height, width), np.uint8), kind, quality)
