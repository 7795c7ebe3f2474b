"""What an administrator does with a store that no server holds: lists of its labels, and new maxima."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dvidcore import labels
from dvidcore.datatypes.checks import Lineage
from dvidcore.datatypes.labels.checks.blocks import count
from dvidcore.datatypes.labels.reading import lists
from dvidcore.datatypes.labels.rows import BODY_OFFSET, INDEX_ZYX_OFFSET, pack_u64
from dvidcore.datatypes.labels.writing import counters
from dvidcore.datatypes.labels.writing.generations import read_guard
from dvidcore.pool import ordered_map, processors
from dvidcore.storage.engine import Batch
from dvidcore.storage.keys import VERSION_BYTES, prefix_end, prefix_range, u64_of, version_bytes, zyx_of

if TYPE_CHECKING:
    from dvidcore.datatypes.call import Buffer, Call
    from dvidcore.datatypes.labels.engine import LabelEngine
    from dvidcore.storage.engine import Snapshot

# -- lists -------------------------------------------------------------------------------------------------------------


def dump_counts(data: LabelEngine, call: Call) -> Iterator[bytes]:
    """Lines ``supervoxel z y x voxels``, block coordinates, counted from the voxels of a version."""
    prefix = data.rows.scale(0)
    blocks = call.view.scan(*prefix_range(prefix))
    for key, found in ordered_map(lambda row: (row[0], count(row[1], data.block)), blocks, 4 * processors()):
        z, y, x = zyx_of(key, len(prefix))
        pairs = zip(found.supervoxels.tolist(), found.voxels.tolist(), strict=True)
        yield b"".join(b"%d %d %d %d %d\n" % (supervoxel, z, y, x, voxels) for supervoxel, voxels in pairs)


def dump_mappings(data: LabelEngine, call: Call) -> Iterator[Buffer]:
    """Lines ``supervoxel body`` of all supervoxels of a version that map to something else than themselves."""
    return lists.mapping_lines(*data.mapping.at(call).items())


def dump_indices(data: LabelEngine, call: Call) -> Iterator[bytes]:
    """Lines ``body supervoxel z y x voxels``, block coordinates, as the index of a version has them."""
    start = data.rows.all_indices
    for key, row in call.view.scan(start, prefix_end(start)):
        body = u64_of(key, BODY_OFFSET)
        z, y, x = zyx_of(key, INDEX_ZYX_OFFSET)
        _, supervoxels, voxels, _ = labels.unpack_rows([key], [row], INDEX_ZYX_OFFSET)
        pairs = zip(supervoxels.tolist(), voxels.tolist(), strict=True)
        yield b"".join(b"%d %d %d %d %d %d\n" % (body, supervoxel, z, y, x, n) for supervoxel, n in pairs)


# -- the largest labels ------------------------------------------------------------------------------------------------


class Maxima(NamedTuple):
    """The largest label of each version, and of the repo."""

    versions: dict[int, int]
    """Of those that have a label which none of their ancestors has."""
    repo: int


def stored_maxima(data: LabelEngine, snapshot: Snapshot) -> Maxima:
    """As they are."""
    return Maxima(counters.maxima(data, snapshot), counters.counters(data, snapshot).maximum)


def true_maxima(data: LabelEngine, snapshot: Snapshot) -> Maxima:
    """As the bodies and supervoxels of all indices and mappings make them."""
    dag = data.repo.dag
    lineage = Lineage(dag, None if data.record.versioned else [dag.root.id])
    own = dict.fromkeys(lineage.versions, 0)
    start = data.rows.all_indices
    for key, row in snapshot.scan(start, prefix_end(start)):
        version = int.from_bytes(key[-VERSION_BYTES:], "big")
        if version in own and len(row):
            n = (len(row) - 8) // 12
            largest = int(np.frombuffer(row, "<u8", n, 8).max(initial=0))
            own[version] = max(own[version], u64_of(key, BODY_OFFSET), largest)
    for key, body in snapshot.scan(*data.rows.mappings()):
        version = int.from_bytes(key[-VERSION_BYTES:], "big")
        if version in own:
            own[version] = max(own[version], u64_of(key, BODY_OFFSET), int.from_bytes(body, "little"))
    seen: dict[int, int] = {}
    versions: dict[int, int] = {}
    for version in lineage.versions:
        above = max((seen[parent] for parent in lineage.parents[version]), default=0)
        seen[version] = max(above, own[version])
        if seen[version] > above:
            versions[version] = seen[version]
    return Maxima(versions, max(own.values(), default=0))


def repair_maxima(data: LabelEngine) -> None:
    """Replaces the largest labels by the true ones, which may lower them: the only thing that does.

    Raises GuardFailed, with nothing changed, where labels are written meanwhile.
    """
    with data.engine.snapshot() as snapshot:
        guard = read_guard(snapshot, [data.rows.indexed])
        found, now = true_maxima(data, snapshot), counters.counters(data, snapshot)
        batch = Batch()
        for version in {*counters.maxima(data, snapshot), *found.versions}:
            key = data.rows.maxlabel + version_bytes(version)
            if version in found.versions:
                batch.put(key, pack_u64(found.versions[version]))
            else:
                batch.delete(key)
        batch.put(data.rows.next, now._replace(maximum=found.repo).pack())
        data.engine.write(batch, guard=guard)
