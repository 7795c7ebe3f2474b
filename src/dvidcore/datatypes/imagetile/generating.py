"""The endpoints that have all tiles made in the background, and tell how far that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from dvidcore.datatypes.arguments import Query
from dvidcore.datatypes.background import Progress, Task
from dvidcore.datatypes.call import JSON, Call
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.imageblk.extents import Extents
from dvidcore.datatypes.imageblk.planes import Plane
from dvidcore.datatypes.imagetile import generate, pictures
from dvidcore.datatypes.imagetile.generate import Slices
from dvidcore.datatypes.imagetile.levels import Level, default_levels, levels_of, parse_levels
from dvidcore.datatypes.imagetile.source import Gray
from dvidcore.datatypes.imagetile.synced import Synced
from dvidcore.datatypes.imagetile.tiles import GENERATION, PLANES
from dvidcore.errors import BadRequest, GuardFailed, Locked
from dvidcore.geometry import ZYX
from dvidcore.pool import ordered_map, processors
from dvidcore.storage.engine import Batch
from dvidcore.storage.keys import version_bytes

if TYPE_CHECKING:
    from dvidcore.repos import Database, InstanceRecord, Repo

_BATCH = 8 << 20
"""Bytes of tiles that are written at once."""


def _range(axis: str, plane: str) -> Query:
    help = f"first and last {axis} of the {plane} slices, as in 0,99; all by default"
    return Query(f"{axis}range", None, help, generate.parse_range, "first,last")


_PLANES = Query("planes", None, "which planes, as in xy;yz; all by default", generate.parse_planes, "planes")
_RANGES = (_range("x", "yz"), _range("y", "xz"), _range("z", "xy"))


class Generating(Synced):
    """What makes tiles of a whole volume."""

    def __init__(self, database: Database, repo: Repo, record: InstanceRecord) -> None:
        super().__init__(database, repo, record)
        self.generation = Task(self, "generate", GENERATION)

    @endpoint("GET", "generate", answers=JSON)
    def get_generate(self, call: Call) -> dict[str, Any]:
        """How far the last generation of tiles is, in slices of all planes.

        ``{"State": …, "Done": n, "Total": m, "Version": UUID, "Started": time, "Updated": time}``; the State is running,
        done, failed (with an Error), interrupted (the server ended meanwhile: start it again), or none.
        """
        return self.generation.known()

    @endpoint("POST", "generate", query=(_PLANES, *_RANGES), answers=JSON)
    def post_generate(
        self,
        call: Call,
        *,
        planes: list[Plane] | None = None,
        xrange: tuple[int, int] | None = None,
        yrange: tuple[int, int] | None = None,
        zrange: tuple[int, int] | None = None,
    ) -> dict[str, Any]:
        """Makes the tiles of this version from the Source, in the background; answers what GET does.

        The body is the ``Levels`` of a tile specification; without one tiles have 512 pixels a side, level 0 has the
        voxel size of the Source, and each level half the resolution of the one before, as many as it takes for all to
        fit one tile. The specification of the instance is replaced at once. Every slice of the chosen planes within the
        extents of the Source is cut into tiles at every level: shrunk level by level with means rounded down, black
        outside of the extents. Tiles before the origin are left out. Tiles become visible in groups. 409 while a
        generation is running.
        """
        with self.volume(call) as volume:
            if volume is None:
                raise BadRequest(f'Source: there is no instance "{self.record.settings["Source"][:60]}" in this repo')
            extents, resolution = volume.extents, volume.resolution
        if extents is None:
            raise BadRequest(f'Source: "{self.record.settings["Source"]}" has no voxels at this version')
        size = [high - low + 1 for low, high in zip(*extents, strict=True)]
        levels = parse_levels(call.body.json()) if call.body.length else default_levels(resolution, size)
        wanted = generate.chosen(extents, planes or list(PLANES), (zrange, yrange, xrange))
        if not any(slices.number for slices in wanted):
            raise BadRequest("xrange, yrange, zrange: no slice of the chosen planes lies in them and in the extents")
        work = _Work(self, call, extents, levels_of(levels), wanted)
        total = sum(slices.number for slices in wanted)
        about = {"Version": call.node.uuid, "Planes": [PLANES[slices.plane] for slices in wanted]}
        begun = self.generation.start(about, total, work.run)
        self.set_metadata({**_bounds(extents, levels_of(levels)[-1]), "Levels": levels})
        line = f'generate tiles of "{self.record.name}": {orjson.dumps({**about, "Levels": levels}).decode()}'
        self.database.append_log(self.repo, call.node, [line], admin=True)
        return begun


def _bounds(extents: Extents, coarsest: Level) -> dict[str, list[int]]:
    """The least and greatest tile coordinates at the coarsest level."""
    by = [1, 1, 1]
    for ratio in coarsest.ratios:
        by = [a * b for a, b in zip(by, ratio, strict=True)]
    side = [a * b for a, b in zip(by, coarsest.tile, strict=True)]
    low, high = (ZYX(*(c // n for c, n in zip(end, side, strict=True))).xyz() for end in extents)
    return {"MinTileCoord": low, "MaxTileCoord": high}


class _Work:
    """One generation."""

    def __init__(
        self, data: Generating, call: Call, extents: Extents, levels: Sequence[Level], wanted: Sequence[Slices]
    ) -> None:
        self._data = data
        self._node, self._ancestry, self._admin = call.node, call.ancestry, call.admin
        self._extents, self._levels, self._wanted = extents, levels, wanted
        self._format: str = data.record.settings["Format"]

    def run(self, progress: Progress) -> None:
        """Makes all tiles, each group of slices from the newest state of the version."""
        source = self._data.source_instance()
        if source is None:
            raise BadRequest("the Source was deleted")
        for slices in self._wanted:
            plane = slices.plane
            block = source.stored.block[3 - plane.columns - plane.rows]
            for group in generate.groups(slices, self._extents, self._levels, block):
                while not self._tile(slices, group):
                    progress.advance(0)  # the volume was changed meanwhile
                progress.advance(group[1] - group[0])

    def _tile(self, slices: Slices, group: tuple[int, int]) -> bool:
        """Makes the tiles of a group of slices; False where a change removed some of them meanwhile."""
        call = Call(self._data.engine, self._node, self._ancestry)
        try:
            now = call.snapshot.get(self._data.changed_key)
            batch = _Tiles(self, slices.plane, group[0], None if now is None else bytes(now))
            with self._data.volume(call) as volume:
                if volume is None:
                    raise BadRequest("the Source was deleted")
                generate.tile(volume._replace(extents=self._extents), slices, group, self._levels, batch.add)
            batch.flush()
        except GuardFailed:
            return False
        finally:
            call.close()
        return True

    def packed(self, pixels: Gray) -> bytes:
        """A tile's stored value."""
        return pictures.encode(pixels, self._format, self._data.record.checksum)

    def key(self, plane: Plane, scale: int, coord: ZYX) -> bytes:
        """A tile's whole key."""
        return self._data.prefix_key(plane, scale, coord) + version_bytes(self._ancestry.version)

    def write(self, batch: Batch, changed: bytes | None) -> None:
        """Stores some tiles, made while the row of changes had the value ``changed``.

        Raises Locked where the version was committed meanwhile, GuardFailed where the volume was changed.
        """
        node = self._data.repo.dag.nodes[self._node.id]
        if node.locked and self._data.record.versioned and not self._admin:
            raise Locked(f"version {node.uuid} was committed before all tiles were made")
        guard = {self._data.changed_key: changed}
        self._data.engine.write(batch, sync=self._data.database.options.sync, guard=guard)

    def level(self, number: int) -> Level:
        return self._levels[number]

    def shown(self, plane: Plane, number: int) -> tuple[range, range]:
        """The columns and rows of tiles of a level that are stored."""
        return generate.shown(self._extents, plane, self._levels[number])


class _Tiles:
    """Encodes the tiles of a group of slices, and writes them some megabytes at a time."""

    def __init__(self, work: _Work, plane: Plane, first: int, changed: bytes | None) -> None:
        self._work = work
        self._changed = changed
        self._plane = plane
        self._first = first
        self._batch = Batch()

    def add(self, number: int, row: int, column: int, tiles: Gray) -> None:
        """Takes a row of tiles of some slices, as ``generate.Emit`` says."""
        side = self._work.level(number).width(self._plane)
        columns, rows = self._work.shown(self._plane, number)
        if row not in rows:
            return

        def packed(place: tuple[int, int]) -> tuple[bytes, bytes]:
            k, at = place
            left = (at - column) * side
            point = [self._first + k] * 3
            point[self._plane.columns], point[self._plane.rows] = at, row
            value = self._work.packed(np.ascontiguousarray(tiles[k, :, left : left + side]))
            return self._work.key(self._plane, number, ZYX(*point)), value

        places = ((k, c) for k in range(tiles.shape[0]) for c in columns)
        for key, value in ordered_map(packed, places, 4 * processors()):
            self._batch.put(key, value)
            if self._batch.nbytes >= _BATCH:
                self.flush()

    def flush(self) -> None:
        """Writes what has been encoded."""
        if len(self._batch):
            self._work.write(self._batch, self._changed)
            self._batch = Batch()
