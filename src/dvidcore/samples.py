"""Small volumes to try things on: a real one where it is at hand, else a generated one that resembles it.

The generated volume is a space filled with supervoxels, the cells of a warped Voronoi diagram, between dark membranes
and with a grain; supervoxels along a common line form a body. It depends on nothing but its size and seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

MEDULLA = Path(__file__).parents[2].parent / "shared" / "data" / "medulla"
"""Where a checkout's neighbour holds 250 x 250 x 250 voxels of the Drosophila medulla (FlyEM, CC BY)."""

_CELL = 32
"""Voxels between the seeds of supervoxels, on average."""
_NEIGHBOURS = list(product((-1, 0, 1), repeat=3))

Floats = NDArray[np.float32]
T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Sample:
    """A volume of grayscale with its supervoxels, both (z, y, x) with sides that are multiples of 64."""

    title: str
    gray: NDArray[np.uint8]
    supervoxels: NDArray[np.uint64]
    """0 where nothing was segmented."""
    bodies: dict[int, list[int]]
    """Body → its supervoxels, ascending; a body is named by its smallest."""
    voxel_size: tuple[float, float, float]
    """X, Y, Z, in nanometers."""


def sample() -> Sample:
    """The medulla where it is there, else the generated volume."""
    return medulla(MEDULLA) if (MEDULLA / "labels.npz").is_file() else generate()


def medulla(folder: Path) -> Sample:
    """The real volume, padded with zeros to 256 x 256 x 256."""
    from PIL import Image

    sections = [np.asarray(Image.open(path).convert("L")) for path in sorted(folder.glob("grayscale/iso.*.png"))]
    with np.load(folder / "labels.npz") as labels:
        supervoxels, body_of = labels["supervoxels"], labels["body_of_supervoxel"]
    bodies: dict[int, list[int]] = {}
    for supervoxel, body in body_of.tolist():
        bodies.setdefault(body, []).append(supervoxel)
    return Sample(
        "Drosophila medulla, FIB-SEM, 250 x 250 x 250 voxels (FlyEM)",
        _padded(np.stack(sections)),
        _padded(supervoxels),
        {body: sorted(members) for body, members in bodies.items()},
        (10.0, 10.0, 10.0),
    )


def _padded(volume: NDArray[T]) -> NDArray[T]:
    return np.pad(volume, [(0, -side % 64) for side in volume.shape])


def generate(size: int = 256, seed: int = 1) -> Sample:
    """A volume of ``size``³ voxels, a multiple of 64. About 4 s for 256."""
    rng = np.random.default_rng(seed)
    count = size // _CELL + 2  # with one cell more at either side
    places = np.stack(np.meshgrid(*[np.arange(-1, count - 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
    seeds = ((places + rng.uniform(0.1, 0.9, places.shape)) * _CELL).astype(np.float32)
    warps = [_warp(size, rng) for _ in range(3)]
    shades = rng.uniform(-14, 14, len(seeds)).astype(np.float32)

    supervoxels = np.empty((size,) * 3, np.uint64)
    gray = np.empty((size,) * 3, np.uint8)
    grain = _grain(size, rng)
    for cell in product(range(size // _CELL), repeat=3):
        at = tuple(slice(_CELL * c, _CELL * (c + 1)) for c in cell)
        nearest, margin = _voronoi(cell, at, warps, seeds, count)
        supervoxels[at] = nearest + 1
        membrane = 95 * np.exp(-((margin / 2.4) ** 2))
        gray[at] = np.clip(168 + shades[nearest] - membrane + grain[at], 0, 255)
    present = np.unique(supervoxels)
    return Sample(
        f"generated volume, {size} x {size} x {size} voxels",
        gray,
        supervoxels,
        _bodies(present, seeds, size, rng),
        (8.0, 8.0, 8.0),
    )


def _warp(size: int, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """A smooth displacement, the sum of one wave along each axis: so that membranes are curved."""
    along = np.arange(size, dtype=np.float32)
    z, y, x = ((3.0 * np.sin(along / rng.uniform(9, 16) + rng.uniform(0, 6))).astype(np.float32) for _ in range(3))
    return z[:, None, None], y[None, :, None], x[None, None, :]


def _voronoi(
    cell: tuple[int, ...],
    at: tuple[slice, ...],
    warps: list[tuple[Floats, Floats, Floats]],
    seeds: Floats,
    count: int,
) -> tuple[NDArray[np.int64], Floats]:
    """Of each voxel of a cell: the nearest seed, and by how much the second nearest is farther away."""
    points = []
    for axis, (wz, wy, wx) in enumerate(warps):
        shape = [1, 1, 1]
        shape[axis] = _CELL
        along = np.arange(at[axis].start, at[axis].stop, dtype=np.float32).reshape(shape)
        points.append(along + wz[at[0]] + wy[:, at[1]] + wx[:, :, at[2]])
    first = np.full((_CELL,) * 3, np.inf, np.float32)
    second = first.copy()
    nearest = np.zeros((_CELL,) * 3, np.int64)
    for step in _NEIGHBOURS:
        z, y, x = (c + 1 + s for c, s in zip(cell, step, strict=True))
        index = (z * count + y) * count + x
        distance = sum((p - s) ** 2 for p, s in zip(points, seeds[index], strict=True))
        closer = distance < first
        second = np.where(closer, first, np.minimum(second, distance))
        first = np.where(closer, distance, first)
        nearest[closer] = index
    return nearest, np.sqrt(second) - np.sqrt(first)


def _grain(size: int, rng: np.random.Generator) -> Floats:
    """Noise of two sizes: of single voxels, and of clouds of 4."""
    fine = rng.standard_normal((size,) * 3, np.float32) * 5
    coarse = rng.standard_normal((size // 4,) * 3, np.float32) * 7
    for axis in range(3):
        coarse = (coarse + np.roll(coarse, 1, axis)) * np.float32(0.7)
        coarse = np.repeat(coarse, 4, axis)
    return fine + coarse


def _bodies(
    supervoxels: NDArray[np.uint64], seeds: Floats, size: int, rng: np.random.Generator
) -> dict[int, list[int]]:
    """Each supervoxel belongs to the nearest of some lines through the volume, as to a neurite."""
    lines = max(2, len(supervoxels) // 12)
    through = rng.uniform(0, size, (lines, 3))
    towards = rng.standard_normal((lines, 3))
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    away = seeds[supervoxels.astype(np.int64) - 1][:, None] - through
    along = (away * towards).sum(-1, keepdims=True) * towards
    line_of = np.linalg.norm(away - along, axis=-1).argmin(1)
    members: dict[int, list[int]] = {}
    for supervoxel, line in zip(supervoxels.tolist(), line_of.tolist(), strict=True):
        members.setdefault(line, []).append(supervoxel)
    return {group[0]: group for group in members.values()}
