"""Image instances: requests are seen whole, by readers beside them and after the death of the process."""

import contextlib
import http.client
import random
import threading
import time

import numpy as np
import pytest

from apiclient import Client
from dvidcore.repos import Database, OneStore
from dvidcore.storage import keys, open_engine
from image_client import Volume, noise, xyz
from server_process import ServerProcess
from side_by_side import run

SIDE = 64
BOX = (SIDE, SIDE, SIDE)


@pytest.fixture(params=["memory", "leveldb", "lmdb"])
def client(request, tmp_path):
    engine = open_engine(request.param, str(tmp_path / "store"))
    with Database.open({"main": engine}, OneStore("main")) as database:
        yield Client(database)


def test_readers_see_whole_requests_only(client):
    """Writers overwrite the same eight blocks by raw and by blocks; each read is of one value."""
    gray = Volume.create(client)
    gray.put(np.zeros(BOX, np.uint8), (0, 0, 0))
    writing = threading.Event()

    def write(first):
        for value in range(first, first + 40, 4):
            gray.put(np.full(BOX, value, np.uint8), (0, 0, 0), "?mutate=true" if value % 8 else "")

    def write_all():
        try:
            run(*(lambda k=k: write(k) for k in (1, 2, 3)))
        finally:
            writing.set()

    def read():
        count = 0
        while not writing.is_set() or count < 10:
            assert len(np.unique(gray.read((0, 0, 0), BOX))) == 1
            count += 1

    run(write_all, read, read)


def test_parallel_growth_of_the_extents_is_never_lost(client):
    gray = Volume.create(client, BlockSize="8,8,8")
    corners = [(8 * k, -8 * k, 16 * k) for k in range(1, 13)]

    def write(mine):
        for corner in mine:
            gray.put(np.ones((8, 8, 8), np.uint8), corner)

    run(*(lambda k=k: write(corners[k::4]) for k in range(4)))
    assert gray.extents() == ([16, -96, 8], [199, -1, 103])


def test_of_two_large_requests_one_wins_whole(client):
    """Larger than one batch: they are staged, and carried out one after the other."""
    volume = Volume.create(client, "uint64blk", BlockSize="64,64,64")
    shape = (192, 192, 192)
    bodies = [noise(k, shape, "<u8") for k in (1, 2)]
    run(*(lambda b=b: volume.put(b, (0, 0, 0)) for b in bodies))
    final = volume.read((0, 0, 0), shape)
    assert any(np.array_equal(final, body) for body in bodies)
    assert staged_rows(client) == 0


def staged_rows(client):
    (engine,) = client.server.database.stores.values()
    return len(list(engine.scan(*keys.prefix_range(keys.STAGE), keys_only=True)))


@pytest.mark.parametrize("received", [1000, 52 << 20])
def test_a_body_that_breaks_off_stores_nothing(client, received):
    """Also where a part of it had outgrown memory and was staged already."""
    volume = Volume.create(client, "uint64blk", BlockSize="64,64,64")
    body = noise(3, (192 * 192 * 192,), "<u8").tobytes()[:received]
    path = f"{volume.path}/raw/0_1_2/192_192_192/0_0_0"
    answer = client.post(path, body, headers={"Content-Length": str(192**3 * 8)})
    assert answer.status == 400 and "ended" in answer.text
    assert volume.get("subvolblocks/192_192_192/0_0_0").body == b""
    assert volume.extents() == (None, None)
    assert staged_rows(client) == 0


def test_killed_while_voxels_come_in(tmp_path):
    """Of each box, what was acknowledged or a later request is there whole, and the extents cover it."""
    rng = random.Random(4)
    folder = tmp_path / "data"
    server = ServerProcess(folder).wait_until_up()
    path = server.instance("uint8blk", "gray")
    last_sent, last_kept = [0, 0], [0, 0]
    for _ in range(3):

        def write(slot, server=server):
            for value in range(last_kept[slot] + 1, 251):
                last_sent[slot] = value
                body = bytes([value]) * SIDE**3
                try:
                    status, text = server.ask("POST", f"{path}/raw/0_1_2/{xyz(BOX)}/{SIDE * slot}_0_0", body)
                except (OSError, http.client.HTTPException):
                    return
                assert status == 200, text
                last_kept[slot] = value

        def kill(server=server):
            time.sleep(rng.uniform(0.05, 0.3))
            server.kill()

        run(lambda: write(0), lambda: write(1), kill)
        server = ServerProcess(folder).wait_until_up()
        low, high = server.json(f"{path}/info")["Extents"].values()
        for slot in (0, 1):
            status, data = server.ask("GET", f"{path}/raw/0_1_2/{xyz(BOX)}/{SIDE * slot}_0_0")
            (value,) = set(data)
            assert status == 200 and last_kept[slot] <= value <= last_sent[slot]
            last_kept[slot] = value
            if value:
                assert low[0] <= SIDE * slot and high[0] >= SIDE * (slot + 1) - 1
    assert server.stop() == 0


def test_killed_during_a_request_larger_than_a_batch(tmp_path):
    rng = random.Random(5)
    folder = tmp_path / "data"
    server = ServerProcess(folder).wait_until_up()
    path = server.instance("uint64blk", "numbers")
    size = 192
    body = noise(6, (size,) * 3, "<u8").tobytes()
    for _ in range(3):
        killer = threading.Timer(rng.uniform(0.1, 0.7), server.kill)
        killer.start()
        acknowledged = False
        with contextlib.suppress(OSError, http.client.HTTPException):
            acknowledged = server.ask("POST", f"{path}/raw/0_1_2/{size}_{size}_{size}/0_0_0", body)[0] == 200
        killer.join()
        server = ServerProcess(folder).wait_until_up()
        data = server.ask("GET", f"{path}/raw/0_1_2/{size}_{size}_{size}/0_0_0")[1]
        extents = server.json(f"{path}/info")["Extents"]
        assert data in (body, bytes(len(body)))
        assert (extents["MaxPoint"] is not None) == (data == body)
        assert data == body or not acknowledged
        if data == body:
            break
    assert server.stop() == 0
