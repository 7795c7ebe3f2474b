"""How a posted annotation and the one that is there become the next: fields, who set them, and when."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from dvidcore.datatypes.neuronjson.annotation import BODYID, SUFFIXES, UNTOLD, Annotation


class Update(NamedTuple):
    """What a request says of all annotations that it posts."""

    user: str
    now: str
    conditional: frozenset[str] = frozenset()
    """Fields that keep their values, users and times where they have some."""
    replace: bool = False
    """Fields that are not posted go."""

    def meta(self, name: str) -> tuple[tuple[str, str], tuple[str, str]]:
        """The meta fields of a field that is changed, and their values."""
        return (name + "_user", self.user), (name + "_time", self.now)


def present() -> str:
    """The present to the second in the server's zone, ``2026-11-22T23:40:01Z``."""
    text = datetime.now().astimezone().isoformat(timespec="seconds")
    return text.removesuffix("+00:00") + "Z" if text.endswith("+00:00") else text


def updated(old: Annotation | None, new: Annotation, how: Update) -> Annotation:
    """What is stored when ``new`` is posted where ``old`` is seen (``None``: nothing). Neither is changed.

    A ``null`` deletes a field and records by whom and when, unless it says otherwise itself. Fields with other values
    than before get the user and the time, unless these are given.
    """
    before: Annotation = {} if old is None else dict(old)
    given: Annotation = {}
    marks: Annotation = {}
    for name, value in new.items():
        if value is not None:
            given[name] = value
            continue
        before.pop(name, None)
        if not name.endswith(SUFFIXES) and name not in UNTOLD:
            marks.update((meta, told) for meta, told in how.meta(name) if meta not in new)
    result = {**given, **marks} if how.replace else {**before, **given, **marks}
    protected: frozenset[str] = frozenset()
    if not how.replace:
        protected = frozenset(how.conditional & before.keys())
        for name in protected:
            _keep(name, before, result)
    for name, value in given.items():
        if name.endswith(SUFFIXES) or name in UNTOLD or name in protected:
            continue
        unchanged = name in before and same(before[name], value)
        for meta, told in how.meta(name):
            if meta in given or meta in protected:
                continue
            if not unchanged:
                result[meta] = told
            elif meta in before:
                result[meta] = before[meta]
    if old is None:
        for name in given:
            base, time = name[:-5], name[:-5] + "_time"
            if name.endswith("_user") and base not in UNTOLD and time not in new:
                result[time] = how.now
    result[BODYID] = new[BODYID]
    return result


def _keep(name: str, before: Annotation, result: Annotation) -> None:
    """A field keeps its value, and with it its user and time, be it that it has none."""
    result[name] = before[name]
    if name.endswith(SUFFIXES):
        return
    for suffix in SUFFIXES:
        if name + suffix in before:
            result[name + suffix] = before[name + suffix]
        else:
            result.pop(name + suffix, None)


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal: numbers by value, and never equal to true or false."""
    kind = type(one)
    if kind is not type(other):
        return {kind, type(other)} == {int, float} and bool(one == other)
    if kind is list:
        return len(one) == len(other) and all(map(same, one, other))
    if kind is dict:
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    return bool(one == other)
