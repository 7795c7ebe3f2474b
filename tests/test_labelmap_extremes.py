"""Block coordinates over the whole int32 range. Within the lattice of int32 voxels everything is as elsewhere; beyond it
blocks are stored, indexed and read by their coordinates, and what would have to name their voxels is refused.
"""

from __future__ import annotations

import struct

import numpy as np
import pytest

from dvidcore.labels import decode_index, from_mask
from labelmap_client import Seg, blobs, pack_stream, payload, records, rles
from split_model import sparse

SIDE = (32, 32, 32)
ENDS = (2**26 - 1, -(2**26))
"""The blocks of 32 voxels at the ends of the int32 lattice."""


@pytest.fixture
def seg(database) -> Seg:
    return Seg.create(database, SIDE)


@pytest.mark.parametrize("at", [(z, y, x) for z in ENDS for y in ENDS for x in ENDS])
def test_blocks_at_the_ends_of_int32(seg, at):
    voxels = blobs(SIDE, 3)
    seg.post("blocks?downres=true", pack_stream({at: voxels}))
    z, y, x = (32 * c for c in at)
    ((where, data),) = records(seg.get(f"specificblocks?blocks={at[2]},{at[1]},{at[0]}"))
    assert where == at
    np.testing.assert_array_equal(payload(data, "blocks", SIDE), voxels)
    data = seg.get(f"raw/0_1_2/32_32_32/{x}_{y}_{z}")
    np.testing.assert_array_equal(np.frombuffer(data, "<u8").reshape(SIDE), voxels)
    assert seg.json("labels", [[x + 31, y + 31, z + 31]]) == [int(voxels[-1, -1, -1])]
    label = int(voxels[voxels > 0][0])
    size = seg.json(f"size/{label}")["voxels"]
    assert size == (voxels == label).sum() == sum(run[3] for run in rles(seg.get(f"sparsevol/{label}")))
    assert rles(seg.get(f"sparsevol-coarse/{label}")) == [[at[2], at[1], at[0], 1]]
    assert seg.ask(f"sparsevol/{label}?maxx={x - 1}" if x > 0 else f"sparsevol/{label}?minx=0").status == 404
    assert records(seg.get(f"specificblocks?blocks={at[2] >> 1},{at[1] >> 1},{at[0] >> 1}&scale=1"))
    assert seg.json("info")["Extents"] == {"MinPoint": [x, y, z], "MaxPoint": [x + 31, y + 31, z + 31]}


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("coordinate", [2**26, -(2**26) - 1, 2**31 - 1, -(2**31)])
def test_blocks_beyond_the_voxels_of_int32(seg, axis, coordinate):
    near, far = np.full(SIDE, 5, np.uint64), np.full(SIDE, 5, np.uint64)
    far[0] = 2**64 - 1
    at = [0, 0, 0]
    at[axis] = coordinate
    seg.post("blocks?downres=true", pack_stream({(0, 0, 0): near, tuple(at): far}))
    named = f"{at[2]},{at[1]},{at[0]}"
    ((where, data),) = records(seg.get(f"specificblocks?blocks={named}"))
    assert where == tuple(at)
    np.testing.assert_array_equal(payload(data, "blocks", SIDE), far)
    assert records(seg.get(f"specificblocks?blocks={at[2] >> 1},{at[1] >> 1},{at[0] >> 1}&scale=1"))
    assert seg.json("size/5") == {"voxels": int((near == 5).sum() + (far == 5).sum())}
    assert sorted(rles(seg.get("sparsevol-coarse/5"))) == sorted([[0, 0, 0, 1], [at[2], at[1], at[0], 1]])
    for path in ("sparsevol/5", "sparsevol/5?format=srles", "sparsevol/5?format=blocks", f"sparsevol/{2**64 - 1}"):
        assert "int32" in seg.refused(path)
    axis_name = "zyx"[axis]
    bounds = f"min{axis_name}=0&max{axis_name}=31"
    assert sum(run[3] for run in rles(seg.get(f"sparsevol/5?{bounds}"))) == near.size
    extents = seg.json("info")["Extents"]
    low, high = (extents[name][::-1][axis] for name in ("MinPoint", "MaxPoint"))
    assert (low, high) == (min(0, 32 * coordinate), max(31, 32 * coordinate + 31))
    assert seg.json("metadata")["Axes"][2 - axis]["Size"] == high - low + 1


def test_an_index_message_holds_block_coordinates_of_20_bits(seg):
    """DVID's message has no room for more; everything else goes on without it."""
    far = 2**20
    one = np.full(SIDE, 1, np.uint64)
    two = np.full(SIDE, 2, np.uint64)
    seg.post("blocks", pack_stream({(0, 0, 1 - far): one, (0, 0, far - 1): one, (0, 0, far): two, (0, 0, -far): two}))
    assert decode_index(seg.get("index/1"))[1].tolist() == [[0, 0, 1 - far], [0, 0, far - 1]]
    for path, body in (("index/2", None), ("indices", [1, 2]), ("indices-compressed", [2])):
        assert "1048575" in seg.refused(path, body)
    assert seg.json("size/2") == {"voxels": 2 * 32**3}
    assert rles(seg.get("sparsevol-coarse/2")) == [[-far, 0, 0, 1], [far, 0, 0, 1]]


def test_a_broken_record_of_any_coordinates_is_named(seg):
    body = struct.pack("<3iI", 2**31 - 1, -(2**31), 0, 3) + b"abc"
    assert "block 2147483647,-2147483648,0" in seg.refused("blocks", body, "POST")


@pytest.mark.parametrize("typename", ["labelmap", "labelarray"])
def test_all_scales_that_there_can_be_follow_a_split(database, typename):
    """Coarser blocks of a split are made as those of voxels that are posted."""
    seg = Seg.create(database, (16, 16, 16), 255, typename)
    voxels = np.ones((32, 16, 32), np.uint64)
    seg.write(voxels, (-16, 0, -16))
    mask = np.zeros(voxels.shape, bool)
    mask[3:, :, :19] = True
    path = "split-supervoxel/1?split=2&remain=3" if typename == "labelmap" else "split/1?splitlabel=2"
    seg.post(path, sparse(from_mask(mask, (-16, 0, -16))))
    posted = Seg.create(database, (16, 16, 16), 255, typename)
    posted.write(np.where(mask, np.uint64(2), np.uint64(3 if typename == "labelmap" else 1)), (-16, 0, -16))
    places = "-1,0,-1,0,0,-1,-1,0,0,0,0,0"
    for scale in (0, 1, 2, 30, 31, 32, 33, 254, 255):
        path = f"specificblocks?blocks={places}&scale={scale}&supervoxels=true"
        made, wanted = (records(one.get(path)) for one in (seg, posted))
        assert [at for at, _ in made] == [at for at, _ in wanted] and len(made) == 4
        for (_, ours), (_, theirs) in zip(made, wanted, strict=True):
            np.testing.assert_array_equal(
                payload(ours, "blocks", (16, 16, 16)), payload(theirs, "blocks", (16, 16, 16)), str(scale)
            )
