"""An ROI as a plain set of blocks, for tests."""

from __future__ import annotations

from typing import Any

import numpy as np

Block = tuple[int, int, int]


def blocks_of(spans: list[list[int]]) -> set[Block]:
    """The blocks (z, y, x) of spans [z, y, x0, x1]."""
    return {(z, y, x) for z, y, x0, x1 in spans for x in range(x0, x1 + 1)}


def spans_of(blocks: set[Block]) -> list[list[int]]:
    """The fewest spans of a set of blocks, sorted."""
    out: list[list[int]] = []
    for z, y, x in sorted(blocks):
        if out and out[-1][:2] == [z, y] and out[-1][3] == x - 1:
            out[-1][3] = x
        else:
            out.append([z, y, x, x])
    return out


def some_spans(seed: int, shape: Block = (4, 4, 6), first: Block = (0, 0, 0), share: float = 0.5) -> list[list[int]]:
    """The spans of a random set of blocks in a box at ``first``."""
    inside = np.argwhere(np.random.default_rng(seed).random(shape) < share) + first
    return spans_of({(z, y, x) for z, y, x in inside.tolist()})


def voxels(spans: list[list[int]], offset: Block, size: Block, block: Block = (32, 32, 32)) -> np.ndarray[Any, Any]:
    """Which voxels of a box are inside: bool (z, y, x)."""
    inside = blocks_of(spans)
    grids = [(np.arange(o, o + n) // b) for o, n, b in zip(offset, size, block, strict=True)]
    unique = [np.unique(g, return_inverse=True) for g in grids]
    known = np.array([[[(z, y, x) in inside for x in unique[2][0]] for y in unique[1][0]] for z in unique[0][0]])
    return known[np.ix_(*(places for _, places in unique))]
