"""Volumes of other services, shown as data instances: object stores through tensorstore, and Google's BrainMaps."""

from dvidcore.datatypes.remote.datatype import RemoteVolume
from dvidcore.datatypes.remote.googlevoxels import GoogleVoxels

__all__ = ["GoogleVoxels", "RemoteVolume"]
