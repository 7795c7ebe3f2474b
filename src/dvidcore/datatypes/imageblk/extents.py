"""The extents of an image instance at a version: the box of voxels that were written.

They are one versioned row. A version that did not write them sees its parent's; a merge shows the union of what its
parents see, so that growth on two branches is never a conflict.
"""

from __future__ import annotations

from typing import NamedTuple

import orjson

from dvidcore.geometry import ZYX
from dvidcore.storage.keys import prefix_range
from dvidcore.storage.versioned import View


class Extents(NamedTuple):
    """The voxels from ``low`` up to and including ``high``."""

    low: ZYX
    high: ZYX

    @classmethod
    def of_box(cls, offset: ZYX, size: ZYX) -> Extents:
        return cls(offset, ZYX(*(o + s - 1 for o, s in zip(offset, size, strict=True))))

    @classmethod
    def from_xyz(cls, low: list[int], high: list[int]) -> Extents:
        """Of two points in the order of JSON."""
        return cls(ZYX(*low[::-1]), ZYX(*high[::-1]))

    def union(self, other: Extents | None) -> Extents:
        """The smallest box around both."""
        if other is None:
            return self
        low = ZYX(*map(min, self.low, other.low))
        high = ZYX(*map(max, self.high, other.high))
        return Extents(low, high)

    def pack(self) -> bytes:
        """As a stored value."""
        return orjson.dumps([self.low.xyz(), self.high.xyz()])


def unpack(value: bytes | memoryview) -> Extents:
    """Extents from their stored value."""
    return Extents.from_xyz(*orjson.loads(value))


def stored(view: View, prefix_key: bytes) -> Extents | None:
    """What the version sees under the row's key, ``None`` where nobody above it set anything.

    Tombstones are passed over: nobody deletes extents, and those that settle a conflict of two parents
    (``resolve``) must not hide what one of them covers.
    """
    if view.ancestry.linear:
        value = view.get(prefix_key)
        if value is not None:
            return unpack(value)
    entries = {version: value for _, version, value in view.scan_entries(*prefix_range(prefix_key)) if value}
    union = None
    for writer in view.ancestry.frontier(entries):
        union = unpack(entries[writer]).union(union)
    return union
