"""The mapping of labels where several processes share a store: each follows what the others change, not all of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from apiclient import Client
from dvidcore import labels
from dvidcore.datatypes.labels import mapping, remapped
from dvidcore.datatypes.labels.rows import Rows
from dvidcore.repos import Database
from dvidcore.storage import open_engine

SUPERVOXELS = 64


class Process:
    """What one process has of a store that it shares: nothing in memory is another's."""

    def __init__(self, database: Database) -> None:
        self.client = Client(database)

    def merge(self, path: str, *bodies: int) -> None:
        answer = self.client.post(f"{path}/merge", list(bodies))
        assert answer.status == 200, answer.text

    def bodies(self, path: str) -> list[int]:
        """Of all supervoxels, in their order."""
        found: list[int] = self.client("GET", f"{path}/mapping", list(range(1, SUPERVOXELS + 1))).json()
        return found


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[list[Process]]:
    with open_engine("lmdb", str(tmp_path)) as engine:
        yield [Process(Database.open({"main": engine})) for _ in range(3)]


@pytest.fixture
def path(processes: list[Process]) -> str:
    client = processes[0].client
    found = client.instance(client.repo(), "seg", "labelmap", BlockSize="16,16,16")
    volume = np.arange(16**3, dtype=np.uint64) // SUPERVOXELS + 1
    assert client.post(f"{found}/raw/0_1_2/16_16_16/0_0_0", volume.tobytes()).status == 200
    return found


@pytest.fixture
def filled(monkeypatch: pytest.MonkeyPatch) -> list[labels.Mapping]:
    """A table for each time that all rows are read."""
    found: list[labels.Mapping] = []
    fill = mapping.fill

    def watched(table: labels.Mapping, *arguments: object) -> None:
        found.append(table)
        fill(table, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(mapping, "fill", watched)
    return found


def test_only_what_changed_is_read(processes: list[Process], path: str, filled: list[labels.Mapping]) -> None:
    one, two, three = processes
    for process in processes:
        process.bodies(path)
    filled.clear()
    expected = list(range(1, SUPERVOXELS + 1))
    for step in range(2, 40):
        (one if step % 3 else two).merge(path, 1, step)
        expected[step - 1] = 1
        if step % 4 == 0:
            assert [p.bodies(path) for p in (one, two)] == [expected, expected]
    assert three.bodies(path) == expected
    assert not filled


def test_who_is_too_far_behind_reads_everything(
    processes: list[Process], path: str, filled: list[labels.Mapping], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remapped, "KEPT", 5)
    one, two, _ = processes
    two.bodies(path)
    filled.clear()
    for step in range(2, 7):
        one.merge(path, 1, step)
    assert two.bodies(path)[:8] == [1, 1, 1, 1, 1, 1, 7, 8]
    assert not filled
    for step in range(7, 13):
        one.merge(path, 1, step)
    assert two.bodies(path)[:14] == [1] * 12 + [13, 14]
    assert len(filled) == 1
    (database,) = {p.client.server.database for p in processes[:1]}
    (repo,) = database.repos.values()
    rows = Rows(repo.instances["seg"].id)
    with database.stores["main"].snapshot() as snapshot:
        assert [k for k in range(20) if snapshot.get(rows.remapped(k))] == [7, 8, 9, 10, 11]


def test_a_write_of_many_supervoxels_has_everything_read(
    processes: list[Process], path: str, filled: list[labels.Mapping], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remapped, "MOST", 3)
    one, two, _ = processes
    two.bodies(path)
    one.merge(path, 1, 2, 3)
    assert two.bodies(path)[:4] == [1, 1, 1, 4]
    before = len(filled)
    one.merge(path, 9, 4, 5, 6, 7)
    one.merge(path, 9, 8)
    assert two.bodies(path)[:10] == [1, 1, 1, 9, 9, 9, 9, 9, 9, 10]
    assert len(filled) == before + 1


@pytest.mark.parametrize("seed", range(3))
def test_random_mutations_by_all_of_them_over_versions(processes: list[Process], path: str, seed: int) -> None:
    pick = random.Random(seed)
    root = path.split("/")[3]
    one = processes[0].client
    one.commit(root)
    versions = [one.child(root), one.post(f"/api/node/{root}/branch", {"branch": "side"}).json()["child"]]
    models = {version: list(range(1, SUPERVOXELS + 1)) for version in versions}
    for step in range(120):
        client, version = pick.choice(processes).client, pick.choice(versions)
        at, model = f"/api/node/{version}/seg", models[version]
        bodies = sorted(set(model))
        if pick.random() < 0.6 and len(bodies) > 4:
            target, *others = pick.sample(bodies, pick.randint(2, 4))
            assert client.post(f"{at}/merge", [target, *others]).status == 200
            models[version] = [target if body in others else body for body in model]
        else:
            body = pick.choice(bodies)
            members = [k + 1 for k, b in enumerate(model) if b == body]
            if len(members) > 1:
                cleaved = pick.sample(members, pick.randint(1, len(members) - 1))
                new = client.post(f"{at}/cleave/{body}", cleaved).json()["CleavedLabel"]
                models[version] = [new if k + 1 in cleaved else b for k, b in enumerate(model)]
        if step % 5 == 0:
            asked = pick.choice(versions)
            assert pick.choice(processes).bodies(f"/api/node/{asked}/seg") == models[asked]
    for process in processes:
        for version in versions:
            assert process.bodies(f"/api/node/{version}/seg") == models[version]


def test_all_mutate_at_once(processes: list[Process], path: str) -> None:
    def work(number: int) -> None:
        """Merges the supervoxels of its own third one by one, and sees what it did and never less of the others."""
        process, mine = processes[number], list(range(number + 1, SUPERVOXELS + 1, 3))
        seen = 0
        for step, supervoxel in enumerate(mine[1:], 1):
            process.merge(path, mine[0], supervoxel)
            found = process.bodies(path)
            assert [found[k - 1] for k in mine[: step + 1]] == [mine[0]] * (step + 1)
            mapped = sum(body != k for k, body in enumerate(found, 1))
            assert mapped >= seen + 1
            seen = mapped

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(work, number) for number in range(3)]:
            done.result()
    expected = [(k - 1) % 3 + 1 for k in range(1, SUPERVOXELS + 1)]
    assert [process.bodies(path) for process in processes] == [expected] * 3
