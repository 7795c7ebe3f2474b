"""Index rows after voxels went from one label to another, where the voxels are the bodies: a row has one supervoxel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvidcore import labels
from dvidcore.datatypes.labels.mutations.merge import rows_at
from dvidcore.storage.keys import zyx_keys

if TYPE_CHECKING:
    from dvidcore.datatypes.labels.writing.transaction import Transaction


class Moved(NamedTuple):
    """Voxels that leave a body, an entry for each block in which it loses some."""

    body: int
    coords: NDArray[np.int32]
    """(n, 3): z, y, x, each once."""
    voxels: NDArray[np.int64]
    """(n,)"""


def move(change: Transaction, moved: Sequence[Moved], target: int | None) -> None:
    """Puts the rows and totals of bodies that lose voxels and of the one that gets them; None: they are background."""
    for part in moved:
        _add(change, part.body, part.coords, -part.voxels)
    if target is None:
        return
    coords, place = np.unique(np.concatenate([part.coords for part in moved]), axis=0, return_inverse=True)
    voxels = np.zeros(len(coords), np.int64)
    np.add.at(voxels, place.reshape(-1), np.concatenate([part.voxels for part in moved]))
    _add(change, target, coords, voxels)


def _add(change: Transaction, body: int, coords: NDArray[np.int32], voxels: NDArray[np.int64]) -> None:
    """Adds voxels, or takes away where they are negative; a body without any is gone."""
    rows, record = change.data.rows, change.record(body)
    prefix, blocks = rows.index(body), zyx_keys(coords)
    there = {} if record is None else rows_at(change, prefix, blocks, record.blocks)
    before = np.array([labels.row_voxels(bytes(there[zyx])) if zyx in there else 0 for zyx in blocks], np.int64)
    after = before + voxels
    some = np.flatnonzero(after > 0)
    packed = labels.pack_rows(
        np.full(len(some), body, np.uint64),
        after[some].astype(np.uint32),
        np.arange(len(some), dtype=np.int64),
        change.mutation,
    )
    for k, row in zip(some.tolist(), packed, strict=True):
        change.batch.put(prefix + blocks[k], row)
    for k in np.flatnonzero((after == 0) & (before > 0)).tolist():
        change.batch.delete(prefix + blocks[k])
    total, number = (0, 0) if record is None else (record.voxels, record.blocks)
    number += len(some) - int((before > 0).sum())
    if number:
        change.put_body(body, total + int(voxels.sum()), number)
    else:
        change.batch.delete(rows.body(body))
