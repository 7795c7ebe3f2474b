"""maxlabel, nextlabel and set-nextlabel: ids are given out once, over versions, branches and threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from apiclient import TOKEN
from labelmap_client import BLOCK, Seg, pack_mappings


@pytest.fixture
def seg(database) -> Seg:
    return Seg.create(database)


def admin(path: str) -> str:
    return f"{path}{'&' if '?' in path else '?'}admintoken={TOKEN}"


def take(seg: Seg, count: int) -> tuple[int, int]:
    found = seg.post(f"nextlabel/{count}").json()
    return found["start"], found["end"]


def test_labels_follow_the_largest(seg):
    assert seg.json("nextlabel") == {"nextlabel": 1}
    assert take(seg, 5) == (1, 5)
    assert seg.json("maxlabel") == {"maxlabel": 5}
    seg.write(np.full(BLOCK, 40, np.uint64), (0, 0, 0))
    assert take(seg, 1) == (41, 41)
    assert seg.json("nextlabel") == {"nextlabel": 42}


def test_versions_share_the_counter_and_have_their_own_maximum(seg):
    take(seg, 10)
    seg.client.commit(seg.node)
    one, two = (
        seg.at(seg.client.post(f"/api/node/{seg.node}/branch", {"branch": name}).json()["child"]) for name in "ab"
    )
    assert take(one, 5) == (11, 15)
    assert take(two, 1) == (16, 16)
    assert [s.json("maxlabel")["maxlabel"] for s in (seg, one, two)] == [10, 15, 16]
    assert "committed" in seg.refused("nextlabel/1", b"", "POST")


def test_maxlabel_is_raised_by_administrators(seg):
    for path in ("maxlabel/100", "set-nextlabel/100"):
        assert "admin" in seg.refused(path, b"", "POST")
    seg.post(admin("maxlabel/100"))
    seg.post(admin("maxlabel/50"))
    assert (seg.json("maxlabel"), seg.json("nextlabel")) == ({"maxlabel": 100}, {"nextlabel": 101})
    for n in ("0", str(2**48 + 1), "x", "-1", ""):
        seg.refused(admin(f"maxlabel/{n}"), b"", "POST")
    assert seg.json("maxlabel") == {"maxlabel": 100}


def test_set_nextlabel_and_its_ceiling(seg):
    seg.post(admin("maxlabel/100"))
    seg.post(admin("set-nextlabel/30"))
    assert take(seg, 3) == (31, 33)
    assert seg.json("maxlabel") == {"maxlabel": 100}
    seg.post(admin("set-nextlabel/40?ceiling=45"))
    assert "ceiling" in seg.refused("nextlabel/6", b"", "POST")
    assert take(seg, 5) == (41, 45)
    seg.refused("nextlabel/1", b"", "POST")
    for path in ("46", "0", str(2**64 - 1), "46?ceiling=3", "46?ceiling=x", "x"):
        seg.refused(admin(f"set-nextlabel/{path}"), b"", "POST")
    seg.post(admin("set-nextlabel/46?ceiling=0"))
    assert take(seg, 60) == (47, 106)
    assert seg.json("maxlabel") == {"maxlabel": 106}
    extended = seg.json("info")["Extended"]
    assert (extended["NextLabel"], extended["MaxRepoLabel"]) == (106, 100)
    assert "NextLabelCeiling" not in extended
    seg.post(admin("maxlabel/105"))
    extended = seg.json("info")["Extended"]
    assert extended["MaxRepoLabel"] == 100, "a label below the version's largest changes nothing"
    seg.post(admin("set-nextlabel/200?ceiling=300"))
    assert seg.json("info")["Extended"]["NextLabelCeiling"] == 300


@pytest.mark.parametrize("count", ["0", "x", "-1", str(2**64), str(2**64 - 1)])
def test_counts_that_cannot_be(seg, count):
    take(seg, 3)
    seg.refused(f"nextlabel/{count}", b"", "POST")
    assert seg.json("nextlabel") == {"nextlabel": 4}


def test_the_end_of_uint64(seg):
    seg.write(np.full(BLOCK, 2**64 - 2, np.uint64), (0, 0, 0))
    assert "uint64" in seg.refused("nextlabel/2", b"", "POST")
    assert take(seg, 1) == (2**64 - 1, 2**64 - 1)
    assert "uint64" in seg.refused("nextlabel/1", b"", "POST")


def test_a_chosen_next_label_is_reserved_as_it_is_but_no_body_gets_a_label_that_exists(seg):
    """Bodies and mapped supervoxels of any version, also what is gone from this one."""
    volume = np.full(BLOCK, 12, np.uint64)
    volume[:8] = 1
    seg.write(volume, (0, 0, 0))
    seg.post("mappings", pack_mappings((12, [14])))
    child = seg.child()
    volume[8:16], volume[16:] = 2, 3
    child.write(volume, (0, 0, 0))
    child.post("mappings", pack_mappings((0, [18])))
    child.merge(1, 2, 3)
    child.post(admin("set-nextlabel/10"))
    for version in (seg, child):
        assert version.json("nextlabel") == {"nextlabel": 11}
    given = []
    for chosen in (10, 11, 13, 17):
        child.post(admin(f"set-nextlabel/{chosen}"))
        new = child.post("cleave/1", [2]).json()["CleavedLabel"]
        child.post("merge", [1, new])
        given.append(new)
    assert given == [11, 13, 15, 19]
    child.post(admin("set-nextlabel/10?ceiling=13"))
    assert take(child, 3) == (11, 13)
    assert "ceiling" in child.refused("cleave/1", [2], "POST")


def test_no_body_gets_a_label_that_a_mapping_was_posted_to(seg):
    """Whose index may be posted later, or never: the voxels of what is mapped to it would belong to both."""
    volume = np.full(BLOCK, 1, np.uint64)
    volume[:8], volume[8:16] = 2, 3
    seg.write(volume, (0, 0, 0))
    seg.merge(1, 2)
    seg.post("mappings", pack_mappings((20, [3]), (0, [21])))
    child = seg.child()
    child.post(admin("set-nextlabel/19"))
    assert child.post("cleave/1", [2]).json()["CleavedLabel"] == 22


def test_the_largest_label_leaves_none(seg):
    seg.write(np.full(BLOCK, 2**64 - 1, np.uint64), (0, 0, 0))
    assert seg.json("maxlabel") == {"maxlabel": 2**64 - 1}
    assert "no label is left" in seg.refused("nextlabel")
    assert "uint64" in seg.refused("nextlabel/1", b"", "POST")


def test_threads_never_get_the_same_label(seg):
    with ThreadPoolExecutor(6) as pool:
        ranges = list(pool.map(lambda k: take(seg, 1 + k % 3), range(60)))
    given = [n for start, end in ranges for n in range(start, end + 1)]
    assert sorted(given) == list(range(1, 121))


def test_without_an_index_there_are_no_counters(database):
    seg = Seg.create(database, IndexedLabels="false")
    for path in ("nextlabel/1", admin("maxlabel/5"), admin("set-nextlabel/5")):
        assert "IndexedLabels" in seg.refused(path, b"", "POST")
