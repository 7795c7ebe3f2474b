"""labelarray: the label engine without a mapping. What it shares with labelmap is tested there."""

from __future__ import annotations

import numpy as np
import pytest

import dvidcore
from dvidcore.datatypes.labels.labelarray import LabelArray
from dvidcore.datatypes.labels.labelmap import LabelMap
from labelmap_client import (
    BLOCK,
    Seg,
    binary_blocks,
    blobs,
    image,
    pack_stream,
    payload,
    png_labels,
    records,
    rles,
    spans,
)
from labelmap_client import volume as decode_volume

ORIGIN = (-64, -32, -96)


@pytest.fixture
def seg(database) -> Seg:
    seg = Seg.create(database, typename="labelarray")
    seg.write(blobs((96, 48, 144), 9), ORIGIN)
    return seg


@pytest.mark.parametrize("scale", range(4))
def test_volumes_at_every_scale(seg, scale):
    offset, size = (-20 >> scale, -30 >> scale, -50 >> scale), (40, 41, 70)
    for query in ("", "&supervoxels=true", "&compression=lz4", "&compression=google"):
        if "google" in query:
            size = (40, 48, 72)
        data = seg.get(
            f"raw/0_1_2/{size[2]}_{size[1]}_{size[0]}/{offset[2]}_{offset[1]}_{offset[0]}?scale={scale}{query}"
        )
        got = decode_volume(data, size, query.partition("compression=")[2])
        assert (got == seg.cut(offset, size, scale)).all()


def test_specific_blocks_are_always_dvid_blocks(seg):
    for query in ("", "&compression=lz4", "&compression=nonsense"):
        found = records(seg.get(f"specificblocks?blocks=0,0,0,-1,-1,0,9,9,9{query}"))
        assert [at for at, _ in found] == [(0, 0, 0), (0, -1, -1)]
        for at, data in found:
            first = tuple(c * n for c, n in zip(at, BLOCK, strict=True))
            assert (payload(data, "blocks", BLOCK) == seg.cut(first, BLOCK)).all()
    seg.refused("specificblocks?blocks=0,0")


def test_slices_and_points(seg):
    assert (png_labels(seg.get("raw/xy/70_30/-50_-10_3")) == seg.cut((3, -10, -50), (1, 30, 70))[0]).all()
    assert image(seg.get("pseudocolor/xz/70_30/-50_-10_-5")).shape == (30, 70, 3)
    points = [[-1, -2, -3], [5, 6, 7], [999, 0, 0]]
    assert seg.json("labels", points) == [int(seg.cut((z, y, x), (1, 1, 1))[0, 0, 0]) for x, y, z in points]
    assert seg.json("label/-1_-2_-3") == {"Label": int(seg.cut((-3, -2, -1), (1, 1, 1))[0, 0, 0])}
    seg.refused("label/1_2")


def test_sparse_volumes(seg):
    for label in seg.present()[1:]:
        assert rles(seg.get(f"sparsevol/{label}")) == seg.runs([label])
        assert spans(seg.get(f"sparsevol/{label}?format=srles&supervoxels=true")) == seg.runs([label])
        blocks = seg.blocks([label])
        _, masks = binary_blocks(seg.get(f"sparsevol/{label}?format=blocks"), BLOCK)
        assert sorted(masks) == [tuple(c * n for c, n in zip(at, BLOCK, strict=True)) for at in blocks]
        assert sum(run[3] for run in rles(seg.get(f"sparsevol-coarse/{label}"))) == len(blocks)
        low, high = np.min(blocks, axis=0) * BLOCK, (np.max(blocks, axis=0) + 1) * BLOCK - 1
        assert seg.json(f"sparsevol-size/{label}") == {
            "numblocks": len(blocks),
            "minvoxel": low[::-1].tolist(),
            "maxvoxel": high[::-1].tolist(),
        }
        assert seg.ask(f"sparsevol/{label}", verb="HEAD").status == 200
    for path in ("sparsevol/777", "sparsevol-coarse/777", "sparsevol-size/777"):
        assert seg.refused(path, status=404) == ""
    assert seg.ask("sparsevol/777", verb="HEAD").status == 204


def test_no_voxel_within_bounds_is_no_volume(database):
    """Unlike labelmap, which answers no runs."""
    seg = Seg.create(database, typename="labelarray")
    volume = np.zeros(BLOCK, np.uint64)
    volume[5, 5, 5] = 7
    seg.write(volume, (0, 0, 0))
    for query in ("maxz=4", "maxz=4&format=srles", "maxz=4&compression=gzip", "minx=6&maxx=9", "maxz=-1"):
        assert seg.refused(f"sparsevol/7?{query}", status=404) == ""
    assert rles(seg.get("sparsevol/7?maxz=4&exact=false")) == [[5, 5, 5, 1]]
    assert rles(seg.get("sparsevol/7?maxz=5")) == [[5, 5, 5, 1]]
    assert len(binary_blocks(seg.get("sparsevol/7?maxz=4&format=blocks"), BLOCK)[1]) == 1, "bounds select whole blocks"
    assert rles(seg.get("sparsevol-coarse/7?maxz=4")) == [[0, 0, 0, 1]]
    assert seg.refused("sparsevol-coarse/7?minx=48", status=404) == ""
    assert seg.refused("sparsevol-coarse/7?maxz=-1", status=404) == ""


def test_the_index_follows_voxels_in_each_version(seg):
    child = seg.child()
    child.write(np.full((BLOCK[0], 48, 144), 900, np.uint64), ORIGIN)
    for at in (seg, child):
        found, rest = [], at.get(f"sparsevols-coarse/1/{2**64 - 1}")
        while rest:
            label, n = np.frombuffer(rest, "<u8", 1)[0], np.frombuffer(rest, "<i4", 1, 8)[0]
            found.append(int(label))
            rest = rest[12 + 16 * n :]
        assert found == at.present()[1:]
        for label in (900, at.present()[1]):
            if label in at.present():
                assert rles(at.get(f"sparsevol/{label}")) == at.runs([label])
            else:
                at.refused(f"sparsevol/{label}", status=404)


def test_posted_blocks_are_always_indexed(database):
    """An index could not be posted apart, so ``noindexing`` is none of its parameters."""
    seg = Seg.create(database, typename="labelarray")
    seg.post("blocks?noindexing=true", pack_stream({(0, 0, 0): np.full(BLOCK, 30, np.uint64)}))
    assert rles(seg.get("sparsevol-coarse/30")) == [[0, 0, 0, 1]]


def test_counters(database):
    seg = Seg.create(database, typename="labelarray")
    assert seg.json("nextlabel") == {"nextlabel": 1}
    assert seg.ask("maxlabel").status == 400
    seg.post("blocks?downres=true", pack_stream({(0, 0, 0): np.full(BLOCK, 30, np.uint64)}))
    assert (seg.json("maxlabel"), seg.json("nextlabel")) == ({"maxlabel": 30}, {"nextlabel": 31})
    assert seg.child().json("maxlabel") == {"maxlabel": 30}


def test_info(database):
    seg = Seg.create(database, typename="labelarray", CountLabels="false")
    info = seg.json("info")
    assert info["Base"]["TypeURL"] == "github.com/janelia-flyem/dvid/datatype/labelarray"
    assert info["Extended"]["Values"] == [{"DataType": "uint64", "Label": "labelarray"}]
    assert info["Extended"]["CountLabels"] is False
    assert "NextLabel" not in info["Extended"]
    assert info["Extents"] == {"MinPoint": None, "MaxPoint": None}
    seg.post("resolution", [4, 4, 40])
    assert seg.json("metadata")["Properties"]["VoxelSize"] == [4, 4, 40]


@pytest.mark.parametrize(
    ("key", "value"), [("CountLabels", "maybe"), ("IndexedLabels", "2"), ("MaxDownresLevel", "256")]
)
def test_a_bad_setting_is_refused(database, key, value):
    seg = Seg.create(database)
    config = {"typename": "labelarray", "dataname": "la", key: value}
    answer = seg.client.post(f"/api/repo/{seg.node}/instance", config)
    assert (answer.status, key in answer.text) == (400, True)


def test_without_an_index(database):
    seg = Seg.create(database, typename="labelarray", IndexedLabels="false")
    seg.write(np.full(BLOCK, 30, np.uint64), (0, 0, 0))
    assert seg.json("label/1_1_1") == {"Label": 30}
    for path in (
        "sparsevol/30",
        "sparsevol-by-point/1_1_1",
        "sparsevol-coarse/30",
        "sparsevol-size/30",
        "sparsevols-coarse/1/99",
        "maxlabel",
        "nextlabel",
    ):
        assert "IndexedLabels=false" in seg.refused(path)


def test_it_has_nothing_that_needs_supervoxels():
    """Endpoints that only labelmap has, by verb and path: none of them is there."""
    mine = {(e.verb, e.path) for e in LabelArray.endpoints()}
    theirs = {(e.verb, e.path) for e in LabelMap.endpoints()}
    assert mine - theirs == {("POST", "split-coarse/{label:label}")}
    words = {(verb, path.partition("/")[0]) for verb, path in theirs - mine}
    assert words == {
        *(("GET", word) for word in ("existing-labels", "index", "index-version", "indices", "indices-compressed")),
        *(("GET", word) for word in ("history", "lastmod", "listlabels", "map-stats", "mapping", "mappings")),
        *(("GET", word) for word in ("mutations", "mutations-range", "size", "sizes")),
        *(("GET", word) for word in ("supervoxel-sizes", "supervoxel-splits", "supervoxels", "tags")),
        *(("POST", word) for word in ("extents", "index", "indices", "info", "ingest-supervoxels", "mappings")),
        *(
            ("POST", word)
            for word in ("cleave", "renumber", "split-supervoxel", "maxlabel", "nextlabel", "set-nextlabel", "tags")
        ),
    }


def test_the_python_face():
    volume = blobs((64, 64, 64), 3)
    with dvidcore.open(engine="memory") as store:
        la = store.new_repo()["master"].create("la", "labelarray")
        la[0:64, 0:64, 0:64] = volume
        assert (la[0:64, 0:64, 0:64] == volume).all()
        label = int(volume.max())
        assert la.sparsevol(label)[:, 3].sum() == (volume == label).sum()
