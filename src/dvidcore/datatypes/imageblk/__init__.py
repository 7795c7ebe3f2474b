"""Voxel volumes in blocks: six types that differ in what a voxel is."""

from dvidcore.datatypes.imageblk.datatype import ImageBlock
from dvidcore.datatypes.imageblk.elements import FLOAT32, RGBA8, UINT8, UINT16, UINT32, UINT64

__all__ = ["Float32Block", "ImageBlock", "RGBA8Block", "UInt8Block", "UInt16Block", "UInt32Block", "UInt64Block"]

_URL = "github.com/janelia-flyem/dvid/datatype/imageblk/"


class UInt8Block(ImageBlock):
    """Grayscale of 8 bits, as most electron microscopy. The one type that can be stored as JPEG."""

    typename = "uint8blk"
    typeversion = "0.2"
    url = _URL + "uint8.go"
    element = UINT8
    compressions = ImageBlock.compressions | {"jpeg"}


class UInt16Block(ImageBlock):
    """Grayscale of 16 bits."""

    typename = "uint16blk"
    typeversion = "0.1"
    url = _URL + "uint16.go"
    element = UINT16


class UInt32Block(ImageBlock):
    """Unsigned 32-bit numbers."""

    typename = "uint32blk"
    typeversion = "0.1"
    url = _URL + "uint32.go"
    element = UINT32


class UInt64Block(ImageBlock):
    """Unsigned 64-bit numbers."""

    typename = "uint64blk"
    typeversion = "0.1"
    url = _URL + "uint64.go"
    element = UINT64


class Float32Block(ImageBlock):
    """IEEE 754 numbers of 32 bits."""

    typename = "float32blk"
    typeversion = "0.1"
    url = _URL + "float32.go"
    element = FLOAT32


class RGBA8Block(ImageBlock):
    """Colours: red, green, blue and alpha, 8 bits each, interleaved."""

    typename = "rgba8blk"
    typeversion = "0.2"
    url = _URL + "rgba8.go"
    element = RGBA8
