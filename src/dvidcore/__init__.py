"""A versioned data server for connectomics with DVID's HTTP API; kernels and store are usable directly from numpy."""

from dvidcore._version import __version__

__all__ = ["__version__"]
