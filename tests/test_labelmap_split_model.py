"""Random splits, merges and voxel writes of a labelmap, in several versions, against a numpy model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvidcore.repos import Database, OneStore
from dvidcore.storage.memory import Memory
from labelmap_client import ZYX, Volume, xyz
from split_model import BLOCK, SplitSeg, chopped
from test_labelmap_writes import downsample

SHAPE = (32, 32, 64)
ORIGINS: list[ZYX] = [(0, 0, 0), (-64, 64, -128), (-128, -64, 0)]


def some_volume(rng: np.random.Generator, labels: int) -> Volume:
    """Blocks of one label, coarse noise and fine noise, of labels up to 2^40 and background."""
    names = np.concatenate(([0], 1 + rng.choice(2**40, labels, replace=False))).astype(np.uint64)
    coarse = rng.integers(0, labels + 1, [-(-n // 8) for n in SHAPE])
    volume = names[coarse.repeat(8, 0).repeat(8, 1).repeat(8, 2)]
    for _ in range(3):
        low = [int(rng.integers(0, n // b)) * b for n, b in zip(SHAPE, BLOCK, strict=True)]
        place = tuple(slice(a, a + b) for a, b in zip(low, BLOCK, strict=True))
        volume[place] = rng.choice(names)
    noise = rng.random(SHAPE) < 0.05
    return np.where(noise, rng.choice(names, SHAPE), volume)


def some_mask(rng: np.random.Generator, mine: np.ndarray) -> np.ndarray:
    """A part of a supervoxel's voxels: a half space, a few blocks, single voxels; not all, not none."""
    voxels = np.argwhere(mine)
    mask = mine.copy()
    kind = rng.integers(4)
    if kind == 0:
        axis = int(rng.integers(3))
        mask &= np.moveaxis(
            np.broadcast_to(np.arange(SHAPE[axis]) < rng.integers(1, SHAPE[axis]), (1, 1, SHAPE[axis])), 2, axis
        )
    elif kind == 1:
        some = rng.random([n // b for n, b in zip(SHAPE, BLOCK, strict=True)]) < 0.5
        mask &= some.repeat(BLOCK[0], 0).repeat(BLOCK[1], 1).repeat(BLOCK[2], 2)
    elif kind == 2:
        mask &= rng.random(SHAPE) < rng.choice([0.01, 0.5, 0.99])
    one, other = rng.permutation(len(voxels))[:2]
    mask[tuple(voxels[one])], mask[tuple(voxels[other])] = True, False
    return mask


def step(seg: SplitSeg, rng: np.random.Generator) -> None:
    present, sizes = np.unique(seg.levels[0], return_counts=True)
    splittable = present[(present != 0) & (sizes > 1)].tolist()
    if rng.random() < 0.2:
        bodies = rng.permutation(sorted({seg.body(s) for s in present.tolist() if s}))[:3].tolist()
        if len(bodies) > 1:
            seg.merge(*bodies)
        return
    supervoxel = int(rng.choice(splittable))
    mask = some_mask(rng, seg.levels[0] == supervoxel)
    given = [f"{name}={seg.next + int(n)}" for name, n in zip(("split", "remain"), rng.permutation(9)[:2], strict=True)]
    query = [text for text in given if rng.random() < 0.3]
    if query == given[1:]:
        query = []  # the next id could be the one that is given, which has a test of its own
    if rng.random() < 0.2:
        query.append("downres=false")
    seg.split(supervoxel, mask, "&".join(query), chopped(mask, seg.origin, rng))


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(ORIGINS), st.integers(1, 12))
def test_random_splits(seed: int, origin: ZYX, labels: int) -> None:
    rng = np.random.default_rng(seed)
    with Database.open({"main": Memory.open("")}, OneStore("main")) as database:
        seg = SplitSeg.create(database, some_volume(rng, labels), origin)
        for _ in range(4):
            step(seg, rng)
        seg.check()


@pytest.mark.parametrize("seed", range(2))
def test_random_splits_in_branches(database: Database, seed: int) -> None:
    rng = np.random.default_rng(seed)
    first = SplitSeg.create(database, some_volume(rng, 6), ORIGINS[1])
    step(first, rng)
    first.client.commit(first.node)
    open_versions = [
        first.at(first.client.post(f"/api/node/{first.node}/branch", {"branch": name}).json()["child"]) for name in "ab"
    ]
    everything = [first, *open_versions]
    for _ in range(4):
        seg = open_versions[int(rng.integers(len(open_versions)))]
        step(seg, rng)
        for other in everything:
            other.next = seg.next
    for seg in everything:
        seg.check()


def test_voxels_written_after_a_split(database: Database) -> None:
    rng = np.random.default_rng(3)
    seg = SplitSeg.create(database, some_volume(rng, 5), ORIGINS[1])
    for _ in range(3):
        step(seg, rng)
    retired = [s for s, b in seg.body_of.items() if b == 0]
    part = seg.levels[0][: BLOCK[0], : BLOCK[1]].copy()
    part[:, :8] = seg.next
    answer = seg.ask(f"raw/0_1_2/{xyz(part.shape)}/{xyz(seg.origin)}", np.full_like(part, retired[0]).tobytes(), "POST")
    assert answer.status == 400, "a supervoxel that was split does not come back"
    seg.post(f"raw/0_1_2/{xyz(part.shape)}/{xyz(seg.origin)}", part.tobytes())
    seg.next += 1
    seg.levels[0][: BLOCK[0], : BLOCK[1]] = part
    for scale in (1, 2):
        end = [n >> scale for n in part.shape]
        place = tuple(slice(0, n) for n in end)
        seg.levels[scale][place] = downsample(seg.levels[scale - 1][tuple(slice(0, 2 * n) for n in end)])
    seg.check()
    step(seg, rng)
    seg.check()
