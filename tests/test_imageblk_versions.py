"""Image instances over versions: what each sees of blocks and extents, through branches and merges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiclient import Client
from dvidcore.repos import Database, OneStore
from dvidcore.storage.memory import Memory
from image_client import Lattice, Volume, noise

BLOCK = (32, 32, 32)


@pytest.fixture
def client(database):
    return Client(database)


def branch(client, uuid, name):
    answer = client.post(f"/api/node/{uuid}/branch", {"branch": name})
    assert answer.status == 200, answer.text
    return answer.json()["child"]


def merge(client, root, *parents):
    answer = client.post(f"/api/repo/{root}/merge", {"mergeType": "conflict-free", "parents": parents})
    assert answer.status == 200, answer.text
    return answer.json()["child"]


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_versions_against_a_model(data):
    """Random writes, commits and branches: each version sees its own blocks and, where it has none, its parent's."""
    draw = data.draw
    client = Client(Database.open({"main": Memory.open("")}, OneStore("main")))
    gray = Volume.create(client, BlockSize="8,8,8")
    models = {gray.uuid: Lattice(-16, 48, "u1")}
    extents = {gray.uuid: None}
    opened = [gray.uuid]
    for step in range(draw(st.integers(3, 14))):
        version = draw(st.sampled_from(list(models)))
        if draw(st.integers(0, 3)) and version in opened:
            count = [draw(st.integers(1, 2)) for _ in range(3)]
            at = [draw(st.integers(-2, 2)) for _ in range(3)]
            size, offset = [8 * n for n in count], [8 * n for n in at]
            voxels = noise(step, tuple(size))
            if draw(st.booleans()):
                gray.at(version).put(voxels, offset, draw(st.sampled_from(["", "?mutate=true"])))
                low, high = offset[::-1], [o + s - 1 for o, s in zip(offset, size, strict=True)][::-1]
                if extents[version] is not None:
                    low = list(map(min, low, extents[version][0]))
                    high = list(map(max, high, extents[version][1]))
                extents[version] = low, high
            else:
                size = [8, 8, 8]
                voxels = voxels[:8, :8, :8]
                z, y, x = at
                assert gray.at(version).post(f"blocks/{x}_{y}_{z}/1", voxels.tobytes()).status == 200
            models[version][offset, size][:] = voxels
        else:
            if version in opened:
                client.commit(version)
                opened.remove(version)
            child = branch(client, version, f"b{step}")
            models[child], extents[child] = models[version].copy(), extents[version]
            opened.append(child)
    for version, model in models.items():
        np.testing.assert_array_equal(gray.at(version).read((-16,) * 3, (48,) * 3), model.voxels)
        assert gray.at(version).extents() == (extents[version] or (None, None))


def test_a_locked_version_takes_no_voxels(client):
    gray = Volume.create(client)
    voxels = noise(1, BLOCK)
    gray.put(voxels, (0, 0, 0))
    client.commit(gray.uuid)
    for path, body in (
        ("raw/0_1_2/32_32_32/0_0_0", bytes(32**3)),
        ("blocks/0_0_0/1", bytes(32**3)),
        ("extents", {"MinPoint": [0, 0, 0], "MaxPoint": [1, 1, 1]}),
        ("resolution", [1, 2, 3]),
    ):
        assert gray.post(path, body).status == 400
    np.testing.assert_array_equal(gray.read((0, 0, 0), BLOCK), voxels)
    assert gray.extents() == ([0, 0, 0], [31, 31, 31])


def test_unversioned_data_is_the_same_everywhere_and_takes_writes_always(client):
    flat = Volume.create(client, versioned="false")
    flat.put(noise(1, BLOCK), (0, 0, 0))
    client.commit(flat.uuid)
    child = flat.at(client.child(flat.uuid))
    again = noise(2, BLOCK)
    child.put(again, (0, 0, 32))
    flat.put(again, (0, 0, 0))
    for volume in (flat, child):
        np.testing.assert_array_equal(volume.read((0, 0, 0), (32, 32, 64)), np.concatenate([again, again], 2))
        assert volume.extents() == ([0, 0, 0], [63, 31, 31])


def test_resolution_is_the_instances(client):
    gray = Volume.create(client)
    client.commit(gray.uuid)
    child = gray.at(client.child(gray.uuid))
    assert child.post("resolution", [4.5, 4, 33.3]).body == b""
    for volume in (gray, child):
        assert volume.get("info").json()["Extended"]["VoxelSize"] == [4.5, 4, 33.3]
        assert [a["Resolution"] for a in volume.get("metadata").json()["Axes"]] == [4.5, 4, 33.3]


def test_extents_that_are_set_can_shrink_and_grow_again(client):
    gray = Volume.create(client)
    gray.put(noise(1, (32, 32, 64)), (0, 32, -32))
    assert gray.extents() == ([-32, 32, 0], [31, 63, 31])
    client.commit(gray.uuid)
    child = gray.at(client.child(gray.uuid))
    assert child.post("extents", {"MinPoint": [1, 2, 3], "MaxPoint": [4, 5, 6]}).body == b""
    assert child.extents() == ([1, 2, 3], [4, 5, 6])
    child.put(noise(2, BLOCK), (96, 0, 0))
    assert child.extents() == ([0, 0, 3], [31, 31, 127])
    assert gray.extents() == ([-32, 32, 0], [31, 63, 31])
    extended = child.get("info").json()["Extended"]
    assert (extended["MinIndex"], extended["MaxIndex"]) == ([0, 0, 0], [0, 0, 3])
    axes = child.get("metadata").json()["Axes"]
    assert [(a["Offset"], a["Size"]) for a in axes] == [(0, 32), (0, 32), (3, 125)]


def test_repo_info_shows_the_extents_of_the_master_leaf(client):
    gray = Volume.create(client)
    gray.put(noise(1, BLOCK), (0, 0, 0))
    client.commit(gray.uuid)
    child, side = gray.at(client.child(gray.uuid)), gray.at(branch(client, gray.uuid, "side"))
    child.put(noise(2, BLOCK), (32, 0, 0))
    side.put(noise(3, BLOCK), (320, 0, 0))
    shown = client.get(f"/api/repo/{gray.uuid}/info").json()["DataInstances"]["gray"]
    assert shown["Extents"] == {"MinPoint": [0, 0, 0], "MaxPoint": [31, 31, 63]}
    assert shown["Extended"]["MaxPoint"] == [31, 31, 63]


# -- merges -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def forked(client):
    """(the instance at the root, at the branch "a", at the branch "b"); both branches are open."""
    gray = Volume.create(client)
    gray.put(noise(1, (32, 64, 64)), (0, 0, 0))
    client.commit(gray.uuid)
    return gray, *(gray.at(branch(client, gray.uuid, name)) for name in "ab")


def merged(client, gray, *parents):
    for parent in parents:
        client.commit(parent.uuid)
    return gray.at(merge(client, gray.uuid, *(p.uuid for p in parents)))


def test_a_merge_sees_what_either_parent_changed(client, forked):
    gray, a, b = forked
    one, two = noise(2, BLOCK), noise(3, BLOCK)
    a.put(one, (0, 0, 0))
    b.put(two, (0, 32, 32))
    both = merged(client, gray, a, b)
    expected = gray.read((0, 0, 0), (32, 64, 64)).copy()
    expected[:, :32, :32], expected[:, 32:, 32:] = one, two
    np.testing.assert_array_equal(both.read((0, 0, 0), (32, 64, 64)), expected)
    assert len(both.blocks("subvolblocks/64_64_32/0_0_0", "lz4")) == 4
    three = noise(4, BLOCK)
    both.put(three, (0, 0, 32))
    np.testing.assert_array_equal(both.read((0, 0, 32), BLOCK), three)


def test_extents_of_a_merge_are_the_union_of_its_parents(client, forked):
    gray, a, b = forked
    a.put(noise(2, BLOCK), (-64, 0, 0))
    b.put(noise(3, BLOCK), (0, 0, 320))
    both = merged(client, gray, a, b)
    assert both.extents() == ([0, 0, -64], [351, 63, 31])
    both.put(noise(4, BLOCK), (0, 640, 0))
    assert both.extents() == ([0, 0, -64], [351, 671, 31])


def test_a_block_that_both_parents_changed_is_a_conflict_until_it_is_written(client, forked):
    gray, a, b = forked
    a.put(noise(2, BLOCK), (0, 0, 0))
    b.put(noise(3, BLOCK), (0, 0, 0))
    both = merged(client, gray, a, b)
    for path in (
        "raw/0_1_2/8_8_8/0_0_0",
        "raw/xy/64_64/0_0_0",
        "raw/0_1_2/1024_1024_64/0_0_0",
        "blocks/0_0_0/1",
        "subvolblocks/64_32_32/0_0_0",
        "specificblocks?blocks=0,0,0",
        "arb/0_0_0/80_0_0/0_80_0/8",
    ):
        answer = both.get(path)
        assert answer.status == 409, path
        assert f"block 0,0,0 was changed in versions {a.uuid} and {b.uuid}" in answer.text
    assert both.get("raw/0_1_2/8_8_8/32_0_0").status == 200
    settled = noise(4, BLOCK)
    both.put(settled, (0, 0, 0))
    np.testing.assert_array_equal(both.read((0, 0, 0), BLOCK), settled)


def test_resolving_a_conflict_keeps_the_extents_of_both(client, forked):
    gray, a, b = forked
    a.put(noise(2, BLOCK), (0, 0, 0))
    b.put(noise(3, BLOCK), (0, 0, 0))
    a.put(noise(4, BLOCK), (-32, 0, 0))
    b.put(noise(5, BLOCK), (0, 0, 96))
    for version in (a, b):
        client.commit(version.uuid)
    answer = client.post(f"/api/repo/{gray.uuid}/resolve", {"data": ["gray"], "parents": [a.uuid, b.uuid]})
    assert answer.status == 200, answer.text
    both = gray.at(answer.json()["child"])
    assert both.extents() == ([0, 0, -32], [127, 63, 31])
    np.testing.assert_array_equal(both.read((0, 0, 0), BLOCK), a.read((0, 0, 0), BLOCK))
    np.testing.assert_array_equal(both.read((0, 0, 96), BLOCK), b.read((0, 0, 96), BLOCK))
    np.testing.assert_array_equal(both.read((-32, 0, 0), BLOCK), a.read((-32, 0, 0), BLOCK))
