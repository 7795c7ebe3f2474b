"""The kernel that splits stored annotations into members and makes columns of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dvidcore.datatypes.neuronjson._members import Builder, members

texts = st.text(st.sampled_from('ab\\"\\[]{},:\u00fc\n'), max_size=6)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(texts | st.sampled_from(["a", "b", "c", "bodyid"]), values, max_size=5)


def whole(text: bytes) -> dict[bytes, bytes]:
    return members(text, 0, len(text) - 1) if text != b"{}" else {}


@given(objects)
@settings(max_examples=150, deadline=None)
def test_members_are_what_json_has(given: dict[str, Any]) -> None:
    text = orjson.dumps(given)
    assert whole(text) == {orjson.dumps(name): orjson.dumps(value) for name, value in given.items()}


@given(objects, st.integers(0, 60))
@settings(max_examples=200, deadline=None)
def test_pieces_begin_with_a_comma(given: dict[str, Any], before: int) -> None:
    piece = b"," + orjson.dumps(given)[1:-1] if given else b""
    padded = b"x" * before + piece + b'"}'
    found = members(memoryview(padded), before, before + len(piece))
    assert {orjson.loads(name): orjson.loads(value) for name, value in found.items()} == given


@given(st.lists(objects, max_size=5))
@settings(max_examples=60, deadline=None)
def test_columns_hold_all_members(given: list[dict[str, Any]]) -> None:
    builder = Builder(b'"bodyid"')
    for one in given:
        text = orjson.dumps(one)
        builder.add(text, 0, len(text) - 1 if one else 0)
    columns = builder.columns()
    assert columns.keys() == {orjson.dumps(name) for one in given for name in one if name != "bodyid"}
    for name, (codes, by_code, rows) in columns.items():
        assert by_code[0] is None
        assert codes == {value: code for code, value in enumerate(by_code)}
        assert rows.dtype == np.uint32
        key = orjson.loads(name)
        wanted = [orjson.dumps(one[key]) if key in one else None for one in given]
        assert [by_code[code] for code in rows.tolist()] == wanted


@given(st.text('{}[]",:\\a1', max_size=12), st.integers(-3, 14), st.integers(-3, 14))
@example('{"a":1,"a":2', 0, 12)
@settings(max_examples=200, deadline=None)
def test_what_is_no_object_is_refused_or_split(text: str, start: int, stop: int) -> None:
    """Nothing but ValueError, and what is split stands in the text in the order of the answer."""
    data = text.encode()
    try:
        found = members(data, start, stop)
    except ValueError:
        found = {}
    else:
        assert 0 <= start <= stop <= len(data)
    for name, value in found.items():
        assert name + b":" + value in data[start:stop]


CUT = ["x", "{", '{"a', '{"a"', '{"a":', '{"a":,"b":1', '{"a":"', '{"a":"\\"', '{"a":[1,{}', "{a:1", '{"a":[1]2']


@pytest.mark.parametrize("text", CUT)
def test_what_is_cut_short_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="JSON object"):
        members(text.encode(), 0, len(text))


def test_a_repeated_member_is_refused() -> None:
    text = b'{"a":1,"a":2'
    builder = Builder(b'"bodyid"')
    with pytest.raises(ValueError, match="repeated"):
        builder.add(text, 0, len(text))
