"""Arrays in files: ``.npy``, and HDF5 and zarr where h5py and zarr are installed. Each reads boxes by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvidcore.errors import BadRequest
from dvidcore.geometry import ZYX
from dvidcore.loading.parallel import Workers
from dvidcore.loading.sources import Source, identity_of
from dvidcore.local.edges import Read


class ArraySource(Source):
    """Anything with a shape, a dtype and slicing. ``axes`` are its axes in their order, as ``"zyx"`` or ``"xyz"``;
    one more axis behind them are channels, and a missing Z is one section.
    """

    def __init__(self, array: Any, axes: str, identity: str, file: Any = None) -> None:
        if sorted(axes) != ["x", "y", "z"]:
            raise BadRequest(f'axes: "{axes}" is no order of z, y and x')
        dims = len(array.shape)
        if dims not in (2, 3, 4) or (dims == 4 and array.shape[3] not in (3, 4)):
            raise BadRequest(f"an array of the shape {tuple(array.shape)} is no volume: 3 axes are needed")
        self._array, self._file = array, file
        self._axes = axes if dims > 2 else axes.replace("z", "")
        sides = dict(zip(self._axes, map(int, array.shape), strict=False))
        self.shape = ZYX(sides.get("z", 1), sides["y"], sides["x"])
        self.channels = int(array.shape[3]) if dims == 4 else 1
        self.dtype = np.dtype(array.dtype)
        self.identity = identity

    @contextmanager
    def layer(self, low: ZYX, size: ZYX, workers: Workers) -> Iterator[Read]:
        yield self.read

    def read(self, low: ZYX, size: ZYX) -> NDArray[Any]:
        """The voxels of a box."""
        at, sides = dict(zip("zyx", low, strict=True)), dict(zip("zyx", size, strict=True))
        part = np.asarray(self._array[tuple(slice(at[axis], at[axis] + sides[axis]) for axis in self._axes)])
        order = [self._axes.index(axis) for axis in "zyx" if axis in self._axes]
        part = part.transpose(*order, *range(len(order), part.ndim))
        return part if "z" in self._axes else part[None]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class NpySource(ArraySource):
    """A ``.npy`` file. It is mapped anew for each layer, since what was read of a map counts as the process's memory."""

    def __init__(self, path: Path, axes: str) -> None:
        self._path = path
        super().__init__(self._mapped(), axes, identity_of([path], axes))

    def _mapped(self) -> NDArray[Any]:
        try:
            array: NDArray[Any] = np.load(self._path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise BadRequest(f"{self._path} is no array: {error}") from None
        return array

    @contextmanager
    def layer(self, low: ZYX, size: ZYX, workers: Workers) -> Iterator[Read]:
        self._array = self._mapped()
        yield self.read


def open_array(kind: str, path: Path, dataset: str, axes: str) -> ArraySource:
    """An array file of a kind: ``"npy"``, ``"hdf5"`` or ``"zarr"``."""
    if kind == "npy":
        if dataset:
            raise BadRequest("dataset: a .npy file holds one array without a name")
        return NpySource(path, axes)
    identity = identity_of([path], dataset, axes)
    return _hdf5(path, dataset, axes, identity) if kind == "hdf5" else _zarr(path, dataset, axes, identity)


def _hdf5(path: Path, dataset: str, axes: str, identity: str) -> ArraySource:
    try:
        import h5py
    except ImportError:
        raise BadRequest('h5py is needed to read HDF5: pip install "dvidcore[hdf5]"') from None
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise BadRequest(f"{path} cannot be read: {error}") from None
    try:
        return ArraySource(_named(file, dataset, h5py.Dataset, path), axes, identity, file)
    except BaseException:
        file.close()
        raise


def _zarr(path: Path, dataset: str, axes: str, identity: str) -> ArraySource:
    try:
        import zarr
    except ImportError:
        raise BadRequest('zarr is needed to read it: pip install "dvidcore[zarr]"') from None
    opened = zarr.open(str(path), mode="r")
    if isinstance(opened, zarr.Array):
        if dataset:
            raise BadRequest(f"dataset: {path} is one array without a name")
        return ArraySource(opened, axes, identity)
    return ArraySource(_named(opened, dataset, zarr.Array, path), axes, identity)


def _named(group: Any, dataset: str, kind: type, path: Path) -> Any:
    """The array of a name, or the only one where none is given."""
    arrays = [name for name in group if isinstance(group[name], kind)]
    if not dataset and len(arrays) == 1:
        return group[arrays[0]]
    if not dataset or dataset not in group or not isinstance(group[dataset], kind):
        raise BadRequest(
            f'dataset: "{dataset}" is no array in {path}; there are {", ".join(arrays) or "none"} at its top'
        )
    return group[dataset]
