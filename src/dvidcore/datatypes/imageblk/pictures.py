"""A slice of voxels as an answer: which image formats suit which values."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from dvidcore import images
from dvidcore.datatypes.call import Reply
from dvidcore.errors import BadRequest

JPEG_SIDE = 65_500
"""The most rows or columns of a JPEG."""


def answer(image: NDArray[Any], kind: str, quality: int, *, intensities: bool, typename: str) -> Reply:
    """A plane (row, column) or (row, column, channel) in a format as of ``images.parse_format``.

    ``intensities`` says that values may be shown lossily; others are refused all formats that would lose their bits.
    BadRequest for such a format, and for an image beyond the sides of a JPEG.
    """
    if not intensities and kind not in ("png", "tiff"):
        raise BadRequest(f"format: {typename} has no {kind}, which would lose its values; use png")
    if kind == "jpg" and max(image.shape[:2]) > JPEG_SIDE:
        raise BadRequest(f"format: a JPEG has at most {JPEG_SIDE} rows and columns")
    return Reply(images.encode(images.pixels(image), kind, quality), images.CONTENT_TYPES[kind])
