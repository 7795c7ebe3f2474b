"""The Python face of labels, beside numpy."""

from __future__ import annotations

import numpy as np
import pytest

import dvidcore
from dvidcore import samples
from dvidcore.errors import BadRequest, Locked, NotFound
from labelmap_client import blobs

SHAPE = (48, 32, 96)
ORIGIN = (-16, 0, -48)
BOX = tuple(slice(o, o + n) for o, n in zip(ORIGIN, SHAPE, strict=True))


@pytest.fixture
def seg():
    with dvidcore.open(engine="memory", user="anna") as store:
        node = store.new_repo()["master"]
        seg = node.create("segmentation", "labelmap", block_size=(16, 32, 48), MaxDownresLevel=2)
        seg[BOX] = blobs(SHAPE, 5)
        yield seg


def runs_of(mask, origin=ORIGIN):
    """Maximal runs x, y, z, length of a mask, sorted by z, y, x."""
    edge = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (0, 0), (1, 1))), axis=2)
    z, y, x = np.nonzero(edge == 1)
    length = np.nonzero(edge == -1)[2] - x
    return np.stack((x + origin[2], y + origin[1], z + origin[0], length), axis=1)


def test_bodies_and_supervoxels_after_a_merge(seg):
    voxels = blobs(SHAPE, 5)
    assert seg.supervoxels[BOX].tolist() == seg[BOX].tolist() == voxels.tolist()
    assert seg.merge(1, [2, 2**63]) > 0
    seg.merge(3, 50)
    bodies = voxels.copy()
    bodies[np.isin(voxels, np.array([2, 2**63], np.uint64))] = 1
    bodies[voxels == 50] = 3
    assert (seg[BOX] == bodies).all() and (seg.supervoxels[BOX] == voxels).all()
    assert (seg[31:-17:-3, 5, ::7] == bodies[::-1][::3, 5, ::7]).all()
    assert seg.members(1).tolist() == [1, 2, 2**63] and seg.bodies_of([2, 50, 51, 99]).tolist() == [1, 3, 51, 0]
    assert seg.bodies().tolist() == sorted(set(bodies.ravel().tolist()) - {0})
    for body in (1, 3, 51):
        assert seg.size(body) == (bodies == body).sum()
        assert (seg.sparsevol(body) == runs_of(bodies == body)).all()
    for supervoxel in (1, 2):
        assert seg.supervoxels.size(supervoxel) == (voxels == supervoxel).sum()
        assert (seg.supervoxels.sparsevol(supervoxel) == runs_of(voxels == supervoxel)).all()
    assert seg.sparsevol(1).dtype == np.int32 and seg.sparsevol(1).shape[1] == 4
    assert seg.sizes([1, 99, 51]).tolist() == [int((bodies == b).sum()) for b in (1, 99, 51)]
    assert seg.supervoxels.sizes([2]).tolist() == [int((voxels == 2).sum())]
    points = np.array([[-16, 0, -48], [3, 4, 5], [1000, 0, 0]])
    assert seg.labels_at(points).tolist() == [int(bodies[0, 0, 0]), int(bodies[19, 4, 53]), 0]
    assert seg.supervoxels.labels_at(points)[1] == voxels[19, 4, 53]
    assert b"anna" in seg.request("GET", "lastmod/1")


def test_scales(seg):
    from test_labelmap_writes import downsample

    level = downsample(downsample(blobs(SHAPE, 5)))
    assert seg.scales == 2 and seg.scale(2).shape == level.shape and seg.scale(2).origin == (-4, 0, -12)
    assert (seg.scale(2)[...] == level).all()
    assert (seg.scale(2).sparsevol(1) == runs_of(level == 1, (-4, 0, -12))).all()
    assert seg.scale(1).voxel_size == (16.0, 16.0, 16.0)
    assert seg.scale(2).scale(0).supervoxels.shape == SHAPE
    with pytest.raises(BadRequest, match="scale"):
        seg.scale(3)
    with pytest.raises(BadRequest, match="scale"):
        seg.scale(1)[0, 0, 0] = 4


def test_what_is_not_there(seg):
    for use in (seg.size, seg.sparsevol, seg.members, seg.supervoxels.size, seg.supervoxels.sparsevol):
        with pytest.raises(NotFound):
            use(77)
    for wrong in ((1, [77]), (77, 1), (1, [1]), (1, [])):
        with pytest.raises(BadRequest):
            seg.merge(*wrong)
    with pytest.raises(BadRequest, match="coordinates"):
        seg.labels_at([1, 2, 3])
    with pytest.raises(BadRequest, match="value"):
        seg[0, 0, 0] = -1
    with pytest.raises(BadRequest, match="not an endpoint"):
        seg.request("GET", "nonsense")
    seg.node.commit()
    with pytest.raises(Locked):
        seg.merge(1, 2)
    with pytest.raises(Locked):
        seg[0, 0, 0] = 1


def test_an_assignment_of_some_voxels_keeps_the_supervoxels_around_it(seg):
    seg.merge(1, [2, 3])
    voxels = blobs(SHAPE, 5)
    seg[-3:5, 7:9, -10:50] = 2**64 - 2
    voxels[13:21, 7:9, 38:98] = 2**64 - 2
    assert (seg.supervoxels[BOX] == voxels).all()
    assert seg.supervoxels[-3:5, 7:9, 48:50].tolist() == [[[2**64 - 2] * 2] * 2] * 8
    assert seg.size(2**64 - 2) == 8 * 2 * 60


def test_an_empty_instance_and_the_sample():
    with dvidcore.open(engine="memory") as store:
        node = store.new_repo()["master"]
        seg = node.create("seg", "labelmap")
        assert seg.bodies().tolist() == [] and seg.shape == (0, 0, 0) and seg[5, 5, 5] == 0
        assert seg.labels_at(np.zeros((0, 3), int)).tolist() == []
        sample = samples.generate(64, seed=2)
        seg[0:64, 0:64, 0:64] = sample.supervoxels
        for body, (_, *others) in sample.bodies.items():
            if others:
                seg.merge(body, others)
        assert seg.bodies().tolist() == sorted(sample.bodies)
        assert all(seg.members(body).tolist() == members for body, members in sample.bodies.items())


def test_cleave_and_renumber(seg):
    """Voxels keep their supervoxels, and read as what their bodies are."""
    voxels = blobs(SHAPE, 5) % np.uint64(1000)
    seg = seg.node.create("few", "labelmap", block_size=(16, 32, 48))
    seg[BOX] = voxels
    seg.merge(1, [2, 3])
    new = seg.cleave(1, [2, 3])
    other = seg.cleave(new, 3)
    seg.renumber({1: 77, other: 1})
    for body, members in ((77, [1]), (new, [2]), (1, [3])):
        assert seg.members(body).tolist() == members
        assert seg.sparsevol(body).tolist() == runs_of(np.isin(voxels, members)).tolist()
    assert set(seg.bodies().tolist()) == {77, new, 1} | set(np.unique(voxels).tolist()) - {0, 1, 2, 3}
    assert seg.supervoxels[BOX].tolist() == voxels.tolist()
    seg.renumber({})
    for call in (
        lambda: seg.cleave(77, [1]),
        lambda: seg.cleave(77, []),
        lambda: seg.cleave(5, 5),
        lambda: seg.renumber({50: 51}),
        lambda: seg.renumber({50: 0}),
    ):
        before = seg.bodies().tolist()
        with pytest.raises(BadRequest):
            call()
        assert seg.bodies().tolist() == before
    seg.node.commit()
    with pytest.raises(Locked):
        seg.cleave(77, [1])
    with pytest.raises(Locked):
        seg.renumber({77: 78})
