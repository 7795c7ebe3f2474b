"""Which blocks of a coarser scale are to be compared with the finer ones, and in which versions: for checks of scales."""

from __future__ import annotations

from collections.abc import Iterator

from dvidcore.datatypes.checks import Examination
from dvidcore.geometry import ZYX
from dvidcore.storage.keys import prefix_end, version_of, zyx_of

Family = tuple[ZYX, tuple[int, ...]]
"""A coarse block, and the versions that wrote it or one of the eight below it, ascending."""


def families(exam: Examination, coarse: bytes, fine: bytes) -> Iterator[Family]:
    """The coarse blocks that are stored or have something below them, in Z, Y, X order.

    ``coarse`` and ``fine`` are what the keys of the two scales start with, before the coordinates. In memory is what the
    keys of a layer of coarse blocks say.
    """
    upper, lower = _layers(exam, coarse), _layers(exam, fine)
    above, below = next(upper, None), next(lower, None)
    while above is not None or below is not None:
        z = min([layer[0] for layer in (above,) if layer] + [layer[0] >> 1 for layer in (below,) if layer])
        found: dict[ZYX, set[int]] = {}
        if above is not None and above[0] == z:
            for at, version in above[1]:
                found.setdefault(at, set()).add(version)
            above = next(upper, None)
        while below is not None and below[0] >> 1 == z:
            for at, version in below[1]:
                found.setdefault(ZYX(at.z >> 1, at.y >> 1, at.x >> 1), set()).add(version)
            below = next(lower, None)
        for at in sorted(found):
            yield at, tuple(sorted(found[at]))


def _layers(exam: Examination, prefix: bytes) -> Iterator[tuple[int, list[tuple[ZYX, int]]]]:
    """(z, the blocks of the layer and the versions that wrote them)."""
    layer: list[tuple[ZYX, int]] = []
    known = exam.lineage.parents
    for key in exam.snapshot.scan(prefix, prefix_end(prefix), keys_only=True):
        at, version = ZYX(*zyx_of(key, len(prefix))), version_of(key)
        if layer and layer[0][0].z != at.z:
            yield layer[0][0].z, layer
            layer = []
        if version in known:
            layer.append((at, version))
    if layer:
        yield layer[0][0].z, layer
