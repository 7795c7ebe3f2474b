"""What a labelmap is created with, what info and metadata show, and what may be changed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from apiclient import Client
from labelmap_client import BLOCK, Seg, blobs, pack_stream

NONE = {"MinPoint": None, "MaxPoint": None}


def create(database, **config) -> Seg:
    client = Client(database)
    node = client.repo()
    client.instance(node, "seg", "labelmap", **config)
    return Seg(client, node)


def test_info_of_a_new_instance(database):
    info = create(database).json("info")
    base = info["Base"]
    assert (base["TypeName"], base["TypeVersion"], base["Name"]) == ("labelmap", "0.1", "seg")
    assert base["TypeURL"] == "github.com/janelia-flyem/dvid/datatype/labelmap"
    assert (base["Versioned"], base["Syncs"], base["Tags"]) == (True, [], None)
    assert info["Extents"] == NONE
    assert info["Extended"] == {
        "Values": [{"DataType": "uint64", "Label": "labelmap"}],
        "Interpolable": False,
        "BlockSize": [64, 64, 64],
        "VoxelSize": [8, 8, 8],
        "VoxelUnits": ["nanometers", "nanometers", "nanometers"],
        **NONE,
        "MinIndex": None,
        "MaxIndex": None,
        "Background": 0,
        "GridStore": "",
        "ScaleLevel": 0,
        "MaxLabel": {},
        "MaxRepoLabel": 0,
        "NextLabel": 0,
        "IndexedLabels": True,
        "MaxDownresLevel": 0,
    }


def test_settings_in_any_case(database):
    seg = create(
        database,
        blocksize="16, 32,48",
        VOXELSIZE="4,4.5,40",
        voxelunits="a,b,c",
        maxdownreslevel="3",
        IndexedLabels="0",
    )
    extended = seg.json("info")["Extended"]
    assert extended["BlockSize"] == [16, 32, 48]
    assert extended["VoxelSize"] == [4, 4.5, 40]
    assert extended["VoxelUnits"] == ["a", "b", "c"]
    assert (extended["MaxDownresLevel"], extended["IndexedLabels"]) == (3, False)
    assert '"VoxelSize":[4,4.5,40]' in seg.get("info").decode()


@pytest.mark.parametrize("typename", ["labelmap", "labelarray", "labelblk"])
def test_settings_without_effect_are_checked_and_shown(database, typename):
    client = Client(database)
    node = client.repo()
    client.instance(node, "seg", typename, Background="5", ScaleLevel="2", BlockSize="16,16,16")
    seg = Seg(client, node)
    for shown in (seg.json("info")["Extended"], seg.json("metadata")["Properties"]):
        assert (shown["Background"], shown["ScaleLevel"], shown["GridStore"]) == (5, 2, "")
    assert not any(seg.get("raw/0_1_2/3_3_3/0_0_0")), "absent space is 0 whatever the background"
    for name, value in (("Background", "x"), ("Background", "256"), ("ScaleLevel", "x"), ("GridStore", "nosuchstore")):
        config = {"typename": typename, "dataname": "other", name: value}
        assert name in client.post(f"/api/repo/{node}/instance", config).text
        assert client.get(f"/api/node/{node}/other/info").status == 400


@pytest.mark.parametrize("typename", ["labelmap", "labelarray", "labelblk"])
def test_a_resolution_is_of_float32(database, typename):
    client = Client(database)
    node = client.repo()
    client.instance(node, "seg", typename, VoxelSize="3.3333333333,0.1,16777217")
    seg = Seg(client, node)
    assert seg.json("info")["Extended"]["VoxelSize"] == [3.3333333, 0.1, 16777216]
    seg.post("resolution", [1e22, 1e-7, 123456789.123])
    assert seg.json("info")["Extended"]["VoxelSize"] == [1e22, 1e-7, 123456790]
    assert [axis["Resolution"] for axis in seg.json("metadata")["Axes"]] == [1e22, 1e-7, 123456790]
    for beyond in (1e39, 1e-60):
        assert "float32" in seg.refused("resolution", [1, beyond, 1], "POST")


def test_first_extents(database):
    seg = create(database, MinPoint="-1,0,0", MaxPoint="10,20,300")
    info = seg.json("info")
    assert info["Extents"] == {"MinPoint": [-1, 0, 0], "MaxPoint": [10, 20, 300]}
    assert (info["Extended"]["MinIndex"], info["Extended"]["MaxIndex"]) == ([-1, 0, 0], [0, 0, 4])


@pytest.mark.parametrize(
    "config",
    [
        {"BlockSize": "24,32,32"},
        {"BlockSize": "0,0,0"},
        {"BlockSize": "-16,16,16"},
        {"BlockSize": "2048,16,16"},
        {"BlockSize": "1024,1024,1024"},
        {"BlockSize": "32"},
        {"BlockSize": "a,b,c"},
        {"BlockSize": [32, 32, 32]},
        {"VoxelSize": "8,8"},
        {"VoxelSize": "8,8,nan"},
        {"VoxelSize": "8,8,0"},
        {"VoxelSize": "8,8,1e39"},
        {"VoxelUnits": "nanometers"},
        {"MaxDownresLevel": "256"},
        {"MaxDownresLevel": "-1"},
        {"MaxDownresLevel": 2},
        {"IndexedLabels": "maybe"},
        {"Compression": "foo"},
        {"MinPoint": "0,0,0"},
        {"MinPoint": "1,0,0", "MaxPoint": "0,9,9"},
    ],
)
def test_settings_that_are_refused(database, config):
    client = Client(database)
    node = client.repo()
    answer = client.post(f"/api/repo/{node}/instance", {"typename": "labelmap", "dataname": "seg", **config})
    assert answer.status == 400
    assert next(iter(config)) in answer.text or "MaxPoint" in answer.text
    assert client.get(f"/api/node/{node}/seg/info").status == 400


@pytest.mark.parametrize("typename", ["labelmap", "labelarray"])
def test_the_largest_label_is_shown_without_an_index_too(database, typename):
    seg = Seg.create(database, typename=typename, IndexedLabels="false")
    seg.post("raw/0_1_2/48_16_32/0_0_0", np.full(BLOCK, 70, np.uint64).tobytes())
    seg.post("blocks?downres=true", pack_stream({(1, 0, 0): np.full(BLOCK, 90, np.uint64)}))
    seg.post("blocks?scale=1", pack_stream({(1, 0, 0): np.full(BLOCK, 99, np.uint64)}))
    extended = seg.json("info")["Extended"]
    assert (extended["MaxRepoLabel"], list(extended["MaxLabel"].values())) == (90, [90])
    assert "IndexedLabels" in seg.refused("maxlabel")


def test_metadata(database):
    seg = create(database, VoxelSize="4,5,6", VoxelUnits="a,b,c", BlockSize="32,32,32")
    answer = seg.ask("metadata")
    assert answer.headers["content-type"] == "application/vnd.dvid-nd-data+json"
    assert [axis["Size"] for axis in answer.json()["Axes"]] == [0, 0, 0]
    seg.write(blobs((64, 32, 96), 0), (-32, 0, 32))
    found = seg.json("metadata")
    assert found["Axes"] == [
        {"Label": "X", "Resolution": 4, "Units": "a", "Size": 96, "Offset": 32},
        {"Label": "Y", "Resolution": 5, "Units": "b", "Size": 32, "Offset": 0},
        {"Label": "Z", "Resolution": 6, "Units": "c", "Size": 64, "Offset": -32},
    ]
    extended = seg.json("info")["Extended"]
    assert found["Properties"] == {key: extended[key] for key in found["Properties"]}
    assert list(found["Properties"]) == list(extended)[: list(extended).index("ScaleLevel") + 1]


def test_extents_are_of_the_version(database):
    parent = create(database, BlockSize="32,32,32")
    parent.write(blobs((64, 32, 96), 0), (-32, 0, 32))
    child = parent.child()
    at_parent = {"MinPoint": [32, 0, -32], "MaxPoint": [127, 31, 31]}
    assert child.json("info")["Extents"] == at_parent
    child.post("extents", {"MinPoint": [0, 0, 0], "MaxPoint": [5, 6, 7]})
    assert child.json("info")["Extents"] == {"MinPoint": [0, 0, 0], "MaxPoint": [5, 6, 7]}
    child.post("raw/0_1_2/32_32_32/64_0_0", np.ones((32, 32, 32), np.uint64).tobytes())
    assert child.json("info")["Extents"] == {"MinPoint": [0, 0, 0], "MaxPoint": [95, 31, 31]}
    assert parent.json("info")["Extents"] == at_parent


@pytest.mark.parametrize(
    "body",
    [
        b"foo",
        b"",
        b"[]",
        {"MinPoint": [0, 0, 0]},
        {"MinPoint": [0, 0, 0], "MaxPoint": [1, 2]},
        {"MinPoint": [0, 0, 0], "MaxPoint": [1, 2, 2.5]},
        {"MinPoint": [0, 0, 9], "MaxPoint": [1, 2, 3]},
        {"MinPoint": [0, 0, 0], "MaxPoint": [1, 2, 2**31]},
    ],
)
def test_extents_that_are_none(database, body):
    seg = create(database)
    seg.refused("extents", body, "POST")
    assert seg.json("info")["Extents"] == NONE


def test_resolution_is_of_all_versions(database):
    parent = create(database)
    child = parent.child()
    child.post("resolution", [4.5, 4, 40])
    assert parent.json("info")["Extended"]["VoxelSize"] == [4.5, 4, 40]
    for body in (b"x", b"", {"a": 1}, [1, 2], [1, 2, "3"], [1, 2, 0], [1, 2, True]):
        child.refused("resolution", body, "POST")
    assert parent.json("info")["Extended"]["VoxelSize"] == [4.5, 4, 40]


def test_post_info(database):
    seg = create(database)
    text = seg.post("info", {"voxelunits": "microns,microns,microns", "MaxDownresLevel": "3", "Other": "x"}).text
    assert "MaxDownresLevel" in text
    extended = seg.json("info")["Extended"]
    assert (extended["VoxelUnits"], extended["MaxDownresLevel"]) == (["microns"] * 3, 3)
    seg.post("info", {"MinPoint": "0,0,0", "MaxPoint": "9,9,9", "VoxelSize": "1,2,3"})
    assert seg.json("info")["Extents"] == {"MinPoint": [0, 0, 0], "MaxPoint": [9, 9, 9]}
    before = seg.get("info")
    for body in (
        b"x",
        {"MaxDownresLevel": "x"},
        {"MaxDownresLevel": 3},
        {"VoxelSize": "1,2"},
        {"BlockSize": "32,32,32"},
        {"MinPoint": "0,0,0"},
        {"MinPoint": "5,5,5", "MaxPoint": "0,0,0", "VoxelSize": "9,9,9"},
        {"VoxelSize": "9,9,9", "MaxDownresLevel": "x"},
    ):
        seg.refused("info", body, "POST")
    assert seg.get("info") == before


def test_the_largest_labels_are_in_info(database):
    parent = create(database, BlockSize="32,32,32")
    parent.write(np.full((32, 32, 32), 7, np.uint64), (0, 0, 0))
    child = parent.child()
    child.post("raw/0_1_2/32_32_32/0_0_0", np.full((32, 32, 32), 9, np.uint64).tobytes())
    extended = parent.json("info")["Extended"]
    assert sorted(extended["MaxLabel"].values()) == [7, 9]
    assert extended["MaxRepoLabel"] == 9
    assert (parent.json("maxlabel"), child.json("maxlabel")) == ({"maxlabel": 7}, {"maxlabel": 9})
    assert parent.json("nextlabel") == {"nextlabel": 10}


def test_a_labelmap_follows_nothing(database):
    seg = create(database)
    seg.client.instance(seg.node, "kv")
    assert "can follow no type" in seg.refused("sync", {"sync": "kv"}, "POST")
    assert "follows no other" in seg.client.post(f"/api/node/{seg.node}/kv/sync", {"sync": ""}).text
    seg.refused("sync", {"sync": "nope"}, "POST")
    seg.post("sync?replace=true", {"sync": ""})
    seg.refused("sync")


def test_tags(database):
    seg = create(database)
    seg.post("tags", {"a": "b"})
    seg.post("tags", {"c": "d"})
    assert seg.json("tags") == {"Tags": {"a": "b", "c": "d"}}


def test_a_committed_version_refuses_what_writes(database):
    parent = create(database, BlockSize="32,32,32")
    parent.write(blobs((32, 32, 32), 0), (0, 0, 0))
    parent.child()
    before = parent.get("info")
    for path, body in [
        ("raw/0_1_2/32_32_32/0_0_0", bytes(8 * 32**3)),
        ("blocks", b""),
        ("ingest-supervoxels", b""),
        ("extents", {"MinPoint": [0, 0, 0], "MaxPoint": [5, 5, 5]}),
        ("resolution", [4, 4, 4]),
        ("merge", [1, 2]),
        ("info", {"VoxelSize": "1,1,1"}),
    ]:
        assert "committed" in parent.refused(path, body, "POST")
    assert parent.get("info") == before


def test_an_unversioned_instance_is_one_for_all_versions(database):
    parent = create(database, BlockSize="32,32,32", versioned="false")
    child = parent.child()
    volume = blobs((32, 32, 32), 0)
    parent.write(volume, (0, 0, 0))
    child.voxels = volume
    for seg in (parent, child):
        assert json.loads(seg.get("existing-labels")) == [v for v in np.unique(volume).tolist() if v]
        got = np.frombuffer(seg.get("raw/0_1_2/32_32_32/0_0_0"), "<u8").reshape(32, 32, 32)
        np.testing.assert_array_equal(got, volume)
