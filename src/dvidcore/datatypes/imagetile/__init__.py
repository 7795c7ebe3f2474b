"""Tiles: two-dimensional images of a volume at several scales, stored or cut from it when they are asked for."""

from dvidcore.datatypes.imagetile.datatype import ImageTile

__all__ = ["ImageTile"]
