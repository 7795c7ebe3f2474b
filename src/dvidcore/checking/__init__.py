"""``dvidcore check``: reads a store and tells where what is stored disagrees with itself.

``check`` looks at an open database; ``open_store`` opens a folder for it. What a datatype knows of its rows it checks
itself (``DataType.check``).
"""

from dvidcore.checking.opening import open_store
from dvidcore.checking.run import Outcome, check
from dvidcore.datatypes.checks import Finding

__all__ = ["Finding", "Outcome", "check", "open_store"]
