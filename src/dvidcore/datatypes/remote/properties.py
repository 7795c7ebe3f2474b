"""What an instance says about the volume elsewhere that it shows, and how creation finds that out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import orjson

from dvidcore.datatypes.base import DataType, Setting
from dvidcore.datatypes.call import JSON, Call, Reply
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.imageblk.elements import Element
from dvidcore.datatypes.labels.reading.volume import Voxels
from dvidcore.datatypes.remote.layout import Layout
from dvidcore.datatypes.remote.locations import FORMATS, Location, permitted
from dvidcore.datatypes.remote.scale import Scale
from dvidcore.datatypes.remote.volumes import volumes
from dvidcore.datatypes.voxel_settings import (
    MAX_BLOCK_SIDE,
    MAX_BLOCK_VOXELS,
    VOXEL_SIZE,
    axes,
    parse_block_size,
    parse_units,
    parse_voxel_size,
    voxel_size,
)
from dvidcore.errors import BadGateway, BadRequest
from dvidcore.geometry import ZYX
from dvidcore.storage.versioned import View

if TYPE_CHECKING:
    from dvidcore.repos import Database

DEFAULT_BLOCK = [64, 64, 64]


def _format(text: str, name: str) -> str:
    word = text.lower()
    if word not in FORMATS:
        raise BadRequest(f'{name}: "{text[:40]}" is not one of {", ".join(FORMATS)}')
    return word


def _axes(text: str, name: str) -> str:
    if not (text.isascii() and text.isalpha() and text.islower() and len(text) <= 8):
        raise BadRequest(f'{name}: "{text[:40]}" must be a letter for each axis of the array, as in zyx or czyx')
    return text


class RemoteProperties(DataType):
    """The settings of an instance, the volume behind them, and what ``info`` shows of it."""

    settings: ClassVar[tuple[Setting, ...]] = (
        Setting("URL", "URL", None, lambda text, _: text, "the volume's folder: gs://, s3://, https://, file:// …"),
        Setting("Format", "Format", "auto", _format, "precomputed, zarr, zarr3 or n5, where it shall not be found out"),
        Setting("Axes", "Axes", "", _axes, "a letter for each axis of the array, where the volume names them wrongly"),
        Setting("BlockSize", "BlockSize", None, parse_block_size, "x,y,z voxels of a block; the volume's chunk"),
        Setting(VOXEL_SIZE.name, VOXEL_SIZE.key, None, parse_voxel_size, "x,y,z of scale 0, where the volume has none"),
        Setting("VoxelUnits", "VoxelUnits", None, parse_units, "u,v,w units of the voxel size"),
    )
    compressions = frozenset({"none", "lz4", "gzip", "jpeg"})
    default_compression = "none"

    @classmethod
    def completed_settings(cls, database: Database, settings: dict[str, Any], compression: str) -> dict[str, Any]:
        """Opens all scales of the volume, so that what cannot be read is no instance."""
        if not settings["URL"]:
            raise BadRequest('"URL" is missing')
        options = database.options.remote
        location, format = permitted(settings["URL"], options)
        format = format if settings["Format"] == "auto" else settings["Format"]
        reader = volumes(options)
        try:
            layout = reader.find(location, format, settings["Axes"])
            kept = [
                {"Path": scale.path, "Index": scale.index, "Axes": scale.axes, "VoxelSize": list(scale.voxel_size)}
                for scale in layout.scales
            ]
            opened = [reader.scale(location, layout.format, scale) for scale in kept]
        except BadGateway as error:
            raise BadGateway(f"nothing was created: {error}") from None
        for scale, found in zip(kept, opened, strict=True):
            scale |= {"Offset": found.origin.xyz(), "Size": found.size.xyz(), "ChunkSize": found.shape.xyz()}
        return settings | _described(location, layout, kept, opened, settings=settings, compression=compression)

    # -- the volume -----------------------------------------------------------------------------------------------

    @property
    def dtype(self) -> np.dtype[Any]:
        found: np.dtype[Any] = np.dtype(self.record.settings["DataType"])
        return found

    @property
    def channels(self) -> int:
        found: int = self.record.settings["Channels"]
        return found

    @property
    def scales(self) -> list[dict[str, Any]]:
        """Of each scale its ``Path``, ``Offset``, ``Size``, ``ChunkSize`` and ``VoxelSize``, in X, Y, Z order."""
        found: list[dict[str, Any]] = self.record.settings["Scales"]
        return found

    @property
    def block(self) -> ZYX:
        """Of the endpoints of blocks; the lattice of blocks starts at the origin, wherever the volume does."""
        x, y, z = self.record.settings["BlockSize"]
        return ZYX(z, y, x)

    def scale(self, k: int) -> Scale:
        """A scale, opened. BadRequest where there is none; and whatever the other service fails with."""
        settings = self.record.settings
        self._check_scale(k)
        options = self.database.options.remote
        location, _ = permitted(settings["URL"], options)  # again: the configuration may have become stricter
        found = volumes(options).scale(location, settings["Format"], self.scales[k])
        if found.dtype != self.dtype or (found.channels or (1,)) != (self.channels,):
            raise BadGateway(f"{location.url} has changed: its voxels are of another type; create the instance anew")
        return found

    def _check_scale(self, scale: int) -> None:
        if not 0 <= scale < len(self.scales):
            raise BadRequest(f"scale: {scale} is not one of the volume's, 0 to {len(self.scales) - 1}")

    def _checked(self, source: Voxels, scale: int, offset: ZYX, size: ZYX) -> None:
        """BadRequest where an answer, or what must be read for it, is larger than an answer may be."""
        most = self.database.options.max_data_request
        total = math.prod(size) * source.nbytes
        if total > most:
            raise BadRequest(f"size: the answer would have {total} bytes, at most {most} are allowed (maxDataRequest)")
        self.scale(scale).check(offset, size, most)

    # -- what info shows ------------------------------------------------------------------------------------------

    def element(self) -> Element:
        """What a voxel is."""
        name = self.dtype.name
        labels = (name,) if self.channels == 1 else tuple(f"channel{k}" for k in range(self.channels))
        return Element(name, self.dtype, labels)

    def jpeg_level(self) -> int:
        return self.block.x

    def bounds(self, scale: int = 0) -> tuple[list[int], list[int]]:
        """The first and the last voxel of the volume, X, Y, Z."""
        found = self.scales[scale]
        return found["Offset"], [o + n - 1 for o, n in zip(found["Offset"], found["Size"], strict=True)]

    def extents(self, view: View) -> tuple[list[int], list[int]]:
        """The first and the last voxel that a version shows, X, Y, Z."""
        return self.bounds()

    def extended(self, view: View) -> dict[str, Any]:
        s, (low, high) = self.record.settings, self.extents(view)
        indices = [[c // b for c, b in zip(point, s["BlockSize"], strict=True)] for point in (low, high)]
        shown = ("Size", "Offset", "VoxelSize", "ChunkSize", "Path")
        return {
            "Values": self.element().describe(),
            "Interpolable": s["Kind"] == "image",
            "BlockSize": s["BlockSize"],
            "VoxelSize": s["VoxelSize"],
            "VoxelUnits": s["VoxelUnits"],
            "MinPoint": low,
            "MaxPoint": high,
            "MinIndex": indices[0],
            "MaxIndex": indices[1],
            "Background": 0,
            "URL": s["URL"],
            "Format": s["Format"],
            "Kind": s["Kind"],
            "Channels": self.channels,
            "MaxDownresLevel": len(self.scales) - 1,
            "Scales": [{name: scale[name] for name in shown} for scale in self.scales],
        }

    def info(self, view: View) -> dict[str, Any]:
        extended = self.extended(view)
        return {"Base": self.base_info(), "Extended": extended, "Extents": self._extents(view)}

    def _extents(self, view: View) -> dict[str, Any]:
        low, high = self.extents(view)
        return {"MinPoint": low, "MaxPoint": high}

    @endpoint("GET", "extents", answers=JSON)
    def get_extents(self, call: Call) -> dict[str, Any]:
        """The first and the last voxel of the volume at scale 0: ``{"MinPoint": [x, y, z], "MaxPoint": [x, y, z]}``."""
        return self._extents(call.view)

    @endpoint("GET", "metadata", answers="application/vnd.dvid-nd-data+json")
    def get_metadata(self, call: Call) -> Reply:
        """The axes of the volume with their size, offset and resolution, and the instance's properties."""
        s, (low, high) = self.record.settings, self.extents(call.view)
        body = orjson.dumps({"Axes": axes(s, low, high), "Properties": self.extended(call.view)})
        return Reply(body, "application/vnd.dvid-nd-data+json")


def _described(
    location: Location,
    layout: Layout,
    scales: Sequence[Mapping[str, Any]],
    opened: Sequence[Scale],
    *,
    settings: Mapping[str, Any],
    compression: str,
) -> dict[str, Any]:
    """The settings that follow from the volume. BadRequest where its scales do not go together, or with the request."""
    kinds = {(scale.dtype, scale.channels) for scale in opened}
    if len(kinds) > 1:
        raise BadRequest("URL: the scales of the volume differ in the type or the channels of their voxels")
    (dtype, channels) = kinds.pop()
    if compression.startswith("jpeg") and (dtype != np.uint8 or channels):
        raise BadRequest(f"Compression: jpeg is for grayscale of 8 bits, not for {dtype.name}")
    chunk = opened[0].shape.xyz()
    fits = max(chunk) <= MAX_BLOCK_SIDE and np.prod(chunk) <= MAX_BLOCK_VOXELS
    size = settings["VoxelSize"] or list(scales[0]["VoxelSize"])
    return {
        "URL": location.url,
        "Format": layout.format,
        "Kind": layout.kind,
        "DataType": dtype.name,
        "Channels": channels[0] if channels else 1,
        "Scales": [{**scale, "VoxelSize": voxel_size(scale["VoxelSize"], "URL")} for scale in scales],
        "BlockSize": settings["BlockSize"] or (chunk if fits else DEFAULT_BLOCK),
        "VoxelSize": voxel_size(size, "VoxelSize"),
        "VoxelUnits": settings["VoxelUnits"] or [layout.units] * 3,
    }
