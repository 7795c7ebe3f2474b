"""Volumes at half the resolution: each voxel stands for 2 x 2 x 2 of the finer scale.

How is said by a *method*:

- ``mean``: the mean of the eight, of integers rounded to the nearest with halves up, floor((sum + 4) / 8); of each
  channel where there are several. Sums are exact for integers, and float64 for float32, where one NaN makes a NaN.
- ``majority``: the value that most of the eight have, of equally frequent ones the least. For values that are names.
- ``nearest``: the one of the lowest coordinates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvidcore.datatypes.imageblk.elements import Element
from dvidcore.pool import ordered_map, processors

Volume = NDArray[Any]

PART = 1 << 20
"""Bytes that are halved at a time: they stay in the processor's cache."""


def _corners(volume: Volume) -> list[Volume]:
    """The eight voxels that become one, as eight views; X changes fastest."""
    return [volume[z::2, y::2, x::2] for z in (0, 1) for y in (0, 1) for x in (0, 1)]


def _mean_words(volume: Volume, wide: str) -> Volume:
    """The mean of unsigned integers in pairs along X: both of a pair are one word of twice the size.

    Vector instructions do not take every second element, but they do take words apart.
    """
    bits = 8 * volume.itemsize
    words = np.ascontiguousarray(volume).view(wide)
    sums = (words & ((1 << bits) - 1)) + (words >> bits)
    sums = sums[:, 0::2] + sums[:, 1::2]
    sums = sums[0::2] + sums[1::2]
    sums += 4
    sums >>= 3
    means: Volume = sums.astype(volume.dtype)
    return means


def _mean_colours(volume: Volume) -> Volume:
    """Of four channels of one byte: two of them at a time are summed in the halves of a word."""
    words = np.ascontiguousarray(volume).view("<u4")[..., 0]
    even, odd = (np.full([n // 2 for n in words.shape], 0x0004_0004, np.uint32) for _ in range(2))
    for corner in _corners(words):
        even += corner & 0x00FF_00FF
        odd += corner >> 8 & 0x00FF_00FF
    means = (even >> 3 & 0x00FF_00FF) | (odd >> 3 & 0x00FF_00FF) << 8
    return means[..., None].view("|u1")


def _mean_integers(volume: Volume) -> Volume:
    """Of any unsigned integers: the sums of the upper bits and of the lower three are kept apart, so none overflows."""
    upper = np.zeros([n // 2 for n in volume.shape], np.uint64)
    lower = np.full(upper.shape, 4, np.uint8)
    for corner in _corners(volume):
        upper += corner >> 3
        lower += (corner & 7).astype(np.uint8)
    upper += lower >> 3
    return upper.astype(volume.dtype)


def _mean_floats(volume: Volume) -> Volume:
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.zeros([n // 2 for n in volume.shape[:3]], np.float64)
        for corner in _corners(volume):
            total += corner
        return (total / 8).astype(volume.dtype)


def _mean(volume: Volume) -> Volume:
    if volume.dtype.kind == "f":
        return _mean_floats(volume)
    if volume.ndim == 4:
        return _mean_colours(volume)
    if volume.itemsize <= 2:
        return _mean_words(volume, f"<u{2 * volume.itemsize}")
    return _mean_integers(volume)


def _majority(volume: Volume) -> Volume:
    corners = _corners(volume)
    best: Volume = corners[0].copy()
    mixed = np.zeros(best.shape, np.bool_)
    for corner in corners[1:]:
        mixed |= corner != best
    if mixed.any():  # elsewhere, which is nearly everywhere in a segmentation, all eight are the same
        best[mixed] = _most_frequent(np.stack([corner[mixed] for corner in corners]))
    return best


def _most_frequent(eight: Volume) -> Volume:
    """The most frequent along the first axis of an array (8, n), of equally frequent ones the least."""
    ordered = np.sort(eight, axis=0)
    best: Volume = ordered[0].copy()
    run = np.ones(best.shape, np.uint8)
    longest = run.copy()
    for k in range(1, len(ordered)):
        run += 1
        run[ordered[k] != ordered[k - 1]] = 1
        longer = run > longest
        np.copyto(best, ordered[k], where=longer)
        np.copyto(longest, run, where=longer)
    return best


def _majority_colours(volume: Volume) -> Volume:
    """Of voxels of several bytes: each is one value."""
    whole = np.ascontiguousarray(volume).view("<u4")[..., 0]
    return _majority(whole)[..., None].view("|u1")


def _nearest(volume: Volume) -> Volume:
    return np.ascontiguousarray(volume[::2, ::2, ::2])


def _method(name: str, element: Element) -> Callable[[Volume], Volume]:
    if name == "majority":
        return _majority if element.channels == 1 else _majority_colours
    return {"mean": _mean, "nearest": _nearest}[name]


METHODS = ("mean", "majority", "nearest")


def default_method(element: Element) -> str:
    """``majority`` for uint32 and uint64, whose values are names more often than intensities; else ``mean``."""
    return "majority" if element.name in ("uint32", "uint64") else "mean"


def halved(volume: Volume, method: str, element: Element) -> Volume:
    """A volume (z, y, x[, channel]) of even sides at half the resolution; O(voxels), shared with the pool."""
    half = _method(method, element)
    depth, height = volume.shape[:2]
    rows = max(1, PART // (2 * 2 * volume.shape[2] * element.nbytes)) * 2
    out = element.empty(tuple(n // 2 for n in volume.shape[:3]))

    def piece(z: int, y: int) -> None:
        out[z // 2 : z // 2 + 1, y // 2 : (y + rows) // 2] = half(volume[z : z + 2, y : y + rows])

    parts = [partial(piece, z, y) for z in range(0, depth, 2) for y in range(0, height, rows)]
    if len(parts) < 8:
        for part in parts:
            part()
        return out
    step = -(-len(parts) // (4 * processors()))
    groups = [parts[k : k + step] for k in range(0, len(parts), step)]
    for _ in ordered_map(lambda group: [part() for part in group], groups, 2 * processors()):
        pass
    return out


def scale_settings(settings: Mapping[str, Any], element: Element) -> tuple[int, str]:
    """(the number of coarser scales, the method) of an instance's settings."""
    return settings.get("MaxDownresLevel", 0), settings.get("DownresMethod") or default_method(element)
