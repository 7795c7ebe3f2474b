"""The Python face: a store's repos, versions and data instances, without a server.

It calls the same datatypes as the HTTP API does, so what it reads, writes and refuses is the same. Points, sizes and
indices are Z, Y, X, as in numpy. What it raises are the classes of ``dvidcore.errors``. ``docs/python.md`` is a tour.
"""

from dvidcore.local.instance import Instance
from dvidcore.local.keyvalue import KeyValue
from dvidcore.local.labels import Labels
from dvidcore.local.node import Node
from dvidcore.local.repo import Repo
from dvidcore.local.store import Store, open
from dvidcore.local.volume import Volume

__all__ = ["Instance", "KeyValue", "Labels", "Node", "Repo", "Store", "Volume", "open"]
