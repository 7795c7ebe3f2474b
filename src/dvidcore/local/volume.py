"""Voxel volumes that are read and written like numpy arrays, in Z, Y, X order."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvidcore.errors import BadRequest
from dvidcore.geometry import INT32_MAX, INT32_MIN, ZYX
from dvidcore.local.edges import completed, is_aligned, whole_blocks
from dvidcore.local.instance import Instance
from dvidcore.local.selection import Extents, Selection, select, stride

if TYPE_CHECKING:
    from dvidcore.datatypes.call import Call

NOTHING: Extents = (slice(0, 0), slice(0, 0), slice(0, 0))


class Volume(Instance):
    """An image or label instance at a version.

    ``volume[z0:z1, y0:y1, x0:x1]`` reads a copy, assignment writes. Integers drop their axis, steps may be negative.
    Coordinates are those of the voxels, so they may be negative and never count from the end; what is not stored reads
    as the background, however far outside. Only open ends are those of the extents: ``volume[...]`` is all of it.

    An assignment is stored whole or not at all. A box of whole blocks goes straight to the store. Around any other one
    the rest of its blocks is read first; in one process such assignments take turns, but a block that another process
    writes meanwhile would be lost. Values are broadcast, and refused where the type cannot hold them.
    """

    # -- properties ---------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """Of the voxels."""

    @property
    @abstractmethod
    def block_size(self) -> ZYX:
        """Voxels of a block, Z, Y, X."""

    @property
    @abstractmethod
    def extents(self) -> Extents:
        """The slices along Z, Y and X that hold all voxels written so far: ``volume[volume.extents]``.

        They are whole blocks, unless they were set otherwise; three empty slices before anything is written.
        """

    @property
    def channels(self) -> int:
        """Values of a voxel; where there are several, arrays have them as a fourth axis."""
        return 1

    @property
    def ndim(self) -> int:
        return 3 if self.channels == 1 else 4

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of the extents along Z, Y and X, and the channels where there are several."""
        return self._shape(tuple(s.stop - s.start for s in self.extents))

    @property
    def origin(self) -> ZYX:
        """The lowest voxel of the extents."""
        return ZYX(*(s.start for s in self.extents))

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """Of a voxel along Z, Y and X, in ``voxel_units``."""
        x, y, z = self.data.record.settings["VoxelSize"]
        return float(z), float(y), float(x)

    @property
    def voxel_units(self) -> tuple[str, str, str]:
        """Along Z, Y and X."""
        x, y, z = self.data.record.settings["VoxelUnits"]
        return z, y, x

    # -- numpy --------------------------------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Any:
        """The selected voxels: a new array, or a scalar where each axis is given as an integer.

        Raises ``BadRequest`` for any index but integers, slices and ``...``, and ``Conflict`` where merged versions
        both changed a block.
        """
        selection = select(key, lambda: self.extents, self.channels > 1)
        if 0 in selection.size:
            return self._picked(np.empty(self._shape(selection.size), self.dtype), selection)
        with self.node.call(self.data) as call:
            if selection.plain:
                volume = self._read(call, selection.low, selection.box)
            else:
                volume = self._strided(call, selection)
        return self._picked(volume, selection)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Writes the selected voxels. Raises ``Locked`` at a committed version and ``BadRequest`` for a wrong value."""
        selection = select(key, lambda: self.extents, self.channels > 1)
        values = self._values(value, selection)
        self._check_write()
        if not values.size:
            return
        turns, block = self.node.store.turns(self.data.record.id), self.block_size
        if selection.plain:
            if is_aligned(selection.low, selection.box, block):
                with turns.shared():
                    self._write(selection.low, values)
                return
            with turns.alone():
                self._write(*completed(values, selection.low, block, self._stored))
            return
        low, size = whole_blocks(selection.low, selection.box, block)
        with turns.alone():
            volume = self._stored(low, size)
            parts = zip(selection.low, low, selection.box, strict=True)
            target = volume[tuple(slice(a - b, a - b + n) for a, b, n in parts)][selection.inside()]
            target[(..., *selection.channel)] = values
            self._write(low, volume)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All voxels of the extents."""
        if copy is False:
            raise ValueError("a stored volume cannot become an array without a copy")
        return np.asarray(self[...], dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """The planes of the extents along Z."""
        z = self.extents[0]
        return (self[at] for at in range(z.start, z.stop))

    # -- reading and writing boxes ------------------------------------------------------------------------------------

    def _check_write(self) -> None:
        """Raises what a write would, before anything is read for it."""
        with self.node.call(self.data, writes=True):
            pass

    def _stored(self, low: ZYX, size: ZYX) -> NDArray[Any]:
        """The voxels of a box as they are stored: what an assignment keeps around itself."""
        with self.node.call(self.data) as call:
            return self._read(call, low, size)

    @abstractmethod
    def _read(self, call: Call, low: ZYX, size: ZYX) -> NDArray[Any]:
        """The voxels of a box."""

    @abstractmethod
    def _write(self, low: ZYX, volume: NDArray[Any]) -> None:
        """Stores a box of whole blocks."""

    def _shape(self, size: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(size) if self.channels == 1 else (*size, self.channels)

    def _strided(self, call: Call, selection: Selection) -> NDArray[Any]:
        """A selection with steps, a layer of blocks at a time, so that memory is that of the answer and a layer."""
        out = np.empty(self._shape(selection.size), self.dtype)
        z, y, x = selection.ranges
        depth = self.block_size.z
        at = 0
        for _, group in groupby(z, lambda k: k // depth):
            layer = z[at : at + sum(1 for _ in group)]
            part = Selection((layer, y, x), selection.dropped)
            out[at : at + len(layer)] = self._read(call, part.low, part.box)[stride(layer), stride(y), stride(x)]
            at += len(layer)
        return out

    def _picked(self, volume: NDArray[Any], selection: Selection) -> Any:
        try:
            return volume[selection.last()]
        except IndexError as error:
            raise BadRequest(f"index: {error}") from None

    def _values(self, value: Any, selection: Selection) -> NDArray[Any]:
        """A value as an array of the selection's size, its dropped axes of length 1."""
        given = fitting(value, self.dtype)
        size = selection.size
        if selection.channel:
            wanted = self._picked(np.broadcast_to(self.dtype.type(0), self._shape(size)), selection).shape
        else:
            sides = zip(size, selection.dropped, strict=True)
            wanted = self._shape(tuple(n for n, dropped in sides if not dropped))
        try:
            values = np.broadcast_to(given, wanted)
        except ValueError:
            raise BadRequest(f"value: its shape {given.shape} does not fit {wanted}") from None
        return values.reshape(*size, *wanted[3 - sum(selection.dropped) :])


def fitting(value: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A value as an array of a type. Raises ``BadRequest`` where that would change it by more than rounding a float."""
    given = np.asarray(value)
    if given.dtype == dtype:
        return given
    if given.dtype.kind in "biu" and dtype.kind in "iu":
        if given.size and given.dtype.kind != "b":
            limits = np.iinfo(dtype)
            low, high = int(given.min()), int(given.max())
            if low < limits.min or high > limits.max:
                raise BadRequest(f"value: {low} to {high} do not fit {dtype}")
        return given.astype(dtype)
    if given.dtype.kind in "biuf" and dtype.kind == "f":
        return given.astype(dtype)
    raise BadRequest(f"value: {given.dtype} cannot be stored as {dtype}")


def scaled(extents: Extents, scale: int) -> Extents:
    """The extents in voxels of a coarser scale."""
    if any(s.start == s.stop for s in extents):
        return NOTHING
    z, y, x = (slice(s.start >> scale, ((s.stop - 1) >> scale) + 1) for s in extents)
    return z, y, x


def half_open(low: tuple[int, ...], high: tuple[int, ...]) -> Extents:
    """Extents of the lowest and the highest voxel."""
    assert all(INT32_MIN <= a <= b <= INT32_MAX for a, b in zip(low, high, strict=True))
    z, y, x = (slice(a, b + 1) for a, b in zip(low, high, strict=True))
    return z, y, x
