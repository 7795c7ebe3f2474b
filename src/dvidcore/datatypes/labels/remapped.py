"""The last changes of the mapping, row by row: how processes that share a store follow each other's mutations.

Each write of the mapping is a generation. In a store that several processes share it adds a row with what it maps, so
that the others need not read the whole mapping again; the row that is ``KEPT`` generations older goes with it. Who is
further behind, or meets a write of more than ``MOST`` supervoxels, which has no row, does read everything.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvidcore.datatypes.labels.rows import Rows
from dvidcore.storage.engine import Batch, Snapshot

if TYPE_CHECKING:
    from dvidcore.datatypes.labels.writing.entries import Entries

KEPT = 500
MOST = 10_000
_version = struct.Struct("<I")


class Remapped(NamedTuple):
    """One write of the mapping."""

    generation: int
    version: int
    supervoxels: NDArray[np.uint64]
    """Ascending, each once."""
    bodies: NDArray[np.uint64]


def put(batch: Batch, rows: Rows, generation: int, version: int, entries: Entries) -> None:
    """Adds the row of a generation to the batch that writes it."""
    if generation > KEPT:
        batch.delete(rows.remapped(generation - KEPT))
    supervoxels, bodies = entries
    if len(supervoxels) <= MOST:
        value = _version.pack(version) + supervoxels.astype("<u8").tobytes() + bodies.astype("<u8").tobytes()
        batch.put(rows.remapped(generation), value)


def between(snapshot: Snapshot, rows: Rows, known: int, generation: int) -> list[Remapped] | None:
    """The generations after ``known`` up to ``generation``, in their order; None where the snapshot lacks some."""
    if generation - known > KEPT:
        return None
    found = []
    for number in range(known + 1, generation + 1):
        value = snapshot.get(rows.remapped(number))
        if value is None:
            return None
        (version,) = _version.unpack_from(value)
        supervoxels, bodies = np.frombuffer(value, "<u8", offset=_version.size).reshape(2, -1).astype(np.uint64)
        found.append(Remapped(number, version, supervoxels, bodies))
    return found
