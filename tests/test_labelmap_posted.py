"""Indices and mappings that clients post: stored as given, whole or not at all, and seen by all that reads them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dvidcore import labels
from dvidcore.datatypes.registry import Instances
from dvidcore.repos import Database
from dvidcore.storage import open_engine
from labelmap_client import (
    BLOCK,
    Seg,
    binary_blocks,
    blobs,
    pack_index,
    pack_indices,
    pack_mappings,
    pack_stream,
    rles,
    spans,
)
from reference_runs import field, varint

FAR = 2**20 - 1
INDEX = {(0, 0, 0): {40: 2, 5000: 10}, (-3, 2, -1): {40: 5}, (-FAR, 0, FAR): {5000: 2**32 - 1}}
CHANGE = (42, "2020-01-02T03:04:05Z", "mé", "x")


@pytest.fixture
def seg(database) -> Seg:
    return Seg.create(database)


def state(seg: Seg) -> tuple[object, ...]:
    """What a refused request must not change."""
    info = seg.json("info")["Extended"]
    bodies = seg.json("existing-labels")
    return bodies, seg.get("indices", bodies), seg.get("mappings"), info["MaxLabel"], info["MaxRepoLabel"]


# -- indices -----------------------------------------------------------------------------------------------------------


def test_an_index_is_stored_as_given(seg):
    message = pack_index(5000, INDEX, 77, *CHANGE)
    assert seg.post("index/5000?u=ann&app=kit", message).body == b""
    assert seg.get("index/5000") == message
    assert seg.json("index/5000?metadata-only=true") == {
        "num_voxels": 2**32 + 16,
        "last_mutid": 42,
        "last_mod_time": "2020-01-02T03:04:05Z",
        "last_mod_user": "mé",
        "last_mod_app": "x",
    }
    assert seg.json("lastmod/5000")["mutation id"] == 42
    assert seg.json("existing-labels") == [5000]
    assert seg.json("size/5000") == {"voxels": 2**32 + 16}
    assert seg.json("sizes", [5000, 40]) == [2**32 + 16, 0]
    assert seg.json("size/5000?supervoxels=true") == {"voxels": 2**32 + 9}
    assert seg.json("supervoxels/5000") == [40, 5000]
    assert seg.json("mapping", [5000, 40]) == [5000, 0], "an index maps nothing"
    assert rles(seg.get("sparsevol-coarse/5000")) == [[FAR, 0, -FAR, 1], [-1, 2, -3, 1], [0, 0, 0, 1]]
    assert seg.get("index-version/5000").decode() == seg.node


def test_blocks_of_an_index_that_are_not_stored_have_no_voxels(seg):
    seg.post("index/5000", pack_index(5000, INDEX))
    assert rles(seg.get("sparsevol/5000")) == spans(seg.get("sparsevol/5000?format=srles&scale=1")) == []
    assert binary_blocks(seg.get("sparsevol/5000?format=blocks"), BLOCK) == (5000, {})


def test_an_index_replaces_the_one_before_and_without_blocks_deletes_it(seg):
    seg.post("index/9", pack_index(9, INDEX))
    other = pack_index(9, {(0, 0, 0): {9: 1}, (3, 2, 1): {9: 7}})
    seg.post("index/9", other)
    assert seg.get("index/9") == other
    child = seg.child()
    child.post("index/9", pack_index(9, {}))
    child.post("index/77", pack_index(77, {}))
    child.refused("index/9", status=404)
    assert child.json("existing-labels") == []
    assert child.json("maxlabel") == {"maxlabel": 9}
    assert child.get("index-version/9").decode() == child.node
    assert seg.get("index/9") == other
    child.post("index/9", other)
    assert child.get("index/9") == other


def test_what_has_no_voxels_is_left_out_of_an_index(seg):
    seg.post("index/9", pack_index(9, {(0, 0, 0): {8: 0, 9: 1}, (0, 0, 1): {9: 0}}, 5))
    assert seg.get("index/9") == pack_index(9, {(0, 0, 0): {9: 1}}, 5)
    seg.post("index/9", pack_index(9, {(0, 0, 0): {9: 0}}))
    seg.refused("index/9", status=404)


def test_indices_are_replaced_and_deleted_together(seg):
    seg.post("index/1", pack_index(1, INDEX))
    one, two = pack_index(2, {(0, 0, 0): {2: 3}}, 0, 0, "", "w"), pack_index(3, {(0, 0, 1): {3: 4, 30: 1}})
    seg.post("indices", pack_indices(pack_index(3, INDEX), one, pack_index(1, {}), two))
    assert seg.json("existing-labels") == [2, 3]
    assert seg.get("indices", [2, 3]) == pack_indices(one, two), "of an index that is there twice the last one counts"
    before = state(seg)
    seg.post("indices", b"")
    assert state(seg) == before


def test_labels_in_use_are_not_given_out(seg):
    """The largest label of a version is that of its bodies; new labels also come after supervoxels and mappings."""
    seg.post("index/10", pack_index(10, {(0, 0, 0): {25: 1}}))
    assert seg.json("maxlabel") == {"maxlabel": 10}
    assert seg.post("nextlabel/1").json() == {"start": 26, "end": 26}
    seg.post("mappings", pack_mappings((40, [27, 28]), (30, [31])))
    assert seg.json("maxlabel") == {"maxlabel": 26}
    assert seg.json("nextlabel") == {"nextlabel": 41}


BAD_INDICES = {
    "no message": b"\xff\xff\xff",
    "cut": pack_index(5, INDEX)[:-3],
    "no label": pack_index(0, {(0, 0, 0): {5: 1}}),
    "background": pack_index(5, {(0, 0, 0): {0: 1}}),
    "long text": pack_index(5, INDEX, 0, 1, "t" * 65536),
    "no text": pack_index(5, INDEX) + field(4, b"\xff\xfe"),
    "count beyond uint32": field(1, field(2, field(1, field(1, 5) + field(2, 2**32)))) + field(2, 5),
}


@pytest.mark.parametrize("name", BAD_INDICES)
def test_a_bad_index_is_refused_and_nothing_is_stored(seg, name):
    seg.post("index/5", pack_index(5, {(0, 0, 0): {5: 4}}))
    before = state(seg)
    seg.refused("index/5", BAD_INDICES[name], "POST")
    good = pack_index(900, INDEX)
    for several in ((BAD_INDICES[name], good), (good, BAD_INDICES[name])):
        seg.refused("indices", pack_indices(*several), "POST")
    assert state(seg) == before


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("index/5", pack_index(6, INDEX)),
        ("index/5", b""),
        ("index/0", pack_index(0, INDEX)),
        ("index/x", pack_index(5, INDEX)),
        ("index", pack_index(5, INDEX)),
        ("indices", b"\xff"),
        ("indices", b"[5]"),
        ("indices-compressed", b"[5]"),
        ("mappings", b"\xff"),
        ("mappings", pack_mappings((5, [1, 2]))[:-1]),
        ("mappings", pack_mappings((5, [1]), (6, [0]))),
    ],
)
def test_what_is_no_index_and_no_mapping_is_refused(seg, path, body):
    seg.post("index/5", pack_index(5, {(0, 0, 0): {5: 4}}))
    before = state(seg)
    seg.refused(path, body, "POST")
    assert state(seg) == before


def test_without_an_index_none_can_be_posted(database):
    seg = Seg.create(database, IndexedLabels="false")
    seg.refused("index/5", pack_index(5, INDEX), "POST")
    seg.refused("indices", pack_indices(pack_index(5, INDEX)), "POST")
    seg.write(np.full(BLOCK, 4, np.uint64), (0, 0, 0))
    seg.post("mappings", pack_mappings((3, [4])))
    assert seg.json("label/1_1_1") == {"Label": 3}


def test_voxels_that_come_later_correct_the_index_of_their_blocks(seg):
    seg.write(np.full(BLOCK, 5, np.uint64), (0, 0, 0))
    seg.post("index/5", pack_index(5, {(0, 0, 0): {5: 1}, (0, 0, 1): {5: 2}}, 7, *CHANGE))
    seg.write(np.full(BLOCK, 5, np.uint64), (0, 0, 0))
    voxels = int(np.prod(BLOCK))
    assert seg.json("size/5") == {"voxels": voxels + 2}
    label, coords, supervoxels, counts, surface, *change = labels.decode_index(seg.get("index/5"))
    assert (label, coords.tolist(), supervoxels.tolist()) == (5, [[0, 0, 0], [0, 0, 1]], [5, 5])
    assert (counts.tolist(), surface.tolist(), tuple(change)) == ([voxels, 2], [7, 7], CHANGE)


def test_a_merge_stamps_the_surface_of_the_blocks_that_come(seg):
    seg.post("indices", pack_indices(pack_index(1, {(0, 0, 0): {1: 1}, (0, 0, 1): {1: 1}}, 5)))
    seg.post("index/2", pack_index(2, {(0, 0, 1): {2: 3}, (0, 0, 2): {2: 4}}, 6))
    mutation = seg.post("merge", [1, 2]).json()["MutationID"]
    _, coords, _, _, surface, last, *_ = labels.decode_index(seg.get("index/1"))
    assert coords[:, 2].tolist() == [0, 1, 1, 2]
    assert surface.tolist() == [5, mutation, mutation, mutation]
    assert last == mutation


# -- mappings ----------------------------------------------------------------------------------------------------------


def pairs(seg: Seg) -> dict[int, int]:
    found = np.frombuffer(seg.get("mappings?format=binary"), "<u8").reshape(-1, 2).tolist()
    lines = [list(map(int, line.split())) for line in seg.get("mappings").decode().splitlines()]
    assert found == lines
    return dict(found)


def test_mappings_are_stored_as_given_and_the_last_one_wins(seg):
    seg.write(blobs((32, 16, 96), 3), (0, 0, 0))
    sizes = seg.json("sizes", seg.present()[1:])
    a, b, c = seg.present()[1:4]
    seg.post("mappings", pack_mappings((a, [b, c]), (9, [c, 2**64 - 1]), (0, [600]), (700, [700]), (0, [0])))
    assert pairs(seg) == {b: a, c: 9, 600: 0, 2**64 - 1: 9}
    assert seg.json("mapping", [a, b, c, 600, 700, 701, 0]) == [a, a, 9, 0, 700, 0, 0]
    assert seg.json("mapping?nolookup=true", [a, b, 600, 700, 701]) == [a, a, 0, 700, 701]
    assert seg.json("sizes", seg.present()[1:]) == sizes, "indices stay"
    seg.body_of = {b: a, c: 9, 2**64 - 1: 9}
    box = seg.get("raw/0_1_2/96_16_32/0_0_0")
    assert np.array_equal(np.frombuffer(box, "<u8").reshape(32, 16, 96), seg.bodies(seg.voxels))
    seg.post("mappings", b"")
    seg.post("mappings", pack_mappings((5, [])))
    seg.post("mappings", pack_mappings((b, [b]), (0, [0])))
    assert pairs(seg) == {c: 9, 600: 0, 2**64 - 1: 9}


def test_an_identity_that_was_posted_counts_as_mapped(seg):
    """A supervoxel with an entry for itself is answered by itself, though no index has it."""
    assert seg.json("mapping", [4]) == [0]
    seg.post("mappings", pack_mappings((4, [4])))
    assert seg.json("mapping", [4, 5]) == [4, 0]
    assert pairs(seg) == {}
    child = seg.child()
    side = seg.at(seg.client.post(f"/api/node/{seg.node}/branch", {"branch": "side"}).json()["child"])
    child.post("mappings", pack_mappings((0, [4]), (6, [6])))
    side.post("mappings", pack_mappings((7, [4])))
    assert [s.json("mapping", [4, 6]) for s in (seg, child, side)] == [[4, 0], [0, 6], [7, 0]]
    grandchild = child.child()
    grandchild.post("mappings", pack_mappings((4, [4])))
    assert [pairs(s) for s in (seg, child, side, grandchild)] == [{}, {4: 0}, {4: 7}, {}]


def test_a_posted_mapping_is_seen_by_other_processes(database, seg):
    """Another object of the instance stands for another process."""
    seg.write(blobs((32, 16, 96), 3), (0, 0, 0))
    a, b = seg.present()[1:3]
    assert seg.json("mapping", [a, b]) == [a, b]
    mine = seg.client.server.instances
    seg.client.server.instances = Instances(database)
    seg.post("mappings", pack_mappings((a, [b])))
    seg.client.server.instances = mine
    assert seg.json("mapping", [a, b]) == [a, a]
    seg.post("mappings", pack_mappings((b, [a, b])))
    assert seg.json("mapping", [a, b]) == [b, b]


@pytest.mark.slow
def test_posts_larger_than_a_batch_are_whole(tmp_path):
    with Database.open({"main": open_engine("leveldb", str(tmp_path / "data"))}) as database:
        post_much(Seg.create(database))


def post_much(seg):
    n = 2_000_000
    supervoxels = np.arange(1, n + 1, dtype=np.uint64)
    packed = b"".join(
        field(1, field(2, 2**40 + at) + field(3, b"".join(map(varint, range(at + 1, at + 1001)))))
        for at in range(0, n, 1000)
    )
    seg.post("mappings", packed)
    found = np.frombuffer(seg.get("mappings?format=binary"), "<u8").reshape(-1, 2)
    assert (found[:, 0] == supervoxels).all()
    assert (found[:, 1] == 2**40 + (supervoxels - 1) // 1000 * 1000).all()
    coords = np.stack(np.meshgrid(*map(np.arange, (100, 100, 110)), indexing="ij"), -1).reshape(-1, 3).astype(np.int32)
    counts = np.arange(1, len(coords) + 1, dtype=np.uint32)
    message = labels.encode_index(7, coords, np.full(len(coords), 7, np.uint64), counts)
    seg.post("index/7", message)
    assert seg.get("index/7") == message
    seg.post("index/7", pack_index(7, {}))
    assert seg.json("existing-labels") == []


def test_supervoxels_that_were_not_split_have_no_splits(seg):
    assert seg.json("supervoxel-splits") == []


# -- a bulk load -------------------------------------------------------------------------------------------------------


def test_a_bulk_load_reads_as_one_by_blocks(database):
    """Voxels by ingest-supervoxels, indices and mappings by threads side by side: all reads are those of a plain load."""
    volume = blobs((64, 32, 96), 8)
    plain, bulk = Seg.create(database), Seg.create(database)
    for seg in (plain, bulk):
        seg.origin, seg.voxels = (0, 0, 0), volume
    bodies = plain.present()[1:]
    plain.write(volume, (0, 0, 0))
    plain.merge(*bodies[:3])
    for scale in range(3):
        level, _ = bulk.level(scale)
        padded = np.zeros([-(-n // b) * b for n, b in zip(level.shape, BLOCK, strict=True)], np.uint64)
        padded[tuple(map(slice, level.shape))] = level
        placed = {
            at: padded[tuple(slice(c * b, (c + 1) * b) for c, b in zip(at, BLOCK, strict=True))]
            for at in np.ndindex(*(n // b for n, b in zip(padded.shape, BLOCK, strict=True)))
        }
        bulk.post(f"ingest-supervoxels?scale={scale}", pack_stream(placed))
    messages = [plain.get(f"index/{body}") for body in plain.json("existing-labels")]
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(bulk.post, "indices", pack_indices(message)) for message in messages]
        jobs += [pool.submit(bulk.post, "mappings", pack_mappings((bodies[0], [b]))) for b in bodies[1:3]]
        for job in jobs:
            job.result()
    bulk.post("extents", {"MinPoint": [0, 0, 0], "MaxPoint": [95, 31, 63]})
    for path, body in (
        ("existing-labels", None),
        ("indices", bodies),
        ("mapping", bodies),
        ("mappings", None),
        ("sizes", bodies),
        ("sizes?supervoxels=true", bodies),
        ("raw/0_1_2/96_32_64/0_0_0", None),
        ("raw/0_1_2/48_16_32/0_0_0?scale=1", None),
        *((f"sparsevol/{bodies[0]}?scale={scale}", None) for scale in range(3)),
        (f"sparsevol-size/{bodies[0]}", None),
        ("nextlabel", None) if bodies[-1] < 2**64 - 1 else ("maxlabel", None),
        ("metadata", None),
    ):
        assert bulk.get(path, body) == plain.get(path, body), path
