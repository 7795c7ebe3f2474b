"""The write side of the label engine against a plain numpy model: random posts, merges, mappings, versions, branches.

In the end all versions are compared whole: voxels at each scale, index rows, records, mapping, extents, largest label.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from dvidcore import blocks, labels
from dvidcore.datatypes.call import BytesBody, Call
from dvidcore.datatypes.labels import stored
from dvidcore.datatypes.labels.labelmap import LabelMap
from dvidcore.datatypes.labels.mutations import merge
from dvidcore.datatypes.labels.reading import lists
from dvidcore.datatypes.labels.writing import counters, ingest, posted
from dvidcore.datatypes.registry import Instances
from dvidcore.errors import BadRequest, Conflict
from dvidcore.geometry import ZYX
from dvidcore.repos import Database, Repo
from dvidcore.versions import Node
from reference_runs import field as field_of

SIDE = 16
SPAN = 6  # blocks along each side of the space that the random posts hit
Volume = NDArray[np.uint64]
Index = dict[tuple[int, ...], dict[int, int]]
"""Block (z, y, x) → supervoxel → voxels."""
POOL = np.array([0, 0, 1, 2, 3, 7, 100, 2**40, 2**63, 2**64 - 1], np.uint64)
"""Supervoxels of the random volumes."""
UNSEEN = (4, 5, 2**50)
"""Supervoxels that no volume has."""


def downsample(volume: Volume) -> Volume:
    """Half resolution: of each 2x2x2 cell the most frequent label that is not 0, of equals the smallest."""
    z, y, x = (n // 2 for n in volume.shape)
    cell = np.sort(volume.reshape(z, 2, y, 2, x, 2).transpose(0, 2, 4, 1, 3, 5).reshape(-1, 8), axis=1)
    votes = (cell[:, :, None] == cell[:, None, :]).sum(2)
    votes[cell == 0] = 0
    return np.take_along_axis(cell, votes.argmax(1)[:, None], 1)[:, 0].reshape(z, y, x)


@dataclass
class Model:
    """What a version holds: the voxels of a cube of SPAN blocks whose lowest corner is at block -SPAN/2."""

    voxels: Volume = field(default_factory=lambda: np.zeros((SPAN * SIDE,) * 3, np.uint64))
    mapping: dict[int, int] = field(default_factory=dict)
    """Every entry that is visible, identities too."""
    posted: dict[int, Index] = field(default_factory=dict)
    """Indices of bodies without voxels."""
    low: list[int] | None = None
    high: list[int] | None = None
    largest: int = 0

    def copy(self) -> Model:
        return Model(self.voxels.copy(), dict(self.mapping), dict(self.posted), self.low, self.high, self.largest)

    def with_mapping(self, pairs: list[tuple[int, int]]) -> Model:
        return replace(self, mapping={**self.mapping, **dict(pairs)})

    def write(self, at: ZYX, volume: Volume) -> None:
        z, y, x = (int(c + SPAN // 2) * SIDE for c in at)
        self.voxels[z : z + volume.shape[0], y : y + volume.shape[1], x : x + volume.shape[2]] = volume
        low = [c * SIDE for c in at]
        high = [c + n - 1 for c, n in zip(low, volume.shape, strict=True)]
        self.low = low if self.low is None else [min(p) for p in zip(low, self.low, strict=True)]
        self.high = high if self.high is None else [max(p) for p in zip(high, self.high, strict=True)]
        self.largest = max(self.largest, int(volume.max()))

    def body(self, supervoxel: int) -> int:
        return self.mapping.get(supervoxel, supervoxel)

    def index(self) -> dict[int, Index]:
        """Of each body."""
        out = dict(self.posted)
        for z, y, x in np.ndindex(SPAN, SPAN, SPAN):
            cut = (slice(c * SIDE, (c + 1) * SIDE) for c in (z, y, x))
            found, n = np.unique(self.voxels[tuple(cut)], return_counts=True)
            at = (z - SPAN // 2, y - SPAN // 2, x - SPAN // 2)
            for supervoxel, voxels in zip(found.tolist(), n.tolist(), strict=True):
                if self.body(supervoxel):
                    out.setdefault(self.body(supervoxel), {}).setdefault(at, {})[supervoxel] = voxels
        return out


def stored_volume(label: LabelMap, call: Call, scale: int) -> Volume:
    """The cube's voxels at a scale, from the stored blocks."""
    n = SPAN * SIDE >> scale
    out = np.zeros((n, n, n), np.uint64)
    low = -(SPAN // 2) * SIDE >> scale
    first, last = low // SIDE, (low + n - 1) // SIDE
    for z, y, x in np.ndindex(*(last - first + 1,) * 3):
        at = ZYX(z + first, y + first, x + first)
        value = label.get_blocks(call.view, scale, [at])[0]
        if value is None:
            continue
        block = blocks.decode(stored.coded(value))
        begin = [c * SIDE - low for c in at]
        cut_to = tuple(slice(max(b, 0), max(min(b + SIDE, n), 0)) for b in begin)
        cut_from = tuple(slice(s.start - b, s.stop - b) for s, b in zip(cut_to, begin, strict=True))
        out[cut_to] = block[cut_from]
    return out


def compare(label: LabelMap, call: Call, model: Model) -> None:
    volume = model.voxels
    for scale in range(label.scales + 1):
        assert (stored_volume(label, call, scale) == volume).all(), f"scale {scale}"
        volume = downsample(volume)
    index = model.index()
    records = dict(label.index.records(call.view))
    assert sorted(records) == sorted(index)
    for body, by_block in index.items():
        columns = label.index.columns(call.view, body)
        assert columns is not None
        seen: dict[tuple[int, ...], dict[int, int]] = {}
        for at, supervoxel, n in zip(*(c.tolist() for c in columns[:3]), strict=True):
            seen.setdefault(tuple(at), {})[supervoxel] = n
        assert seen == by_block
        assert records[body].voxels == sum(sum(b.values()) for b in by_block.values())
        assert records[body].blocks == len(by_block)
    compare_mapping(label, call, model)
    box = counters.extents(label, call.view)
    assert box == (None if model.low is None else (tuple(model.low), tuple(model.high or ())))
    assert counters.maximum(label, call.view) == model.largest


def compare_mapping(label: LabelMap, call: Call, model: Model) -> None:
    supervoxels, bodies = label.mapping.at(call).items()
    listed = dict(zip(supervoxels.tolist(), bodies.tolist(), strict=True))
    assert listed == {s: b for s, b in model.mapping.items() if s != b}
    there = set(np.unique(model.voxels).tolist())
    asked = [*POOL.tolist(), *UNSEEN, *model.mapping]
    expected = [model.body(s) if s in model.mapping or s in there else 0 for s in asked]
    assert lists.mapping(label, call, np.array(asked, np.uint64), check=True) == expected


class World:
    """A repo with one labelmap instance, and the model of each of its versions."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.repo: Repo = database.new_repo(alias="model")
        root = self.repo.dag.root
        config = {
            "typename": "labelmap",
            "dataname": "seg",
            "BlockSize": f"{SIDE},{SIDE},{SIDE}",
            "MaxDownresLevel": "2",
        }
        label = Instances(database).create(self.repo, root, config)
        assert isinstance(label, LabelMap)
        self.label = label
        self.models: dict[int, Model] = {root.id: Model()}
        self.open: list[Node] = [root]

    def call(self, node: Node, body: bytes = b"") -> Call:
        ancestry = self.database.ancestry_for(self.repo, node, self.label.record)
        return Call(self.label.engine, node, ancestry, method="POST", body=BytesBody(body))

    def post_raw(self, node: Node, at: ZYX, volume: Volume) -> None:
        offset, size = ZYX(*(c * SIDE for c in at)), ZYX(*volume.shape)
        call = self.call(node, volume.tobytes())
        ingest.post_raw(self.label, call, offset, size, "")
        call.close()
        self.models[node.id].write(at, volume)

    def post_blocks(self, node: Node, placed: dict[ZYX, Volume]) -> None:
        call = self.call(node, stream(placed))
        ingest.post_blocks(self.label, call, 0, downres=True, indexing=True)
        call.close()
        for at, volume in placed.items():
            self.models[node.id].write(at, volume)

    def merge(self, node: Node, target: int, others: list[int]) -> None:
        call = self.call(node, orjson.dumps([target, *others]))
        merge.merge(self.label, call)
        call.close()
        model = self.models[node.id]
        for supervoxel in np.unique(model.voxels).tolist():
            if model.body(supervoxel) in others:
                model.mapping[supervoxel] = target

    def remap(self, node: Node, pairs: list[tuple[int, int]]) -> None:
        """Posts mappings, which leave the index as it is, and then the indices that agree with them."""
        model = self.models[node.id]
        before = model.index()
        call = self.call(node, mapping_ops(pairs))
        posted.post_mappings(self.label, call)
        call.renew()
        compare_mapping(self.label, call, model.with_mapping(pairs))
        assert [body for body, _ in self.label.index.records(call.view)] == sorted(before)
        call.close()
        model.mapping.update(pairs)
        after = model.index()
        changed = [body for body in {*before, *after} if before.get(body) != after.get(body)]
        self.post_indices(node, {body: after.get(body, {}) for body in changed})
        model.largest = max([model.largest, *(body for body in changed if body in after)])

    def post_indices(self, node: Node, indices: dict[int, Index]) -> None:
        call = self.call(node, labels.encode_indices([index_message(*item) for item in indices.items()]))
        posted.post_indices(self.label, call)
        call.close()

    def child(self, node: Node, branch: str = "") -> Node:
        if not node.locked:
            self.database.commit(self.repo, node, note="", log=[])
            self.open = [n for n in self.open if n.id != node.id]
            node = self.repo.dag.nodes[node.id]
        made = self.database.branch(self.repo, node, branch) if branch else self.database.new_version(self.repo, node)
        self.models[made.id] = self.models[node.id].copy()
        self.open.append(made)
        return made

    def compare_all(self) -> None:
        for version, model in self.models.items():
            call = self.call(self.repo.dag.nodes[version])
            compare(self.label, call, model)
            call.close()


def stream(placed: dict[ZYX, Volume]) -> bytes:
    out = []
    for at, volume in placed.items():
        payload = gzip.compress(blocks.encode(volume), 1)
        out.append(struct.pack("<3iI", at.x, at.y, at.z, len(payload)) + payload)
    return b"".join(out)


def mapping_ops(pairs: list[tuple[int, int]]) -> bytes:
    """A MappingOps message of (supervoxel, body)."""
    return b"".join(field_of(1, field_of(2, body) + field_of(3, supervoxel)) for supervoxel, body in pairs)


def index_message(label: int, index: Index) -> bytes:
    """A LabelIndex message of {block (z, y, x): {supervoxel: voxels}}."""
    rows = [(*at, supervoxel, n) for at in sorted(index) for supervoxel, n in sorted(index[at].items())]
    coords = np.array([row[:3] for row in rows], np.int32).reshape(-1, 3)
    supervoxels = np.array([row[3] for row in rows], np.uint64)
    return labels.encode_index(label, coords, supervoxels, np.array([row[4] for row in rows], np.uint32))


@pytest.fixture
def world(database: Database) -> Iterator[World]:
    yield World(database)


def random_volume(rng: np.random.Generator, shape: tuple[int, int, int]) -> Volume:
    """Blobs of few labels, of the whole range of uint64, with background."""
    coarse = rng.choice(POOL, [-(-n // 4) for n in shape])
    fine = coarse.repeat(4, 0).repeat(4, 1).repeat(4, 2)[: shape[0], : shape[1], : shape[2]]
    speckle = rng.random(shape) < 0.02
    return np.where(speckle, rng.choice(POOL, shape), fine)


def random_step(world: World, rng: np.random.Generator, k: int) -> str:
    node = world.open[rng.integers(len(world.open))]
    action = rng.choice(["raw", "blocks", "merge", "remap", "child", "branch"], p=[0.3, 0.25, 0.15, 0.15, 0.08, 0.07])
    low = -(SPAN // 2)
    if action == "raw":
        n = rng.integers(1, 4, 3)
        at = ZYX(*(int(rng.integers(low, low + SPAN - m + 1)) for m in n))
        world.post_raw(node, at, random_volume(rng, tuple(int(m) * SIDE for m in n)))
    elif action == "blocks":
        coords = {ZYX(*(int(c) for c in rng.integers(low, low + SPAN, 3))) for _ in range(rng.integers(1, 6))}
        world.post_blocks(node, {at: random_volume(rng, (SIDE,) * 3) for at in coords})
    elif action == "merge":
        bodies = sorted(world.models[node.id].index())
        if len(bodies) > 1:
            picked = [bodies[i] for i in rng.permutation(len(bodies))[: rng.integers(2, 4)]]
            world.merge(node, picked[0], picked[1:])
    elif action == "remap":
        # Supervoxels of the pool stay alive, as those that map to 0 cannot be written.
        bodies = np.array([*POOL[2:], 6000, 6001], np.uint64)
        pairs = [(int(s), int(rng.choice(bodies))) for s in rng.choice(POOL[2:], rng.integers(1, 4))]
        pairs += [(int(s), int(rng.choice([0, s, 9]))) for s in rng.choice(UNSEEN, rng.integers(0, 3))]
        world.remap(node, pairs)
    else:
        world.child(node, branch="" if action == "child" else f"side{k}")
    return str(action)


@pytest.mark.parametrize("seed", range(4))
def test_random_writes_agree_with_the_model(world: World, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for k in range(14):
        random_step(world, rng, k)
    world.compare_all()


def test_a_retired_supervoxel_is_nobodys_and_cannot_be_written(world: World) -> None:
    root = world.open[0]
    volume = random_volume(np.random.default_rng(1), (SIDE,) * 3)
    volume[0, 0, :3] = [3, 7, 100]
    world.post_raw(root, ZYX(0, 0, 0), volume)
    world.remap(root, [(3, 0), (7, 100)])
    world.compare_all()
    with pytest.raises(BadRequest, match="supervoxel 3"):
        ingest.post_raw(world.label, world.call(root, volume.tobytes()), ZYX(0, 0, 0), ZYX(*volume.shape), "")
    world.compare_all()
    world.post_raw(root, ZYX(0, 0, 0), np.where(volume == 3, np.uint64(7), volume))
    world.compare_all()


def test_the_same_twice_changes_nothing(world: World) -> None:
    root = world.open[0]
    volume = random_volume(np.random.default_rng(1), (2 * SIDE, SIDE, SIDE))
    for _ in range(2):
        world.post_raw(root, ZYX(0, 0, 0), volume)
        world.post_blocks(root, {ZYX(0, 0, 0): volume[:SIDE], ZYX(1, 0, 0): volume[SIDE:]})
    world.compare_all()


def test_new_voxels_of_a_merged_supervoxel_count_in_its_body(world: World) -> None:
    root = world.open[0]
    volume = np.full((SIDE, SIDE, SIDE), 5, np.uint64)
    volume[:, :, :8] = 6
    world.post_raw(root, ZYX(0, 0, 0), volume)
    world.merge(root, 6, [5])
    world.post_raw(root, ZYX(0, 0, 2), np.full((SIDE,) * 3, 5, np.uint64))
    world.compare_all()
    call = world.call(root)
    assert [body for body, _ in world.label.index.records(call.view)] == [6]
    call.close()


def test_a_merge_elsewhere_does_not_touch_this_branch(world: World) -> None:
    root = world.open[0]
    volume = np.full((SIDE, SIDE, SIDE), 5, np.uint64)
    volume[:, :, :8] = 6
    world.post_raw(root, ZYX(0, 0, 0), volume)
    one = world.child(root)
    other = world.child(world.repo.dag.nodes[root.id], "other")
    world.merge(one, 6, [5])
    world.post_raw(other, ZYX(0, 0, 0), np.where(volume == 5, np.uint64(6), np.uint64(5)))
    world.compare_all()


def test_zeros_in_one_octant_leave_the_others(world: World) -> None:
    root = world.open[0]
    world.post_raw(root, ZYX(0, 0, 0), np.full((2 * SIDE,) * 3, 9, np.uint64))
    world.post_raw(root, ZYX(0, 0, 1), np.zeros((SIDE,) * 3, np.uint64))
    world.compare_all()


def test_merged_versions_show_the_union_of_extents_and_a_conflict_is_an_error(world: World) -> None:
    root = world.open[0]
    world.post_raw(root, ZYX(0, 0, 0), np.full((SIDE,) * 3, 9, np.uint64))
    one = world.child(root)
    other = world.child(world.repo.dag.nodes[root.id], "other")
    world.post_raw(one, ZYX(0, 0, 2), np.full((SIDE,) * 3, 10, np.uint64))
    world.post_raw(other, ZYX(2, 0, 0), np.full((SIDE,) * 3, 11, np.uint64))
    for node in (one, other):
        world.database.commit(world.repo, world.repo.dag.nodes[node.id], note="", log=[])
    parents = [world.repo.dag.nodes[n.id] for n in (one, other)]
    merged = world.database.merge(world.repo, parents)
    call = world.call(merged)
    assert counters.extents(world.label, call.view) == ((0, 0, 0), (47, 15, 47))
    assert counters.maximum(world.label, call.view) == 11
    assert [body for body, _ in world.label.index.records(call.view)] == [9, 10, 11]
    with pytest.raises(Conflict):  # both wrote an octant of the same block of scale 2
        world.label.get_blocks(call.view, 2, [ZYX(0, 0, 0)])
    call.close()


def test_a_body_that_both_parents_changed_elsewhere_has_the_voxels_of_both(world: World) -> None:
    root = world.open[0]
    cube = (SIDE,) * 3
    world.post_raw(root, ZYX(-3, -3, -3), np.full(cube, 9, np.uint64))
    one = world.child(root)
    other = world.child(world.repo.dag.nodes[root.id], "other")
    # Far enough apart to have no coarser block in common.
    world.post_raw(one, ZYX(-3, -3, 1), np.full(cube, 9, np.uint64))
    world.post_raw(other, ZYX(1, -3, -3), np.full(cube, 9, np.uint64))
    for node in (one, other):
        world.database.commit(world.repo, world.repo.dag.nodes[node.id], note="", log=[])
    merged = world.database.merge(world.repo, [world.repo.dag.nodes[n.id] for n in (one, other)])
    model = world.models[merged.id] = world.models[one.id].copy()
    model.write(ZYX(1, -3, -3), np.full(cube, 9, np.uint64))
    world.compare_all()
    world.post_raw(merged, ZYX(1, 1, 1), np.full(cube, 9, np.uint64))
    world.compare_all()
    call = world.call(merged)
    assert [piece.tolist() for piece in lists.bodies(world.label, call, sizes=True)] == [[[9, 4 * SIDE**3]]]
    call.close()


BAD_STREAMS: list[tuple[str, Any]] = [
    ("header", b"\0" * 10),
    ("no bytes", struct.pack("<3iI", 0, 0, 0, 0)),
    ("payload", struct.pack("<3iI", 0, 0, 0, 100) + b"abc"),
    ("huge", struct.pack("<3iI", 0, 0, 0, 2**32 - 1) + b"abc"),
    ("not gzip", struct.pack("<3iI", 0, 0, 0, 5) + b"abcde"),
]


@pytest.mark.parametrize(("name", "tail"), BAD_STREAMS)
def test_a_broken_stream_stores_nothing(world: World, name: str, tail: bytes) -> None:
    root = world.open[0]
    good = stream({ZYX(0, 0, 0): random_volume(np.random.default_rng(2), (SIDE,) * 3)})
    for scale in (0, 1):
        with pytest.raises(BadRequest):
            ingest.post_blocks(world.label, world.call(root, good + tail), scale, downres=False, indexing=True)
    with pytest.raises(BadRequest):
        ingest.ingest_supervoxels(world.label, world.call(root, good + tail), 0)
    world.compare_all()


def hostile_blocks() -> Iterator[tuple[str, bytes]]:
    good = blocks.encode(random_volume(np.random.default_rng(3), (SIDE,) * 3))
    yield "another size", blocks.encode(np.ones((16, 16, 32), np.uint64))
    yield "no labels", good[:12] + struct.pack("<I", 0) + good[16:]
    yield "cut", good[:-1]
    yield "long", good + b"\0"
    yield "positions", good[: 16 + 8 * struct.unpack_from("<I", good, 12)[0] + 16] + b"\xff" * 4
    yield "short", good[:20]
    yield "bomb", bytes(50_000_000)


@pytest.mark.parametrize(("name", "block"), list(hostile_blocks()), ids=lambda v: v if isinstance(v, str) else "")
def test_a_hostile_block_stores_nothing(world: World, name: str, block: bytes) -> None:
    payload = gzip.compress(block, 1)
    good = stream({ZYX(1, 0, 0): random_volume(np.random.default_rng(2), (SIDE,) * 3)})
    body = good + struct.pack("<3iI", 0, 0, 0, len(payload)) + payload
    with pytest.raises(BadRequest, match="block 0,0,0"):
        ingest.post_blocks(world.label, world.call(world.open[0], body), 0, downres=True, indexing=True)
    world.compare_all()


def raw_bodies() -> Iterator[tuple[str, str, bytes]]:
    import lz4.block

    data = np.ones((SIDE,) * 3, np.uint64).tobytes()
    yield "short", "", data[:-1]
    yield "long", "", data + b"\0"
    yield "empty", "", b""
    yield "lz4 short", "lz4", lz4.block.compress(data[:-8], store_size=False)
    yield "lz4 long", "lz4", lz4.block.compress(data * 2, store_size=False)
    yield "lz4 broken", "lz4", b"\xf0garbage"
    yield "lz4 empty", "lz4", b""
    yield "gzip short", "gzip", gzip.compress(data[:-8])
    yield "gzip long", "gzip", gzip.compress(data * 2)
    yield "gzip cut", "gzip", gzip.compress(data)[:-9]
    yield "gzip crc", "gzip", gzip.compress(data)[:-8] + b"\0" * 8
    yield "gzip none", "gzip", b"not gzip"


@pytest.mark.parametrize(
    ("name", "compression", "body"), list(raw_bodies()), ids=lambda v: v if isinstance(v, str) else ""
)
def test_a_wrong_volume_stores_nothing(world: World, name: str, compression: str, body: bytes) -> None:
    with pytest.raises(BadRequest):
        ingest.post_raw(world.label, world.call(world.open[0], body), ZYX(0, 0, 0), ZYX(SIDE, SIDE, SIDE), compression)
    world.compare_all()


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"[1]", b"{}", b"null", b"[1, 0]", b"[1, -2]", b"[1, 1.5]", b"[5, 5]", b"[5, 77]", b"[77, 5]", b"[1,"],
)
def test_a_merge_that_cannot_be_changes_nothing(world: World, body: bytes) -> None:
    world.post_raw(world.open[0], ZYX(0, 0, 0), np.full((SIDE,) * 3, 5, np.uint64))
    with pytest.raises(BadRequest):
        merge.merge(world.label, world.call(world.open[0], body))
    world.compare_all()


def test_a_merge_is_in_the_log_with_its_batch(world: World) -> None:
    from dvidcore.mutations import log

    root = world.open[0]
    volume = np.full((SIDE, SIDE, SIDE), 5, np.uint64)
    volume[:, :, :8] = 6
    world.post_raw(root, ZYX(0, 0, 0), volume)
    world.merge(root, 6, [5])
    records = [orjson.loads(r) for r in log.records(world.label.engine, world.label.record.id, root.id)]
    assert [(r["Action"], r["Target"], r["Labels"], r["UUID"]) for r in records] == [
        ("merge-complete", 6, [5], root.uuid)
    ]
