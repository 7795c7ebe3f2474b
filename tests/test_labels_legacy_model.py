"""Random posts, merges and splits: of a labelblk with its labelvol and two coarser levels, and of a labelarray.

Annotation and labelsz follow them. Beside goes a numpy volume for each version; every so often all is compared, and at the end the store is checked.
"""

from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np
import pytest

from dvidcore.repos import Database
from legacy_labels import SIDE, Legacy, Mask, Volume, blocks_of, cells, pack, runs_of

ORIGIN = (-SIDE, -2 * SIDE, -SIDE)
SHAPE = (3 * SIDE, 4 * SIDE, 4 * SIDE)
CHAIN = ("half", "quarter")


class World:
    """The instances, and what each version should hold. ``points`` are those of annotation elements, z, y, x."""

    def __init__(self, database: Database, seed: int, kind: str) -> None:
        self.pair = kind == "labelvol"
        self.legacy = Legacy(database).pair() if self.pair else Legacy(database).array()
        self.voxels, self.bodies = ("blk", "vol") if self.pair else ("arr", "arr")
        self.random = Random(seed)
        client, root = self.legacy.client, self.legacy.root
        client.instance(root, "syn", "annotation", BlockSize="16,16,16")
        client.instance(root, "sz", "labelsz")
        self.legacy.done("syn/sync", {"sync": "blk,vol" if self.pair else "arr"})
        self.legacy.done("sz/sync", {"sync": "syn"})
        self.open = [root]
        self.locked: list[str] = []
        self.volumes = {root: np.zeros(SHAPE, np.uint64)}
        spots = self.random.sample(range(SHAPE[0] * SHAPE[1] * SHAPE[2]), 60)
        self.points = [tuple(int(c) for c in np.unravel_index(spot, SHAPE)) for spot in spots]
        elements = [
            {"Pos": [int(x + ORIGIN[2]), int(y + ORIGIN[1]), int(z + ORIGIN[0])], "Kind": "PostSyn"}
            for z, y, x in self.points
        ]
        self.legacy.done("syn/elements", elements)
        self.write(root)

    def labels(self, node: str) -> list[int]:
        volume = self.volumes[node]
        return [int(label) for label in np.unique(volume[volume != 0])]

    def write(self, node: str) -> None:
        """Some blocks, the first time all."""
        volume, random = self.volumes[node], self.random
        low, size = (0, 0, 0), SHAPE
        if volume.any():
            low = tuple(SIDE * random.randrange(n // SIDE) for n in SHAPE)
            size = tuple(SIDE * random.randint(1, (n - at) // SIDE) for n, at in zip(SHAPE, low, strict=True))
        new = cells(random.randrange(2**30), size, [*random.sample(range(1, 30), 6), 0])
        if random.random() < 0.2 and volume.any():
            new[:] = random.choice((0, 7))
        where = tuple(slice(a, a + n) for a, n in zip(low, size, strict=True))
        query = random.choice(("", "?mutate=true"))
        self.legacy.write(new, tuple(a + o for a, o in zip(low, ORIGIN, strict=True)), self.voxels, query, node)
        volume[where] = new

    def merge(self, node: str) -> None:
        labels, random = self.labels(node), self.random
        if len(labels) < 2:
            return
        target, *merged = random.sample(labels, random.randint(2, min(4, len(labels))))
        if random.random() < 0.2:
            target, merged = random.randint(500, 600), [target, *merged]
        merged = [label for label in merged if label != target]
        listed = [*merged, random.choice((10**9, merged[0]))]
        answer = self.legacy.done(f"{self.bodies}/merge", [target, *listed], node)
        assert not answer.body
        assert answer.headers.get("missing-labels", "") == ("1000000000" if 10**9 in listed else "")
        volume = self.volumes[node]
        volume[np.isin(volume, np.array(merged, np.uint64))] = target

    def _split(self, node: str, label: int, mask: Mask, path: str, body: bytes) -> None:
        chosen = self._chosen(node, label)
        query = "" if chosen is None else f"?splitlabel={chosen}"
        new = self.legacy.done(f"{self.bodies}/{path}/{label}{query}", body, node).json()["label"]
        assert new == chosen if chosen is not None else all(new not in v for v in self.volumes.values())
        self.volumes[node][mask] = new

    def _chosen(self, node: str, label: int) -> int | None:
        others = [other for other in self.labels(node) if other != label] if self.pair else []
        free = sorted(set(range(700, 900)).difference(self.labels(node)))
        choices = [None, None, self.random.choice(free), *self.random.sample(others, min(1, len(others)))]
        return self.random.choice(choices)

    def split(self, node: str) -> None:
        volume, random = self.volumes[node], self.random
        if not self.labels(node):
            return
        label = random.choice(self.labels(node))
        places = np.argwhere(volume == label)
        low, high = sorted((random.choice(places), random.choice(places)), key=lambda p: int(p[0]))
        mask = volume == label
        mask[: low[0]] = False
        mask[high[0] + 1 :] = False
        if random.random() < 0.2:
            mask = volume == label
        runs = np.array(runs_of(mask, ORIGIN))
        if random.random() < 0.3:  # single voxels in any order
            runs = np.array([[x + k, y, z, 1] for x, y, z, n in runs.tolist() for k in range(n)])
        elif not self.pair:  # also voxels of others, and some twice
            runs = np.concatenate([runs, runs[::3]]) + np.array([-1, 0, 0, 2])
            mask = mask.copy()
            mask[:, :, 1:] |= mask[:, :, :-1].copy()
            mask[:, :, :-1] |= mask[:, :, 1:].copy()
            mask &= volume == label
        np.random.default_rng(random.randrange(2**30)).shuffle(runs)
        self._split(node, label, mask, "split", pack(runs))

    def split_coarse(self, node: str) -> None:
        volume, random = self.volumes[node], self.random
        if not self.labels(node):
            return
        label = random.choice(self.labels(node))
        runs = blocks_of(volume == label, ORIGIN)
        some = random.sample(runs, random.randint(1, len(runs)))
        inside = np.zeros(SHAPE, bool)
        for x, y, z, n in some:
            bz, by, bx = (c - o // SIDE for c, o in zip((z, y, x), ORIGIN, strict=True))
            inside[bz * SIDE :, by * SIDE :, bx * SIDE :][:SIDE, :SIDE, : n * SIDE] = True
        self._split(node, label, inside & (volume == label), "split-coarse", pack(some))

    def branch(self, node: str) -> None:
        """Locks a version; two children of it go on."""
        if len(self.open) > 3:
            return
        self.legacy.client.commit(node)
        first = self.legacy.client.child(node)
        answer = self.legacy.client.post(f"/api/node/{node}/branch", {"branch": f"b{len(self.volumes)}"})
        second = answer.json()["child"]
        self.open.remove(node)
        self.locked.append(node)
        self.open += [first, second]
        self.volumes |= {child: self.volumes[node].copy() for child in (first, second)}

    def step(self) -> None:
        node = self.random.choice(self.open)
        actions = [self.write, self.merge, self.split, self.split_coarse, self.branch]
        self.random.choices(actions, [4, 4, 4, 3, 1])[0](node)

    def compare(self, node: str) -> None:
        volume = self.volumes[node]
        if self.pair:
            self.legacy.pair_is(volume, ORIGIN, node, CHAIN)
        else:
            self.legacy.array_is(volume, ORIGIN, node)
        gone = [label for label in range(1, 30) if label not in volume]
        for label in gone[:3]:
            assert self.legacy.runs(label, name=self.bodies, node=node) is None
        self._annotations(node, volume)

    def _annotations(self, node: str, volume: Volume) -> None:
        under = Counter(int(volume[point]) for point in self.points)
        under.pop(0, None)
        asked = sorted({*under, *self.labels(node)[:5]})
        found = self.legacy.get("sz/counts/PostSyn", asked, node).json()
        assert {one["Label"]: one.get("PostSyn", 0) for one in found} == {label: under[label] for label in asked}
        for label in asked[:8]:
            elements = self.legacy.get(f"syn/label/{label}", node=node).json() or []
            places = sorted(tuple(c - o for c, o in zip(e["Pos"][::-1], ORIGIN, strict=True)) for e in elements)
            assert places == sorted(point for point in self.points if volume[point] == label), label


@pytest.mark.parametrize("kind", ["labelvol", "labelarray"])
@pytest.mark.parametrize("seed", range(3))
def test_random_changes(database: Database, kind: str, seed: int) -> None:
    world = World(database, seed, kind)
    for number in range(30):
        world.step()
        if number % 10 == 9:
            world.compare(world.random.choice(world.open))
    for node in (*world.locked, *world.open):
        world.compare(node)
    assert world.legacy.findings() == []
