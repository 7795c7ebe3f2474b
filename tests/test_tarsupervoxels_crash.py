"""tarsupervoxels when something breaks: failing disks, kill -9, several writers, and the memory that a load takes."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from apiclient import Client
from dvidcore.datatypes.tarsupervoxels import tar
from dvidcore.mutations import log
from dvidcore.repos import Database
from dvidcore.storage import open_engine
from dvidcore.storage.keys import prefix_range
from repo_model import Failing, again
from server_process import ServerProcess
from victims import kill_after

NUMBERS = range(1, 41)


def archive(step: int, numbers: range = NUMBERS, size: int = 3000) -> bytes:
    """A tar file whose members all hold the step."""
    return b"".join(bytes(p) for p in tar.pieces((f"{n}.drc", b"%08d" % step * (size // 8)) for n in numbers))


def create(database: Database) -> str:
    client = Client(database)
    return client.instance(client.repo(), "meshes", "tarsupervoxels", Extension="drc")


def found(database: Database, path: str, numbers: range = NUMBERS) -> set[bytes]:
    """What is stored for the numbers: their contents, each once, empty for none."""
    client = Client(database)
    answers = [client.get(f"{path}/supervoxel/{n}") for n in numbers]
    assert {answer.status for answer in answers} <= {200, 404}
    return {answer.body if answer.status == 200 else b"" for answer in answers}


def logged(database: Database, path: str) -> int:
    repo, node = database.resolve(path.split("/")[3])
    with database.stores["main"].snapshot() as snapshot:
        return sum(1 for _ in log.records(snapshot, repo.instances["meshes"].id, node.id))


def test_a_large_load_on_a_failing_disk_is_there_whole_or_not_at_all() -> None:
    """60 MB are staged; the disk fails at one write or another, and the store is opened again."""
    engine = Failing()
    numbers = range(1, 61)
    with Database.open({"main": engine}) as database:
        path, client = create(database), Client(database)
        assert client.post(f"{path}/load", archive(0, numbers, 1 << 10)).status == 200
        body = archive(1, numbers, 1 << 20)
        states = []
        for left in (0, 5, 13, 14, 15, 16, 20, 40, 200):
            records = logged(database, path)
            engine.left = left
            status = client.post(f"{path}/load", body).status
            engine.left = None
            reopened = again(database)
            contents = found(reopened, path, numbers)
            assert len(contents) == 1 and not list(engine.scan(*prefix_range(b"\x04")))
            whole = contents == {b"%08d" % 1 * (1 << 17)}
            assert whole or contents == {b"%08d" % 0 * (1 << 7)}
            assert logged(reopened, path) - records == int(whole) and (whole or status == 500)
            states.append((status, whole))
            if whole:
                assert client.post(f"{path}/load", archive(0, numbers, 1 << 10)).status == 200
        assert {(500, False), (500, True), (200, True)} == set(states)


def test_a_bad_member_at_the_end_of_a_large_load_leaves_nothing() -> None:
    engine = Failing()
    with Database.open({"main": engine}) as database:
        path = create(database)
        before = list(engine.scan(b"", b"\xff"))
        files = [(f"{n}.drc", bytes(1 << 20)) for n in range(1, 61)]
        body = b"".join(bytes(p) for p in tar.pieces([*files, ("61.dat", b"x")]))
        answer = Client(database).post(f"{path}/load", body)
        assert answer.status == 400 and "61.dat" in answer.text
        assert list(engine.scan(b"", b"\xff")) == before


def victim(folder: Path, path: str, step: int, pipe: Connection) -> None:
    """Loads step after step."""
    with Database.open({"main": open_engine("leveldb", str(folder))}) as database:
        client = Client(database)
        pipe.send(("ready",))
        while True:
            step += 1
            pipe.send(("begin", step))
            assert client.post(f"{path}/load", archive(step)).status == 200
            pipe.send(("done", step))


def test_a_process_is_killed_while_it_loads(tmp_path: Path) -> None:
    """Each load is there whole or not at all, and the log has a record of those that are there."""
    rng, folder = random.Random(1), tmp_path / "db"
    sent = last = loads = 0
    with Database.open({"main": open_engine("leveldb", str(folder))}) as database:
        path = create(database)

    def receive(kind: str, step: int) -> bool:
        nonlocal sent, last, loads
        if kind == "begin":
            sent = step
            return False
        last, loads = step, loads + 1
        return True

    for kill in range(15):
        kill_after(victim, (folder, path, sent), receive, rng.uniform(0, 0.1), kill % 2 == 0)
        with Database.open({"main": open_engine("leveldb", str(folder))}) as database:
            (content,) = found(database, path)
            stored = int(content[:8] or b"0")
            assert stored in (last, sent)
            assert content == (b"%08d" % stored * 375 if stored else b"")
            last, loads = stored, loads + (stored > last)
            assert logged(database, path) == loads
    assert loads >= 8


@pytest.mark.parametrize("processes", [1, 2])
def test_loads_side_by_side_do_not_mix(tmp_path: Path, processes: int) -> None:
    with Database.open({"main": open_engine("leveldb", str(tmp_path / "db"))}) as database:
        path = create(database)
        clients = [Client(d) for d in [database, again(database)][:processes]]

        def load(step: int) -> None:
            client = clients[step % processes]
            assert client.post(f"{path}/load", archive(step)).status == 200
            assert client.post(f"{path}/supervoxel/{100 + step}", b"own").status == 200

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(load, range(1, 25)))
        (content,) = found(database, path)
        assert content in {b"%08d" % step * 375 for step in range(1, 25)}
        assert found(database, path, range(101, 125)) == {b"own"}
        assert logged(database, path) == 48


def test_a_large_load_and_its_tar_take_bounded_memory(tmp_path: Path) -> None:
    """400 MB come and go; a server that held them would have had more than that."""
    server = ServerProcess(tmp_path / "data").wait_until_up()
    try:
        status, data = server.ask("POST", "/api/repos")
        assert status == 200
        root = data.decode().split('"')[3]
        given = {"typename": "tarsupervoxels", "dataname": "meshes", "Extension": "drc"}
        assert server.ask("POST", f"/api/repo/{root}/instance", given)[0] == 200
        assert server.ask("POST", f"/api/repo/{root}/instance", {"typename": "labelmap", "dataname": "seg"})[0] == 200
        assert server.ask("POST", f"/api/node/{root}/meshes/sync", {"sync": "seg"})[0] == 200
        labels = np.arange(64**3, dtype=np.uint64) // (64**3 // 400) + 1
        labels = np.minimum(labels, 400)
        assert server.ask("POST", f"/api/node/{root}/seg/raw/0_1_2/64_64_64/0_0_0", labels.tobytes())[0] == 200
        assert server.ask("POST", f"/api/node/{root}/seg/merge", list(range(1, 401)))[0] == 200
        before = server.peak_memory()
        size = 1 << 20
        body = archive(7, range(1, 401), size)
        status, data = server.ask("POST", f"/api/node/{root}/meshes/load", body)
        assert status == 200, data
        assert server.peak_memory() - before < 300 << 20
        before = server.peak_memory()
        status, data = server.ask("GET", f"/api/node/{root}/meshes/tarfile/1")
        assert status == 200 and data == body
        assert server.peak_memory() - before < 150 << 20
    finally:
        assert server.stop() == 0
