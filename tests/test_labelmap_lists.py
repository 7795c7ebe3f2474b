"""Points, sizes, lists, the mapping and the index of a labelmap, against a numpy model."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from contextlib import closing

import lz4.block
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvidcore import labels
from dvidcore.datatypes.call import Call
from dvidcore.datatypes.labels.reading import lists
from dvidcore.datatypes.labels.reading import points as points_module
from dvidcore.datatypes.labels.reading.reader import BlockReader
from dvidcore.repos import Database, OneStore
from dvidcore.storage.memory import Memory
from labelmap_client import BLOCK, LABELS, Seg, blobs, xyz

ORIGIN = (-64, -32, -96)
MERGED = (50, 51, 2**64 - 1)
GONE = MERGED[1:]
BODIES = [label for label in LABELS.tolist() if label not in GONE]
ASKED = [*LABELS.tolist(), 0, 7, 50, 50]


@pytest.fixture(scope="module")
def seg() -> Iterator[Seg]:
    with Database.open({"main": Memory.open("")}, OneStore("main")) as database:
        seg = Seg.create(database)
        seg.write(blobs((128, 64, 192), 1), ORIGIN)
        seg.merge(*MERGED)
        yield seg


def size(seg, members):
    return int(np.isin(seg.voxels, np.array(members, np.uint64)).sum()) if members else 0


def md5(body) -> str:
    return hashlib.md5(json.dumps(body).encode()).hexdigest()


# -- points ------------------------------------------------------------------------------------------------------------

points = st.lists(
    st.tuples(st.integers(-80, 80), st.integers(-50, 50), st.integers(-120, 120)), min_size=1, max_size=60
)


@settings(max_examples=30, deadline=None)
@given(points, st.integers(0, 3), st.booleans())
def test_labels_at_points(seg, asked, scale, supervoxels):
    asked = asked + asked[:3]
    query = f"scale={scale}" + ("&supervoxels=true" if supervoxels else "")
    body = [list(reversed(p)) for p in asked]
    want = [int(seg.cut(p, (1, 1, 1), scale, supervoxels)[0, 0, 0]) for p in asked]
    assert seg.json(f"labels?{query}&hash={md5(body)}", body) == want
    assert seg.json(f"label/{xyz(asked[0])}?{query}") == {"Label": want[0]}


def test_a_few_blocks_are_read_at_once(seg, monkeypatch):
    """However many blocks the points are in."""
    monkeypatch.setattr(points_module, "_BATCH", 5)
    (repo,) = seg.client.server.database.repos.values()
    data = seg.client.server.instances.of(repo, repo.instances["seg"])
    asked: list[int] = []

    class Counting(BlockReader):
        def get(self, coords):
            asked.append(len(coords))
            return super().get(coords)

    with closing(Call(data.engine, repo.dag.root, repo.dag.ancestry(repo.dag.root.id))) as call:
        at = np.array([(z, y, x) for z in range(-64, 64, 16) for y in (-32, 0) for x in range(-96, 96, 16)], np.int64)
        found = points_module.labels_at(Counting(data, call), at)
    assert found.tolist() == [int(seg.cut(tuple(p), (1, 1, 1))[0, 0, 0]) for p in at.tolist()]
    assert len(asked) > 1 and max(asked) <= 5


def test_points_at_the_ends_of_the_lattice(seg):
    ends = [[s * (2**31 - 1) - (s < 0)] * 3 for s in (1, -1)]
    assert seg.json("labels", ends) == [0, 0]
    assert seg.json("labels", []) == []


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"nonsense", [1, 2, 3], [[1, 2]], [[1, 2, 3, 4]], [[1.5, 2, 3]], [[1, 2, True]], [[1, 2, 2**31]]],
)
def test_points_that_are_none(seg, body):
    assert "body" in seg.refused("labels", body)


# -- sizes and lists ---------------------------------------------------------------------------------------------------


def test_size_and_sizes(seg):
    for label in (*BODIES, 7, 51):
        body, own = size(seg, seg.supervoxels(label)), size(seg, [label])
        if body:
            assert seg.json(f"size/{label}") == {"voxels": body}
        else:
            assert seg.ask(f"size/{label}").body == b""
            seg.refused(f"size/{label}", status=404)
        if own:
            assert seg.json(f"size/{label}?supervoxels=true") == {"voxels": own}
        else:
            seg.refused(f"size/{label}?supervoxels=true", status=404)
    assert seg.json(f"sizes?hash={md5(ASKED)}", ASKED) == [size(seg, seg.supervoxels(label)) for label in ASKED]
    assert seg.json("sizes?supervoxels=true", ASKED) == [size(seg, [label] if label else []) for label in ASKED]
    assert seg.json("sizes", []) == seg.json("sizes?supervoxels=true", []) == []


def test_supervoxels_and_their_sizes(seg):
    for body in BODIES:
        members = seg.supervoxels(body)
        assert seg.json(f"supervoxels/{body}") == members
        assert seg.json(f"supervoxel-sizes/{body}") == {
            "supervoxels": members,
            "sizes": [size(seg, [v]) for v in members],
        }
    for word in ("supervoxels", "supervoxel-sizes"):
        assert seg.refused(f"{word}/51", status=404) == ""


def test_existing_labels(seg):
    answer = seg.ask("existing-labels")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == sorted(BODIES)


@pytest.mark.parametrize("chunk", [2, 50_000])
@pytest.mark.parametrize("start", [0, 3, 4, 2**63, 2**64 - 1])
@pytest.mark.parametrize("number", [None, 0, 1, 3, 2**64 - 1])
def test_listlabels(seg, monkeypatch, chunk, start, number):
    monkeypatch.setattr(lists, "_CHUNK", chunk)
    wanted = [b for b in sorted(BODIES) if b >= start][: None if number is None else number]
    path = f"listlabels?start={start}" + ("" if number is None else f"&number={number}")
    assert np.frombuffer(seg.get(path), "<u8").tolist() == wanted
    pairs = np.frombuffer(seg.get(path + "&sizes=true"), "<u8").reshape(-1, 2).tolist()
    assert pairs == [[b, size(seg, seg.supervoxels(b))] for b in wanted]
    assert seg.json("existing-labels") == sorted(BODIES)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("label", None),
        ("label/1_2", None),
        ("label/1_2_3_4", None),
        ("label/1_2_3?scale=-1", None),
        ("size/0", None),
        ("size/x", None),
        ("supervoxels/0", None),
        ("supervoxel-sizes/x", None),
        ("listlabels?start=x", None),
        ("listlabels?number=-1", None),
        ("lastmod/0", None),
        ("index/0", None),
        ("index/5?mutid=x", None),
        ("index-version/0", None),
        ("sizes", b"x"),
        ("sizes", [-1]),
        ("sizes", [1.5]),
        ("sizes", [2**64]),
        ("sizes", ["1"]),
        ("sizes", [True]),
        ("sizes", {"a": 1}),
        ("sizes", None),
        ("mapping", b"[1"),
        ("indices", b"{}"),
        ("indices", [0] * 50_001),
        ("indices-compressed", b"nonsense"),
    ],
)
def test_refusals(seg, path, body):
    assert seg.refused(path, body)


@pytest.mark.parametrize("word", ["labels", "sizes", "mapping"])
def test_a_wrong_hash_is_refused(seg, word):
    assert "hash" in seg.refused(f"{word}?hash={'0' * 32}", [])


@pytest.mark.parametrize("path", ["labels", "sizes", "mapping", "listlabels", "existing-labels", "indices-compressed"])
def test_a_get_only_endpoint_takes_no_post(seg, path):
    seg.refused(path, [], "POST")


# -- the mapping -------------------------------------------------------------------------------------------------------


def test_mapping(seg):
    there = set(LABELS.tolist())
    want = [seg.body_of.get(v, v) if v in there else 0 for v in ASKED]
    assert seg.json(f"mapping?hash={md5(ASKED)}", ASKED) == want
    assert seg.json("mapping?nolookup=true", ASKED) == [seg.body_of.get(v, v) for v in ASKED]
    assert seg.json("mapping", []) == []


def test_mapping_while_another_request_clears_what_is_known(database, monkeypatch):
    seg = Seg.create(database)
    seg.write(blobs(BLOCK, 1), (0, 0, 0))
    bodies = seg.json("existing-labels")
    monkeypatch.setattr(lists, "_KEPT", 0)
    look = lists._holds_itself

    def beside(data, call, label):
        if label != bodies[0]:
            assert seg.json("mapping", bodies[:1]) == bodies[:1]
        return look(data, call, label)

    monkeypatch.setattr(lists, "_holds_itself", beside)
    assert seg.json("mapping", [*bodies, 777]) == [*bodies, 0]


def test_a_body_without_its_own_supervoxel_does_not_make_it_exist(database):
    seg = Seg.create(database)
    volume = np.full(BLOCK, 5, np.uint64)
    volume[:, :, 20:] = 6
    seg.write(volume, (0, 0, 0))
    seg.merge(5, 6)
    seg.write(np.full(BLOCK, 6, np.uint64), (0, 0, 0))
    assert seg.json("mapping", [5, 6]) == [0, 5]
    assert seg.json("supervoxels/5") == [6]


def test_mappings(seg):
    lines = seg.get("mappings").decode()
    assert lines == "".join(f"{v} {b}\n" for v, b in sorted(seg.body_of.items()))
    pairs = np.frombuffer(seg.get("mappings?format=binary&consistent=true"), "<u8").reshape(-1, 2)
    assert dict(pairs.tolist()) == seg.body_of
    assert set(seg.json("map-stats")) == {"seg"}
    assert seg.json("map-stats")["seg"] == {"MapEntries": 2, "MapSize": "0.1 kB", "NumVersions": 1, "MaxVersion": 1}


def test_mappings_leave_in_pieces(seg, monkeypatch):
    whole = seg.ask("mappings?format=binary&complete=true")
    monkeypatch.setattr(lists, "_CHUNK", 2)
    cut = seg.ask("mappings?format=binary&complete=true")
    assert cut.body == whole.body
    assert cut.headers["content-length"] == whole.headers["content-length"] == str(len(whole.body))


def test_without_a_merge_there_are_no_mappings(database):
    seg = Seg.create(database)
    assert seg.get("mappings") == seg.get("mappings?format=binary") == seg.get("listlabels") == b""
    assert seg.json("existing-labels") == []
    assert seg.json("map-stats")["seg"]["MapEntries"] == 0


# -- the index ---------------------------------------------------------------------------------------------------------


def blocks_of(seg, label):
    """block (z, y, x) → supervoxel → voxels, of a body."""
    out = {}
    for at in seg.blocks(seg.supervoxels(label)):
        first = tuple(c * n for c, n in zip(at, BLOCK, strict=True))
        found, n = np.unique(seg.cut(first, BLOCK, supervoxels=True), return_counts=True)
        members = set(seg.supervoxels(label))
        out[at] = {v: k for v, k in zip(found.tolist(), n.tolist(), strict=True) if v in members}
    return out


def decoded(message):
    label, coords, supervoxels, counts, _, *change = labels.decode_index(message)
    out = {}
    for at, v, n in zip(coords.tolist(), supervoxels.tolist(), counts.tolist(), strict=True):
        out.setdefault(tuple(at), {})[v] = n
    return label, out, change


def test_index(seg):
    for body in BODIES:
        label, found, change = decoded(seg.get(f"index/{body}"))
        assert (label, found) == (body, blocks_of(seg, body))
        about = seg.json(f"index/{body}?metadata-only=true")
        assert about["num_voxels"] == size(seg, seg.supervoxels(body))
        assert [about[k] for k in ("last_mutid", "last_mod_time", "last_mod_user", "last_mod_app")] == change
    assert seg.refused("index/51", status=404) == seg.refused("index/7?metadata-only=true", status=404) == ""
    seg.refused("index/50?mutid=1000000000", status=404)


def test_indices(seg):
    messages = labels.decode_indices(seg.get("indices", ASKED))
    assert len(messages) == len(ASKED)
    for label, message in zip(ASKED, messages, strict=True):
        assert decoded(message)[:2] == (label, blocks_of(seg, label) if label in BODIES else {})
    assert seg.get("indices", []) == seg.get("indices-compressed", []) == b""


def test_indices_compressed(seg):
    data, at = seg.get("indices-compressed", ASKED), 0
    for asked in ASKED:
        n, label = struct.unpack_from("<QQ", data, at)
        assert label == asked
        assert (n > 0) == (asked in BODIES)
        if n:
            kind, plain = struct.unpack_from("<BI", data, at + 16)
            assert kind == 0x80
            packed = data[at + 21 : at + 16 + n]
            assert lz4.block.decompress(packed, uncompressed_size=plain) == seg.get(f"index/{asked}")
        at += 16 + n
    assert at == len(data)


def test_lastmod(database):
    seg = Seg.create(database)
    seg.write(blobs((32, 16, 48), 6), (0, 0, 0))
    fresh = {"mutation id": 0, "last mod user": "", "last mod app": "", "last mod time": ""}
    bodies = seg.json("existing-labels")
    assert seg.json(f"lastmod/{bodies[0]}") == fresh
    seg.post("merge?u=ann&app=tests", bodies[:2])
    changed = seg.json(f"lastmod/{bodies[0]}")
    assert (changed["last mod user"], changed["last mod app"]) == ("ann", "tests")
    assert changed["mutation id"] >= 1_000_000_000
    assert seg.json(f"index/{bodies[0]}?metadata-only=true")["last_mod_time"] == changed["last mod time"]
    seg.refused(f"lastmod/{bodies[1]}", status=404)
    assert seg.json(f"lastmod/{bodies[2]}") == fresh


def test_index_version_names_who_stored_or_deleted(database):
    parent = Seg.create(database)
    parent.write(blobs((32, 16, 48), 6), (0, 0, 0))
    a, b, c, *_ = parent.json("existing-labels")
    child = parent.child()
    child.merge(a, b)
    for body, node in ((a, child.node), (b, child.node), (c, parent.node)):
        assert child.get(f"index-version/{body}").decode() == node
        assert parent.get(f"index-version/{body}").decode() == parent.node
    child.refused("index-version/777", status=404)


def test_versions_see_their_own_lists(database):
    parent = Seg.create(database)
    parent.write(blobs((64, 32, 96), 2), (0, 0, 0))
    child = parent.child()
    child.merge(1, 2, 3)
    child.write(np.where(child.voxels == 50, 0, child.voxels).astype(np.uint64), (0, 0, 0))
    for seg in (parent, child):
        bodies = sorted({seg.body_of.get(v, v) for v in seg.present() if v})
        assert seg.json("existing-labels") == bodies
        asked = LABELS.tolist()
        assert seg.json("sizes", asked) == [size(seg, seg.supervoxels(b)) for b in asked]
        assert seg.json("sizes?supervoxels=true", asked) == [size(seg, [v]) for v in asked]
        assert seg.json("mapping", asked) == [seg.body_of.get(v, v) if v in seg.present() else 0 for v in asked]
        assert seg.json("labels", [[x, 5, 7] for x in range(96)]) == seg.cut((7, 5, 0), (1, 1, 96)).ravel().tolist()
