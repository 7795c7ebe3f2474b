"""Random walks over a labelmap: each step is a request to the real application, and what it does to the model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from apiclient import TOKEN
from dvidcore import labels
from dvidcore.geometry import ZYX
from dvidcore.repos import Database
from label_compare import Compared
from label_model import FRAME, SIDE, Block, Mask, Version
from split_model import chopped, sparse
from test_labelmap_writes import Volume, index_message, mapping_ops, stream

Step = Callable[["Walk", Version], None]


class Walk(Compared):
    """A repo with one labelmap, its model, and the random numbers that choose what to do."""

    def __init__(self, database: Database, seed: int, *, stale: bool, versions: int = 36, base: int = 0) -> None:
        """``stale``: some writes leave the coarser scales as they are. ``base``: labels are above it.

        No more versions are made than so many.
        """
        super().__init__(database, seed, stale=stale)
        self.most_versions = versions
        self.done: dict[str, int] = {}
        if base:
            root = self.model.versions[self._id(self.root)]
            self.post(root, f"maxlabel/{base}?admintoken={TOKEN}")
            self.model.raise_to(root, base)

    # -- choices -------------------------------------------------------------------------------------------------------

    def downres(self) -> bool:
        return not self.stale or bool(self.rng.random() < 0.6)

    def blobs(self, shape: tuple[int, ...], labels_: list[int]) -> Volume:
        coarse = self.rng.choice(np.array([0, *labels_], np.uint64), [-(-n // 4) for n in shape])
        fine = coarse.repeat(4, 0).repeat(4, 1).repeat(4, 2)[: shape[0], : shape[1], : shape[2]]
        speckle = self.rng.random(shape) < 0.003
        return np.where(speckle, self.rng.choice(np.array(labels_, np.uint64), shape), fine)

    def step(self) -> None:
        """One random request, or nothing where it is not possible."""
        open_ = [v for v in self.model.versions.values() if v.open]
        version = open_[self.rng.integers(len(open_))]
        names = list(STEPS)
        weights = np.array([STEPS[name][0] for name in names], float)
        name = names[self.rng.choice(len(names), p=weights / weights.sum())]
        if not version.members() or (name in MAKES_VERSIONS and len(self.model.versions) >= self.most_versions):
            name = "raw"
        STEPS[name][1](self, version)
        self.model.note(version)
        self.done[name] = self.done.get(name, 0) + 1


# -- voxels ------------------------------------------------------------------------------------------------------------


def _written(walk: Walk, version: Version) -> list[int]:
    """Labels that voxels may get: of this version and others, and new ones."""
    there = {s for v in (version, walk.pick_version()) for counts in v.counts.values() for s in counts}
    fresh = [walk.unused() for _ in range(2)]
    return [s for s in [*walk.some(there, 6), *fresh] if version.body(s)] if there else fresh


def _box(walk: Walk) -> tuple[Block, tuple[int, ...]]:
    size = tuple(int(n) for n in walk.rng.integers(1, (3, 3, 4)))
    at = tuple(
        int(low + walk.rng.integers(0, n - s + 1)) for low, n, s in zip(FRAME.low, FRAME.shape, size, strict=True)
    )
    return at, size  # type: ignore[return-value]


def _take_voxels(walk: Walk, version: Version, placed: dict[Block, Volume], *, downres: bool) -> None:
    version.write(placed, downres=downres)
    version.grow(placed)
    walk.model.raise_to(version, max(int(volume.max()) for volume in placed.values()))


def raw(walk: Walk, version: Version) -> None:
    at, size = _box(walk)
    volume = walk.blobs(tuple(SIDE * n for n in size), _written(walk, version))
    shape, offset = "_".join(map(str, volume.shape[::-1])), "_".join(str(SIDE * a) for a in at[::-1])
    walk.post(version, f"raw/0_1_2/{shape}/{offset}?mutate=true", volume.tobytes())
    placed = {}
    for k in np.ndindex(*size):
        cut = tuple(slice(SIDE * n, SIDE * (n + 1)) for n in k)
        placed[at[0] + k[0], at[1] + k[1], at[2] + k[2]] = volume[cut]
    _take_voxels(walk, version, placed, downres=True)


def some_blocks(walk: Walk, version: Version) -> None:
    chosen = walk.some(FRAME.blocks(), 5)
    known = _written(walk, version)
    placed = {at: walk.blobs((SIDE,) * 3, known) for at in chosen}
    downres = walk.downres()
    walk.post(version, f"blocks?downres={str(downres).lower()}", stream({ZYX(*at): v for at, v in placed.items()}))
    _take_voxels(walk, version, placed, downres=downres)


def retired_voxels(walk: Walk, version: Version) -> None:
    """A supervoxel that was split or retired cannot be written."""
    gone = [s for s, body in version.mapping.items() if body == 0]
    if gone:
        volume = walk.blobs((SIDE,) * 3, [walk.pick(gone)])
        volume[0, 0, 0] = walk.pick(gone)
        walk.refused(version, "blocks?downres=true", stream({ZYX(*walk.pick(FRAME.blocks())): volume}))


# -- mutations ---------------------------------------------------------------------------------------------------------


def merge(walk: Walk, version: Version) -> None:
    members = version.members()
    if len(members) < 2:
        return
    target, *others = walk.some(members, 4) if len(members) < 4 else [walk.pick(members), *walk.some(members, 3)]
    others = [body for body in others if body != target]
    if not others:
        walk.refused(version, "merge", [target, target])
        return
    walk.post(version, "merge", [target, *others, others[0]])
    version.map((s, target) for body in others for s in members[body])
    version.actions.append("merge")


def cleave(walk: Walk, version: Version) -> None:
    members = {body: m for body, m in version.members().items() if len(m) > 1}
    if not members:
        return
    body = walk.pick(members)
    chosen = walk.some(members[body], len(members[body]) - 1)
    answer = walk.post(version, f"cleave/{body}", [*chosen, chosen[0]]).json()
    (made,) = walk.model.give(version)
    assert answer["CleavedLabel"] == made
    version.map([*((s, made) for s in chosen), (made, 0)])
    version.actions.append("cleave")


def renumber(walk: Walk, version: Version) -> None:
    pairs: list[int] = []
    for _ in range(walk.rng.integers(1, 4)):
        members = version.members()
        candidates = {walk.unused(), *version.mapping, *(s for m in members.values() for s in m)} - {*members, 0}
        new, old = walk.pick(candidates), walk.pick(members)
        pairs += [new, old]
        entries = [] if new in version.mapping else [(new, 0)]
        version.map([*entries, *((s, new) for s in members[old])])
        walk.model.raise_to(version, new)
        version.actions.append("renumber")
    walk.post(version, "renumber", pairs)


def _half(walk: Walk, mask: Mask) -> Mask:
    """A random part of a mask: one side of a plane, or voxels here and there."""
    at = np.argwhere(mask)
    if walk.rng.random() < 0.7:
        normal = walk.rng.normal(size=3)
        height = at @ normal
        chosen = height < walk.rng.choice(height)
    else:
        chosen = walk.rng.random(len(at)) < 0.3
    out = np.zeros_like(mask)
    out[tuple(at[chosen].T)] = True
    return out


def _blocks_with(version: Version, supervoxels: set[int]) -> list[Block]:
    return [at for at, counts in version.counts.items() if not supervoxels.isdisjoint(counts)]


def _runs(walk: Walk, mask: Mask) -> bytes:
    return sparse(chopped(mask, tuple(low * SIDE for low in FRAME.low), walk.rng))  # type: ignore[arg-type]


def split_supervoxel(walk: Walk, version: Version) -> None:
    supervoxels = {s: n for m in version.members().values() for s, n in m.items() if n > 1}
    if not supervoxels:
        return
    old = walk.pick(supervoxels)
    whole = version.levels[0] == old
    mask = _half(walk, whole)
    if not mask.any() or mask.sum() == whole.sum():
        walk.refused(version, f"split-supervoxel/{old}", _runs(walk, mask) if mask.any() else sparse([]))
        return
    downres = walk.downres()
    given: dict[str, int] = {}
    if walk.rng.random() < 0.2:
        given["split"] = walk.unused()
    if walk.rng.random() < 0.2 and (label := walk.unused()) not in given.values():
        given["remain"] = label
    query = "&".join([f"downres={str(downres).lower()}", *(f"{name}={label}" for name, label in given.items())])
    answer = walk.post(version, f"split-supervoxel/{old}?{query}", _runs(walk, mask)).json()
    split, remain = answer["SplitSupervoxel"], answer["RemainSupervoxel"]
    for name, label in (("split", split), ("remain", remain)):
        if name in given:
            walk.model.raise_to(version, given[name])
            assert label == given[name]
            continue
        (following,) = walk.model.give(version)
        while following in given.values():
            (following,) = walk.model.give(version)
        assert label == following
    walk.model.existing |= {split, remain}

    def change(volume: Volume, inside: Mask) -> Volume:
        was = volume == old
        volume[was & inside] = split
        volume[was & ~inside] = remain
        return volume

    touched = {
        at: change(version.levels[0][FRAME.part(0, at)].copy(), mask[FRAME.part(0, at)])
        for at in _blocks_with(version, {old})
    }
    body = version.body(old)
    version.write(touched, downres=downres)
    version.map([(split, body), (remain, body), (old, 0)])
    version.splits.append((old, remain, split))
    version.actions.append("split-supervoxel")


def split_body(walk: Walk, version: Version) -> None:
    members = version.members()
    body = walk.pick(members)
    whole = np.isin(version.levels[0], sorted(members[body]))
    mask = _half(walk, whole)
    if not mask.any() or mask.sum() == whole.sum():
        return
    walk.post(version, f"split/{body}", _runs(walk, mask))
    record = walk.json(version, "mutations")[-1]
    changes = {int(old): (new["Split"], new["Remain"]) for old, new in record["SVSplits"].items()}
    met = set(np.unique(version.levels[0][mask]).tolist())
    given = list(walk.model.give(version, 1 + 2 * len(met)))
    assert set(changes) == met and record["NewLabel"] == given[0]
    assert [label for pair in changes.values() for label in pair] == given[1:]

    def change(volume: Volume, inside: Mask) -> Volume:
        out = volume.copy()
        for old, (split, remain) in changes.items():
            out[(volume == old) & inside] = split
            out[(volume == old) & ~inside] = remain
        return out

    touched = {
        at: change(version.levels[0][FRAME.part(0, at)], mask[FRAME.part(0, at)]) for at in _blocks_with(version, met)
    }
    version.write(touched, downres=True)
    for old, (split, remain) in changes.items():
        version.map([(split, given[0]), (remain, body), (old, 0)])
        version.splits.append((old, remain, split))
    version.actions.append("split")


def post_mappings(walk: Walk, version: Version) -> None:
    """Mappings as a bulk loader posts them, and the indices that go with them."""
    there = {s for counts in version.counts.values() for s in counts}
    bodies = {*version.members(), walk.unused(), *there}
    pairs = [(s, walk.pick(bodies)) for s in walk.some(there, 4)]
    absent = walk.unused()
    pairs.append((absent, walk.pick([0, absent, walk.pick(bodies)])))
    before = version.index()
    walk.post(version, "mappings", mapping_ops(pairs))
    version.map(pairs)
    walk.model.in_use([label for pair in pairs for label in pair])
    walk.model.existing |= {body for _, body in pairs if body}  # also those of supervoxels that are not there
    after = version.index()
    changed = [body for body in {*before, *after} if before.get(body) != after.get(body)]
    messages = [index_message(body, after.get(body, {})) for body in changed]
    walk.post(version, "indices", labels.encode_indices(messages))
    stored = [body for body in changed if body in after]
    if stored:
        walk.model.raise_to(version, max(stored))


# -- counters ----------------------------------------------------------------------------------------------------------


def next_labels(walk: Walk, version: Version) -> None:
    count = int(walk.rng.integers(1, 5))
    answer = walk.post(version, f"nextlabel/{count}").json()
    given = walk.model.give(version, count, reserve=True)
    assert answer == {"start": given[0], "end": given[-1]}


def admin(walk: Walk, version: Version) -> None:
    label = walk.model.maximum + int(walk.rng.integers(-20, 20))
    if label > 0 and walk.rng.random() < 0.7:
        walk.post(version, f"maxlabel/{label}?admintoken={TOKEN}")
        walk.model.raise_to(version, label)
    elif label > 0:
        walk.post(version, f"set-nextlabel/{label}?admintoken={TOKEN}")
        walk.model.next_label = label


# -- versions ----------------------------------------------------------------------------------------------------------


def _commit(walk: Walk, version: Version) -> None:
    if version.open:
        walk.client.commit(version.uuid)
        version.open = False
        walk.refused(version, "merge", [1, 2])


def _children(walk: Walk, version: Version, count: int) -> list[Version]:
    _commit(walk, version)
    made = []
    for k in range(count):
        answer = walk.client.post(f"/api/node/{version.uuid}/branch", {"branch": f"b{len(walk.model.versions)}-{k}"})
        assert answer.status == 200, answer.text
        uuid = answer.json()["child"]
        made.append(walk.model.child(version, walk._id(uuid), uuid))
    return made


def branch(walk: Walk, version: Version) -> None:
    """A child, and often another one beside it."""
    _children(walk, version, int(walk.rng.integers(1, 3)))


def _merge(walk: Walk, version: Version, other: Version) -> None:
    _commit(walk, version)
    _commit(walk, other)
    body = {"mergeType": "conflict-free", "parents": [version.uuid, other.uuid], "note": ""}
    answer = walk.client.post(f"/api/repo/{walk.root}/merge", body)
    assert answer.status == 200, answer.text
    uuid = answer.json()["child"]
    walk.compare(walk.model.merge(version, other, walk._id(uuid), uuid))


def merge_versions(walk: Walk, version: Version) -> None:
    """Any two versions without a conflict."""
    others = [
        other
        for other in walk.model.versions.values()
        if other.id not in version.ancestors | {version.id}
        and version.id not in other.ancestors
        and walk.model.mergeable(version, other)
    ]
    if others:
        _merge(walk, version, others[walk.rng.integers(len(others))])


def fork(walk: Walk, version: Version) -> None:
    """Two versions that change in different ways and, where that brings no conflict, are merged again."""
    sides = _children(walk, version, 2)
    for side in sides:
        changes = MAPPING_CHANGES if walk.rng.random() < 0.6 else VOXEL_CHANGES
        for _ in range(walk.rng.integers(1, 3)):
            changes[walk.rng.integers(len(changes))](walk, side)
            walk.model.note(side)
    if walk.model.mergeable(*sides):
        walk.done["merged forks"] = walk.done.get("merged forks", 0) + 1
        _merge(walk, *sides)


MAPPING_CHANGES: list[Step] = [merge, merge, cleave, renumber, post_mappings]
VOXEL_CHANGES: list[Step] = [raw, some_blocks, some_blocks, split_supervoxel]

STEPS: dict[str, tuple[float, Step]] = {
    "raw": (3, raw),
    "blocks": (4, some_blocks),
    "retired voxels": (1, retired_voxels),
    "merge": (9, merge),
    "cleave": (9, cleave),
    "renumber": (4, renumber),
    "split-supervoxel": (8, split_supervoxel),
    "split": (3, split_body),
    "mappings": (3, post_mappings),
    "nextlabel": (1, next_labels),
    "admin": (0.5, admin),
    "branch": (1, branch),
    "merge versions": (2, merge_versions),
    "fork": (2.5, fork),
}
MAKES_VERSIONS = ("branch", "merge versions", "fork")
