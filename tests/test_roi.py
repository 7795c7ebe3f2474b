"""The datatype roi over the API: the list, versions, masks, point queries, and each weakness of DVID's by itself."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

from apiclient import Client
from dvidcore.datatypes import call
from dvidcore.datatypes.roi import datatype
from dvidcore.repos import Database, OneStore
from dvidcore.storage.leveldb import LevelDB
from dvidcore.storage.lmdb import LMDB
from roi_model import some_spans, voxels

LIST = [[0, 0, 0, 5], [0, 1, 0, 5], [3, 3, 3, 3]]


@pytest.fixture
def client(database):
    return Client(database)


@pytest.fixture
def area(client):
    """The path of an ROI that holds LIST."""
    path = client.instance(client.repo(), "area", "roi")
    post(client, path, LIST)
    return path


def post(client: Client, path: str, spans) -> None:
    answer = client.post(f"{path}/roi", spans)
    assert (answer.status, answer.body) == (200, b""), answer.text


def spans(client: Client, path: str):
    answer = client.get(f"{path}/roi")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json"), answer.text
    return answer.json()


def z_range(client: Client, path: str):
    found = client.get(f"{path}/info").json()["Extended"]
    return found["MinZ"], found["MaxZ"]


def mask(client: Client, path: str, offset, size) -> np.ndarray:
    """The mask of a box given in z, y, x."""
    size_, offset_ = ("_".join(map(str, reversed(p))) for p in (size, offset))
    answer = client.get(f"{path}/mask/0_1_2/{size_}/{offset_}")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/octet-stream"), answer.text
    return np.frombuffer(answer.body, np.uint8).reshape(size)


def at(path: str, uuid: str) -> str:
    return f"/api/node/{uuid}/{path.rsplit('/', 1)[1]}"


def node_of(path: str) -> str:
    return path.split("/")[3]


# -- the list ---------------------------------------------------------------------------------------------------------


def test_info(client):
    path = client.instance(client.repo(), "area", "roi", BlockSize="16,32,8")
    found = client.get(f"{path}/info").json()
    assert found["Extended"] == {"BlockSize": [16, 32, 8], "MinZ": 2**31 - 1, "MaxZ": -(2**31)}
    base = found["Base"]
    assert (base["TypeName"], base["TypeVersion"]) == ("roi", "0.1")
    assert base["TypeURL"] == "github.com/janelia-flyem/dvid/datatype/roi"


def test_a_post_replaces_the_list(client, area):
    post(client, area, [[5, 1, 5, 6], [-1, 3, -4, -2], [5, 1, 0, 2], [5, 1, 0, 2], [5, 1, 3, 4]])
    assert spans(client, area) == [[-1, 3, -4, -2], [5, 1, 0, 2], [5, 1, 3, 4], [5, 1, 5, 6]]
    assert z_range(client, area) == (-1, 5)
    for nothing in (b"[]", b"null"):
        post(client, area, nothing)
        assert spans(client, area) == []
        assert z_range(client, area) == (2**31 - 1, -(2**31))
        post(client, area, LIST)
    assert client("DELETE", f"{area}/roi").status == 200
    assert spans(client, area) == []


@pytest.mark.parametrize("compression", ["none", "snappy", "lz4", "gzip"])
def test_many_spans(client, compression):
    path = client.instance(client.repo(), "area", "roi", Compression=compression, Checksum="crc32")
    many = some_spans(1, (20, 60, 60), (-10, -30, -30))
    post(client, path, many[::-1])
    assert spans(client, path) == many


@pytest.mark.parametrize("engine", [LevelDB, LMDB])
def test_a_list_outlives_the_process(engine, tmp_path: Path):
    """Nothing but the store holds it: also one span, whose array numpy would not copy, survives its snapshot."""
    for k, some in enumerate((LIST, [[1, 2, 3, 4]], some_spans(2, (9, 30, 30)))):
        folder = str(tmp_path / f"store{k}")
        with Database.open({"main": engine.open(folder)}, OneStore("main")) as database:
            client = Client(database)
            path = client.instance(client.repo(), "area", "roi")
            post(client, path, some)
        datatype.region._kept.__init__(datatype.region.KEPT)
        with Database.open({"main": engine.open(folder)}, OneStore("main")) as database:
            client = Client(database)
            for _ in range(2):
                assert spans(client, path) == some
                gc.collect()


# -- versions ---------------------------------------------------------------------------------------------------------


def test_versions(client, area):
    root = node_of(area)
    client.commit(root)
    for verb in ("POST", "DELETE"):
        assert client(verb, f"{area}/roi", []).status == 400
    a = client.child(root)
    b = client.post(f"/api/node/{root}/branch", {"branch": "side"}).json()["child"]
    assert spans(client, at(area, a)) == spans(client, at(area, b)) == LIST
    post(client, at(area, a), [[9, 9, 9, 9], [7, 1, 2, 3]])
    assert client("DELETE", at(area, b) + "/roi").status == 200
    assert [spans(client, at(area, v)) for v in (root, a, b)] == [LIST, [[7, 1, 2, 3], [9, 9, 9, 9]], []]
    post(client, at(area, b), LIST[:1])
    assert spans(client, at(area, b)) == LIST[:1]


def test_each_version_has_its_own_z_range(client, area):
    root = node_of(area)
    client.commit(root)
    a = client.child(root)
    b = client.post(f"/api/node/{root}/branch", {"branch": "side"}).json()["child"]
    post(client, at(area, a), [[-7, 0, 0, 0], [90, 0, 0, 0]])
    assert client("DELETE", at(area, b) + "/roi").status == 200
    assert [z_range(client, at(area, v)) for v in (root, a, b)] == [(0, 3), (-7, 90), (2**31 - 1, -(2**31))]
    ranges = [client.get(at(area, v) + "/partition").json()["ROI"] for v in (root, a, b)]
    assert [(r["MinChunk"][2], r["MaxChunk"][2]) for r in ranges] == [(0, 3), (-7, 90), (0, 0)]


def test_one_list_for_all_versions(client):
    root = client.repo()
    path = client.instance(root, "flat", "roi", versioned="false")
    post(client, path, LIST)
    client.commit(root)
    child = client.child(root)
    post(client, path, LIST[:2])
    assert spans(client, at(path, child)) == LIST[:2]
    post(client, at(path, child), LIST[2:])
    assert spans(client, path) == LIST[2:]
    assert client("DELETE", f"{path}/roi").status == 200
    assert spans(client, at(path, child)) == []


def merged(client, root: str, first, second) -> str:
    """A merge of two children of ``root`` after a function did something to each."""
    parents = [client.child(root), client.post(f"/api/node/{root}/branch", {"branch": "side"}).json()["child"]]
    for do, node in zip((first, second), parents, strict=True):
        do(node)
        client.commit(node)
    answer = client.post(f"/api/repo/{root}/merge", {"mergeType": "conflict-free", "parents": parents})
    assert answer.status == 200, answer.text
    return answer.json()["child"]


def test_a_merge_shows_the_list_of_the_parent_that_changed_it(client, area):
    client.commit(node_of(area))
    both = merged(client, node_of(area), lambda v: post(client, at(area, v), [[1, 1, 1, 1]]), lambda v: None)
    assert spans(client, at(area, both)) == [[1, 1, 1, 1]]
    assert z_range(client, at(area, both)) == (1, 1)


def test_two_changed_lists_are_not_mixed(client, area):
    """Both parents changed the list: a conflict that reading reports and a new list settles."""
    client.commit(node_of(area))
    both = merged(
        client,
        node_of(area),
        lambda v: post(client, at(area, v), [[1, 1, 1, 1]]),
        lambda v: post(client, at(area, v), [[2, 2, 2, 2], [4, 4, 4, 4]]),
    )
    path = at(area, both)
    for verb, ask, body in (
        ("GET", "roi", None),
        ("GET", "partition", None),
        ("GET", "mask/0_1_2/4_4_4/0_0_0", None),
        ("POST", "ptquery", [[0, 0, 0]]),
    ):
        answer = client(verb, f"{path}/{ask}", body)
        assert answer.status == 409 and "area" in answer.text
    assert z_range(client, path) == (1, 4), "info answers, for the lists of all repos are asked together"
    post(client, path, [[3, 3, 3, 3]])
    assert spans(client, path) == [[3, 3, 3, 3]] and z_range(client, path) == (3, 3)


# -- masks and points -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [(32, 32, 32), (8, 16, 24)])
def test_mask_and_ptquery(client, block):
    size = ",".join(map(str, reversed(block)))
    path = client.instance(client.repo(), "area", "roi", BlockSize=size)
    inside = some_spans(3, (4, 5, 6), (-2, -3, -2))
    post(client, path, inside)
    rng = np.random.default_rng(5)
    for _ in range(12):
        box = tuple(rng.integers(-70, 60, 3).tolist()), tuple(rng.integers(1, 90, 3).tolist())
        found = mask(client, path, *box)
        assert (found == voxels(inside, *box, block)).all()
    whole = voxels(inside, (-70, -100, -80), (140, 200, 180), block)
    points = rng.integers((-70, -100, -80), (70, 100, 100), (500, 3))
    answer = client.post(f"{path}/ptquery", points[:, ::-1].tolist())
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == whole[tuple((points + np.array((70, 100, 80))).T)].tolist()


def test_ptquery(client, area):
    def ask(points):
        answer = client.post(f"{area}/ptquery", points)
        assert answer.status == 200, answer.text
        return answer.json()

    assert ask([]) == []
    assert ask([[0, 0, 0], [-1, 0, 0], [191, 63, 31], [192, 0, 0], [0, 0, 0]]) == [True, False, True, False, True]
    client.commit(node_of(area))
    assert ask([[100, 100, 100]]) == [True], "a query is not a change"


@pytest.mark.parametrize("shape", ["0_1_2", "0,1,2", "vol", "VOL"])
def test_names_of_a_volume(client, area, shape):
    assert client.get(f"{area}/mask/{shape}/4_3_2/0_0_0").body == b"\x01" * 24


def test_large_masks_come_in_pieces(client, area, monkeypatch):
    whole = mask(client, area, (-3, -5, 180), (9, 40, 30))
    for most in (30 * 40 * 4, 30 * 40 - 1, 30 * 4, 29, 7):
        monkeypatch.setattr(datatype, "PIECE", most)
        answer = client.get(f"{area}/mask/0_1_2/30_40_9/180_-5_-3")
        assert answer.headers["content-length"] == str(whole.size)
        assert answer.body == whole.tobytes()


# -- where DVID is weak -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[",
        b"{}",
        b"7",
        b'{"a": 1}',
        b'"[]"',
        b"[7]",
        b"[[]]",
        b"[[0, 0, 0, 1], null]",
        b"[[0, 0, 1.5, 2]]",
        b"[[0, 0, 1.0, 2]]",
        b"[[0, 0, true, 2]]",
        b'[["a", 0, 0, 0]]',
        b"[[0, 0, 5, 3]]",
        b"[[0, 0, 0, 0], [0, 0, 9, 3]]",
        b"[[0, 0, 3000000000, 3000000001]]",
        b"[[0, 0, 0, 2147483648]]",
        b"[[0, 0, 0, 99999999999999999999999]]",
        b"[[0, 0, 0]]",
        b"[[0, 0, 0, 1, 2]]",
        b"[[0, 0, 0, 1], [0, 0, 0]]",
    ],
)
def test_a_refused_list_changes_nothing(client, area, body):
    """Also spans of three or five numbers are refused, not padded or cut."""
    answer = client.post(f"{area}/roi", body)
    assert answer.status == 400 and answer.text.strip()
    assert spans(client, area) == LIST and z_range(client, area) == (0, 3)


def test_a_long_list_is_made_in_parts(client, area, monkeypatch):
    whole = client.get(f"{area}/roi").body
    monkeypatch.setattr(datatype, "LISTED", 2)
    assert len(LIST) > 2 and client.get(f"{area}/roi").body == whole


def test_a_list_too_large_to_parse_in_memory(client, area, monkeypatch):
    monkeypatch.setattr(call, "LARGEST_JSON", 100)
    answer = client.post(f"{area}/roi", LIST * 4)
    assert answer.status == 413 and "100" in answer.text
    assert spans(client, area) == LIST


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"7",
        b"null",
        b"[7]",
        b"[[1.5, 2, 3]]",
        b'["a"]',
        b"[[1, 2]]",
        b"[[1, 2, 3, 4]]",
        b"[[1, 2, 2147483648]]",
    ],
)
def test_points_that_are_none(client, area, body):
    answer = client.post(f"{area}/ptquery", body)
    assert answer.status == 400 and answer.text.strip()


def test_masks_at_negative_offsets_are_complete(client):
    """Blocks at the lower edge of a box with an unaligned negative offset: floor, not division toward zero."""
    path = client.instance(client.repo(), "area", "roi")
    post(client, path, [[-1, -1, -2, -1]])
    found = mask(client, path, (-33, -33, -65), (34, 34, 66))
    assert found.sum() == 32 * 32 * 64 and found[1:33, 1:33, 1:65].all()
    assert mask(client, path, (-1, -1, -1), (2, 2, 2)).ravel().tolist() == [1] + [0] * 7


@pytest.mark.parametrize(
    "path",
    [
        "mask",
        "mask/0_1_2",
        "mask/0_1_2/4_4_4",
        "mask/xy/4_4/0_0_0",
        "mask/xy/4_4_4/0_0_0",
        "mask/0_1/4_4_4/0_0_0",
        "mask/nosuch/4_4_4/0_0_0",
        "mask/0_1_2/4_4/0_0_0",
        "mask/0_1_2/4_4_4/0_0",
        "mask/0_1_2/4_4_4_4/0_0_0",
        "mask/0_1_2/a_4_4/0_0_0",
        "mask/0_1_2/4_4.5_4/0_0_0",
        "mask/0_1_2/-4_4_4/0_0_0",
        "mask/0_1_2/-4_-4_4/0_0_0",
        "mask/0_1_2/4_4_0/0_0_-",
        "mask/0_1_2/4_4_4/0_0_2147483647",
        "mask/0_1_2/100000_100000_1/0_0_0",
        "ptquery",
        "nosuch",
        "",
    ],
)
def test_refused_gets(client, area, path):
    answer = client.get(f"{area}/{path}")
    assert answer.status == (404 if path == "" else 400) and answer.text.strip()


@pytest.mark.parametrize("size", ["0_4_4", "4_0_4", "4_4_0", "0_0_0", "2000000000_2000000000_0"])
def test_a_mask_without_voxels_is_empty(client, area, size):
    answer = client.get(f"{area}/mask/0_1_2/{size}/0_0_0")
    assert (answer.status, answer.body) == (200, b"")


def test_overlapping_spans_are_kept_and_answer_as_one(client, area):
    overlapping = [[0, 0, 0, 9], [0, 0, 2, 3], [0, 0, 5, 12], [0, 0, 13, 13]]
    post(client, area, overlapping)
    assert spans(client, area) == overlapping
    points = [[32 * x, 0, 0] for x in range(-1, 15)]
    assert client.post(f"{area}/ptquery", points).json() == [0 <= x <= 13 for x in range(-1, 15)]
    assert mask(client, area, (0, 0, 0), (1, 1, 32 * 15)).sum() == 32 * 14


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("PUT", "roi"),
        ("PATCH", "roi"),
        ("PUT", "ptquery"),
        ("DELETE", "ptquery"),
        ("POST", "info"),
        ("DELETE", "info"),
        ("POST", "mask/0_1_2/4_4_4/0_0_0"),
        ("POST", "partition?batchsize=2"),
        ("POST", "nosuch"),
    ],
)
def test_other_verbs(client, area, verb, path):
    answer = client(verb, f"{area}/{path}", [])
    assert answer.status == 400 and answer.text.strip()
    assert spans(client, area) == LIST


@pytest.mark.parametrize("path", ["roi", "info", "partition", "mask/0_1_2/4_4_4/0_0_0"])
def test_head_is_get_without_a_body(client, area, path):
    answer = client("HEAD", f"{area}/{path}")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-type"] == client.get(f"{area}/{path}").headers["content-type"]


@pytest.mark.parametrize(
    "size", ["16", "16,16", "16,16,16,16", "a,b,c", "16;16;16", "0,16,16", "16,-16,16", "0,0,0", "1.5,2,2", "65537,1,1"]
)
def test_block_sizes_that_are_none(client, size):
    root = client.repo()
    config = {"typename": "roi", "dataname": "area", "BlockSize": size}
    answer = client.post(f"/api/repo/{root}/instance", config)
    assert answer.status == 400 and "BlockSize" in answer.text
    assert client.get(f"/api/node/{root}/area/info").status == 400


def test_what_is_kept_in_memory_is_never_out_of_date(client, area):
    """The same list posted and deleted again and again, in versions that share it."""
    client.commit(node_of(area))
    child = at(area, client.child(node_of(area)))
    for k in range(5):
        for some in (LIST, [[k, k, k, k]], LIST[:1]):
            post(client, child, some)
            assert client.post(f"{child}/ptquery", [[0, 0, 0], [32 * k] * 3]).json() == [
                some[0][:3] == [0, 0, 0],
                some == [[k, k, k, k]] or k == 0 or (k == 3 and some == LIST),
            ]
        assert client("DELETE", f"{child}/roi").status == 200
        assert client.post(f"{child}/ptquery", [[0, 0, 0]]).json() == [False]
        assert spans(client, area) == LIST
