"""The sparse volumes of a labelmap, against a numpy model: formats, bounds, scales, versions, refusals."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator

import lz4.block
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvidcore.datatypes.labels.reading import sparse
from dvidcore.repos import Database, OneStore
from dvidcore.storage.memory import Memory
from labelmap_client import BLOCK, LABELS, Seg, binary_blocks, blobs, rles, spans, xyz

ORIGIN = (-64, -32, -96)
MERGED = (50, 51, 2**64 - 1)
BODIES = [label for label in LABELS.tolist() if label not in MERGED[1:]]


@pytest.fixture(scope="module")
def seg() -> Iterator[Seg]:
    with Database.open({"main": Memory.open("")}, OneStore("main")) as database:
        seg = Seg.create(database)
        volume = blobs((128, 64, 192), 1)
        volume[40:44, 30, :] = 50  # runs through several blocks
        volume[64:96, 32:48, 96:144] = 2  # a whole block
        seg.write(volume, ORIGIN)
        seg.merge(*MERGED)
        yield seg


def members_of(seg, label, supervoxels):
    return [label] if supervoxels else seg.supervoxels(label)


def query(**given):
    return "&".join(f"{k}={str(v).lower() if isinstance(v, bool) else v}" for k, v in given.items() if v is not None)


def clipped(runs, bounds):
    out = []
    for x, y, z, n in runs:
        first, last = max(x, bounds.get("minx", x)), min(x + n - 1, bounds.get("maxx", x + n - 1))
        inside = all(bounds.get(f"min{a}", v) <= v <= bounds.get(f"max{a}", v) for a, v in (("y", y), ("z", z)))
        if inside and first <= last:
            out.append([first, y, z, last - first + 1])
    return out


def meets(block, bounds):
    """Whether a block (z, y, x) meets bounds."""
    for axis, c, n in zip("zyx", block, BLOCK, strict=True):
        if c * n > bounds.get(f"max{axis}", 2**31) or c * n + n - 1 < bounds.get(f"min{axis}", -(2**31)):
            return False
    return True


def blocks_at(seg, members, scale):
    return sorted({tuple(c >> scale for c in at) for at in seg.blocks(members)})


limits = st.fixed_dictionaries(
    {}, optional={f"{end}{axis}": st.integers(-110, 110) for axis in "xyz" for end in ("min", "max")}
)


@settings(max_examples=60, deadline=None)
@given(
    label=st.sampled_from(LABELS.tolist()),
    supervoxels=st.booleans(),
    scale=st.integers(0, 2),
    bounds=limits,
    format=st.sampled_from(["rles", "srles", "odd"]),
)
def test_runs(seg, *, label, supervoxels, scale, bounds, format):
    path = f"sparsevol/{label}?{query(format=format, supervoxels=supervoxels, scale=scale, **bounds)}"
    members = members_of(seg, label, supervoxels)
    if not any(meets(at, bounds) for at in blocks_at(seg, members, scale)):
        seg.refused(path, status=404)
        assert seg.ask(path, verb="HEAD").status == 204
        return
    got = (spans if format == "srles" else rles)(seg.get(path))
    assert got == clipped(seg.runs(members, scale), bounds)
    assert seg.ask(path, verb="HEAD").status == 200


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(BODIES), limits)
def test_inexact_bounds_give_the_runs_of_whole_blocks(seg, label, bounds):
    answer = seg.ask(f"sparsevol/{label}?exact=false&{query(**bounds)}")
    members = seg.supervoxels(label)
    blocks = [at for at in seg.blocks(members) if meets(at, bounds)]
    assert answer.status == (200 if blocks else 404)
    if blocks:
        got = {(z, y, k) for x, y, z, n in rles(answer.body) for k in range(x, x + n)}
        want = {
            (z, y, k)
            for x, y, z, n in seg.runs(members)
            for k in range(x, x + n)
            if (z // BLOCK[0], y // BLOCK[1], k // BLOCK[2]) in blocks
        }
        assert got == want


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(LABELS.tolist()), st.booleans(), st.integers(0, 2), limits)
def test_binary_blocks(seg, label, supervoxels, scale, bounds):
    path = f"sparsevol/{label}?format=blocks&{query(supervoxels=supervoxels, scale=scale, **bounds)}"
    members = members_of(seg, label, supervoxels)
    blocks = [at for at in blocks_at(seg, members, scale) if meets(at, bounds)]
    if not blocks:
        seg.refused(path, status=404)
        return
    named, got = binary_blocks(seg.get(path), BLOCK)
    assert named == label
    want = {}
    for at in blocks:
        first = tuple(c * n for c, n in zip(at, BLOCK, strict=True))
        mask = np.isin(seg.cut(first, BLOCK, scale, supervoxels=True), np.array(members, np.uint64))
        if mask.any():
            want[first] = mask
    assert list(got) == list(want)
    for first, mask in want.items():
        np.testing.assert_array_equal(got[first], mask)


@pytest.mark.parametrize("label", BODIES)
def test_compression_is_of_rles_alone(seg, label):
    plain = seg.get(f"sparsevol/{label}")
    assert gzip.decompress(seg.get(f"sparsevol/{label}?compression=gzip")) == plain
    packed = seg.get(f"sparsevol/{label}?compression=lz4")
    assert lz4.block.decompress(packed, uncompressed_size=len(plain)) == plain
    for format in ("srles", "blocks"):
        whole = seg.get(f"sparsevol/{label}?format={format}")
        assert seg.get(f"sparsevol/{label}?format={format}&compression=gzip") == whole


@pytest.mark.parametrize("together", [1, 2, 32])
def test_pieces_make_the_same_whole(seg, monkeypatch, together):
    """Whatever is read at once, kept in memory or sent as a piece."""
    paths = [f"sparsevol/50?format={format}" for format in ("rles", "srles", "blocks")]
    paths += ["sparsevol/50?minx=-50&maxy=20&scale=1"]
    whole = [seg.get(path) for path in paths]
    zipped = gzip.decompress(seg.get("sparsevol/50?compression=gzip"))
    monkeypatch.setattr(sparse, "_TOGETHER", together)
    monkeypatch.setattr(sparse, "_SLAB", together)
    monkeypatch.setattr(sparse, "_PIECE", 1000)
    monkeypatch.setattr(sparse, "COLLECTED", 2000)
    assert [seg.get(path) for path in paths] == whole
    assert gzip.decompress(seg.get("sparsevol/50?compression=gzip")) == zipped
    packed = seg.get("sparsevol/50?compression=lz4")
    assert lz4.block.decompress(packed, uncompressed_size=len(whole[0])) == whole[0]
    assert int(seg.ask("sparsevol/50").headers["content-length"]) == len(whole[0])


def test_sparsevol_by_point(seg):
    for at in ((-10, 5, -20), (30, 31, 95), (-64, -32, -96), (0, 0, 0)):
        for scale in (0, 1):
            point = tuple(c >> scale for c in at)
            (label,), (supervoxel,) = (seg.cut(point, (1, 1, 1), scale, own).ravel().tolist() for own in (False, True))
            path = f"sparsevol-by-point/{xyz(point)}?scale={scale}"
            if not label:
                seg.refused(path)
                continue
            assert rles(seg.get(path)) == seg.runs(seg.supervoxels(label), scale)
            assert rles(seg.get(path + "&supervoxels=true")) == seg.runs([supervoxel], scale)
            assert spans(seg.get(path + "&format=srles&minz=0")) == clipped(
                seg.runs(seg.supervoxels(label), scale), {"minz": 0}
            ) or not any(meets(b, {"minz": 0}) for b in blocks_at(seg, seg.supervoxels(label), scale))


def coarse(blocks):
    """Runs of blocks (z, y, x)."""
    out = []
    for z, y, x in blocks:
        if out and out[-1][1:3] == [y, z] and out[-1][0] + out[-1][3] == x:
            out[-1][3] += 1
        else:
            out.append([x, y, z, 1])
    return out


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(LABELS.tolist()), st.booleans(), limits)
def test_sparsevol_coarse(seg, label, supervoxels, bounds):
    path = f"sparsevol-coarse/{label}?{query(supervoxels=supervoxels, **bounds)}"
    members = members_of(seg, label, supervoxels)
    if not members:
        seg.refused(path, status=404)
        return
    assert rles(seg.get(path)) == coarse([at for at in seg.blocks(members) if meets(at, bounds)])


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([1, *BODIES]), st.sampled_from([3, 2**40, 2**64 - 1]), limits)
def test_sparsevols_coarse(seg, first, last, bounds):
    data, at, got = seg.get(f"sparsevols-coarse/{first}/{last}?{query(**bounds)}"), 0, {}
    while at < len(data):
        label, n = struct.unpack_from("<Qi", data, at)
        got[label] = spans(data[at + 12 : at + 12 + 16 * n])
        at += 12 + 16 * n
    want = {
        body: coarse([b for b in seg.blocks(seg.supervoxels(body)) if meets(b, bounds)])
        for body in BODIES
        if first <= body <= last
    }
    assert got == want
    assert list(got) == sorted(got)


def test_sparsevol_size(seg):
    for label in BODIES:
        members = seg.supervoxels(label)
        blocks = np.array(seg.blocks(members))
        assert seg.json(f"sparsevol-size/{label}") == {
            "voxels": sum(run[3] for run in seg.runs(members)),
            "numblocks": len(blocks),
            "minvoxel": (blocks.min(0) * BLOCK)[::-1].tolist(),
            "maxvoxel": ((blocks.max(0) + 1) * BLOCK - 1)[::-1].tolist(),
        }
    own = seg.json("sparsevol-size/51?supervoxels=true")
    assert own["voxels"] == sum(run[3] for run in seg.runs([51]))


def test_what_does_not_exist_is_404_with_an_empty_body(seg):
    for path in (
        "sparsevol/777",
        "sparsevol/51",
        "sparsevol-coarse/777",
        "sparsevol-size/51",
        "sparsevol/777?format=blocks",
    ):
        answer = seg.ask(path)
        assert (answer.status, answer.body) == (404, b"")
    assert seg.ask("sparsevol/777", verb="HEAD").status == 204
    seg.refused("sparsevol/777?supervoxels=true", status=404)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("sparsevol/0", "label"),
        ("sparsevol/abc", "label"),
        ("sparsevol/-5", "label"),
        ("sparsevol/18446744073709551616", "label"),
        ("sparsevol", "sparsevol"),
        ("sparsevol/2?minx=1e9", "minx"),
        ("sparsevol/2?maxz=3000000000", "maxz"),
        ("sparsevol/2?scale=-1", "scale"),
        ("sparsevol/2?compression=zip", "compression"),
        ("sparsevol/2?format=srles&compression=zip", "compression"),
        ("sparsevol-by-point/1_2", "point"),
        ("sparsevol-by-point/a_2_3", "point"),
        ("sparsevol-coarse/0", "label"),
        ("sparsevols-coarse/0/5", "first"),
        ("sparsevols-coarse/5/0", "last"),
        ("sparsevols-coarse/5", "sparsevols-coarse"),
        ("sparsevol-size/0", "label"),
    ],
)
def test_refusals_name_the_argument(seg, path, says):
    assert says in seg.refused(path)


def test_a_reversed_range_is_empty(seg):
    assert seg.get("sparsevols-coarse/50/3") == b""


def test_above_the_last_scale_a_body_has_no_voxels(seg):
    assert rles(seg.get("sparsevol/50?scale=7")) == []
    assert seg.get("sparsevol/50?scale=40&format=srles") == b""


def test_each_version_has_its_own(database):
    parent = Seg.create(database)
    parent.write(blobs((64, 32, 96), 2), (0, 0, 0))
    child = parent.child()
    child.merge(50, 51)
    volume = child.voxels[:32, :16, :48].copy()
    volume[volume == 50] = 51
    volume[volume == 2] = 0
    child.write(volume, (0, 0, 0))
    for seg in (parent, child):
        for body in (2, 50, 51):
            members = seg.supervoxels(body)
            if members:
                assert rles(seg.get(f"sparsevol/{body}")) == seg.runs(members)
                assert rles(seg.get(f"sparsevol/{body}?scale=1")) == seg.runs(members, 1)
            else:
                seg.refused(f"sparsevol/{body}", status=404)
        assert rles(seg.get("sparsevol/51?supervoxels=true")) == seg.runs([51])


def test_without_an_index_there_are_none(database):
    seg = Seg.create(database, IndexedLabels="false")
    seg.write(blobs((32, 16, 48), 4), (0, 0, 0))
    for path in ("sparsevol/2", "sparsevol-coarse/2", "sparsevol-by-point/1_1_1", "maxlabel", "nextlabel"):
        assert "IndexedLabels" in seg.refused(path)
    seg.refused("merge", [2, 3], "POST")
    assert seg.get("sparsevols-coarse/1/100") == b""
