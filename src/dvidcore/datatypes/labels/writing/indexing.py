"""The index rows and body records that a write of blocks changes, by difference with what is stored.

A block's rows are computed from its own counts under the mapping of the version, and compared with the rows that are
there; so writing the same block twice changes nothing, and a supervoxel counts in the body that it maps to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dvidcore import labels
from dvidcore.datatypes.call import Call
from dvidcore.datatypes.labels import stored
from dvidcore.datatypes.labels.rows import SURFACE_BYTES, BodyRecord
from dvidcore.errors import BadRequest
from dvidcore.geometry import ZYX
from dvidcore.storage.engine import Batch
from dvidcore.storage.keys import prefix_end, zyx_key
from dvidcore.storage.versioned import KeyConflict, VersionedBatch, View

if TYPE_CHECKING:
    from dvidcore.datatypes.labels.engine import LabelEngine
    from dvidcore.datatypes.labels.mapping import Mapped

Counts = tuple[ZYX, NDArray[np.uint64], NDArray[np.uint64]]
Pair = tuple[int, bytes]
"""A body and the key part of a block."""


def index_changes(label: LabelEngine, call: Call, counts: Sequence[Counts], change: int, batch: Batch) -> None:
    """Adds to the batch the rows and records that change when blocks come to hold these counts.

    ``counts`` has for each written block its coordinate, its labels (ascending, 0 too) and their voxels. ``change``
    names the new state of every body that changes. Raises BadRequest for a supervoxel that was split away (it maps to
    0 at this version).
    """
    mapped = label.mapping.at(call)
    wanted, gone = rows_of(mapped, counts)
    if len(gone):
        raise BadRequest(f"supervoxel {gone[0]} was split or retired at this version and cannot be written again")
    for pair in _pairs_of_old_blocks(label, call, mapped, [at for at, _, _ in counts]):
        wanted.setdefault(pair, b"")
    put_rows(label, call, wanted, change, batch)


def put_rows(label: LabelEngine, call: Call, wanted: Mapping[Pair, bytes], change: int, batch: Batch) -> None:
    """Adds to the batch what makes these rows those of their bodies and blocks, the bodies' records included.

    An empty row is none. What is there already is not written, and keeps the mutation that its surface had last. Where
    merged versions disagree on a row, it is settled; the record of a body that they disagree on is left to be summed up
    from its rows.
    """
    view = call.view
    by_body: dict[int, list[Pair]] = {}
    for pair in wanted:
        by_body.setdefault(pair[0], []).append(pair)
    writer = VersionedBatch(batch, call.version)
    for (body, pairs), known in zip(by_body.items(), _records(label, view, list(by_body)), strict=True):
        keys = [label.rows.index(*pair) for pair in pairs]
        if isinstance(known, KeyConflict):
            for key, pair in zip(keys, pairs, strict=True):
                if wanted[pair]:
                    writer.put(key, wanted[pair])
                else:
                    writer.delete(key)
            continue
        record = known or BodyRecord(0, 0, 0)
        there = view.get_many(keys) if known is not None else [None] * len(keys)
        voxels, blocks = record.voxels, record.blocks
        changed = False
        for key, pair, old in zip(keys, pairs, there, strict=True):
            new = wanted[pair]
            if new and old is not None:
                new = bytes(old[:SURFACE_BYTES]) + new[SURFACE_BYTES:]
            if new == (b"" if old is None else old):
                continue
            changed = True
            voxels += labels.row_voxels(new) - (0 if old is None else labels.row_voxels(old))
            blocks += bool(new) - (old is not None)
            if new:
                writer.put(key, new)
            else:
                writer.delete(key)
        if not changed:
            continue
        if blocks > 0:
            writer.put(label.rows.body(body), record._replace(voxels=voxels, blocks=blocks, change=change).pack())
        else:
            writer.delete(label.rows.body(body))


def _records(label: LabelEngine, view: View, bodies: Sequence[int]) -> list[BodyRecord | KeyConflict | None]:
    """The bodies' totals, None for those that do not exist, a conflict where no sum can be made."""
    try:
        values = view.get_many([label.rows.body(body) for body in bodies])
    except KeyConflict:
        return [_record(label, view, body) for body in bodies]
    return [None if value is None else BodyRecord.unpack(value) for value in values]


def _record(label: LabelEngine, view: View, body: int) -> BodyRecord | KeyConflict | None:
    try:
        return label.index.record(view, body)
    except KeyConflict as conflict:
        return conflict


def rows_of(mapped: Mapped, counts: Sequence[Counts]) -> tuple[dict[Pair, bytes], NDArray[np.uint64]]:
    """The index row of each (body, block) that the counts make, and the supervoxels that map to 0, which have none."""
    supervoxels = np.concatenate([found for _, found, _ in counts])
    voxels = np.concatenate([n for _, _, n in counts])
    block = np.repeat(np.arange(len(counts)), [len(found) for _, found, _ in counts])
    keep = supervoxels != 0
    supervoxels, voxels, block = supervoxels[keep], voxels[keep].astype(np.uint32), block[keep]
    bodies = mapped.bodies(supervoxels)
    gone = np.unique(supervoxels[bodies == 0])
    if len(gone):
        keep = bodies != 0
        supervoxels, voxels, block, bodies = supervoxels[keep], voxels[keep], block[keep], bodies[keep]
    order = np.lexsort((supervoxels, block, bodies))
    supervoxels, voxels, block, bodies = supervoxels[order], voxels[order], block[order], bodies[order]
    if not len(bodies):
        return {}, gone
    starts = np.flatnonzero(np.concatenate(([True], (bodies[1:] != bodies[:-1]) | (block[1:] != block[:-1]))))
    keys = [zyx_key(*at) for at, _, _ in counts]
    packed = labels.pack_rows(supervoxels, voxels, starts)
    places = zip(bodies[starts].tolist(), block[starts].tolist(), strict=True)
    return {(body, keys[k]): row for (body, k), row in zip(places, packed, strict=True)}, gone


def _pairs_of_old_blocks(label: LabelEngine, call: Call, mapped: Mapped, coords: Sequence[ZYX]) -> list[Pair]:
    """The (body, block) pairs that may have a row because of the blocks that are there now: from their label lists."""
    try:
        values = label.get_blocks(call.view, 0, coords)
    except KeyConflict:
        return [pair for at in coords for pair in _pairs_of_sides(label, call, mapped, at)]
    pairs: list[Pair] = []
    for at, value in zip(coords, values, strict=True):
        if value is not None:
            zyx = zyx_key(*at)
            bodies = np.unique(mapped.bodies(stored.labels(value)))
            pairs += [(body, zyx) for body in bodies.tolist() if body]
    return pairs


def _pairs_of_sides(label: LabelEngine, call: Call, mapped: Mapped, at: ZYX) -> list[Pair]:
    """As above for one block, on which merged versions may disagree: what each of them has, as each of them maps it."""
    key, view = label.rows.block(0, *at), call.view
    found = [stored.labels(value) for _, _, value in view.scan_entries(key, prefix_end(key)) if value]
    if not found:
        return []
    supervoxels = np.unique(np.concatenate(found))
    bodies = [mapped.bodies(supervoxels)]
    nodes = label.repo.dag.nodes
    for version in call.ancestry.order:
        parents = nodes[version].parents
        for parent in parents if len(parents) > 1 else ():
            side = call.at(nodes[parent], label.repo.dag.ancestry(parent))
            bodies.append(label.mapping.at(side).bodies(supervoxels))
    zyx = zyx_key(*at)
    return [(body, zyx) for body in np.unique(np.concatenate(bodies)).tolist() if body]
