from collections.abc import Sequence
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

_Out = TypeVar("_Out", bound=Buffer)

def copy_box(
    src: NDArray[Any], src_start: Sequence[int], dst: NDArray[Any], dst_start: Sequence[int], size: Sequence[int]
) -> None: ...
def gather(
    out: NDArray[Any],
    origin: Sequence[int],
    block_shape: Sequence[int],
    coords: NDArray[np.int32] | NDArray[np.int64],
    blocks: Sequence[Buffer],
) -> None: ...
@overload
def scatter(
    volume: NDArray[Any], origin: Sequence[int], block_shape: Sequence[int], coord: Sequence[int], out: None = None
) -> bytes: ...
@overload
def scatter(
    volume: NDArray[Any], origin: Sequence[int], block_shape: Sequence[int], coord: Sequence[int], out: _Out
) -> _Out: ...
