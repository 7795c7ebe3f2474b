"""Lists in the bodies of requests: labels and points, as JSON."""

from __future__ import annotations

import hashlib
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from dvidcore.datatypes.integer_rows import integer_rows
from dvidcore.errors import BadRequest
from dvidcore.geometry import INT32_MAX, INT32_MIN

if TYPE_CHECKING:
    from dvidcore.datatypes.call import Body


def _json_list(body: Body, digest: str, what: str) -> list[Any]:
    """The body's JSON list; BadRequest where it is none, or where ``digest`` is given and is not its MD5 in hex."""
    data = body.json_text()
    if digest and hashlib.md5(data, usedforsecurity=False).hexdigest() != digest:
        raise BadRequest(f'hash: "{digest[:40]}" is not the MD5 of the body')
    if not data:
        raise BadRequest(f"the body is empty, {what} expected")
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as e:
        raise BadRequest(f"the body is not valid JSON: {e}") from None
    if not isinstance(value, list):
        raise BadRequest(f"the body must be {what}")
    return value


def labels(body: Body, digest: str = "", most: int | None = None) -> NDArray[np.uint64]:
    """A JSON list of labels, ``[23, 911]``, as uint64. BadRequest for anything else and for more than ``most``."""
    what = "a JSON list of uint64 labels"
    values = _json_list(body, digest, what)
    if not set(map(type, values)) <= {int}:
        raise BadRequest(f"the body must be {what}")
    if most is not None and len(values) > most:
        raise BadRequest(f"the body lists {len(values)} labels, at most {most} are allowed")
    try:
        return np.array(values, np.uint64)
    except OverflowError:
        raise BadRequest("the body lists a number that is no uint64 label") from None


def points(body: Body, digest: str = "") -> NDArray[np.int64]:
    """A JSON list of points, ``[[x, y, z], …]``, as int64 (n, 3) in Z, Y, X order; BadRequest for anything else."""
    what = "a JSON list of points, each [x, y, z] of int32"
    return integer_rows(_json_list(body, digest, what), 3, what)[:, ::-1]


def block_coordinates(numbers: list[int]) -> list[tuple[int, int, int]]:
    """Numbers x, y, z, x, y, z … as block coordinates (z, y, x)."""
    if len(numbers) % 3:
        raise BadRequest(f"blocks: {len(numbers)} numbers are no list of x,y,z")
    if numbers and (min(numbers) < INT32_MIN or max(numbers) > INT32_MAX):
        raise BadRequest("blocks: a coordinate is beyond int32")
    return list(zip(numbers[2::3], numbers[1::3], numbers[0::3], strict=True))


def block_list(text: str, body: Body) -> list[tuple[int, int, int]]:
    """The blocks of ``blocks=x,y,z,x,y,z…``, or of the same numbers as a JSON list in the body, flat or as points."""
    if text or not body.length:
        try:
            if "_" in text:  # which int() would take for a part of a number
                raise ValueError
            numbers = [int(n) for n in text.split(",")] if text else []
        except ValueError:
            raise BadRequest(f'blocks: "{text[:60]}" is not a list of integers x,y,z,x,y,z…') from None
        return block_coordinates(numbers)
    what = "a JSON list of block coordinates x, y, z"
    values = _json_list(body, "", what)
    if values and set(map(type, values)) == {list}:
        if set(map(len, values)) != {3}:
            raise BadRequest(f"the body must be {what}")
        values = list(chain.from_iterable(values))
    if not set(map(type, values)) <= {int}:
        raise BadRequest(f"the body must be {what}")
    return block_coordinates(values)
