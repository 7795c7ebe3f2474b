"""The lists of elements in rows, against plain dicts."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvidcore.datatypes.annotation.elements import KINDS, Item, make, parse, place_of, position_of
from dvidcore.datatypes.annotation.lists import ElementList, inside, points
from dvidcore.datatypes.annotation.rows import Pairs
from dvidcore.errors import StoreError
from dvidcore.geometry import INT32_MAX, INT32_MIN

INT32 = st.integers(-(2**31), 2**31 - 1)
NEAR = st.tuples(st.integers(-2, 2), st.integers(-2, 2), st.integers(-2, 2))
ELEMENTS = st.builds(
    lambda pos, kind, tags, prop, rels: {
        "Pos": list(pos),
        "Kind": kind,
        "Tags": tags,
        "Prop": prop,
        "Rels": [{"Rel": "GroupedWith", "To": list(to)} for to in rels],
    },
    NEAR | st.tuples(INT32, INT32, INT32),
    st.sampled_from(sorted(KINDS)),
    st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), max_size=3),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
    st.lists(NEAR, max_size=2),
)


@settings(deadline=None, max_examples=200)
@given(st.lists(ELEMENTS))
def test_what_is_parsed_is_what_was_given(elements: list[dict[str, object]]) -> None:
    items = parse(elements, 10_000)
    last = {tuple(e["Pos"]): e for e in elements}  # type: ignore[arg-type]
    assert {tuple(position_of(place)): orjson.loads(item.text) for place, item in items.items()} == last
    for item in items.values():
        element = last[tuple(position_of(item.place))]
        assert item == make(element)
        assert orjson.loads(item.bare.text) == {name: value for name, value in element.items() if name != "Rels"}
        assert item.bare.bare == item.bare
        assert item.tags() == set(element["Tags"])  # type: ignore[call-overload]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(["put", "pop", "pack", "get", "extend", "clear"]), ELEMENTS)))
def test_lists_are_dicts_by_place(steps: list[tuple[str, dict[str, object]]]) -> None:
    held, model = ElementList(), dict[bytes, Item]()
    for what, element in steps:
        item = make(element)
        if what == "put":
            held.put(item)
            model[item.place] = item
        elif what == "pop":
            assert held.pop(item.place) == model.pop(item.place, None)
        elif what == "get":
            assert held.get(item.place) == model.get(item.place)
        elif what == "extend" and item.place not in model:
            other = ElementList()
            other.put(item)
            assert held.disjoint(other)
            held.extend(other)
            model[item.place] = item
        elif what == "clear":
            held.clear()
            model.clear()
        elif what == "pack" and model:
            held = ElementList(memoryview(held.packed()))
        assert {found.place: found for found in held} == model
        assert len(held) == len(model) == len(held.places())
        assert sorted(zip(held.places(), held.kinds(), strict=True)) == sorted(
            (i.place, i.kind) for i in model.values()
        )
        text = orjson.loads(b"[" + bytes(held.whole_text()) + b"]")
        assert sorted(map(str, text)) == sorted(str(orjson.loads(i.text)) for i in model.values())


@settings(deadline=None, max_examples=200)
@given(st.lists(st.lists(ELEMENTS, min_size=1)), NEAR, NEAR)
def test_what_is_inside_of_a_box(
    rows: list[list[dict[str, object]]], one: tuple[int, int, int], two: tuple[int, int, int]
) -> None:
    low, high = [min(pair) for pair in zip(one, two, strict=True)], [max(pair) for pair in zip(one, two, strict=True)]
    values, wanted = [], []
    for elements in rows:
        held = ElementList()
        for item in parse(elements, 10_000).values():
            held.put(item)
            x, y, z = position_of(item.place)
            if all(a <= p <= b for a, p, b in zip(low, (z, y, x), high, strict=True)):
                wanted.append(orjson.loads(item.text))
        values.append(held.packed())
    assert orjson.loads(b"[" + inside(values, low, high) + b"]") == wanted


@settings(deadline=None)
@given(st.lists(st.tuples(INT32, INT32, INT32)))
def test_points_and_places(positions: list[tuple[int, int, int]]) -> None:
    places = [place_of(*zyx) for zyx in positions]
    assert points(places).tolist() == [list(zyx) for zyx in positions]
    assert sorted(places) == [place_of(*zyx) for zyx in sorted(positions)]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "remove", "replace"]), st.integers(0, 5), st.integers(1, 3), st.integers(1, 3)
        )
    )
)
def test_pairs_are_a_set(steps: list[tuple[str, int, int, int]]) -> None:
    held, model = Pairs(), set[tuple[bytes, int]]()
    for what, x, body, other in steps:
        place = place_of(0, 0, x)
        if what == "add":
            held.add(place, body)
            model.add((place, body))
        elif what == "remove":
            held.remove(place, body)
            model.discard((place, body))
        else:
            held.replace(body, other)
            model = {(p, other if b == body else b) for p, b in model}
        held = Pairs(held.packed())
        assert set(held.items()) == model and len(held) == len(model)
        assert held.bodies() == {b for _, b in model}
        assert set(held.of(place)) == {b for p, b in model if p == place}


@pytest.mark.parametrize("value", [b"", b"\x01", b"\x02\x00\x00\x00" + bytes(30)])
def test_damaged_lists_are_noticed(value: bytes) -> None:
    with pytest.raises(StoreError, match="damaged"):
        ElementList(value)


@settings(deadline=None)
@given(st.lists(ELEMENTS, min_size=1, max_size=3), st.integers(0, 200), st.binary(max_size=4))
def test_damage_never_shows_what_is_no_text(elements: list[dict[str, object]], at: int, damage: bytes) -> None:
    held = ElementList()
    for item in parse(elements, 10_000).values():
        held.put(item)
    value = held.packed()
    low, high = [INT32_MIN] * 3, [INT32_MAX] * 3
    for damaged in (value[:at], value[:at] + damage, value + damage, value[:at] + damage + value[at + len(damage) :]):
        try:
            found = inside([value, damaged], low, high)
        except StoreError:
            continue
        whole = inside([value], low, high)
        assert found == whole or (found.startswith(whole + b",") and len(found) < len(value) + len(damaged))


def test_bounds_must_be_int32() -> None:
    with pytest.raises(OverflowError):
        inside([], [INT32_MIN - 1, 0, 0], [0, 0, 0])
