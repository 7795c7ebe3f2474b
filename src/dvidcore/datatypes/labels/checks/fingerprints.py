"""Sums by which two sets of (block, supervoxel, voxels) are compared, for all versions at once in bounded memory.

A triple has a fingerprint of 64 bits. What the blocks of a version hold, less what its index rows say, is summed up in
buckets of supervoxels: a bucket whose sum is not 0 has a disagreement. The sum of a version is that of its first
parent and what the version itself changed, so an entry counts once, however many versions see it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dvidcore.datatypes.checks import Lineage

_MEMORY_BITS = 23  # sums that all versions may have together: 64 MB
_MOST_BITS, _LEAST_BITS = 18, 10

U64s = NDArray[np.uint64]


def _mix(x: U64s) -> U64s:
    """splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return x ^ x >> np.uint64(31)


def fingerprints(coords: NDArray[np.int32], supervoxels: U64s, voxels: U64s) -> U64s:
    """Of each row: block coordinates int32 (n, 3), or (1, 3) for all of them, its supervoxel and the number of its voxels, uint64 (n,)."""
    z, y, x = (coords[..., axis].astype(np.uint32).astype(np.uint64) for axis in range(3))
    place = _mix(_mix(z << np.uint64(32) | y) ^ x)
    return _mix(_mix(supervoxels ^ place) + voxels)


class Sums:
    """What each version changes in the buckets, and which buckets are to be looked into."""

    def __init__(self, lineage: Lineage) -> None:
        bits = _MEMORY_BITS - (len(lineage.versions) - 1).bit_length()
        self._bits = min(max(bits, _LEAST_BITS), _MOST_BITS)
        self._lineage = lineage
        self._sums: dict[int, U64s] = {}
        self._marked: dict[int, NDArray[np.bool_]] = {}

    def buckets(self, supervoxels: U64s) -> NDArray[np.int64]:
        """The bucket of each supervoxel."""
        return (_mix(supervoxels) >> np.uint64(64 - self._bits)).astype(np.int64)

    def add(self, version: int, supervoxels: U64s, prints: U64s, *, negative: bool = False) -> None:
        """Adds fingerprints to what a version changes, or takes them away."""
        sums = self._sums.get(version)
        if sums is None:
            sums = self._sums[version] = np.zeros(1 << self._bits, np.uint64)
        (np.subtract if negative else np.add).at(sums, self.buckets(supervoxels), prints)

    def mark(self, version: int, supervoxels: U64s) -> None:
        """Has the buckets of these supervoxels looked into."""
        marked = self._marked.get(version)
        if marked is None:
            marked = self._marked[version] = np.zeros(1 << self._bits, np.bool_)
        marked[self.buckets(supervoxels)] = True

    def suspicious(self) -> dict[int, NDArray[np.bool_]]:
        """By version the buckets in which it disagrees, and not just as its first parent does."""
        total: dict[int, U64s] = {}
        out: dict[int, NDArray[np.bool_]] = {}
        for version in self._lineage.versions:
            above = self._lineage.first_parent(version)
            inherited = None if above is None else total.get(above)
            own = self._sums.get(version)
            if own is None or not own.any():
                if inherited is not None:
                    total[version] = inherited
                own = None
            elif inherited is None:
                total[version] = own
            else:
                total[version] = inherited + own
            bad = self._marked.get(version)
            if own is not None:
                differs = (own != 0) & (total[version] != 0)
                bad = differs if bad is None else bad | differs
            if bad is not None and bad.any():
                out[version] = bad
        return out
