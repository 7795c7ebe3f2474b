"""The endpoints of labelsz, and each place where it does better than DVID."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from annotation_model import INDEX_TYPES, SHAPE, World, element, reload, wait
from apiclient import Client
from dvidcore.repos import Database
from dvidcore.storage.engine import Batch
from dvidcore.storage.memory import Memory


@pytest.fixture
def world(database: Database) -> World:
    """Labels 1 to 12, 8 voxels each along x."""
    made = World(database)
    made.write(np.broadcast_to(np.arange(SHAPE[2], dtype=np.uint64) // 8 + 1, SHAPE))
    return made


def fill(world: World) -> None:
    """On label k there are k elements, of all kinds."""
    kinds = ("PreSyn", "PostSyn", "Gap", "Note", "Unknown")
    world.put(*(element((8 * k - 8, y, 1), kinds[(k + y) % 5]) for k in range(1, 13) for y in range(k)))


# -- endpoints ---------------------------------------------------------------------------------------------------------


def test_counts_and_rankings(world: World) -> None:
    assert world.get("sizes/top/5/AllSyn") == []
    fill(world)
    world.agree()
    ranking = world.state.ranking("PreSyn")
    for n in (0, 1, 3, 1000, 2**32 - 1):
        assert world.get(f"sizes/top/{n}/PreSyn") == ranking[:n]
    for least in (0, 1, 2, 3, 100, 2**64 - 1):
        wanted = [one for one in ranking if one["Size"] >= least]
        assert world.get(f"sizes/threshold/{least}/PreSyn") == wanted
        assert world.get(f"sizes/threshold/{least}/PreSyn?offset=2") == wanted[2:]
        assert world.get(f"sizes/threshold/{least}/PreSyn?offset=1&n=3") == wanted[1:4]
        assert world.get(f"sizes/threshold/{least}/PreSyn?n=0&offset=0") == wanted
    assert world.get(f"sizes/threshold/1/PreSyn?n={2**64 - 1}&offset={2**64 - 1}") == []
    label = ranking[0]["Label"]
    assert world.get(f"sizes/count/{label}/PreSyn") == {"Label": label, "PreSyn": ranking[0]["Size"]}
    assert world.get("sizes/count/0/PreSyn") == {"Label": 0, "PreSyn": 0}
    assert world.get("sizes/counts/Gap", []) == []
    twice = world.get("sizes/counts/PreSyn", [label, 999, label])
    assert twice == [{"Label": n, "PreSyn": s} for n, s in ((label, ranking[0]["Size"]), (999, 0)) * 2][:3]


def test_pages_of_ten_thousand(world: World) -> None:
    """offset counts from 0, the default and n=0 are 10000, n is capped by what exists."""
    data = world.client.server.instances.named(world.database.repo_of(world.root), "sizes")
    from dvidcore.datatypes.labelsz import counts

    batch = Batch()
    call = _call(world, data)
    for label in range(1, 10_004):
        counts.put(data, call.view, batch, (1, label), old=0, new=label % 7 + 1)  # type: ignore[arg-type]
    data.engine.write(batch)
    ranking = sorted(
        ({"Label": n, "Size": n % 7 + 1} for n in range(1, 10_004)), key=lambda o: (-o["Size"], o["Label"])
    )
    assert world.get("sizes/threshold/1/PostSyn") == ranking[:10_000]
    assert world.get("sizes/threshold/1/PostSyn?n=0&offset=10000") == ranking[10_000:]
    assert world.get("sizes/threshold/1/PostSyn?n=2000000000") == ranking
    assert world.get("sizes/top/4294967295/PostSyn") == ranking
    call.close()


def _call(world: World, data: Any) -> Any:
    from dvidcore.datatypes.call import Call

    repo, node = world.database.resolve(world.node)
    return Call(data.engine, node, world.database.ancestry_for(repo, node, data.record))


@pytest.mark.parametrize(
    "path",
    [
        "count/3",
        "count/x/PreSyn",
        "count/+3/PreSyn",
        "count/-1/PreSyn",
        f"count/{2**64}/PreSyn",
        "count/3/presyn",
        "count/3/Unknown",
        "top/3",
        "top/-1/PreSyn",
        f"top/{2**32}/PreSyn",
        "threshold/x/AllSyn",
        "threshold/-2/AllSyn",
        "threshold/2/AllSyn?n=-3",
        "threshold/2/AllSyn?offset=-1",
        "threshold/2/AllSyn?offset=x",
        "counts/Foo",
        "nosuch",
    ],
)
def test_what_is_wrong_is_refused(world: World, path: str) -> None:
    world.refused("GET", f"sizes/{path}")


@pytest.mark.parametrize("body", [b"", b"x", {"a": 1}, [-1], ["1"], [1.5], [True], [1, 2**64], [1, None]])
def test_counts_takes_a_list_of_labels_and_answers_all_or_nothing(world: World, body: Any) -> None:
    world.refused("GET", "sizes/counts/AllSyn", body)


def test_voxels_are_never_counted(world: World) -> None:
    fill(world)
    assert world.get("sizes/top/5/Voxels") == [] == world.get("sizes/threshold/0/Voxels")
    assert world.get("sizes/count/3/Voxels") == {"Label": 3, "Voxels": 0}
    assert world.get("sizes/counts/Voxels", [3]) == [{"Label": 3, "Voxels": 0}]


def test_only_annotations_can_be_followed(world: World) -> None:
    for bad in ({"sync": "seg"}, {"sync": "nosuch"}, {"sync": "ann,seg"}, "x"):
        world.refused("POST", "sizes/sync", bad)
    world.client.instance(world.root, "alone", "labelsz")
    assert "not synced" in world.refused("POST", "alone/reload")


# -- following ---------------------------------------------------------------------------------------------------------


def test_an_element_of_another_kind_at_the_same_position_takes_the_place_of_the_old(world: World) -> None:
    world.put(element((1, 1, 1), "PreSyn"))
    world.put(element((1, 1, 1), "Gap"))
    world.agree()
    world.put(element((1, 1, 1), "Unknown"))
    world.agree()
    assert all(world.get(f"sizes/top/5/{kind}") == [] for kind in INDEX_TYPES)


def test_background_is_never_counted(world: World) -> None:
    world.put(element((500, 1, 1), "PreSyn"), element((1, 1, 1), "PreSyn"))
    assert world.get("sizes/count/0/PreSyn")["PreSyn"] == 0
    assert world.get("sizes/top/9/PreSyn") == [{"Label": 1, "Size": 1}]
    world.write(np.zeros((32, 32, 32), np.uint64))
    assert world.get("sizes/top/9/PreSyn") == []


def test_counts_belong_to_versions(world: World) -> None:
    fill(world)
    root = world.node
    world.branch()
    child = world.node
    world.merge(1, 2, 12)
    world.delete((88, 0, 1))
    world.node = root
    world.branch("side")
    world.put(element((90, 50, 1), "PreSyn"))
    for node in (root, child, world.node):
        world.agree(node)
    assert world.findings() == []


# -- reload ------------------------------------------------------------------------------------------------------------


def test_after_a_reload_all_answers_are_those_of_one_that_followed_from_the_start(world: World) -> None:
    fill(world)
    world.client.instance(world.root, "late", "labelsz")
    world.post("late/sync", {"sync": "ann"})
    assert world.get("late/top/99/AllSyn") == []
    world.put(element((3, 3, 3), "PreSyn"))
    world.merge(1, 5)
    reload(world, "late")
    world.put(element((4, 3, 3), "PreSyn"))
    for kind in INDEX_TYPES:
        assert world.get(f"late/top/99/{kind}") == world.get(f"sizes/top/99/{kind}") == world.state.ranking(kind)
    reload(world, "late")
    reload(world, "sizes")
    world.agree()


def test_changes_during_a_reload_are_counted_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dvidcore.datatypes.labelsz.recount.AT_ONCE", 1)
    fill(world)
    world.client.instance(world.root, "late", "labelsz")
    world.post("late/sync", {"sync": "ann"})
    world.post("late/reload")
    for k in range(20):
        world.put(element((4 * k, 20, 3), "PreSyn"), element((4 * k, 21, 3), "PostSyn"))
        if k % 5 == 4:
            world.delete((4 * k, 20, 3))
    world.merge(3, 9)
    assert world.get("late/count/3/PreSyn")["PreSyn"] >= 0  # answered at any time
    wait(world, "late")
    for kind in INDEX_TYPES:
        assert world.get(f"late/top/99/{kind}") == world.state.ranking(kind)


class Overtaking(Memory):
    """An engine in which elements change before counts are written, as another process over the same store would."""

    def __init__(self) -> None:
        super().__init__("overtaking")
        self.before: list[Callable[[], object]] = []

    def write(self, batch: Batch, *, sync: bool = True, guard: Mapping[bytes, bytes | None] | None = None) -> None:
        if guard and self.before and all(key[5:6] == b"\x20" for key in guard):
            self.before.pop()()
        super().write(batch, sync=sync, guard=guard)


def test_a_reload_that_is_overtaken_counts_again() -> None:
    engine = Overtaking()
    with Database.open({"main": engine}) as database:
        world = World(database)
        world.write(np.broadcast_to(np.arange(SHAPE[2], dtype=np.uint64) // 8 + 1, SHAPE))
        fill(world)
        world.client.instance(world.root, "late", "labelsz")
        world.post("late/sync", {"sync": "ann"})
        engine.before = [
            lambda: world.put(element((5, 5, 5), "PreSyn")),
            lambda: world.delete((88, 0, 1)),
            lambda: None,  # the write that begins the reload
        ]
        reload(world, "late")
        assert not engine.before
        for kind in INDEX_TYPES:
            assert world.get(f"late/top/99/{kind}") == world.state.ranking(kind)


def test_a_reload_that_was_interrupted_goes_on() -> None:
    engine = Memory("main")
    with Database.open({"main": engine}) as database:
        world = World(database)
        world.write(np.broadcast_to(np.arange(SHAPE[2], dtype=np.uint64) // 8 + 1, SHAPE))
        fill(world)
        world.client.instance(world.root, "late", "labelsz")
        world.post("late/sync", {"sync": "ann"})
        late = world.client.server.instances.named(database.repo_of(world.root), "late")
        batch = Batch()
        batch.put(late.reloads.key(database.resolve(world.root)[1].id), late.reloads.started)  # type: ignore[attr-defined]
        engine.write(batch)  # what a killed process leaves
        assert world.get("late/info")["Extended"]["Reload"]["State"] == "running"
        world.client = Client(database)
        world.get("late/info")
        wait(world, "late")
        assert "Reload" not in world.get("late/info")["Extended"]
        assert world.get("late/top/99/AllSyn") == world.state.ranking("AllSyn")


# -- the ROI -----------------------------------------------------------------------------------------------------------


def test_only_elements_inside_of_the_roi_count_as_it_was_at_creation(world: World) -> None:
    client, root = world.client, world.root
    client.instance(root, "some", "roi", BlockSize="16,16,16")
    world.post("some/roi", [[0, 0, 0, 2]])
    client.instance(root, "within", "labelsz", ROI=f"some,{root[:8]}")
    assert world.get("within/info")["Extended"] == {"StaticROI": f"some,{root[:8]}"}
    world.post("within/sync", {"sync": "ann"})
    fill(world)

    def expected() -> list[dict[str, int]]:
        kept = dict(world.state.elements)
        inside = {p: e for p, e in kept.items() if p[0] < 48 and p[1] < 16 and p[2] < 16}
        world.state.elements = inside
        try:
            return world.state.ranking("AllSyn")
        finally:
            world.state.elements = kept

    assert world.get("within/top/99/AllSyn") == expected() != world.state.ranking("AllSyn")
    world.post("some/roi", [[0, 0, 0, 50]])
    world.merge(1, 2, 3)
    world.move((8 * 4, 0, 1), (90, 60, 20))
    world.move((8 * 11, 0, 1), (1, 9, 9))
    assert world.get("within/top/99/AllSyn") == expected()
    reload(world, "within")
    assert world.get("within/top/99/AllSyn") == expected()


@pytest.mark.parametrize("roi", ["", "some", "some,", ",x", "a,b,c", "nosuch,{root}", "ann,{root}", "some,ffffff"])
def test_a_bad_roi_is_refused_at_creation(world: World, roi: str) -> None:
    world.client.instance(world.root, "some", "roi")
    config = {"typename": "labelsz", "dataname": "bad", "ROI": roi.format(root=world.root)}
    answer = world.client.post(f"/api/repo/{world.root}/instance", config)
    assert (answer.status == 400 and "ROI" in answer.text) or "version" in answer.text, answer.text
    assert "bad" not in world.database.repo_of(world.root).instances


# -- the check ---------------------------------------------------------------------------------------------------------


def test_wrong_counts_and_rankings_are_found_and_mended(world: World) -> None:
    fill(world)
    repo, node = world.database.resolve(world.node)
    data = world.client.server.instances.named(repo, "sizes")
    rows = data.rows  # type: ignore[attr-defined]
    suffix = node.id.to_bytes(4, "big")
    batch = Batch()
    batch.put(rows.of_count((2, 5)) + suffix, (77).to_bytes(8, "little"))
    batch.put(rows.of_rank((1, 99), 3) + suffix, b"\x01")
    data.engine.write(batch)
    assert {f.kind for f in world.findings()} == {"ranking", "count"}
    assert all(f.repaired for f in world.findings(repair=True))
    assert world.findings() == []
    world.agree()
