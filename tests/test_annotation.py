"""The endpoints of annotation by place and by tag, and where they do better than DVID."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from annotation_model import SIDE, World, bare, element, everything, in_order, labelled
from dvidcore.repos import Database


@pytest.fixture
def world(database: Database) -> World:
    return labelled(database)


# -- by place ----------------------------------------------------------------------------------------------------------


def test_members_that_are_absent_or_null_are_empty_in_answers_and_unknown_ones_are_dropped(world: World) -> None:
    world.post("ann/elements", [{"Pos": [1, 2, 3], "Kind": "Note", "More": 1}])
    world.post("ann/elements", [{"Pos": [1, 2, 4], "Kind": "Gap", "Tags": None, "Prop": None, "Rels": None}])
    assert everything(world) == [element((1, 2, 3)), element((1, 2, 4), "Gap")]
    raw = world.ask("GET", "ann/elements/1_1_1/1_2_3").body
    assert raw == b'[{"Pos":[1,2,3],"Kind":"Note","Tags":[],"Prop":{},"Rels":[]}]'
    assert world.ask("GET", "ann/label/1").body.count(b'"Rels"') == 0


def test_a_box_has_its_first_and_its_last_voxel(world: World) -> None:
    corners = [(x, y, z) for x in (-33, -32, 31, 32) for y in (0, 64) for z in (-1, 5)]
    world.put(*(element(pos) for pos in corners))
    for size, offset in (((65, 65, 7), (-32, 0, -1)), ((1, 1, 1), (32, 64, 5)), ((66, 1, 1), (-33, 64, 5))):
        high = [o + n - 1 for o, n in zip(offset, size, strict=True)]
        inside = [
            element(pos) for pos in corners if all(o <= p <= h for o, p, h in zip(offset, pos, high, strict=True))
        ]
        path = f"{'_'.join(map(str, size))}/{'_'.join(map(str, offset))}"
        assert in_order(world.get(f"ann/elements/{path}")) == in_order(inside)
        blocks = world.get(f"ann/blocks/{path}")
        assert {tuple(map(int, key.split(","))) for key in blocks} >= {
            tuple(p // SIDE for p in e["Pos"]) for e in inside
        }
    whole = "4294967_4294967_4294967/-2147483_-2147483_-2147483"
    assert len(world.get(f"ann/elements/{whole}")) == len(corners)
    assert len(world.get("ann/elements/2147483647_2147483647_2147483647/-40_-40_-40")) == len(corners)


def test_positions_reach_to_the_ends_of_int32(world: World) -> None:
    low, high = -(2**31), 2**31 - 1
    world.put(
        element((low, low, low), rels=[("GroupedWith", (high, high, high))]),
        element((high, high, high), rels=[("GroupedWith", (low, low, low))]),
    )
    assert everything(world) == in_order(list(world.state.elements.values()))
    assert world.get(f"ann/elements/1_1_1/{high}_{high}_{high}") == [world.state.elements[high, high, high]]
    assert world.get(f"ann/elements/5_5_5/{high}_{high}_{high}") == [world.state.elements[high, high, high]]
    world.delete((high, high, high))
    assert everything(world) == [element((low, low, low))]


def test_a_box_of_many_blocks_is_scanned_and_one_of_few_is_looked_up(world: World) -> None:
    world.put(*(element((32 * k, 32 * (k % 7), 32 * (k % 5))) for k in range(40)))
    for size, offset in (((2000, 300, 300), (0, 0, 0)), ((900, 100, 70), (33, 31, 30)), ((70, 70, 70), (31, 31, 31))):
        high = [o + n - 1 for o, n in zip(offset, size, strict=True)]
        path = f"{'_'.join(map(str, size))}/{'_'.join(map(str, offset))}"
        wanted = [
            e
            for pos, e in world.state.elements.items()
            if all(o <= p <= h for o, p, h in zip(offset, pos, high, strict=True))
        ]
        assert in_order(world.get(f"ann/elements/{path}")) == in_order(wanted)
        found = world.get(f"ann/blocks/{path}")
        touched = {
            ",".join(str(p // SIDE) for p in pos)
            for pos in world.state.elements
            if all(o // SIDE <= p // SIDE <= h // SIDE for o, p, h in zip(offset, pos, high, strict=True))
        }
        assert set(found) == touched


def test_large_answers_are_streamed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put(*(element((k, k % 64, k % 32), prop={"n": str(k)}) for k in range(3000)))
    expected = in_order(list(world.state.elements.values()))
    monkeypatch.setattr("dvidcore.datatypes.annotation.reading.WHOLE", 20_000)
    assert everything(world) == expected
    assert in_order(world.get("ann/elements/4000_64_64/0_0_0")) == expected
    on_one = in_order([bare(e) for e in world.state.on(3)])
    assert in_order(world.get("ann/label/3")) == on_one


def test_scan_counts_blocks(world: World) -> None:
    assert world.get("ann/scan") == {"num kv pairs": 0, "num empty blocks": 0}
    world.put(element((1, 1, 1)), element((2, 1, 1)), element((40, 1, 1)))
    assert world.get("ann/scan?keysOnly=true&byCoord=true")["num kv pairs"] == 2
    world.delete((40, 1, 1))
    assert world.get("ann/scan") == {"num kv pairs": 1, "num empty blocks": 0}


def test_elements_of_an_roi_of_this_version_and_of_another(world: World) -> None:
    world.client.instance(world.root, "brain", "roi")
    world.put(element((1, 1, 1)), element((40, 1, 1)), element((70, 40, 1)), element((-1, -1, -1)))
    world.post("brain/roi", [[0, 0, 0, 1], [-1, -1, -1, -1]])
    first = world.node
    world.branch()
    world.post("brain/roi", [[0, 1, 2, 2]])
    assert [e["Pos"] for e in in_order(world.get("ann/roi/brain"))] == [[70, 40, 1]]
    before = [[-1, -1, -1], [1, 1, 1], [40, 1, 1]]
    assert [e["Pos"] for e in in_order(world.get(f"ann/roi/brain,{first}"))] == before
    world.client.instance(world.node, "coarse", "roi", BlockSize="64,64,64")
    assert "64, 64, 64" in world.refused("GET", "ann/roi/coarse")
    for bad in ("nosuch", "brain,", f"brain,{first},x", "brain,ffffff", "seg"):
        world.refused("GET", f"ann/roi/{bad}")
    other = world.client.repo()
    assert "not in repo" in world.refused("GET", f"ann/roi/brain,{other}")


# -- errors name what is wrong -----------------------------------------------------------------------------------------

GOOD = {"Pos": [900, 1, 1], "Kind": "Note"}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"Kind": "Note"}, "Pos: null"),
        ({"Pos": [1, 2], "Kind": "Note"}, "Pos: [1,2]"),
        ({"Pos": [1, 2, 3, 4], "Kind": "Note"}, "Pos: [1,2,3,4]"),
        ({"Pos": [1, 2, True], "Kind": "Note"}, "Pos"),
        ({"Pos": [1, 2, 2**31], "Kind": "Note"}, "Pos"),
        ({"Pos": [1, 2, 3]}, "Kind: null is not one of Unknown, PostSyn"),
        ({"Pos": [1, 2, 3], "Kind": "postsyn"}, 'Kind: "postsyn"'),
        ({"Pos": [1, 2, 3], "Kind": ["Note"]}, "Kind"),
        ({"Pos": [1, 2, 3], "Kind": "Note", "Tags": "a"}, "Tags"),
        ({"Pos": [1, 2, 3], "Kind": "Note", "Tags": {}}, "Tags"),
        ({"Pos": [1, 2, 3], "Kind": "Note", "Tags": ["a", ""]}, 'Tags: ""'),
        ({"Pos": [1, 2, 3], "Kind": "Note", "Tags": ["a\0"]}, "NUL"),
        ({"Pos": [1, 2, 3], "Kind": "Note", "Tags": ["ä" * 3000]}, "4096 bytes"),
        ({"Pos": [1, 2, 3], "Kind": "Note", "Prop": {"a": 1}}, 'Prop: the value of "a"'),
        ({"Pos": [1, 2, 3], "Kind": "Note", "Prop": []}, "Prop"),
        ({"Pos": [1, 2, 3], "Kind": "Note", "Rels": {}}, "Rels"),
        ({"Pos": [1, 2, 3], "Kind": "Note", "Rels": "x"}, "Rels"),
        ({"Pos": [1, 2, 3], "Kind": "Note", "Rels": [1]}, "Rels"),
        ({"Pos": [1, 2, 3], "Kind": "Note", "Rels": [{"Rel": "Friend", "To": [1, 2, 3]}]}, 'Rel: "Friend"'),
        ({"Pos": [1, 2, 3], "Kind": "Note", "Rels": [{"Rel": "PreSynTo", "To": [1, 2]}]}, "To: [1,2]"),
        ([1, 2, 3], "JSON object"),
    ],
)
def test_an_error_names_the_element_by_index_and_position_and_nothing_is_stored(
    world: World, wrong: Any, words: str
) -> None:
    text = world.refused("POST", "ann/elements", [GOOD, GOOD, wrong])
    assert "element 2" in text and words in text
    if isinstance(wrong, dict) and "Pos" in wrong:
        assert f"element 2 at {orjson.dumps(wrong['Pos']).decode()}" in text
    assert everything(world) == []
    assert "element 0" in world.refused("POST", "ann/blocks", {"0,0,0": [wrong]})
    assert "label 5: element 0" in world.refused("POST", "ann/labels", {"5": json.dumps([wrong])})
    assert everything(world) == []


@pytest.mark.parametrize("size", ["0_1_1", "1_-5_1", "1_1", "a_1_1"])
def test_sizes_below_one_are_refused(world: World, size: str) -> None:
    assert "size" in world.refused("GET", f"ann/elements/{size}/0_0_0")
    assert "size" in world.refused("GET", f"ann/blocks/{size}/0_0_0")


def test_blocks_take_only_elements_of_theirs(world: World) -> None:
    text = world.refused("POST", "ann/blocks", {"0,0,0": [element((5, 5, 5))], "1,0,0": [element((5, 6, 5))]})
    assert 'block "1,0,0"' in text and "[5, 6, 5]" in text and "[32, 32, 32]" in text
    assert everything(world) == []
    for bad in ({"0,0": []}, {"a,0,0": []}, {"0,0,0": {}}, [], "x"):
        world.refused("POST", "ann/blocks", bad)
    world.post("ann/blocks", {"0,0,0": None, "0,0,1": []})
    assert world.get("ann/all-elements") == {}


def test_bad_relationships_word_is_refused(world: World) -> None:
    assert "relationships" in world.refused("GET", "ann/label/1?relationships=yes")
    assert world.get("ann/label/1?relationships=false") == []


# -- editing -----------------------------------------------------------------------------------------------------------


def test_a_move_within_one_body_and_block_is_seen_everywhere(world: World) -> None:
    world.put(element((1, 1, 1), "PreSyn", ["t"], rels=[("PreSynTo", (70, 1, 1))]))
    world.put(element((70, 1, 1), "PostSyn", rels=[("PostSynTo", (1, 1, 1))]))
    world.move((1, 1, 1), (2, 3, 4))
    world.agree()
    world.move((2, 3, 4), (-70, 3, 4))
    world.agree()
    assert world.get("ann/label/1") == []
    world.move((70, 1, 1), (71, 1, 1))
    world.agree()


def test_one_element_gains_a_tag_while_another_loses_it(world: World) -> None:
    world.put(element((1, 1, 1), tags=["t"]), element((2, 1, 1)), element((3, 1, 1), tags=["t"]))
    world.put(element((1, 1, 1)), element((2, 1, 1), tags=["t"]), element((3, 1, 1), tags=["t", "u", "t"]))
    assert [e["Pos"] for e in in_order(world.get("ann/tag/t"))] == [[2, 1, 1], [3, 1, 1]]
    assert world.get("ann/tag/u") == [bare(element((3, 1, 1), tags=["t", "u", "t"]))]


def test_of_a_position_named_twice_the_later_element_counts(world: World) -> None:
    world.put(element((1, 1, 1), "Gap", ["a"]), element((1, 1, 1), "PreSyn", ["b"]))
    world.agree()
    assert everything(world) == [element((1, 1, 1), "PreSyn", ["b"])]
    world.post("ann/blocks", {"0,0,0": [element((1, 1, 1), "Gap"), element((1, 1, 1), "Note")]})
    assert everything(world) == [element((1, 1, 1))]


@pytest.mark.parametrize("there", [(2, 1, 1), (90, 50, 1)])
def test_an_element_is_not_moved_onto_another(world: World, there: tuple[int, int, int]) -> None:
    world.put(element((1, 1, 1), tags=["a"]), element(there, "Gap", ["b"]))
    text = world.refused("POST", f"ann/move/1_1_1/{'_'.join(map(str, there))}")
    assert str(list(there)) in text
    world.agree()
    world.post("ann/move/1_1_1/1_1_1")
    world.agree()
    assert "no element" in world.refused("POST", "ann/move/9_9_9/9_9_9")


def test_deleting_fixes_relationships_in_its_block_and_in_those_of_the_partners_that_it_names(world: World) -> None:
    """The relationships of others stay, as the help says."""
    gone = element((1, 1, 1), "PreSyn", rels=[("PreSynTo", (90, 1, 1)), ("GroupedWith", (1, 1, 1))])
    named = element((90, 1, 1), "PostSyn", rels=[("PostSynTo", (1, 1, 1)), ("GroupedWith", (5, 1, 1))])
    near = element((5, 1, 1), prop={"text": '"To":[1,1,1]'}, rels=[("ConvergentTo", (1, 1, 1))])
    far = element((-90, 1, 1), rels=[("ConvergentTo", (1, 1, 1))])
    beside = element((91, 2, 3), rels=[("ConvergentTo", (1, 1, 1))])
    world.put(gone, named, near, far, beside)
    world.delete((1, 1, 1))
    world.agree()
    after = {tuple(e["Pos"]): e["Rels"] for e in everything(world)}
    assert after[5, 1, 1] == [] and after[90, 1, 1] == [{"Rel": "GroupedWith", "To": [5, 1, 1]}]
    assert after[91, 2, 3] == [] and after[-90, 1, 1] == far["Rels"]
    assert "elements elsewhere, stay" in " ".join(world.ask("GET", "ann/help").text.split())
    assert "no element" in world.refused("DELETE", "ann/element/1_1_1")


def test_an_element_that_relates_to_itself_is_moved_as_a_whole(world: World) -> None:
    world.put(element((1, 1, 1), rels=[("GroupedWith", (1, 1, 1)), ("GroupedWith", (2, 1, 1))]))
    world.move((1, 1, 1), (40, 1, 1))
    expected = element((40, 1, 1), rels=[("GroupedWith", (40, 1, 1)), ("GroupedWith", (2, 1, 1))])
    assert everything(world) == [expected]


# -- tags and relationships --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tag", ["user:someone@place.org", "with space", "ünï", "a%b", "q?x=1&y", "todo 1/2", '"', "ab"]
)
def test_any_text_can_be_a_tag(world: World, tag: str) -> None:
    from urllib.parse import quote

    world.put(element((1, 1, 1), tags=[tag]), element((2, 1, 1), tags=["a", tag + "b"]))
    assert [e["Pos"] for e in world.get(f"ann/tag/{quote(tag, safe='')}")] == [[1, 1, 1]]


def test_verbose_relationships_say_what_partners_are(world: World) -> None:
    world.put(
        element((1, 1, 1), "PreSyn", ["a"], rels=[("PreSynTo", (2, 1, 1)), ("PreSynTo", (90, 1, 1))]),
        element((2, 1, 1), "PostSyn", ["x"], {"conf": "1"}),
        element((3, 1, 1), "Note", ["a"], rels=[("GroupedWith", (4, 1, 1)), ("GroupedWith", (50, 50, 1))]),
        element((4, 1, 1), "Unknown"),
    )
    found = {tuple(e["Pos"]): e["Rels"] for e in world.get("ann/tag/a?relationships=verbose")}
    assert found[1, 1, 1] == [
        {"Rel": "PreSynTo", "To": [2, 1, 1], "Kind": "PostSyn", "Tags": ["x"], "Prop": {"conf": "1"}},
        {"Rel": "PreSynTo", "To": [90, 1, 1]},
    ]
    assert found[3, 1, 1] == [{"Rel": "GroupedWith", "To": [4, 1, 1]}, {"Rel": "GroupedWith", "To": [50, 50, 1]}]
    on_body = world.get("ann/label/1?relationships=verbose")
    assert {tuple(e["Pos"]): e["Rels"] for e in on_body}[1, 1, 1] == found[1, 1, 1]
