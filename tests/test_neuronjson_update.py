"""How a posted annotation changes the one that is there."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvidcore.datatypes.neuronjson.annotation import MAIN, TIMES, USERS, Selection, decode, encode, fields_of
from dvidcore.datatypes.neuronjson.times import latest
from dvidcore.datatypes.neuronjson.update import Update, present, same, updated

HOW = Update("u", "now")
OLD = {"bodyid": 7, "a": 1, "a_user": "x", "a_time": "t", "b": 2, "b_user": "y", "b_time": "t"}


def told(**fields: Any) -> dict[str, Any]:
    """Fields that the user of ``HOW`` changed now."""
    found: dict[str, Any] = {}
    for name, value in fields.items():
        if value is not None:
            found[name] = value
        found |= {f"{name}_user": "u", f"{name}_time": "now"}
    return found


CASES: list[tuple[str, dict[str, Any] | None, dict[str, Any], dict[str, Any], Update]] = [
    ("a new body", None, {"a": 1}, told(a=1), HOW),
    ("only bodyid", OLD, {}, OLD, HOW),
    ("the same value", OLD, {"a": 1}, OLD, HOW),
    ("an equal number", OLD, {"a": 1.0}, OLD | {"a": 1.0}, HOW),
    ("true is not 1", OLD, {"a": True}, OLD | told(a=True), HOW),
    ("another value", OLD, {"a": 3}, OLD | told(a=3), HOW),
    ("a given user", OLD, {"a": 3, "a_user": "z"}, OLD | told(a=3) | {"a_user": "z"}, HOW),
    ("a given user of the same value", OLD, {"a": 1, "a_user": "z"}, OLD | {"a_user": "z"}, HOW),
    ("a given user alone", OLD, {"a_user": "z"}, OLD | {"a_user": "z"}, HOW),
    ("a given user of a new body", None, {"a_user": "z"}, {"a_user": "z", "a_time": "now"}, HOW),
    ("a given time of a new body", None, {"a_time": "z"}, {"a_time": "z"}, HOW),
    ("null", OLD, {"a": None}, {k: v for k, v in OLD.items() if k != "a"} | told(a=None), HOW),
    ("null of what never was", OLD, {"c": None}, OLD | told(c=None), HOW),
    ("null of a new body", None, {"c": None}, told(c=None), HOW),
    ("no trace", OLD, {"a": None, "a_user": None, "a_time": None}, {k: OLD[k] for k in ("b", "b_user", "b_time")}, HOW),
    ("null with a given user", None, {"c": None, "c_user": "z", "c_time": None}, {"c_user": "z"}, HOW),
    ("null of a user alone", OLD, {"a_user": None}, {k: v for k, v in OLD.items() if k != "a_user"}, HOW),
    ("null of user", OLD | {"user": "q"}, {"user": None}, OLD, HOW),
    ("protected", OLD, {"a": 5, "b": 6}, OLD | told(b=6), HOW._replace(conditional=frozenset("ac"))),
    ("protected but absent", OLD, {"c": 5}, OLD | told(c=5), HOW._replace(conditional=frozenset("ac"))),
    ("protected with a user", OLD, {"a": 5, "a_user": "z"}, OLD, HOW._replace(conditional=frozenset("a"))),
    ("protected has no user", {"a": 1}, {"a_user": "z"}, {"a": 1}, HOW._replace(conditional=frozenset("a"))),
    ("a protected user", OLD, {"a": 5}, OLD | {"a": 5, "a_time": "now"}, HOW._replace(conditional=frozenset({"a_user"}))),
    ("replaced", OLD, {"a": 1, "c": 3}, {k: OLD[k] for k in ("a", "a_user", "a_time")} | told(c=3), HOW._replace(replace=True)),
    ("replaced by null", OLD, {"a": None}, told(a=None), HOW._replace(replace=True)),
    ("replaced, unprotected", OLD, {"a": 5}, told(a=5), HOW._replace(replace=True, conditional=frozenset("a"))),
    ("replaced with a user", OLD, {"a": 1, "a_user": "z"}, {"a": 1, "a_user": "z", "a_time": "t"}, HOW._replace(replace=True)),
    ("replaced, nothing was", None, {"a": 1}, told(a=1), HOW._replace(replace=True)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "expected", "how"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_updates(old: dict[str, Any] | None, new: dict[str, Any], expected: dict[str, Any], how: Update) -> None:
    kept = None if old is None else dict(old)
    posted = {"bodyid": 7, **new}
    found = updated(old, posted, how)
    assert found == {"bodyid": 7, **expected}
    assert type(found.get("a")) is type(expected.get("a"))
    assert (old, posted) == (kept, {"bodyid": 7, **new})
    assert None not in found.values()


values = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner | st.none(), max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(["a", "b", "user", "", "time", "_", 'q"', "ü"])
annotations = st.builds(
    lambda fields, users, times: {
        "bodyid": 7,
        **fields,
        **{f"{name}_user": user for name, user in users.items()},
        **{f"{name}_time": time for name, time in times.items()},
    },
    st.dictionaries(names, values),
    st.dictionaries(names, st.text(max_size=3)),
    st.dictionaries(names, st.text(max_size=3)),
)


@given(annotations)
@settings(max_examples=150, deadline=None)
def test_stored_annotations_and_what_is_cut_out_of_them(annotation: dict[str, Any]) -> None:
    payload = encode(annotation)
    assert same(decode(payload), annotation)
    sections = [
        {name: json.loads(text) for name, text in fields_of(payload, section).items()}
        for section in (MAIN, USERS, TIMES)
    ]
    assert same({"bodyid": 7, **sections[0], **sections[1], **sections[2]}, annotation)
    for show, endings in (("", ()), ("user", ("_user",)), ("time", ("_time",)), ("all", ("_user", "_time"))):
        plain = {name for name in annotation if not name.endswith(("_user", "_time"))}
        shown = {name for name in annotation if name in plain or name.endswith(endings)}
        found = decode(bytes(8) + Selection.of(show, "").text(payload))
        assert same(found, {name: annotation[name] for name in annotation if name in shown})
        found = decode(bytes(8) + Selection.of(show, "a,b_user").text(payload))
        wanted = {"bodyid", "a", "b_user"} | {f"a{ending}" for ending in endings}
        wanted |= {f"b_user{ending}" for ending in endings}
        assert same(found, {name: annotation[name] for name in annotation if name in wanted})


def test_same() -> None:
    assert same([1, {"a": 2.0}], [1.0, {"a": 2}])
    for one, other in ((1, True), (0, False), ("1", 1), ([1], [1, 1]), ({"a": 1}, {"a": True}), (None, 0), ([], {})):
        assert not same(one, other)


def test_times() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)", present())
    assert latest(["2026-01-01T00:00:00Z", "2026-01-01T00:00:01+01:00"]) == "2026-01-01T00:00:00Z"
    assert latest(["2026-01-01T00:00:00Z", "2025-12-31T23:00:00.5-01:00"]) == "2025-12-31T23:00:00.5-01:00"
    assert latest(["zzz", "2000-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00"]) == "2000-01-01T00:00:00Z"
    assert latest(["zzz", "aaa"]) == "zzz"
    assert latest(["as long as a time isZ", "2000-01-01T00:00:00Z"]) == "2000-01-01T00:00:00Z"
    assert latest(["2001-02-31T00:00:00Z", "2000-01-01T00:00:00Z", "1999"]) == "2000-01-01T00:00:00Z"
    assert latest(["2001-02-31T00:00:00Z", "2001-02-30T00:00:00Z"]) == "2001-02-31T00:00:00Z"
