"""Loading stacks of images and arrays into an instance: what ``dvidcore load`` does, and may be called from Python."""

from dvidcore.loading.run import Job, load
from dvidcore.loading.server import Server, ServerTarget
from dvidcore.loading.sources import Source, open_source
from dvidcore.loading.targets import LocalTarget, Target

__all__ = ["Job", "LocalTarget", "Server", "ServerTarget", "Source", "Target", "load", "open_source"]
