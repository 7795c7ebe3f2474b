"""Image instances with a ``GridStore``: a scale of a precomputed volume of the configuration, under an image type's name."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from dvidcore.datatypes.call import Call
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.imageblk import ImageBlock
from dvidcore.datatypes.imageblk import extents as ext
from dvidcore.datatypes.imageblk.elements import Element
from dvidcore.datatypes.imageblk.extents import Extents
from dvidcore.datatypes.imageblk.properties import EXTENTS
from dvidcore.datatypes.registry import datatype
from dvidcore.datatypes.remote.datatype import RemoteVolume
from dvidcore.datatypes.remote.properties import RemoteProperties
from dvidcore.datatypes.remote.scale import Scale
from dvidcore.datatypes.voxel_settings import check_extents, voxel_size
from dvidcore.errors import BadGateway, BadRequest, GatewayTimeout, Unavailable
from dvidcore.storage.engine import Batch
from dvidcore.storage.keys import data_prefix, version_bytes
from dvidcore.storage.versioned import View

if TYPE_CHECKING:
    from dvidcore.config import GridConfig, RemoteConfig
    from dvidcore.repos import Database


class GridVolume(RemoteVolume):
    """What all image types are where ``GridStore`` is set. Scale 0 is the scale that ``ScaleLevel`` names."""

    shown: ClassVar[Element]
    """What a voxel of the type is."""
    default_compression = "lz4"
    settings = ()  # those of the image type, which parses them

    @classmethod
    def completed_settings(cls, database: Database, settings: dict[str, Any], compression: str) -> dict[str, Any]:
        grid = named(database.options.remote, settings["GridStore"])
        level: int = settings["ScaleLevel"]
        given = {setting.key: setting.default for setting in RemoteProperties.settings}
        given |= {"URL": grid.url, "Format": "precomputed"}
        found = super().completed_settings(database, given, compression)
        if not 0 <= level < len(found["Scales"]):
            raise BadRequest(f"ScaleLevel: {level} is not one of the volume's, 0 to {len(found['Scales']) - 1}")
        if (found["DataType"], found["Channels"]) != (cls.shown.dtype.name, cls.shown.channels):
            raise BadRequest(
                f"typename: the volume has {found['Channels']} channels of {found['DataType']}, which {cls.typename} is not"
            )
        scale = found["Scales"][level]
        own = {"Scales": found["Scales"][level:], "BlockSize": scale["ChunkSize"], "VoxelSize": scale["VoxelSize"]}
        return {**settings, **found, **own}

    def element(self) -> Element:
        return self.shown

    def scale(self, k: int) -> Scale:
        """As of every volume elsewhere, but one that cannot be opened is only not there yet: 503."""
        try:
            return super().scale(k)
        except (BadGateway, GatewayTimeout) as error:
            raise Unavailable(f"the volume of {self.record.settings['GridStore']} cannot be opened: {error}") from None

    # -- what is shown of it, as of every image instance ----------------------------------------------------------

    @property
    def _extents_key(self) -> bytes:
        return data_prefix(self.record.id, EXTENTS)

    def row_name(self, prefix_key: bytes) -> str:
        return "the extents"

    def extents(self, view: View) -> tuple[list[int], list[int]]:
        """Those that a client has set, else the volume's."""
        found = ext.stored(view, self._extents_key)
        return self.bounds() if found is None else (found.low.xyz(), found.high.xyz())

    @endpoint("POST", "extents")
    def post_extents(self, call: Call) -> None:
        """Sets the extents that this version shows: ``{"MinPoint": [x, y, z], "MaxPoint": [x, y, z]}``, both inclusive.

        What can be read is still the whole volume.
        """
        extents = Extents.from_xyz(*check_extents(call.body.json()))
        batch = Batch()
        batch.put(self._extents_key + version_bytes(call.version), extents.pack())
        self.engine.write(batch, sync=self.database.options.sync)

    @endpoint("POST", "resolution")
    def post_resolution(self, call: Call) -> None:
        """Sets VoxelSize of the instance, for every version: ``[x, y, z]``, three positive numbers."""
        size = voxel_size(call.body.json(), "resolution")
        self.database.update_instance(self.repo, self.record, settings=lambda now: {**now.settings, "VoxelSize": size})

    def extended(self, view: View) -> dict[str, Any]:
        settings = self.record.settings
        return super().extended(view) | {"GridStore": settings["GridStore"], "ScaleLevel": settings["ScaleLevel"]}


def named(config: RemoteConfig, name: str) -> GridConfig:
    """The volume that the configuration has under a name; BadRequest where there is none."""
    for grid in config.grids:
        if grid.name == name:
            return grid
    known = ", ".join(grid.name for grid in config.grids) or "none"
    raise BadRequest(f'GridStore: there is no store "{name[:60]}" of chunked volumes; configured: {known}')


@cache
def shown_as(typename: str) -> type[GridVolume]:
    """The type of instances that a client knows as of an image type."""
    kind = datatype(typename)
    assert issubclass(kind, ImageBlock)
    names = {name: getattr(kind, name) for name in ("typename", "typeversion", "url", "__doc__")}
    return type(f"Grid{kind.__name__}", (GridVolume,), {**names, "shown": kind.element})
