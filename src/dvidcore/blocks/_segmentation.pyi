import numpy as np
from numpy.typing import NDArray

def compressed_segmentation(volume: NDArray[np.uint64]) -> bytes: ...
