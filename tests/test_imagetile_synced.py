"""Tiles that are synced with their volume: none outlives a change of the voxels that it shows."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from apiclient import Client
from dvidcore.repos import Database
from image_client import Volume, noise
from test_imagetile import encoded
from test_imagetile_generate import LEVELS, PLANES, Tiled


@pytest.fixture
def client(database: Database) -> Client:
    return Client(database)


def everywhere(tiled: Tiled) -> list[tuple[str, int, int, int, int]]:
    """Tiles of all planes and scales, of some slices."""
    return [
        (plane, scale, column, row, at)
        for plane, axes in PLANES.items()
        for at in range(1, tiled.voxels.shape[axes[0]], 5)
        for scale in range(3)
        for column in range(4)
        for row in range(5)
    ]


def synced(client: Client) -> Tiled:
    tiled = Tiled(client, noise(1, (16, 48, 64)), (0, 0, 0))
    assert client.get(f"{tiled.path}/info").json()["Base"]["Syncs"] == ["gray"]
    return tiled


def put(tiled: Tiled, voxels: np.ndarray, at: tuple[int, int, int], blocks: bool = False) -> None:
    """Writes voxels, and has the reference know of them."""
    if blocks:
        x, y, z = (c // 16 for c in at[::-1])
        assert tiled.gray.post(f"blocks/{x}_{y}_{z}/1", voxels.tobytes()).status == 200
    else:
        tiled.gray.put(voxels, at)
    tiled.voxels = tiled.voxels.copy()
    tiled.voxels[tuple(slice(c, c + n) for c, n in zip(at, voxels.shape, strict=True))] = voxels
    tiled.shrunk.clear()


@pytest.mark.parametrize("blocks", [False, True])
def test_a_write_removes_the_tiles_that_show_it_and_no_others(client: Client, blocks: bool) -> None:
    tiled = synced(client)
    tiled.generate()
    before = tiled.stored()
    put(tiled, noise(2, (16, 16, 16)), (0, 32, 16), blocks)
    instance = tiled.instance()
    with instance.engine.snapshot() as snapshot:
        left = {key for key in before if snapshot.get(key)}
    assert 0 < len(left) < len(before)
    assert tiled.check(everywhere(tiled)) > 100
    assert tiled.generate()["State"] == "done"
    assert tiled.check(everywhere(tiled)) > 100


def test_the_tiles_of_the_parent_stay(client: Client) -> None:
    tiled = synced(client)
    tiled.generate()
    shown = {place: tiled.tile(*place) for place in everywhere(tiled)}
    client.commit(tiled.uuid)
    child = client.child(tiled.uuid)
    parent, tiled.gray = tiled.path, tiled.gray.at(child)
    tiled.path = tiled.path.replace(tiled.uuid, child)
    put(tiled, noise(3, (16, 32, 16)), (0, 0, 32))
    assert tiled.check(everywhere(tiled)) > 100
    tiled.path = parent
    for place, tile in shown.items():
        assert np.array_equal(tiled.tile(*place), tile), place


def test_without_a_sync_stored_tiles_stay_as_they_are(client: Client) -> None:
    tiled = Tiled(client, noise(1, (16, 48, 64)), (0, 0, 0), synced=False)
    tiled.generate()
    shown = tiled.tile("xy", 0, 0, 0, 3)
    tiled.gray.put(np.zeros((16, 48, 64), np.uint8), (0, 0, 0))
    assert (tiled.tile("xy", 0, 0, 0, 3) == shown).all()


def test_writes_beside_a_generation(client: Client) -> None:
    tiled = synced(client)
    assert client.post(f"{tiled.path}/metadata", {"Levels": LEVELS}).status == 200
    pictures = [noise(10 + k, (16, 48, 64)) for k in range(30)]
    writer = threading.Thread(target=lambda: [tiled.gray.put(p, (0, 0, 0)) for p in pictures])
    answer = client.post(f"{tiled.path}/generate", LEVELS)
    assert answer.status == 200
    writer.start()
    writer.join()
    assert tiled.instance().generation.wait(120)
    tiled.voxels = pictures[-1]
    assert tiled.check(everywhere(tiled)) > 100


def test_only_the_volumes_that_tiles_can_show_are_followed(client: Client) -> None:
    tiled = synced(client)
    client.instance(tiled.uuid, "numbers", "uint16blk")
    for name in ("numbers", "tiles", "nosuch"):
        assert client.post(f"{tiled.path}/sync", {"sync": name}).status == 400
    assert Volume(client, tiled.uuid, "gray").post("sync", {"sync": "tiles"}).status == 400


def test_below_a_merge_no_tile_lacks_the_changes_of_one_side(client: Client) -> None:
    tiled = synced(client)
    tiled.generate()
    root, path, gray = tiled.uuid, tiled.path, tiled.gray
    client.commit(root)
    sides = [client.post(f"/api/node/{root}/branch", {"branch": name}).json()["child"] for name in "ab"]
    for side, at in zip(sides, ((0, 0, 0), (0, 0, 16)), strict=True):
        tiled.gray, tiled.path, tiled.uuid = gray.at(side), path.replace(root, side), side
        put(tiled, noise(at[2], (16, 16, 16)), at)
    answer = client.post(f"{tiled.path}/generate", LEVELS)  # side b has its tiles again, without a's voxels
    assert answer.status == 200
    assert tiled.instance().generation.wait(120)
    for side in sides:
        client.commit(side)
    answer = client.post(f"/api/repo/{root}/merge", {"mergeType": "conflict-free", "parents": sides})
    assert answer.status == 200, answer.text
    merged = answer.json()["child"]
    tiled.gray, tiled.path = gray.at(merged), path.replace(root, merged)
    assert tiled.check(everywhere(tiled)) > 100


def test_resolve_lets_a_tile_of_the_first_parent_win(client: Client) -> None:
    tiled = Tiled(client, noise(1, (16, 48, 64)), (0, 0, 0))
    root = tiled.uuid
    assert client.post(f"{tiled.path}/metadata", {"Levels": LEVELS}).status == 200
    client.commit(root)
    posted = []
    sides = [client.post(f"/api/node/{root}/branch", {"branch": name}).json()["child"] for name in "ab"]
    for k, side in enumerate(sides):
        posted.append(encoded(noise(k, (16, 20))))
        assert client.post(f"{tiled.path.replace(root, side)}/tile/xy/0/0_0_3", posted[-1]).status == 200
        client.commit(side)
    answer = client.post(f"/api/repo/{root}/resolve", {"data": ["tiles"], "parents": sides[::-1], "note": ""})
    assert answer.status == 200, answer.text
    child = answer.json()["child"]
    assert client.get(f"{tiled.path.replace(root, child)}/tile/xy/0/0_0_3").body == posted[1]
