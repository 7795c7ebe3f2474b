"""What a voxel is: the one thing in which the six image types differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Element:
    """A voxel of ``channels`` values of one number type, interleaved and little-endian."""

    name: str
    dtype: np.dtype[Any]
    labels: tuple[str, ...]
    """The name of each channel."""

    @property
    def channels(self) -> int:
        return len(self.labels)

    @property
    def nbytes(self) -> int:
        """Bytes per voxel."""
        return self.dtype.itemsize * len(self.labels)

    def shape(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """The array shape of a volume or an image: its size, and the channels where there are several."""
        return size if len(self.labels) == 1 else (*size, len(self.labels))

    def empty(self, size: tuple[int, ...]) -> NDArray[Any]:
        """A new array for a volume of ``size`` (Z, Y, X); its content is arbitrary."""
        return np.empty(self.shape(size), self.dtype)

    def array(self, data: bytes | bytearray | memoryview, size: tuple[int, ...]) -> NDArray[Any]:
        """The voxels in ``data``, not copied."""
        return np.frombuffer(data, self.dtype).reshape(self.shape(size))

    def describe(self) -> list[dict[str, str]]:
        """``Values`` of the JSON answers."""
        return [{"DataType": self.dtype.name, "Label": label} for label in self.labels]


def _gray(name: str, code: str) -> Element:
    return Element(name, np.dtype(code), (name,))


UINT8 = _gray("uint8", "|u1")
UINT16 = _gray("uint16", "<u2")
UINT32 = _gray("uint32", "<u4")
UINT64 = _gray("uint64", "<u8")
FLOAT32 = _gray("float32", "<f4")
RGBA8 = Element("rgba8", np.dtype("|u1"), ("red", "green", "blue", "alpha"))
