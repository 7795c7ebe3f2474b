"""GET blocks and specificblocks of a labelmap, against a numpy model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvidcore import budget
from dvidcore.datatypes.labels.reading import streams
from dvidcore.geometry import ZYX, BlockBox
from dvidcore.repos import Database, OneStore
from dvidcore.storage.memory import Memory
from labelmap_client import BLOCK, Seg, blobs, pack_stream, payload, records, xyz

COMPRESSIONS = ["blocks", "lz4", "gzip", "uncompressed"]
BUILT = {(0, 0, 0), (0, 0, 2), (0, 3, 0), (-1, -2, -3), (1, 1, 1), (5, 0, 0), (1, 2, 0), (-1, 1, 1)}


@pytest.fixture(scope="module")
def seg() -> Iterator[Seg]:
    """Blocks here and there, one of one label and one of zeros; the model is their box."""
    with Database.open({"main": Memory.open("")}, OneStore("main")) as database:
        seg = Seg.create(database, scales=1)
        placed = {at: blobs(BLOCK, k) for k, at in enumerate(sorted(BUILT))}
        placed[0, 3, 0][:] = 0
        placed[1, 1, 1][:] = 2**63
        low, high = (tuple(f(c[axis] for c in BUILT) for axis in range(3)) for f in (min, max))
        shape = tuple((b - a + 1) * n for a, b, n in zip(low, high, BLOCK, strict=True))
        seg.post("blocks", pack_stream(placed))
        seg.origin = tuple(a * n for a, n in zip(low, BLOCK, strict=True))
        seg.voxels = np.zeros(shape, np.uint64)
        for at, volume in placed.items():
            begin = [(c - a) * n for c, a, n in zip(at, low, BLOCK, strict=True)]
            seg.voxels[tuple(slice(b, b + n) for b, n in zip(begin, BLOCK, strict=True))] = volume
        seg.merge(50, 51, 2**63)
        yield seg


def voxel(at):
    return tuple(c * n for c, n in zip(at, BLOCK, strict=True))


def expect(seg, got, wanted, compression, supervoxels):
    assert sorted(at for at, _ in got) == sorted(wanted)
    for at, data in got:
        want = seg.cut(voxel(at), BLOCK, supervoxels=supervoxels)
        np.testing.assert_array_equal(payload(data, compression, BLOCK), want)


corner = st.tuples(st.integers(-4, 6), st.integers(-4, 4), st.integers(-4, 4))


@settings(max_examples=30, deadline=None)
@given(corner, st.tuples(*[st.integers(1, 6)] * 3), st.sampled_from(COMPRESSIONS), st.booleans())
def test_the_blocks_of_a_box(seg, low, n, compression, supervoxels):
    query = f"compression={compression}" + ("&supervoxels=true" if supervoxels else "")
    got = records(seg.get(f"blocks/{xyz(voxel(n))}/{xyz(voxel(low))}?{query}"))
    inside = [at for at in BUILT if all(a <= c < a + m for a, c, m in zip(low, at, n, strict=True))]
    expect(seg, got, inside, compression, supervoxels)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from(sorted(BUILT)), corner), max_size=8),
    st.sampled_from(COMPRESSIONS),
    st.booleans(),
    st.sampled_from(["query", "flat", "points"]),
)
def test_listed_blocks_in_their_order(seg, asked, compression, supervoxels, form):
    query = f"compression={compression}" + ("&supervoxels=true" if supervoxels else "")
    numbers = [c for at in asked for c in reversed(at)]
    if form == "query":
        data = seg.get(f"specificblocks?blocks={','.join(map(str, numbers))}&{query}")
    else:
        data = seg.get(f"specificblocks?{query}", numbers if form == "flat" else [list(reversed(at)) for at in asked])
    got = records(data)
    assert [at for at, _ in got] == [at for at in asked if at in BUILT]
    expect(seg, got, [at for at in asked if at in BUILT], compression, supervoxels)


def test_a_box_as_large_as_the_lattice(seg):
    half = [2**30 // n * n for n in BLOCK]
    low, size = tuple(-n for n in half), tuple(2 * n - b for n, b in zip(half, BLOCK, strict=True))
    got = records(seg.get(f"blocks/{xyz(size)}/{xyz(low)}"))
    assert {at for at, _ in got} == BUILT


@pytest.mark.parametrize("limit", [0, 10_000, 300_000])
@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("share", [0, 500_000, 1 << 30])
def test_a_large_answer_in_pieces_is_the_same(seg, monkeypatch, *, limit, compression, share):
    path = f"blocks/480_320_640/-240_-160_-320?compression={compression}"
    whole = seg.get(path)
    monkeypatch.setattr(streams, "WHOLE", limit)
    monkeypatch.setattr(streams, "_PIECE", 5_000)
    monkeypatch.setattr(streams, "_BATCH", 2)
    monkeypatch.setattr(budget.answers, "limit", share)
    assert seg.get(path) == whole
    listed = ",".join(f"{x},{y},{z}" for z, y, x in sorted(BUILT))
    assert seg.get(f"specificblocks?blocks={listed}&compression={compression}") == whole


def test_defaults(seg):
    ((_, lz4),) = records(seg.get("blocks/48_16_32/0_0_0"))
    ((_, coded),) = records(seg.get("specificblocks?blocks=0,0,0&prefetch=on"))
    assert (payload(lz4, "lz4", BLOCK) == payload(coded, "blocks", BLOCK)).all()


def test_coarser_scales_are_other_blocks(database):
    seg = Seg.create(database, scales=1)
    seg.write(blobs((128, 64, 192), 5), (-64, -32, -96))
    for scale in (1, 2):
        got = records(seg.get(f"blocks/192_64_128/-96_-32_-64?scale={scale}&compression=blocks"))
        assert len(got) == (8 if scale == 1 else 0)
        for at, data in got:
            np.testing.assert_array_equal(payload(data, "blocks", BLOCK), seg.cut(voxel(at), BLOCK, scale))
    assert seg.get("specificblocks?blocks=0,0,0&scale=9") == b""


def test_without_blocks_an_answer_is_empty(seg):
    assert seg.get("specificblocks") == seg.get("specificblocks?blocks=") == seg.get("specificblocks", []) == b""
    answer = seg.ask("blocks/48_16_32/4800_0_0")
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"", "application/octet-stream")


@pytest.mark.parametrize("storage", ["none", "snappy", "lz4", "gzip", "gzip:9", "jpeg"])
def test_the_compression_of_the_store_does_not_show(database, storage):
    seg = Seg.create(database, Compression=storage)
    volume = blobs((32, 32, 48), 8)
    seg.post("blocks", pack_stream({(0, 0, 0): volume[:, :16], (0, 1, 0): volume[:, 16:]}))
    seg.voxels = volume
    for compression in COMPRESSIONS:
        got = records(seg.get(f"blocks/48_32_32/0_0_0?compression={compression}"))
        expect(seg, got, [(0, 0, 0), (0, 1, 0)], compression, False)


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("blocks/40_16_32/0_0_0", None, "size"),
        ("blocks/48_16_32/8_0_0", None, "offset"),
        ("blocks/48_16/0_0_0", None, "size"),
        ("blocks/48_16_32", None, "blocks"),
        ("blocks/0_16_32/0_0_0", None, "size"),
        ("blocks/48_16_32/0_0_0?compression=zip", None, "compression"),
        ("blocks/48_16_32/0_0_0?scale=-1", None, "scale"),
        ("blocks/48_16_32/2147483616_0_0", None, "int32"),
        ("specificblocks?blocks=0,0", None, "blocks"),
        ("specificblocks?blocks=0,0,a", None, "blocks"),
        ("specificblocks?blocks=0,0,1_0", None, "blocks"),
        ("specificblocks?blocks=0,0,3000000000", None, "int32"),
        ("specificblocks?blocks=0,0,0&compression=zip", None, "compression"),
        ("specificblocks", b"{}", "body"),
        ("specificblocks", [[0, 0]], "body"),
        ("specificblocks", [0, 0, 0.5], "body"),
        ("specificblocks", [0, 0, True], "body"),
        ("specificblocks", b"[0,0,", "body"),
    ],
)
def test_refusals_name_the_argument(seg, path, body, says):
    assert says in seg.refused(path, body)


def test_specificblocks_is_not_posted(seg):
    seg.refused("specificblocks?blocks=0,0,0", b"", "POST")


@settings(max_examples=200, deadline=None)
@given(corner, st.tuples(*[st.integers(1, 6)] * 3))
def test_a_scan_goes_on_at_the_next_place_inside(low, n):
    """From any block outside of a box, in the order of keys."""
    box = BlockBox(ZYX(*low), ZYX(*(a + m - 1 for a, m in zip(low, n, strict=True))))
    inside = sorted(box.coords())
    for at in np.ndindex(*(m + 2 for m in n)):
        z, y, x = (c + a - 1 for c, a in zip(at, low, strict=True))
        if ZYX(z, y, x) not in inside and box.low.z <= z <= box.high.z:
            assert box.next_inside(z, y, x) == next((c for c in inside if c > (z, y, x)), None)
