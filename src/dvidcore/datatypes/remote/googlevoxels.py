"""``googlevoxels``: volumes of Google's BrainMaps, or of an object store in its place, as tiles, slices and boxes."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvidcore import images
from dvidcore.datatypes.arguments import choice, integer
from dvidcore.datatypes.base import DataType, Setting
from dvidcore.datatypes.call import OCTETS, Call, Reply
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.imageblk import planes
from dvidcore.datatypes.imageblk.planes import Plane
from dvidcore.datatypes.imageblk.volumes import MAX_IMAGE
from dvidcore.datatypes.labels.reading import volume
from dvidcore.datatypes.labels.reading.volume import Voxels
from dvidcore.datatypes.remote import tiles
from dvidcore.datatypes.remote.brainmaps import BrainMaps, Refused, brain_maps, key_path
from dvidcore.datatypes.remote.geometries import CHANNEL_TYPES, Geometry, ScaleMap
from dvidcore.datatypes.remote.locations import permitted
from dvidcore.datatypes.remote.properties import RemoteProperties
from dvidcore.datatypes.remote.scale import Scale
from dvidcore.datatypes.remote.volumes import volumes
from dvidcore.errors import BadGateway, BadRequest, NotFound
from dvidcore.geometry import INT32_MAX, ZYX, check_box, parse_int
from dvidcore.storage.versioned import View

if TYPE_CHECKING:
    from dvidcore.repos import Database

_DIMS = {(2, 1): "XY", (2, 0): "XZ", (1, 0): "YZ"}
_SLAB = 64
"""Layers that large boxes are fetched in multiples of."""
COMPRESSION = choice("compression", "", "of a volume: raw, or one LZ4 block", ("", "raw", "lz4"))
SCALE = integer("scale", 0, "0 is the finest, each further one half of it", 0, INT32_MAX)


class Format:
    """An image format of a URL: what the service is asked for, and what is made here."""

    def __init__(self, text: str) -> None:
        name, colon, level = text.partition(":")
        if name not in ("", "png", "jpg", "jpeg") or (colon and not name):
            raise BadRequest(
                f'format: "{text[:40]}" is not one of png, png:LEVEL, jpg, jpeg, jpg:QUALITY, jpeg:QUALITY'
            )
        self.kind = "jpg" if name.startswith("j") else "png"
        self.quality = images.DEFAULT_QUALITY
        self.options: dict[str, Any] = {"imageFormat": "JPEG" if self.kind == "jpg" else "PNG"}
        if self.kind == "jpg":
            self.quality = parse_int(level, "quality of the format", 1, 100) if colon else images.DEFAULT_QUALITY
            self.options["jpegQuality"] = self.quality
        elif colon:
            self.options["pngCompressionLevel"] = parse_int(level, "level of the format", 0, 9)

    def reply(self, image: NDArray[Any]) -> Reply:
        """An image that is encoded here."""
        return Reply(images.encode(images.pixels(image), self.kind, self.quality), images.CONTENT_TYPES[self.kind])


class GoogleVoxels(DataType):
    """A read-only view of a volume; every version shows the same."""

    typename = "googlevoxels"
    typeversion = "0.1"
    url = "github.com/janelia-flyem/dvid/datatype/googlevoxels"
    settings = (
        Setting("volumeid", "VolumeID", None, lambda text, _: text, "of BrainMaps, or the URL of a volume elsewhere"),
        Setting("jwtfile", "KeyFile", None, lambda text, _: text, "the service account's key, in [remote] keyFolder"),
        Setting(
            "tilesize",
            "TileSize",
            tiles.DEFAULT_SIDE,
            lambda text, name: parse_int(text, name, 1, tiles.MAX_SIDE),
            "pixels of a tile along each side",
        ),
    )

    @classmethod
    def completed_settings(cls, database: Database, settings: dict[str, Any], compression: str) -> dict[str, Any]:
        """Asks the service for the volume, so that what it refuses is no instance."""
        for name, key in (("volumeid", "VolumeID"), ("jwtfile", "KeyFile")):
            if not settings[key] and not (name == "jwtfile" and "://" in settings["VolumeID"]):
                raise BadRequest(f'"{name}" is missing')
        if "://" in settings["VolumeID"]:
            return settings | _elsewhere(database, settings)
        options = database.options.remote
        path = key_path(settings["KeyFile"], options, "jwtfile")
        try:
            found = brain_maps(options, path).geometries(settings["VolumeID"])
        except Refused as error:
            raise BadRequest(f"volumeid: nothing was created: {error}") from None
        return settings | {"Geometries": [geometry.shown() for geometry in found]}

    # -- the volume -----------------------------------------------------------------------------------------------

    @property
    def geometries(self) -> list[Geometry]:
        return [Geometry.of(item) for item in self.record.settings["Geometries"]]

    def _client(self) -> BrainMaps | None:
        """None where an object store holds the volume."""
        settings, options = self.record.settings, self.database.options.remote
        if "Scales" in settings:
            return None
        return brain_maps(options, key_path(settings["KeyFile"], options, "jwtfile"))

    def _voxels(self, k: int, geometry: Geometry, offset: ZYX, size: ZYX) -> Voxels:
        """The voxels of a geometry, whose coordinates start at 0, for a box of them.

        BadRequest where the box touches chunks of more bytes than an answer may have.
        """
        client, settings = self._client(), self.record.settings
        if client is not None:
            return Fetched(client, settings["VolumeID"], k, geometry)
        options = self.database.options.remote
        location, _ = permitted(settings["VolumeID"], options, "volumeid")
        found = volumes(options).scale(location, settings["Format"], settings["Scales"][k])
        if found.dtype != geometry.dtype or found.channels:
            raise BadGateway(f"{location.url} has changed: its voxels are of another type; create the instance anew")
        moved = Moved(found)
        moved.check(offset, size, self.database.options.max_data_request)
        return moved

    def extended(self, view: View) -> dict[str, Any]:
        found, settings = ScaleMap(self.geometries), self.record.settings
        finest, side = found.geometries[found.finest], settings["TileSize"]
        return {
            "VolumeID": settings["VolumeID"],
            "MinTileCoord": [0, 0, 0],
            "MaxTileCoord": [math.ceil(n / side) for n in finest.size.xyz()],
            "TileSize": side,
            "GeomMap": found.by_name,
            "Scales": [geometry.shown() for geometry in found.geometries],
            "HighResIndex": found.finest,
            "Levels": {
                str(k): {"Resolution": [pixel * 2**k for pixel in finest.pixel], "TileSize": [side] * 3}
                for k in range(found.levels)
            },
        }

    # -- endpoints ------------------------------------------------------------------------------------------------

    @endpoint("GET", "tile/{dims:text}/{scale:int}/{coord:point}", query=tiles.QUERY, answers="image/png")
    @endpoint("GET", "tile/{dims:text}/{scale:int}/{coord:point}/{format:any}", query=tiles.QUERY, answers="image/png")
    def get_tile(
        self, call: Call, *, dims: str, scale: int, coord: ZYX, tilesize: int | None, noblanks: bool, format: str = ""
    ) -> Reply:
        """A square of a slice: in its plane ``coord`` counts tiles, across it voxels, both of the scale.

        ``format`` is png (default), png:LEVEL, jpg, jpeg or jpeg:QUALITY. Black outside of the volume.
        """
        plane = planes.plane_of(dims)
        how = Format(format)
        offset, size = tiles.tile_box(plane, coord, tilesize or self.record.settings["TileSize"])
        return self._image(plane, scale, offset, size, how, noblanks=noblanks)

    @endpoint(
        "GET", "raw/{dims:text}/{size:text}/{offset:point}", query=[SCALE, COMPRESSION], answers=OCTETS, throttle=True
    )
    @endpoint(
        "GET",
        "raw/{dims:text}/{size:text}/{offset:point}/{format:any}",
        query=[SCALE, COMPRESSION],
        answers=OCTETS,
        throttle=True,
    )
    def get_raw(
        self, call: Call, *, dims: str, size: str, offset: ZYX, scale: int, compression: str, format: str = ""
    ) -> Reply:
        """A slice as an image, or the voxels of a box, ZYX order, x fastest, 0 outside of the volume.

        ``dims`` is xy, xz, yz with a size of width_height, or 0_1_2 with one of dx_dy_dz; offset and size are in voxels
        of the scale. ``format`` is as of ``tile``; a box with a format is one image, as the service makes it. A box that
        lies outside of the volume altogether is an empty answer.
        """
        plane = planes.parse_dims(dims)
        if plane is not None:
            box = plane.size(*planes.parse_image(size))
            check_box(offset, box)
            return self._image(plane, scale, offset, box, Format(format))
        return self._box(scale, offset, planes.parse_volume(size, offset), compression, format)

    def _image(self, plane: Plane, scale: int, offset: ZYX, size: ZYX, how: Format, *, noblanks: bool = False) -> Reply:
        if math.prod(size) > MAX_IMAGE:
            raise BadRequest(f"size: the image would have {math.prod(size)} pixels, at most {MAX_IMAGE} are allowed")
        k, geometry = self._geometry(_DIMS[plane.columns, plane.rows], scale)
        part = geometry.inside(offset, size)
        if part is None:
            if noblanks:
                raise NotFound(f"the tile at {offset.xyz()} of scale {scale} lies outside of the volume")
            return how.reply(np.zeros(plane.image(np.empty(size, np.uint8)).shape, np.uint8))
        client = self._client()
        if client is None:
            total = math.prod(size) * geometry.dtype.itemsize
            if total > MAX_IMAGE:
                raise BadRequest(f"size: an image of {total} bytes is too large, at most {MAX_IMAGE} are allowed")
            return how.reply(plane.image(self._voxels(k, geometry, offset, size).box(offset, size)))
        volume_id = self.record.settings["VolumeID"]
        if part == (offset, size):
            return Reply(client.image(volume_id, k, offset, size, how.options), images.CONTENT_TYPES[how.kind])
        inside = _decoded(client.image(volume_id, k, *part, {"imageFormat": "PNG"}))
        width, height = part[1][plane.columns], part[1][plane.rows]
        if inside.shape[:2] != (height, width):
            raise BadGateway(
                f"the service sent an image of {inside.shape[1]} x {inside.shape[0]}, not {width} x {height}"
            )
        whole = np.zeros((size[plane.rows], size[plane.columns], *inside.shape[2:]), inside.dtype)
        top, left = (part[0][axis] - offset[axis] for axis in (plane.rows, plane.columns))
        whole[top : top + height, left : left + width] = inside
        return how.reply(whole)

    def _box(self, scale: int, offset: ZYX, size: ZYX, compression: str, format: str) -> Reply:
        k, geometry = self._geometry("XYZ", scale)
        how = Format(format) if format else None
        total, most = math.prod(size) * geometry.dtype.itemsize, self.database.options.max_data_request
        if total > most:
            raise BadRequest(f"size: the answer would have {total} bytes, at most {most} are allowed (maxDataRequest)")
        part = geometry.inside(offset, size)
        if part is None:
            return Reply(b"")
        source = self._voxels(k, geometry, offset, size)
        if how is None:
            return volume.answer(source, offset, size, "" if compression == "raw" else compression)
        client = self._client()
        if client is not None and part == (offset, size):
            data = client.image(self.record.settings["VolumeID"], k, offset, size, how.options)
            return Reply(data, images.CONTENT_TYPES[how.kind])
        if total > MAX_IMAGE:
            raise BadRequest(f"size: an image of {total} bytes is too large, at most {MAX_IMAGE} are allowed")
        return how.reply(source.box(offset, size).reshape(size.z * size.y, size.x))

    def _geometry(self, dims: str, scale: int) -> tuple[int, Geometry]:
        found = ScaleMap(self.geometries)
        k = found.find(dims, scale)
        geometry = found.geometries[k]
        _ = geometry.dtype  # refuses what cannot be read
        return k, geometry


class Fetched:
    """The voxels of a geometry of BrainMaps; those outside of it are 0."""

    def __init__(self, client: BrainMaps, volume_id: str, k: int, geometry: Geometry) -> None:
        self._client, self._volume, self._k, self._geometry = client, volume_id, k, geometry
        self.shape = ZYX(_SLAB, _SLAB, _SLAB)
        self.nbytes = geometry.dtype.itemsize

    def empty(self, size: tuple[int, ...]) -> NDArray[Any]:
        return np.empty(size, self._geometry.dtype)

    def fill(self, offset: ZYX, out: NDArray[Any]) -> None:
        out[...] = 0
        part = self._geometry.inside(offset, ZYX(*out.shape))
        if part is not None:
            low, size = part
            there = tuple(slice(a - o, a - o + n) for a, o, n in zip(low, offset, size, strict=True))
            out[there] = self._client.voxels(self._volume, self._k, low, size, self._geometry.dtype)

    def box(self, offset: ZYX, size: tuple[int, ...]) -> NDArray[Any]:
        out = self.empty(size)
        self.fill(offset, out)
        return out


class Moved:
    """The voxels of an object store's volume, moved so that its first one is at 0."""

    def __init__(self, scale: Scale) -> None:
        self._scale = scale
        self.shape, self.nbytes, self.empty = scale.shape, scale.nbytes, scale.empty

    def _there(self, offset: ZYX) -> ZYX:
        return ZYX(*(a + o for a, o in zip(offset, self._scale.origin, strict=True)))

    def check(self, offset: ZYX, size: ZYX, most: int) -> None:
        self._scale.check(self._there(offset), size, most)

    def fill(self, offset: ZYX, out: NDArray[Any]) -> None:
        self._scale.fill(self._there(offset), out)

    def box(self, offset: ZYX, size: tuple[int, ...]) -> NDArray[Any]:
        return self._scale.box(self._there(offset), size)


def _elsewhere(database: Database, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a volume whose id is a URL. BadRequest where its voxels are of no type of BrainMaps."""
    given = {setting.key: setting.default for setting in RemoteProperties.settings} | {"URL": settings["VolumeID"]}
    found = RemoteProperties.completed_settings(database, given, "none")
    kind = CHANNEL_TYPES.get(found["DataType"])
    if kind is None or found["Channels"] != 1:
        raise BadRequest(f"volumeid: voxels must be one of {', '.join(CHANNEL_TYPES)} with one channel")
    geometries = []
    for scale in found["Scales"]:
        x, y, z = scale["VoxelSize"]
        geometries.append(Geometry(ZYX(*scale["Size"][::-1]), 1, kind, (x, y, z)).shown())
    kept = {key: found[key] for key in ("Format", "Scales")}
    return {"VolumeID": found["URL"], "Geometries": geometries, **kept}


def _decoded(data: bytes) -> NDArray[Any]:
    """The pixels of a PNG that the service sent. BadGateway where it is none."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            return np.asarray(image if image.mode in ("L", "RGB", "RGBA") else image.convert("L"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadGateway(f"the service sent no image: {error}") from None
