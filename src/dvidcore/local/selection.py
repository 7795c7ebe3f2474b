"""What a numpy index means in a volume whose coordinates may be negative and whose extents are no limit.

As in numpy, an integer drops its axis, slices may have steps (negative ones too), ``...`` stands for the axes that are
not given. Unlike in numpy, a coordinate is a coordinate: -1 is the voxel before 0 and not the last one, and a slice
beyond the extents is as long as it says. Only an open end (``[:8]``, ``[8:]``) is that of the extents.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dvidcore.errors import BadRequest
from dvidcore.geometry import INT32_MAX, INT32_MIN, ZYX

Extents = tuple[slice, slice, slice]
"""Z, Y and X from the first voxel to the one behind the last."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The coordinates that an index selects along Z, Y and X, in its order, and which axes it drops."""

    ranges: tuple[range, range, range]
    dropped: tuple[bool, bool, bool]
    channel: tuple[Any, ...] = ()
    """The index of the channels, behind the three axes."""

    @property
    def size(self) -> ZYX:
        """How many coordinates along each axis."""
        return ZYX(*map(len, self.ranges))

    @property
    def low(self) -> ZYX:
        """The lowest coordinates; only of a selection that is not empty."""
        return ZYX(*(min(r[0], r[-1]) for r in self.ranges))

    @property
    def box(self) -> ZYX:
        """The size of the box from ``low`` that holds all of the selection."""
        return ZYX(*(abs(r[-1] - r[0]) + 1 for r in self.ranges))

    @property
    def plain(self) -> bool:
        """Whether the selection is all of its box, in order."""
        return not self.channel and all(r.step == 1 or len(r) == 1 for r in self.ranges)

    def inside(self) -> tuple[Any, ...]:
        """The index that picks the selection from its box, no axis dropped."""
        return tuple(stride(r) for r in self.ranges)

    def last(self) -> tuple[Any, ...]:
        """The index that drops axes from what ``inside`` picked, and picks channels."""
        return (*(0 if dropped else slice(None) for dropped in self.dropped), *self.channel)


def stride(coordinates: range) -> slice:
    """The slice that picks the coordinates from all between the lowest and the highest of them."""
    return slice(None, None, coordinates.step)


def select(key: Any, extents: Callable[[], Extents], channels: bool = False) -> Selection:
    """The selection of an index; ``extents`` is asked where an end is open.

    Raises ``BadRequest`` for what is no index of integers, slices and ``...``, and beyond int32.
    """
    axes = 4 if channels else 3
    given = _expand(key if isinstance(key, tuple) else (key,), axes)
    ranges, dropped = [], []
    known: Sequence[slice] | None = None
    for axis, part in enumerate(given[:3]):
        if isinstance(part, slice):
            if part.start is None or part.stop is None:
                known = known or extents()
                ranges.append(_range(part, known[axis]))
            else:
                ranges.append(_range(part, part))
            dropped.append(False)
        else:
            at = _integer(part)
            ranges.append(range(at, at + 1))
            dropped.append(True)
    for name, r in zip("zyx", ranges, strict=True):
        if len(r) and (min(r[0], r[-1]) < INT32_MIN or max(r[0], r[-1]) > INT32_MAX):
            raise BadRequest(f"index: {min(r[0], r[-1])} to {max(r[0], r[-1])} along {name} leaves the range of int32")
    z, y, x = ranges
    a, b, c = dropped
    channel = given[3:] if channels and given[3] != slice(None) else ()
    return Selection((z, y, x), (a, b, c), channel)


def _expand(key: tuple[Any, ...], axes: int) -> tuple[Any, ...]:
    """An index with as many parts as axes."""
    ellipses = [k for k, part in enumerate(key) if part is Ellipsis]
    if len(ellipses) > 1:
        raise BadRequest("index: only one ... is allowed")
    if len(key) - len(ellipses) > axes:
        raise BadRequest(f"index: {len(key)} parts, the volume has {axes} axes")
    at = ellipses[0] if ellipses else len(key)
    missing = (slice(None),) * (axes - len(key) + len(ellipses))
    return (*key[:at], *missing, *key[at + 1 :])


def _range(part: slice, limits: slice) -> range:
    step = 1 if part.step is None else _integer(part.step)
    if step == 0:
        raise BadRequest("index: a step of 0")
    first, last = (limits.start, limits.stop) if step > 0 else (limits.stop - 1, limits.start - 1)
    return range(
        first if part.start is None else _integer(part.start), last if part.stop is None else _integer(part.stop), step
    )


def _integer(value: Any) -> int:
    if isinstance(value, bool):
        raise BadRequest("index: a truth value; only integers, slices and ... are allowed")
    try:
        return operator.index(value)
    except TypeError:
        raise BadRequest(f"index: {value!r:.60}; only integers, slices and ... are allowed") from None
