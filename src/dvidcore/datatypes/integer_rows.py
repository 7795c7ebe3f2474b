"""Lists of integer tuples in the bodies of requests: points, spans."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvidcore.errors import BadRequest
from dvidcore.geometry import INT32_MAX, INT32_MIN


def integer_rows(value: Any, columns: int, what: str) -> NDArray[np.int64]:
    """A JSON list of lists of ``columns`` int32 as int64 (n, columns); BadRequest, naming ``what``, for anything else."""
    if not isinstance(value, list):
        raise BadRequest(f"the body must be {what}")
    if not value:
        return np.empty((0, columns), np.int64)
    if set(map(type, value)) != {list} or set(map(len, value)) != {columns}:
        raise BadRequest(f"the body must be {what}")
    flat = list(chain.from_iterable(value))
    if set(map(type, flat)) != {int}:
        raise BadRequest(f"the body must be {what}")
    if min(flat) < INT32_MIN or max(flat) > INT32_MAX:
        raise BadRequest("the body has a coordinate beyond int32")
    return np.array(flat, np.int64).reshape(-1, columns)
