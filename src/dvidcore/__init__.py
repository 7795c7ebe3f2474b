"""A versioned data server for connectomics with DVID's HTTP API; kernels and store are usable directly from numpy.

``dvidcore.open`` gives a store's repos, versions and volumes without a server (``docs/python.md``); ``dvidcore.blocks``
and ``dvidcore.labels`` are the kernels.
"""

from typing import TYPE_CHECKING, Any

from dvidcore._version import __version__

if TYPE_CHECKING:
    from dvidcore.local import open as open

__all__ = ["__version__", "open"]


def __getattr__(name: str) -> Any:
    # The kernels and the command line do without what the face imports.
    if name == "open":
        from dvidcore.local import open as found

        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
