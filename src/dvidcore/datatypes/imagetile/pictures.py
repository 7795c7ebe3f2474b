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


def pixels_of(value: codecs.Buffer, format: str) -> NDArray[Any]:
    """The pixels of a stored tile: uint8 or uint16, (row, column) or (row, column, 3 or 4 channels)."""
    from PIL import Image

    data = codecs.unpack(value)
    if format == "lz4":
        return _unpack_pixels(data)
    try:
        with Image.open(io.BytesIO(data), formats=[_PILLOW[format]]) as image:
            return _pixels(image)
    except _DAMAGED as e:
        raise StoreError(f"a stored tile is damaged: {e}") from None


def as_pixels(pixels: NDArray[Any], like: NDArray[Any]) -> NDArray[Any]:
    """Pixels in the form of others: gray of 8 or 16 bits (row, column), or RGBA of 8 bits (row, column, 4).

    Colours become gray by the weights of ITU-R BT.601, of what alpha leaves of them; of 16 bits the upper 8 are kept.
    """
    if pixels.ndim == 3 and like.ndim == 2:
        channels = _deep(pixels).astype(np.uint64)
        if pixels.shape[2] == 4:
            channels = channels[..., :3] * channels[..., 3:] // 0xFFFF
        # 65536 times 0.299, 0.587, 0.114: the integers that keep white white.
        pixels = ((channels @ np.array((19595, 38470, 7471), np.uint64) + 0x8000) >> np.uint64(16)).astype(np.uint16)
    pixels = _deep(pixels) if like.dtype.itemsize == 2 else _shallow(pixels)
    if like.ndim == 2:
        return pixels
    colours = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    if colours.shape[2] == 4:
        return colours
    return np.concatenate([colours, np.full((*colours.shape[:2], 1), 0xFF, colours.dtype)], axis=2)


def _deep(pixels: NDArray[Any]) -> NDArray[np.uint16]:
    return pixels.astype(np.uint16) * np.uint16(257) if pixels.dtype.itemsize == 1 else pixels.astype(np.uint16)


def _shallow(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    return pixels.astype(np.uint8) if pixels.dtype.itemsize == 1 else (pixels >> 8).astype(np.uint8)


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
