"""What is loaded: a volume that is read box by box, whatever holds it."""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from dvidcore.errors import BadRequest
from dvidcore.geometry import ZYX
from dvidcore.loading.parallel import Workers
from dvidcore.local.edges import Read

IMAGES = frozenset({".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp"})
HDF5 = frozenset({".h5", ".hdf5", ".hdf"})
_ZARR_MARKS = (".zarray", ".zgroup", "zarr.json")


class Source(ABC):
    """A volume of ``shape`` (Z, Y, X) with ``channels`` values of a number type for each voxel."""

    shape: ZYX
    dtype: np.dtype[Any]
    channels: int = 1
    identity: str
    """Changes whenever the files do, so that a load is not gone on with from others."""

    @abstractmethod
    def layer(self, low: ZYX, size: ZYX, workers: Workers) -> AbstractContextManager[Read]:
        """Gives the function that reads boxes of the source within a box of it; it may be called from several threads.

        It answers arrays of the size asked for, and the channels behind where there are several.
        """

    def close(self) -> None:  # noqa: B027  most have nothing open
        """Closes the files."""


def open_source(
    paths: Sequence[Path], *, dataset: str = "", axes: str = "zyx", labels: bool = False, workers: Workers
) -> Source:
    """The volume in a ``.npy``, HDF5 or zarr file, in image files of a section each, or in multi-page TIFFs.

    A folder means the images in it. Images are taken in the natural order of their names (``s2`` before ``s10``).
    ``dataset`` names the array in an HDF5 or zarr file, ``axes`` the order of an array's axes. With ``labels`` the
    colours of a palette are their numbers. Raises ``BadRequest`` for what cannot be read as a volume.
    """
    from dvidcore.loading import arrays
    from dvidcore.loading.stacks import ImageStack

    for path in paths:
        if not path.exists():
            raise BadRequest(f"{path} does not exist")
    kinds = {_kind(path) for path in paths}
    if len(kinds) != 1 or (kinds != {"images"} and len(paths) != 1):
        raise BadRequest("give one array (.npy, HDF5, zarr), or images alone")
    kind = kinds.pop()
    if kind == "images":
        if dataset or axes != "zyx":
            raise BadRequest("dataset and axes are for arrays, not for images")
        return ImageStack(_images(paths), labels, workers)
    return arrays.open_array(kind, paths[0], dataset, axes)


def _kind(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return "npy"
    if suffix in HDF5:
        return "hdf5"
    if path.is_dir() and any((path / mark).exists() for mark in _ZARR_MARKS):
        return "zarr"
    return "images"


def _images(paths: Iterable[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [file for file in path.iterdir() if file.suffix.lower() in IMAGES]
            if not inside:
                raise BadRequest(f"there are no images in {path} ({', '.join(sorted(IMAGES))})")
            found += inside
        else:
            found.append(path)
    return sorted(found, key=natural_key)


def natural_key(path: Path) -> list[tuple[int, str]]:
    """Sorts numbers in names by their value: ``s2.png`` before ``s10.png``."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def identity_of(files: Iterable[Path], *more: str) -> str:
    """A hash of the files' names, sizes and times."""
    known = [[str(file.resolve()), (status := file.stat()).st_size, status.st_mtime_ns] for file in files]
    return hashlib.sha256(json.dumps([known, more]).encode()).hexdigest()
