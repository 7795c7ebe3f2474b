"""Where DVID's labelmap is weak on reading, and dvidcore must not be: a test for each point."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

from dvidcore import blocks, budget
from dvidcore.datatypes.labels.labelmap import LabelMap
from dvidcore.datatypes.labels.reading import streams
from dvidcore.storage.engine import Batch
from dvidcore.storage.keys import version_bytes
from labelmap_client import BLOCK, Seg, binary_blocks, blobs, image, pack_stream, png_labels, rles, spans, volume, xyz


@pytest.fixture
def seg(database) -> Seg:
    seg = Seg.create(database)
    seg.write(blobs((96, 48, 144), 9), (-64, -32, -96))
    return seg


@pytest.mark.parametrize("compression", ["", "lz4", "gzip", "google", "googlegzip"])
def test_one_aligned_block_that_does_not_exist_is_zeros(seg, compression):
    data = seg.get(f"raw/0_1_2/{xyz(BLOCK)}/{xyz((320, 160, 480))}?compression={compression}")
    assert not volume(data, BLOCK, compression).any()


def test_maxx_cuts_within_a_subblock_of_one_label(database):
    seg = Seg.create(database)
    seg.write(np.full(BLOCK, 7, np.uint64), (0, 0, 0))
    for maxx in (0, 3, 8, 46):
        runs = rles(seg.get(f"sparsevol/7?maxx={maxx}&minz=3&maxz=3&miny=5&maxy=5"))
        assert runs == [[0, 5, 3, maxx + 1]]


def test_head_sparsevol_looks_within_the_bounds(database):
    seg = Seg.create(database)
    seg.write(np.full(BLOCK, 7, np.uint64), (32, 16, 48))
    for bounds, status in (("minx=48&maxx=50", 200), ("maxx=47", 204), ("minz=64", 204), ("minz=63", 200), ("", 200)):
        answer = seg.ask(f"sparsevol/7?{bounds}", verb="HEAD")
        assert (answer.status, answer.body) == (status, b"")


def test_sparse_volumes_at_negative_coordinates(seg):
    for label in seg.present()[1:]:
        for scale in (0, 1, 2):
            want = seg.runs([label], scale)
            assert min(run[2] for run in want) < 0
            assert rles(seg.get(f"sparsevol/{label}?scale={scale}")) == want
            assert spans(seg.get(f"sparsevol/{label}?scale={scale}&format=srles")) == want
            _, masks = binary_blocks(seg.get(f"sparsevol/{label}?scale={scale}&format=blocks"), BLOCK)
            assert sum(int(m.sum()) for m in masks.values()) == sum(run[3] for run in want)


def test_points_at_negative_coordinates(seg):
    asked = [(-64, -32, -96), (-1, -1, -1), (-33, -17, -49), (-32, -16, -48)]
    want = [int(seg.cut(p, (1, 1, 1))[0, 0, 0]) for p in asked]
    assert seg.json("labels", [list(reversed(p)) for p in asked]) == want
    assert [seg.json(f"label/{xyz(p)}")["Label"] for p in asked] == want


def test_bounds_below_zero_are_divided_downwards(database):
    seg = Seg.create(database)
    seg.write(np.full(BLOCK, 7, np.uint64), (-32, -16, -48))
    assert rles(seg.get("sparsevol-coarse/7?maxx=-1")) == [[-1, -1, -1, 1]]
    assert rles(seg.get("sparsevol-coarse/7?minx=-1")) == [[-1, -1, -1, 1]]
    assert rles(seg.get("sparsevol-coarse/7?minx=0")) == []
    assert rles(seg.get("sparsevol-coarse/7?maxx=-49")) == []


@pytest.mark.parametrize("format", ["rles", "srles", "blocks"])
def test_missing_coarser_blocks_are_skipped(database, format):
    seg = Seg.create(database)
    voxels = blobs((64, 16, 96), 3)
    parts = {(z, 0, x): voxels[32 * z : 32 * z + 32, :, 48 * x : 48 * x + 48] for z in (0, 1) for x in (0, 1)}
    seg.post("blocks", pack_stream(parts))
    data = seg.get(f"sparsevol/50?scale=1&format={format}")
    assert (
        rles(data) if format == "rles" else spans(data) if format == "srles" else binary_blocks(data, BLOCK)[1]
    ) in (
        [],
        {},
    )
    seg.post("blocks?scale=1", pack_stream({(0, 0, 0): np.full(BLOCK, 50, np.uint64)}))
    assert len(seg.get(f"sparsevol/50?scale=1&format={format}")) > 20


def test_isotropic_labels_are_whole(database):
    seg = Seg.create(database, VoxelSize="4,8,16")
    seg.write(blobs((64, 32, 96), 4), (0, 0, 0))
    for dims in ("xy", "xz", "yz"):
        shown = png_labels(seg.get(f"isotropic/{dims}/32_32/0_0_0"))
        assert set(np.unique(shown).tolist()) <= set(seg.present())


@pytest.mark.parametrize("storage", ["none", "snappy", "lz4", "gzip:1", "jpeg"])
def test_the_compression_of_the_store_is_not_the_answers(database, storage):
    seg = Seg.create(database, Compression=storage)
    voxels = blobs(BLOCK, 5)
    seg.post("blocks", pack_stream({(0, 0, 0): voxels}))
    data = seg.get(f"blocks/{xyz(BLOCK)}/0_0_0?compression=gzip")
    np.testing.assert_array_equal(volume(gzip.decompress(data[16:]), BLOCK), voxels)


@pytest.mark.parametrize("path", ["raw/0_1_2/48_16_32/0_0_0", "blocks/48_16_32/0_0_0", "labels", "sparsevol/50"])
def test_scales_are_not_cut_to_8_bits(seg, path):
    body = [[0, 0, 0]] if path == "labels" else None
    seg.refused(f"{path}?scale=-1", body)
    for scale in (3, 255, 256, 261):
        data = seg.get(f"{path}?scale={scale}", body)
        assert not any(data[12:]) or data == b"[0]"


@pytest.mark.parametrize(
    "path", ["blocks?scale=3", "blocks?scale=-1", "blocks?scale=261", "ingest-supervoxels?scale=3"]
)
def test_writes_above_the_last_scale_are_refused(seg, path):
    seg.refused(path, pack_stream({(0, 0, 0): blobs(BLOCK, 1)}), "POST")


@pytest.mark.parametrize("scale", [-1, 1, 2, 3, 261])
def test_a_volume_is_posted_at_scale_0_alone(seg, scale):
    path, before = "raw/0_1_2/48_16_32/0_0_0", seg.get("raw/0_1_2/48_16_32/0_0_0")
    assert "scale" in seg.refused(f"{path}?scale={scale}", np.full(BLOCK, 7, np.uint64).tobytes(), "POST")
    assert seg.get(path) == before
    seg.post(f"{path}?scale=0", before)


def test_too_few_numbers_are_bad_requests(seg):
    seg.refused("sparsevol-by-point/1_2")
    seg.refused("label/1_2")
    seg.refused("merge", [], "POST")
    for points in ([[1, 2]], [[1, 2, 3, 4]], [[1, 2, 3], [1, 2]]):
        seg.refused("labels", points)


def test_an_endpoint_takes_its_own_verb_only(seg):
    before = seg.get("info")
    for path in ("extents", "resolution", "ingest-supervoxels", "merge"):
        seg.refused(path, b"[4,4,4]")
    for path in ("label/1_2_3", "sparsevol/50", "sparsevol-size/50", "specificblocks?blocks=0,0,0", "size/50"):
        seg.refused(path, b"", "POST")
    assert seg.get("info") == before


def corrupt_a_block(seg) -> None:
    """Makes the last block of the instance unreadable, past the API."""
    repo, node = seg.client.server.database.resolve(seg.node)
    label = seg.client.server.instances.named(repo, seg.name)
    assert isinstance(label, LabelMap)
    batch = Batch()
    batch.put(label.rows.block(0, 0, 0, 0) + version_bytes(node.id), b"nonsense")
    label.engine.write(batch)


@pytest.mark.parametrize(
    "path",
    [
        "raw/0_1_2/192_64_128/-96_-32_-64",
        *(f"blocks/192_64_128/-96_-32_-64?compression={c}" for c in ("blocks", "lz4", "gzip", "uncompressed")),
        "sparsevol/50",
        "sparsevol/50?format=srles",
        "sparsevol/50?format=blocks",
    ],
)
def test_an_error_is_never_text_behind_data(seg, path):
    corrupt_a_block(seg)
    answer = seg.ask(path)
    assert answer.status == 500
    assert "stored label block" in answer.text


def test_an_error_late_in_a_stream_breaks_the_connection(seg, monkeypatch):
    monkeypatch.setattr(streams, "WHOLE", 1)
    monkeypatch.setattr(streams, "_PIECE", 1)
    monkeypatch.setattr(budget.answers, "limit", 0)
    corrupt_a_block(seg)
    answer = seg.ask("blocks/192_64_128/-96_-32_-64?compression=uncompressed")
    assert answer.status == 200
    with pytest.raises(Exception, match="stored label block"):
        _ = answer.body


def test_a_branch_that_writes_where_another_wrote_grows_its_own_extents(database):
    parent = Seg.create(database)
    parent.client.commit(parent.node)
    made = [
        parent.client.post(f"/api/node/{parent.node}/branch", {"branch": name}).json()["child"] for name in ("a", "b")
    ]
    far = np.ones(BLOCK, np.uint64)
    for node in made:
        branch = parent.at(node)
        branch.write(far, (32, 16, 48))
        extents = branch.json("info")["Extents"]
        assert extents == {"MinPoint": [48, 16, 32], "MaxPoint": [95, 31, 63]}
    assert parent.json("info")["Extents"]["MinPoint"] is None


def test_map_stats_are_of_the_instance_alone(seg):
    other = seg.client.repo()
    seg.client.instance(other, "seg", "labelmap")
    seg.merge(1, 2)
    assert seg.json("map-stats")["seg"]["MapEntries"] == 1
    assert seg.at(other).json("map-stats") == {
        "seg": {"MapEntries": 0, "MapSize": "0.0 kB", "NumVersions": 0, "MaxVersion": 0}
    }


def test_what_is_not_known_is_not_found(database):
    seg = Seg.create(database)
    seg.refused("index-version/5", status=404)
    seg.refused("maxlabel", status=404)


def test_a_merge_shows_at_once_in_every_read(seg):
    seg.merge(1, 2, 3)
    whole = (-64, -32, -96), (96, 48, 144)
    for scale in (0, 1, 2):
        offset, size = (tuple(c >> scale for c in box) for box in whole)
        path = f"{xyz(size)}/{xyz(offset)}?scale={scale}"
        np.testing.assert_array_equal(volume(seg.get(f"raw/0_1_2/{path}"), size), seg.cut(offset, size, scale))
        assert rles(seg.get(f"sparsevol/1?scale={scale}")) == seg.runs([1, 2, 3], scale)
    assert image(seg.get("pseudocolor/xy/192_64/-96_-32_0")).shape == (64, 192, 3)
    seg.refused("sparsevol/2", status=404)
    assert rles(seg.get("sparsevol/2?supervoxels=true")) == seg.runs([2])


def test_list_of_blocks_too_long_for_a_url(seg):
    listed = [c for z in range(-40, 40) for y in range(-20, 20) for c in (0, y, z)]
    got = seg.get("specificblocks?compression=blocks", listed)
    assert len(got) > 0
    assert got == seg.get("specificblocks?compression=blocks", [listed[k : k + 3] for k in range(0, len(listed), 3)])


def test_a_label_listed_twice_in_a_block_is_whole_in_every_format(database):
    seg = Seg.create(database)
    block = blocks.encode(blobs(BLOCK, 6))
    labels = blocks.palette(block)
    labels[labels > 3] = 7
    assert (labels == 7).sum() > 2
    twice = gzip.compress(blocks.with_palette(block, labels))
    seg.post("blocks", struct.pack("<3iI", 0, 0, 0, len(twice)) + twice)
    want = seg.json("size/7")["voxels"]
    assert sum(run[3] for run in rles(seg.get("sparsevol/7"))) == want
    _, masks = binary_blocks(seg.get("sparsevol/7?format=blocks"), BLOCK)
    assert sum(int(mask.sum()) for mask in masks.values()) == want
    assert (volume(seg.get(f"raw/0_1_2/{xyz(BLOCK)}/0_0_0"), BLOCK) == 7).sum() == want
