"""What an imagetile instance holds: its settings, the tile specification, and the tiles one by one."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dvidcore import images
from dvidcore.datatypes.arguments import flag
from dvidcore.datatypes.base import DataType, Setting
from dvidcore.datatypes.call import JSON, Call, Reply
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.imageblk import ImageBlock, planes
from dvidcore.datatypes.imageblk.pictures import JPEG_SIDE
from dvidcore.datatypes.imageblk.planes import Plane
from dvidcore.datatypes.imagetile import pictures
from dvidcore.datatypes.imagetile.levels import MAX_LEVELS, Level, levels_of, parse_metadata
from dvidcore.datatypes.imagetile.source import Volume, cut
from dvidcore.errors import BadRequest, NotFound, TooLarge
from dvidcore.geometry import ZYX
from dvidcore.storage.engine import Batch
from dvidcore.storage.keys import TYPE_KEY_OFFSET, data_prefix, version_bytes, zyx_key, zyx_of
from dvidcore.storage.versioned import View

TILES, GENERATION = 1, 2
"""Kinds of rows: a tile under plane (1 byte), scale (1 byte), z, y, x (12 bytes); how far the last generation is."""
MAX_TILE_BYTES = 256 << 20

PLANES = {Plane(2, 1): "xy", Plane(2, 0): "xz", Plane(1, 0): "yz"}
_PLANE_NUMBERS = {plane: number for number, plane in enumerate(PLANES)}


def _format(text: str, name: str) -> str:
    if (word := text.lower()) not in pictures.FORMATS:
        raise BadRequest(f'{name}: "{text[:40]}" is not one of {", ".join(pictures.FORMATS)}')
    return word


def _boolean(text: str, name: str) -> bool:
    if (word := text.lower()) not in ("true", "false", "1", "0"):
        raise BadRequest(f'{name}: "{text[:40]}" is not one of true, false, 1, 0')
    return word in ("true", "1")


_NO_BLANKS = (flag("noblanks", "true: 404 where there is nothing to show, instead of a black tile"),)


class Tiles(DataType):
    """The tile specification, and reading and writing single tiles."""

    settings: ClassVar[tuple[Setting, ...]] = (
        Setting("Format", "Format", "png", _format, "how tiles are stored: png, jpg or lz4"),
        Setting("Source", "Source", "", lambda text, _: text, "the uint8blk instance that the tiles show"),
        Setting("Placeholder", "Placeholder", False, _boolean, "true: missing tiles are drawn, and not just black"),
    )
    compressions: ClassVar[frozenset[str]] = frozenset({"none", "lz4"})
    default_compression: ClassVar[str] = "none"

    @classmethod
    def chosen_compression(cls, given: str | None, settings: dict[str, Any]) -> str:
        implied = "lz4" if settings["Format"] == "lz4" else "none"
        if given is not None and given.lower() != implied:
            raise BadRequest(
                f'Compression: "{given[:40]}" does not go with Format {settings["Format"]}, {implied} does'
            )
        return implied

    # -- what info shows --------------------------------------------------------------------------------------------

    def _metadata(self) -> dict[str, Any]:
        nothing = {"MinTileCoord": [0, 0, 0], "MaxTileCoord": [0, 0, 0], "Levels": {}}
        return {name: self.record.settings.get(name, value) for name, value in nothing.items()}

    def extended(self, view: View) -> dict[str, Any]:
        kept = self.record.settings
        return {
            "Source": kept["Source"],
            **self._metadata(),
            "Placeholder": kept["Placeholder"],
            "Encoding": pictures.FORMATS[kept["Format"]],
            "Quality": 0,
        }

    def row_name(self, prefix_key: bytes) -> str:
        plane, scale = prefix_key[TYPE_KEY_OFFSET], prefix_key[TYPE_KEY_OFFSET + 1]
        z, y, x = zyx_of(prefix_key, TYPE_KEY_OFFSET + 2)
        return f"tile {list(PLANES.values())[plane]}/{scale}/{x}_{y}_{z}"

    @endpoint("GET", "metadata", answers=JSON)
    def get_metadata(self, call: Call) -> dict[str, Any]:
        """The tile specification: Resolution and TileSize of each level, and the least and greatest tile coordinates."""
        self.levels()
        return self._metadata()

    @endpoint("POST", "metadata")
    def post_metadata(self, call: Call) -> None:
        """Replaces the tile specification, for all versions.

        ``{"MinTileCoord": [x, y, z], "MaxTileCoord": [x, y, z], "Levels": {"0": {"Resolution": [x, y, z], "TileSize":
        [x, y, z]}, …}}`` with levels 0 to n - 1, each resolution an integral multiple of that of the level before.
        """
        self.set_metadata(parse_metadata(call.body.json()))

    def set_metadata(self, metadata: dict[str, Any]) -> None:
        """Keeps what ``parse_metadata`` answers."""
        self.database.update_instance(self.repo, self.record, settings=lambda now: {**now.settings, **metadata})

    def levels(self) -> list[Level]:
        levels = levels_of(self._metadata()["Levels"])
        if not levels:
            raise BadRequest(f'"{self.record.name}" has no tile specification yet: POST metadata first')
        return levels

    # -- tiles --------------------------------------------------------------------------------------------------------

    @endpoint("GET", "tile/{plane:text}/{scale:int}/{coord:point}", query=_NO_BLANKS, answers="image/png")
    @endpoint("GET", "tile/{plane:text}/{scale:int}/{coord:point}/{format:text}", query=_NO_BLANKS, answers="image/png")
    def get_tile(
        self, call: Call, *, plane: str, scale: int, coord: ZYX, noblanks: bool = False, format: str = ""
    ) -> Reply:
        """A tile, an image.

        One that is stored comes as it is, PNG or JPEG. Any other is black, or 404 with noblanks=true. In an instance
        that is synced with its Source it is cut from there instead, shrunk level by level with means rounded down,
        where it lies within the extents of the Source and shows at most 2^26 of its voxels, or as many of one of its
        coarser scales where it has them (MaxDownresLevel). What is not stored is in ``format``: png, jpg, jpg:QUALITY,
        tif or bmp; by default a tile that is cut is in the instance's own format and a black one in PNG.
        """
        axes, levels = planes.plane_of(plane, "plane"), self.levels()
        self._check_scale(scale)
        own: str = self.record.settings["Format"]
        stored = self.stored_tile(call.view, axes, scale, coord)
        if stored is not None:
            return Reply(*pictures.answer(stored, own))
        kind, quality = images.parse_format(format)
        if scale >= len(levels):
            raise BadRequest(f"scale: {scale} is not a level of the tile specification, 0 to {len(levels) - 1} are")
        level = levels[scale]
        if kind == "jpg" and max(level.width(axes), level.height(axes)) > JPEG_SIDE:
            raise BadRequest(f"format: a JPEG has at most {JPEG_SIDE} rows and columns")
        with self.behind(call) as volume:
            pixels = None if volume is None else cut(volume, axes, level, coord)
        if pixels is not None:
            if not format and own == "jpg":
                kind = "jpg"
        elif noblanks:
            raise NotFound(f"there is no tile {plane}/{scale}/{'_'.join(map(str, coord.xyz()))}")
        elif self.record.settings["Placeholder"]:
            pixels = drawn(axes, level, scale, coord)
        else:
            black = pictures.blank(level.height(axes), level.width(axes), kind, quality)
            return Reply(black, images.CONTENT_TYPES[kind])
        return Reply(images.encode(pixels, kind, quality), images.CONTENT_TYPES[kind])

    @endpoint("POST", "tile/{plane:text}/{scale:int}/{coord:point}")
    def post_tile(self, call: Call, plane: str, scale: int, coord: ZYX) -> None:
        """Stores a tile: the body is an image in the instance's format (PNG where that is lz4) and kept as it is.

        Where there is a tile specification it must have the level, and the image the level's tile size.
        """
        axes, levels = planes.plane_of(plane, "plane"), levels_of(self._metadata()["Levels"])
        self._check_scale(scale)
        if levels and scale >= len(levels):
            raise BadRequest(f"scale: {scale} is not a level of the tile specification, 0 to {len(levels) - 1} are")
        if min(coord[axes.columns], coord[axes.rows]) < 0:
            raise BadRequest(f"coord: {coord.xyz()} names a tile before the origin, which nobody could read")
        if not call.body.length:
            raise BadRequest("the body is empty, an image expected")
        if call.body.length > MAX_TILE_BYTES:
            raise TooLarge(f"the body has {call.body.length} bytes, a tile at most {MAX_TILE_BYTES}")
        data = call.body.read()
        pixels = pictures.parse_picture(data, self.record.settings["Format"])
        if levels:
            size = (levels[scale].height(axes), levels[scale].width(axes))
            if pixels.shape[:2] != size:
                raise BadRequest(
                    f"the image has {pixels.shape[1]} x {pixels.shape[0]} pixels, tiles of level {scale} in this plane"
                    f" have {size[1]} x {size[0]}"
                )
        batch = Batch()
        value = pictures.pack(data, pixels, self.record.settings["Format"], self.record.checksum)
        batch.put(self.prefix_key(axes, scale, coord) + version_bytes(call.version), value)
        self.repo.next_mutation_id()
        self.engine.write(batch, sync=self.database.options.sync)

    @endpoint("GET", "tilekey/{plane:text}/{scale:int}/{coord:point}", answers=JSON)
    def get_tilekey(self, call: Call, plane: str, scale: int, coord: ZYX) -> dict[str, str]:
        """The key under which the store holds a tile of this version, ``{"key": "<hexadecimal>"}``."""
        self._check_scale(scale)
        key = self.prefix_key(planes.plane_of(plane, "plane"), scale, coord) + version_bytes(call.version)
        return {"key": key.hex()}

    def prefix_key(self, plane: Plane, scale: int, coord: ZYX) -> bytes:
        """The key of a tile without its version."""
        return data_prefix(self.record.id, TILES) + bytes((_PLANE_NUMBERS[plane], scale)) + zyx_key(*coord)

    @staticmethod
    def _check_scale(scale: int) -> None:
        if not 0 <= scale < MAX_LEVELS:
            raise BadRequest(f"scale: {scale} is out of range, allowed is 0 to {MAX_LEVELS - 1}")

    def stored_tile(self, view: View, plane: Plane, scale: int, coord: ZYX) -> bytes | memoryview | None:
        if min(coord[plane.columns], coord[plane.rows]) < 0:
            return None
        return view.get(self.prefix_key(plane, scale, coord))

    # -- the volume behind the tiles ----------------------------------------------------------------------------------

    def source_instance(self, elements: Collection[str] = ("uint8",)) -> ImageBlock | None:
        """The instance that Source names; None where the repo has none.

        BadRequest where it is no image, or one of other elements.
        """
        name = self.record.settings["Source"]
        if name not in self.repo.instances:
            return None
        found = self.instances.named(self.repo, name)
        if not isinstance(found, ImageBlock) or found.element.name not in elements:
            allowed = " or ".join(f"{element}blk" for element in elements)
            raise BadRequest(f'the Source "{name[:60]}" is of type {found.typename}, not of {allowed}')
        return found

    @contextmanager
    def behind(self, call: Call) -> Iterator[Volume | None]:
        """The volume that missing tiles are cut from: the Source of an instance that is synced with it.

        In others a missing tile is black whatever the Source holds, as DVID's clients know it.
        """
        source = self.repo.instances.get(self.record.settings["Source"])
        if source is None or source.data_uuid not in self.record.syncs:
            yield None
            return
        with self.volume(call) as volume:
            yield volume

    @contextmanager
    def volume(self, call: Call) -> Iterator[Volume | None]:
        """The volume that the tiles show, at the version of the call; None where there is none."""
        found = self.source_instance()
        if found is None:
            yield None
            return
        ancestry = self.database.ancestry_for(self.repo, call.node, found.record)
        snapshot = call.snapshot if found.engine is call.engine else found.engine.snapshot()
        try:
            view = View(snapshot, ancestry)
            extents, resolution = found.extents(view), found.record.settings["VoxelSize"]
            yield Volume(found.stored, view, extents, resolution, found.coarse)
        finally:
            if snapshot is not call.snapshot:
                snapshot.close()


def drawn(plane: Plane, level: Level, scale: int, coord: ZYX) -> NDArray[np.uint8]:
    """What stands for a missing tile where placeholders are wanted."""
    return pictures.placeholder(level.height(plane), level.width(plane), f"{PLANES[plane]} {scale} {coord.xyz()}")
