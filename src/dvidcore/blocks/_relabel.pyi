import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

def relabel_runs(block: Buffer, runs: NDArray[np.int32], old: int, new: int) -> tuple[bytes, int]: ...
