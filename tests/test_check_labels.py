"""What a running server does about an index that is wrong, and the commands that maintain a label instance."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from apiclient import TOKEN, Client
from dvidcore import labels
from dvidcore.checking import check
from dvidcore.cli import cli
from dvidcore.geometry import ZYX
from dvidcore.repos import Database
from dvidcore.storage import open_engine
from test_labelmap_writes import SIDE, Index, index_message, mapping_ops, stream

CONFIG = {"BlockSize": f"{SIDE},{SIDE},{SIDE}", "MaxDownresLevel": "1"}
WHOLE = SIDE**3


def filled(label: int) -> Any:
    return np.full((SIDE,) * 3, label, np.uint64)


@pytest.fixture
def seg(database: Database) -> tuple[Client, str]:
    """Body 5 has supervoxels 5 and 6, a block each."""
    client = Client(database)
    path = client.instance(client.repo(), "seg", "labelmap", **CONFIG)
    blocks = stream({ZYX(0, 0, 0): filled(5), ZYX(-1, 0, 2): filled(6), ZYX(0, 1, 0): filled(7)})
    assert client.post(f"{path}/blocks?downres=true", blocks).status == 200
    assert client.post(f"{path}/merge", [5, 6]).status == 200
    return client, path


def post_index(client: Client, path: str, body: int, index: Index) -> None:
    assert client.post(f"{path}/index/{body}", index_message(body, index)).status == 200


RIGHT: Index = {(0, 0, 0): {5: WHOLE}, (-1, 0, 2): {6: WHOLE}}
WRONG: list[Index] = [
    {},
    {(0, 0, 0): {5: WHOLE}},
    {(0, 0, 0): {5: 17}, (-1, 0, 2): {6: WHOLE}},
    {(0, 0, 0): {5: WHOLE, 9: 3}, (-1, 0, 2): {6: WHOLE}},
    {(0, 0, 0): {5: WHOLE}, (-1, 0, 2): {6: WHOLE}, (4, 4, 4): {5: 1}},
    {(7, 7, 7): {77: 7}},
]


def test_an_index_that_is_right_agrees(seg: tuple[Client, str]) -> None:
    client, path = seg
    assert client.get(f"{path}/verify-index/5").json() == {
        "Label": 5,
        "Agrees": True,
        "Voxels": 2 * WHOLE,
        "Blocks": 2,
        "RecordedVoxels": 2 * WHOLE,
        "RecordedBlocks": 2,
        "DifferingBlocks": 0,
        "Differences": [],
    }
    nobody = client.get(f"{path}/verify-index/6").json()
    assert (nobody["Agrees"], nobody["Voxels"]) == (True, 0)


@pytest.mark.parametrize("wrong", WRONG)
def test_an_index_that_is_wrong_is_told_and_mended(database: Database, seg: tuple[Client, str], wrong: Index) -> None:
    client, path = seg
    post_index(client, path, 5, wrong)
    told = client.get(f"{path}/verify-index/5").json()
    assert not told["Agrees"] and told["Voxels"] == 2 * WHOLE
    differing = [at for at in {*wrong, *RIGHT} if wrong.get(at) != RIGHT.get(at)]
    listed = {tuple(d["Block"][::-1]): (d["Stored"], d["Counted"]) for d in told["Differences"]}
    assert told["DifferingBlocks"] == len(differing)
    assert listed == {
        at: tuple({str(s): n for s, n in index.get(at, {}).items()} for index in (wrong, RIGHT)) for at in differing
    }
    assert client.post(f"{path}/repair-index/5").json() == told
    assert client.get(f"{path}/verify-index/5").json()["Agrees"]
    columns = labels.decode_index(client.get(f"{path}/index/5").body)
    assert columns[1].tolist() == [[-1, 0, 2], [0, 0, 0]]
    assert columns[2].tolist() == [6, 5] and columns[3].tolist() == [WHOLE, WHOLE]
    assert client.get(f"{path}/size/5").json() == {"voxels": 2 * WHOLE}
    assert check(database, strict=True).serious == 0


def test_only_the_blocks_of_the_index_can_be_compared(seg: tuple[Client, str]) -> None:
    client, path = seg
    post_index(client, path, 5, {(0, 0, 0): {5: 17}})
    told = client.get(f"{path}/verify-index/5?blocks=listed").json()
    assert [d["Block"] for d in told["Differences"]] == [[0, 0, 0]]
    assert client.post(f"{path}/repair-index/5?blocks=listed").status == 200
    assert client.get(f"{path}/verify-index/5?blocks=listed").json()["Agrees"]
    assert not client.get(f"{path}/verify-index/5").json()["Agrees"]


def test_a_repair_keeps_what_is_known_of_the_last_mutation(seg: tuple[Client, str]) -> None:
    client, path = seg
    assert client.post(f"{path}/merge?u=ann", [5, 7]).status == 200
    before = client.get(f"{path}/lastmod/5").json()
    message = labels.decode_index(client.get(f"{path}/index/5").body)
    body = labels.encode_index(5, *(column[:1] for column in message[1:5]), *message[5:])
    assert client.post(f"{path}/index/5", body).status == 200
    assert client.post(f"{path}/repair-index/5").json()["DifferingBlocks"] == 2
    assert client.get(f"{path}/lastmod/5").json() == before
    assert len(client.get(f"{path}/mutations").json()) == 2


def test_a_repair_is_of_one_version_and_refused_at_a_locked_one(seg: tuple[Client, str]) -> None:
    client, path = seg
    uuid = path.split("/")[3]
    post_index(client, path, 5, WRONG[1])
    client.commit(uuid)
    assert client.post(f"{path}/repair-index/5").status == 400
    child = path.replace(uuid, client.child(uuid))
    assert client.post(f"{child}/repair-index/5").status == 200
    assert client.get(f"{child}/verify-index/5").json()["Agrees"]
    assert not client.get(f"{path}/verify-index/5").json()["Agrees"]


@pytest.mark.parametrize("what", ["verify-index/0", "verify-index/x", "verify-index/5?blocks=some", "verify-index"])
def test_what_is_no_label_is_refused(seg: tuple[Client, str], what: str) -> None:
    client, path = seg
    assert client.get(f"{path}/{what}").status == 400


def test_an_instance_without_an_index_has_none_to_verify(database: Database) -> None:
    client = Client(database)
    path = client.instance(client.repo(), "seg", "labelmap", IndexedLabels="false", **CONFIG)
    assert client.get(f"{path}/verify-index/5").status == 400
    assert client.post(f"{path}/repair-index/5").status == 400


def test_a_labelarray_has_it_too(database: Database) -> None:
    client = Client(database)
    path = client.instance(client.repo(), "seg", "labelarray", **CONFIG)
    assert client.post(f"{path}/blocks?downres=true", stream({ZYX(0, 0, 0): filled(5)})).status == 200
    assert client.get(f"{path}/verify-index/5").json()["Agrees"]


# -- commands ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> tuple[Path, str]:
    """A folder, and the version of a labelmap in it: body 5 of supervoxels 5 and 6, body 7, supervoxel 8 is gone."""
    folder = tmp_path / "data"
    with Database.open({"default": open_engine("leveldb", str(folder))}) as database:
        client = Client(database)
        uuid = client.repo()
        path = client.instance(uuid, "seg", "labelmap", **CONFIG)
        client.instance(uuid, "kv", "keyvalue")
        blocks = stream({ZYX(0, 0, 0): filled(5), ZYX(-1, 0, 2): filled(6), ZYX(0, 1, 0): filled(7)})
        assert client.post(f"{path}/blocks", blocks).status == 200
        assert client.post(f"{path}/merge", [5, 6]).status == 200
        assert client.post(f"{path}/mappings", mapping_ops([(8, 0)])).status == 200
        assert client.admin("POST", f"{path}/maxlabel/1000").status == 200
    return folder, uuid


def run(store: tuple[Path, str], *arguments: str, name: str = "seg", version: str | None = None) -> Result:
    return CliRunner().invoke(cli, ["node", str(store[0]), version or store[1], name, *arguments])


@pytest.mark.parametrize("blocks", ["all", "listed"])
def test_an_index_is_compared_with_a_few_blocks_in_memory(tmp_path: Path, blocks: str) -> None:
    """400 blocks of 34 kB each."""
    with Database.open({"default": open_engine("leveldb", str(tmp_path))}) as database:
        client = Client(database)
        path = client.instance(client.repo(), "seg", "labelmap", BlockSize="32,32,32")
        voxels = np.random.default_rng(1).integers(5, 261, (32, 32, 32)).astype(np.uint64)
        posted = stream({ZYX(0, 0, x): voxels for x in range(400)})
        assert client.post(f"{path}/blocks?noindexing=true", posted).status == 200
        post_index(client, path, 5, {(0, 0, x): {5: 2} for x in range(400)})
        tracemalloc.start()
        try:
            for verb, what in (("GET", "verify-index"), ("POST", "repair-index")):
                assert not client(verb, f"{path}/{what}/5?blocks={blocks}").json()["Agrees"]
            assert tracemalloc.get_traced_memory()[1] < 9 << 20
        finally:
            tracemalloc.stop()
        assert client.get(f"{path}/verify-index/5").json()["Agrees"]


def asked(store: tuple[Path, str], path: str) -> Any:
    with Database.open({"default": open_engine("leveldb", str(store[0]))}) as database:
        return Client(database).get(f"/api/node/{store[1]}/seg/{path}").json()


def test_dumps_append_lines_of_numbers(store: tuple[Path, str], tmp_path: Path) -> None:
    expected = {
        "svcount": {f"5 0 0 0 {WHOLE}", f"6 -1 0 2 {WHOLE}", f"7 0 1 0 {WHOLE}"},
        "mappings": {"6 5", "8 0"},
        "indices": {f"5 5 0 0 0 {WHOLE}", f"5 6 -1 0 2 {WHOLE}", f"7 7 0 1 0 {WHOLE}"},
    }
    for what, lines in expected.items():
        out = tmp_path / what
        out.write_text("before\n")
        assert run(store, "dump", what, str(out)).exit_code == 0
        first, *found = out.read_text().splitlines()
        assert (first, set(found), len(found)) == ("before", lines, len(lines))


def test_the_next_label_can_be_set(store: tuple[Path, str]) -> None:
    assert run(store, "set-nextlabel", "5000").exit_code == 0
    assert asked(store, "nextlabel") == {"nextlabel": 5001}
    assert run(store, "set-nextlabel", "6000", "7000").exit_code == 0
    assert asked(store, "info")["Extended"]["NextLabelCeiling"] == 7000
    answer = run(store, "set-nextlabel", "8000")
    assert answer.exit_code == 1 and "ceiling" in answer.stderr
    assert run(store, "set-nextlabel", "0").exit_code == 2


def test_the_largest_labels_are_recomputed_only_on_request(store: tuple[Path, str]) -> None:
    answer = run(store, "repair-maxlabel")
    assert answer.exit_code == 0
    assert answer.stdout.splitlines()[:2] == [f"{store[1]} 1000 -> 8", "repo 1000 -> 8"]
    assert asked(store, "maxlabel") == {"maxlabel": 1000}
    assert run(store, "repair-maxlabel", "--commit").exit_code == 0
    assert asked(store, "maxlabel") == {"maxlabel": 8}
    assert asked(store, "nextlabel") == {"nextlabel": 9}


def test_each_version_gets_its_own_largest_label(store: tuple[Path, str]) -> None:
    with Database.open({"default": open_engine("leveldb", str(store[0]))}) as database:
        client = Client(database)
        client.commit(store[1])
        child = client.child(store[1])
        path = f"/api/node/{child}/seg"
        assert client.post(f"{path}/blocks", stream({ZYX(0, 5, 0): filled(50)})).status == 200
        assert client.post(f"{path}/maxlabel/2000?admintoken={TOKEN}").status == 200
    assert run(store, "repair-maxlabel", "--commit").exit_code == 0
    assert asked(store, "info")["Extended"]["MaxLabel"] == {"1": 8, "2": 50}
    assert asked(store, "maxlabel") == {"maxlabel": 8}


def test_what_cannot_be_maintained_is_told(store: tuple[Path, str], tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    assert "no labels" in run(store, "dump", "mappings", out, name="kv").stderr
    for wrong in ({"name": "none"}, {"version": "ffff"}):
        assert run(store, "dump", "mappings", out, **wrong).exit_code == 1
    assert run((tmp_path / "nowhere", "abc"), "dump", "mappings", out).exit_code == 1
    assert not (tmp_path / "nowhere").exists()
