import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

def relabel_runs(block: Buffer, runs: NDArray[np.int32], old: int, new: int) -> tuple[bytes, int]: ...
def split_runs(
    block: Buffer,
    runs: NDArray[np.int32],
    old: NDArray[np.uint64],
    inside: NDArray[np.uint64],
    outside: NDArray[np.uint64],
) -> tuple[bytes, NDArray[np.uint64], int]: ...
def labels_in_runs(block: Buffer, runs: NDArray[np.int32]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]: ...
