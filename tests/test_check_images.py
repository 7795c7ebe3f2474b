"""``dvidcore check`` of the coarser scales of images: what writes make agrees, what does not is found and made anew."""

from __future__ import annotations

import numpy as np
import pytest

from apiclient import Client
from dvidcore.checking import check
from dvidcore.datatypes.imageblk.properties import BLOCKS, COARSE
from dvidcore.repos import Database
from dvidcore.storage.engine import Batch
from dvidcore.storage.keys import TYPE_KEY_OFFSET, kind_range
from image_client import Volume, noise
from test_check import found

LEVELS = 3


def written(database: Database, seed: int, typename: str = "uint8blk", **settings: str) -> Volume:
    """An image of random writes in a version, in two branches of it, in what they were merged to, and in its child."""
    client, rng = Client(database), np.random.default_rng(seed)
    volume = Volume.create(client, typename, BlockSize="8,8,8", MaxDownresLevel=str(LEVELS), **settings)

    def write(uuid: str, count: int, columns: range) -> None:
        at = Volume(client, uuid, volume.name, typename)
        for _ in range(count):
            z, y = (int(n) for n in rng.integers(-3, 3, 2))
            x = int(rng.choice(columns))
            at.put(noise(int(rng.integers(1000)), (8, 16, 8, *volume.channels), volume.dtype), (8 * z, 8 * y, 8 * x))

    write(volume.uuid, 5, range(-4, 4))
    client.commit(volume.uuid)
    sides = [client.post(f"/api/node/{volume.uuid}/branch", {"branch": name}).json()["child"] for name in "ab"]
    for side, columns in zip(sides, (range(-4, 0, 2), range(-3, 0, 2)), strict=True):
        write(side, 4, columns)
        client.commit(side)
    body = {"mergeType": "conflict-free", "parents": sides}
    merged = client.post(f"/api/repo/{volume.uuid}/merge", body).json()["child"]
    write(merged, 2, range(-4, 4))
    client.commit(merged)
    write(client.child(merged), 2, range(-4, 4))
    return volume


def coarse_rows(database: Database, scale: int) -> list[tuple[bytes, bytes]]:
    start, stop = kind_range(1, COARSE)
    rows = database.stores["main"].scan(start, stop)
    return [(bytes(key), bytes(value)) for key, value in rows if key[TYPE_KEY_OFFSET] == scale]


@pytest.mark.parametrize(
    ("typename", "method"),
    [("uint8blk", "mean"), ("uint64blk", "majority"), ("float32blk", "mean"), ("rgba8blk", "nearest")],
)
@pytest.mark.parametrize("seed", range(4))
def test_scales_that_writes_made_agree(database: Database, typename: str, method: str, seed: int) -> None:
    written(database, seed, typename, DownresMethod=method, Background="7")
    assert all(coarse_rows(database, scale) for scale in range(1, LEVELS + 1))
    assert found(database, strict=True) == []


def test_blocks_that_were_stored_as_jpeg_are_not_compared(database: Database) -> None:
    written(database, 1, Compression="jpeg")
    assert found(database, strict=True) == []


@pytest.mark.parametrize("scale", range(1, LEVELS + 1))
@pytest.mark.parametrize("change", ["other", "missing"])
def test_coarse_blocks_that_do_not_follow_are_found_and_made_anew(database: Database, scale: int, change: str) -> None:
    written(database, 5, Compression="none")
    before = coarse_rows(database, scale)
    batch = Batch()
    for key, value in before[::2]:
        if change == "missing":
            batch.delete(key)
        else:
            batch.put(key, value[:-1] + bytes([value[-1] ^ 255]))
    database.stores["main"].write(batch)
    findings = found(database)
    assert {f.kind for f in findings} == {"scale"} and all(f.serious and f.version for f in findings)
    assert any(f"of scale {scale}" in f.what for f in findings)
    outcome = check(database, repair=True)
    assert outcome.serious and outcome.clean
    assert found(database, strict=True) == []
    if change == "other":
        assert coarse_rows(database, scale) == before


def test_a_finer_block_that_changed_alone_is_found_by_the_coarser_ones(database: Database) -> None:
    written(database, 6, Compression="none")
    (key, value), *_ = database.stores["main"].scan(*kind_range(1, BLOCKS))
    batch = Batch()
    batch.put(key, bytes(value)[:1] + bytes(value)[:0:-1])
    database.stores["main"].write(batch)
    assert {f.kind for f in found(database)} == {"scale"}
    assert check(database, repair=True).clean
    assert found(database, strict=True) == []
