"""Tiles: squares of a slice, counted from the origin. Shared by all types that show volumes elsewhere."""

from __future__ import annotations

from dvidcore.datatypes.arguments import flag, integer
from dvidcore.datatypes.imageblk.planes import Plane
from dvidcore.errors import BadRequest
from dvidcore.geometry import ZYX, check_box

DEFAULT_SIDE = 512
MAX_SIDE = 8192

QUERY = (
    integer("tilesize", None, "pixels of a tile along each side", 1, MAX_SIDE),
    flag("noblanks", "true: 404 for a tile outside of the volume, which is black otherwise"),
)


def tile_box(plane: Plane, coord: ZYX, side: int) -> tuple[ZYX, ZYX]:
    """The offset and the size of a tile.

    In its plane ``coord`` counts tiles, across it voxels. BadRequest where the tile leaves int32.
    """
    point = list(coord)
    for axis in (plane.columns, plane.rows):
        point[axis] *= side
    offset, size = ZYX(*point), plane.size(side, side)
    if min(offset) < -(2**31):
        raise BadRequest(f"coord: the tile at {offset.xyz()} leaves the range of int32")
    check_box(offset, size, "coord")
    return offset, size
