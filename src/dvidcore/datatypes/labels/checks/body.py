"""The index of one body compared with its voxels, for a server that is running."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dvidcore.datatypes.labels import stored
from dvidcore.datatypes.labels.checks.blocks import count
from dvidcore.datatypes.labels.rows import INDEX_ZYX_OFFSET, BodyRecord
from dvidcore.datatypes.labels.writing.indexing import rows_of
from dvidcore.datatypes.labels.writing.transaction import Transaction, write
from dvidcore.errors import StoreError
from dvidcore.geometry import ZYX
from dvidcore.labels import row_voxels
from dvidcore.pool import ordered_map, processors
from dvidcore.storage.keys import prefix_end, prefix_range, zyx_of
from dvidcore.storage.versioned import View

if TYPE_CHECKING:
    from dvidcore.datatypes.call import Call
    from dvidcore.datatypes.labels.engine import LabelEngine
    from dvidcore.datatypes.labels.mapping import Mapped
    from dvidcore.storage.engine import Value

LISTED = 1000
"""Blocks that an answer lists at most."""
_SURFACE = 8
_BATCH = 64
"""Blocks that are read at once."""


class Comparison(NamedTuple):
    """Rows by z, y, x (of a key), those that are stored and those that the voxels make."""

    stored: dict[bytes, bytes]
    counted: dict[bytes, bytes]
    record: BodyRecord | None

    @property
    def differing(self) -> list[bytes]:
        """Where the rows are not the same, in order."""
        places = {*self.stored, *self.counted}
        return sorted(zyx for zyx in places if _counts(self.stored, zyx) != _counts(self.counted, zyx))

    @property
    def totals(self) -> tuple[int, int]:
        """Voxels and blocks, as counted."""
        return sum(map(row_voxels, self.counted.values())), len(self.counted)

    @property
    def agrees(self) -> bool:
        recorded = (0, 0) if self.record is None else (self.record.voxels, self.record.blocks)
        return recorded == self.totals and not self.differing


def _counts(rows: dict[bytes, bytes], zyx: bytes) -> bytes:
    """A row without what it says of the body's surface."""
    return rows.get(zyx, b"")[_SURFACE:]


def compare(data: LabelEngine, view: View, mapped: Mapped, body: int, *, everywhere: bool) -> Comparison:
    """Counts the voxels of a body: in all blocks (by their label lists), else in those that its index lists.

    Costs the reading of all blocks, of which only those that have the body are decoded. Raises KeyConflict below a
    merge of versions that each changed a block or a row, StoreError for a damaged block.
    """
    start = data.rows.index(body)
    there = {key[INDEX_ZYX_OFFSET:]: bytes(row) for key, row in view.scan(start, prefix_end(start))}
    prefix = data.rows.scale(0)
    blocks: Iterator[tuple[bytes, Value]]
    if everywhere:
        blocks = view.scan(*prefix_range(prefix))
    else:
        blocks = _listed(view, [prefix + zyx for zyx in sorted(there)])

    def row(block: tuple[bytes, Value]) -> tuple[bytes, bytes]:
        key, value = block
        zyx = key[len(prefix) :]
        if not (mapped.bodies(stored.labels(value)) == np.uint64(body)).any():
            return zyx, b""
        try:
            found = count(value, data.block)
        except ValueError as e:
            raise StoreError(f"{data.rows.name(key)} is damaged: {e}") from None
        rows, _ = rows_of(mapped, [(ZYX(*zyx_of(zyx, 0)), found.supervoxels, found.voxels)])
        return zyx, rows.get((body, zyx), b"")

    counted = {zyx: made for zyx, made in ordered_map(row, blocks, 4 * processors()) if made}
    return Comparison(there, counted, data.index.record(view, body))


def _listed(view: View, keys: list[bytes]) -> Iterator[tuple[bytes, Value]]:
    """(key, block) of those that exist, some of which are in memory at once."""
    for at in range(0, len(keys), _BATCH):
        some = keys[at : at + _BATCH]
        for key, value in zip(some, view.get_many(some), strict=True):
            if value is not None:
                yield key, value


def verify(data: LabelEngine, call: Call, body: int, *, everywhere: bool) -> dict[str, Any]:
    """What ``GET verify-index`` answers."""
    return _told(body, compare(data, call.view, data.mapping.at(call), body, everywhere=everywhere))


def repair(data: LabelEngine, call: Call, body: int, *, everywhere: bool) -> dict[str, Any]:
    """Makes the index of a body that of its voxels; answers as ``verify`` did before. Its last mutation stays."""

    def change(tx: Transaction) -> dict[str, Any]:
        tx.record(body)
        # Not tx.mapped(), which would keep the label list of each block that is asked for. What moves supervoxels into
        # the body or out of it changes its record; a mapping that is posted does not, nor the index that it leaves.
        mapped = data.mapping.at(tx.call)
        found = compare(data, tx.view, mapped, body, everywhere=everywhere)
        if not found.agrees:
            tx.touch(ZYX(*zyx_of(zyx, 0)) for zyx in {*found.stored, *found.counted})
            _put(tx, body, found)
        return _told(body, found)

    return write(data, call, change, bodies=[body])


def _put(tx: Transaction, body: int, found: Comparison) -> None:
    rows = tx.data.rows
    for zyx in found.differing:
        row = found.counted.get(zyx)
        if row is None:
            tx.batch.delete(rows.index(body, zyx))
        else:
            tx.batch.put(rows.index(body, zyx), found.stored.get(zyx, row)[:_SURFACE] + row[_SURFACE:])
    voxels, blocks = found.totals
    if not blocks:
        tx.batch.delete(rows.body(body))
        return
    record = (found.record or BodyRecord(0, 0, 0))._replace(voxels=voxels, blocks=blocks, change=tx.mutation)
    tx.batch.put(rows.body(body), record.pack())
    tx.raise_maximum(body)


def _told(body: int, found: Comparison) -> dict[str, Any]:
    differing = found.differing
    voxels, blocks = found.totals
    return {
        "Label": body,
        "Agrees": found.agrees,
        "Voxels": voxels,
        "Blocks": blocks,
        "RecordedVoxels": 0 if found.record is None else found.record.voxels,
        "RecordedBlocks": 0 if found.record is None else found.record.blocks,
        "DifferingBlocks": len(differing),
        "Differences": [
            {
                "Block": ZYX(*zyx_of(zyx, 0)).xyz(),
                "Stored": _as_json(found.stored.get(zyx)),
                "Counted": _as_json(found.counted.get(zyx)),
            }
            for zyx in differing[:LISTED]
        ],
    }


def _as_json(row: bytes | None) -> dict[str, int]:
    """Voxels by supervoxel."""
    if row is None:
        return {}
    n = (len(row) - _SURFACE) // 12
    supervoxels, voxels = np.frombuffer(row, "<u8", n, _SURFACE), np.frombuffer(row, "<u4", n, _SURFACE + 8 * n)
    return {str(supervoxel): voxels for supervoxel, voxels in zip(supervoxels.tolist(), voxels.tolist(), strict=True)}
