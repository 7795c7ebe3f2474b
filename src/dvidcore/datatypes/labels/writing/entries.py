"""Mapping entries on their way into the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from dvidcore.datatypes.labels.rows import Rows

Entries = tuple[NDArray[np.uint64], NDArray[np.uint64]]
"""Supervoxels and the bodies that they map to, (n,) both."""

ROW_BYTES = 26
"""Of the key and the value of a mapping row."""
_CHUNK = 100_000


def joined(parts: Sequence[Entries]) -> Entries | None:
    """Each supervoxel of the parts once, ascending, with the last body that they map it to; None without any."""
    if not parts:
        return None
    supervoxels, bodies = parts[0]
    if len(parts) > 1:
        supervoxels, bodies = (np.concatenate(part) for part in zip(*parts, strict=True))
    if bool((supervoxels[1:] > supervoxels[:-1]).all()):
        return supervoxels, bodies
    found, last = np.unique(supervoxels[::-1], return_index=True)
    return found, bodies[::-1][last]


def put_entries(rows: Rows, suffix: bytes, entries: Entries, put: Callable[[bytes, bytes], None]) -> None:
    """Hands the rows of entries, whose version is ``suffix``, to ``put``: whole key and value."""
    supervoxels, bodies = entries
    for at in range(0, len(supervoxels), _CHUNK):
        keys = rows.mapping_keys(supervoxels[at : at + _CHUNK])
        values = bodies[at : at + _CHUNK].astype("<u8").view("V8").tolist()
        for key, body in zip(keys, values, strict=True):
            put(key + suffix, body)
