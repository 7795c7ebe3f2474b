"""Generations: what a write that depends on the index, the mapping or the blocks of a tile is guarded with."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from dvidcore.datatypes.labels.rows import pack_u64, unpack_u64
from dvidcore.errors import GuardFailed
from dvidcore.geometry import ZYX
from dvidcore.storage.engine import Batch, Engine, Snapshot

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


def raise_again(engine: Engine, generation: bytes, before: bytes | None) -> None:
    """Raises a generation (whole key) once more, which was ``before`` and has been raised; not where another write did so."""
    now = pack_u64(unpack_u64(before) + 1)
    batch = Batch()
    batch.put(generation, pack_u64(unpack_u64(now) + 1))
    with suppress(GuardFailed):
        engine.write(batch, sync=False, guard={generation: now})


def raise_generations(batch: Batch, generations: Mapping[bytes, bytes | None]) -> None:
    """Puts the next ones of these generations."""
    for key, value in generations.items():
        batch.put(key, pack_u64(unpack_u64(value) + 1))
