"""Generations: what a write that depends on the index, the mapping or the blocks of a tile is guarded with."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from dvidcore.datatypes.labels.rows import pack_u64, unpack_u64
from dvidcore.geometry import ZYX
from dvidcore.storage.engine import Batch, Snapshot

if TYPE_CHECKING:
    from dvidcore.datatypes.labels.engine import LabelEngine

_TILE_BITS = 3  # a tile has at least 8 x 8 x 8 blocks of scale 0


def tiles_of(data: LabelEngine, blocks: Iterable[ZYX], scale: int = 0) -> set[ZYX]:
    """The tiles that blocks of a scale are in: what is locked and guarded when blocks are written.

    Whatever is made from the blocks of a tile at coarser scales is in no other tile.
    """
    shift = max(data.scales, _TILE_BITS) - scale
    return {ZYX(z >> shift, y >> shift, x >> shift) for z, y, x in blocks}


def read_guard(snapshot: Snapshot, generations: Collection[bytes]) -> dict[bytes, bytes | None]:
    """The generations (whole keys) as they are now: what a write that depends on them is guarded with."""
    values = (None if v is None else bytes(v) for v in snapshot.get_many(generations))
    return dict(zip(generations, values, strict=True))


def raise_generations(batch: Batch, generations: Mapping[bytes, bytes | None]) -> None:
    """Puts the next ones of these generations."""
    for key, value in generations.items():
        batch.put(key, pack_u64(unpack_u64(value) + 1))
