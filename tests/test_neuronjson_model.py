"""neuronjson against a plain model: random updates, commits, branches and merges, asked in between and at the end."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiclient import Client
from dvidcore import wire
from dvidcore.datatypes.neuronjson import tables
from dvidcore.repos import Database, DatabaseOptions, OneStore
from dvidcore.storage import open_engine

BODIES = [1, 2, 3, 10, 2**64 - 1]
FIELDS = ["a", "b", "tags"]
VALUES = [None, 1, 2, 2.5, "x", "xy", True, ["x", "y"], [1, 2], ["x", 1], {"x": 1}]
QUERIES: list[Any] = [
    {},
    {"a": 1},
    {"a": [2, "x"], "b": "exists/1"},
    {"a": "re/x"},
    [{"tags": "x"}, {"b": True}],
    {"tags": ["re/^y", 2.5]},
    {"a_user": "ann"},
    {"a": "exists/0", "b_user": ["bob", "ann"]},
    {"bodyid": [1, 2**64 - 1]},
    {"bodyid": [1, 3], "a": "exists/1"},
]

Fields = dict[str, tuple[Any, str]]
"""Field → its value (``None``: deleted) and the user who set it."""


@dataclass
class Version:
    """What was written at a version (``None``: deleted), and where it is in the graph."""

    uuid: str
    parents: list[Version]
    written: dict[int, Fields | None] = field(default_factory=dict)
    locked: bool = False

    def ancestors(self) -> list[Version]:
        found = [self]
        for version in found:
            found += [parent for parent in version.parents if parent not in found]
        return found

    def seen(self, body: int) -> list[Fields]:
        """The annotations of a body that this version sees: none, one, or several in conflict."""
        writers = [version for version in self.ancestors() if body in version.written]
        hidden = {id(above) for writer in writers for above in writer.ancestors()[1:]}
        found = [writer.written[body] for writer in writers if id(writer) not in hidden]
        return [fields for fields in found if fields is not None]


def shown(body: int, fields: Fields) -> dict[str, Any]:
    """An annotation as it is answered with its users."""
    values = {name: value for name, (value, _) in fields.items() if value is not None}
    return {"bodyid": body, **values, **{f"{name}_user": user for name, (_, user) in fields.items()}}


def updated(old: Fields, new: dict[str, Any], user: str, keep: list[str], replace: bool) -> Fields:
    result = {} if replace else dict(old)
    for name, value in new.items():
        had, _ = old.get(name, (None, ""))
        if value is not None and had is not None and (repr(had) == repr(value) or (name in keep and not replace)):
            result[name] = old[name]
        else:
            result[name] = (value, user)
    return result


def meets(value: Any, condition: Any) -> bool:
    if condition in ("exists/0", "exists/1"):
        return (value is not None) == (condition == "exists/1")
    if isinstance(condition, list):
        return any(meets(value, one) for one in condition)
    if isinstance(value, list) and len({isinstance(member, str) for member in value}) == 1:
        return any(meets(member, condition) for member in value)
    if isinstance(condition, str) and condition.startswith("re/"):
        return isinstance(value, str) and re.search(condition[3:], value) is not None
    if isinstance(value, bool) or isinstance(condition, bool):
        return value is condition
    return bool(value == condition)


def matches(annotation: dict[str, Any], query: Any) -> bool:
    if isinstance(query, list):
        return any(matches(annotation, one) for one in query)
    return all(meets(annotation.get(name), condition) for name, condition in query.items())


def asked_bodies(query: Any) -> list[int]:
    """The bodies that a query is about: a conflict in another does not matter to it."""
    return query["bodyid"] if isinstance(query, dict) and query.keys() == {"bodyid"} else BODIES


class World:
    """One repo with its instance, and the model of each of its versions."""

    def __init__(self, database: Database) -> None:
        self.client = Client(database)
        root = self.client.repo()
        self.client.instance(root, "nj", "neuronjson")
        self.versions = [Version(root, [])]

    def ask(self, version: Version, verb: str, path: str, body: Any = None) -> tuple[int, Any]:
        answer = self.client(verb, f"/api/node/{version.uuid}/nj/{path}", body)
        return answer.status, answer.json() if answer.status == 200 and answer.body else answer.text

    def write(
        self, version: Version, posts: list[tuple[int, dict[str, Any]]], user: str, keep: list[str], replace: bool
    ) -> None:
        """A POST of one annotation or several, in the instance and in the model."""
        options = f"u={user}&conditional={','.join(keep)}&replace={str(replace).lower()}"
        bodies = [(str(body), json.dumps({"bodyid": body, **new}).encode()) for body, new in posts]
        if len(bodies) == 1:
            answer = self.client.post(f"/api/node/{version.uuid}/nj/key/{bodies[0][0]}?{options}", bodies[0][1])
        else:
            message = wire.encode_key_values(list(bodies))
            answer = self.client.post(f"/api/node/{version.uuid}/nj/keyvalues?{options}", message)
        if any(len(version.seen(body)) > 1 for body, _ in posts) and not replace:
            assert answer.status == 409, answer.text
            return
        assert answer.status == 200, answer.text
        for body, new in posts:
            seen = version.seen(body)
            version.written[body] = updated(seen[0] if len(seen) == 1 else {}, new, user, keep, replace)

    def check(self, version: Version, queries: list[Any]) -> None:
        """Compares what can be read at a version with the model."""
        seen = {body: version.seen(body) for body in BODIES}
        expected = {body: shown(body, found[0]) for body, found in seen.items() if len(found) == 1}
        conflict = any(len(found) > 1 for found in seen.values())
        assert self.ask(version, "GET", "keys")[1] == [str(body) for body in BODIES if seen[body]]
        for body in BODIES:
            status, found = self.ask(version, "GET", f"key/{body}?show=user")
            assert (status, found if status == 200 else None) == (
                (409, None) if len(seen[body]) > 1 else (200, expected[body]) if seen[body] else (404, None)
            )
        for query in queries:
            status, found = self.ask(version, "POST", "query?show=user", query)
            if any(len(seen[body]) > 1 for body in asked_bodies(query)):
                assert status == 409
            else:
                assert found == [one for one in expected.values() if matches(one, query)], query
        if not conflict:
            everything = [one for one in expected.values() if len(one) > 1]
            assert self.ask(version, "GET", "all?show=user")[1] == everything
            counts: dict[str, int] = {}
            for name in (name for one in expected.values() for name in one):
                counts[name] = counts.get(name, 0) + 1
            found = self.ask(version, "GET", "fields?counts=true")[1]
            assert {name: count for name, count in found.items() if not name.endswith("_time")} == counts


fields = st.dictionaries(st.sampled_from(FIELDS), st.sampled_from(VALUES), max_size=3)
steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("post"),
            st.integers(0, 1000),
            st.lists(st.tuples(st.sampled_from(BODIES), fields), min_size=1, max_size=3),
            st.sampled_from(["ann", "bob"]),
            st.lists(st.sampled_from(FIELDS), max_size=2),
            st.booleans(),
        ),
        st.tuples(st.just("delete"), st.integers(0, 1000), st.sampled_from(BODIES)),
        st.tuples(st.just("ask"), st.integers(0, 1000), st.sampled_from(QUERIES)),
        st.tuples(st.sampled_from(["child", "branch", "merge"]), st.integers(0, 1000), st.integers(0, 1000)),
    ),
    max_size=30,
)


def run(world: World, taken: list[Any]) -> None:
    """Carries out steps in the instance and in the model."""
    for number, (action, one, *rest) in enumerate(taken):
        open_ = [version for version in world.versions if not version.locked]
        version = world.versions[one % len(world.versions)]
        if action == "ask":
            world.check(version, rest)
        elif action in ("post", "delete"):
            if not open_:
                continue
            version = open_[one % len(open_)]
            if action == "post":
                world.write(version, *rest)
            else:
                assert world.ask(version, "DELETE", f"key/{rest[0]}")[0] == 200
                version.written[rest[0]] = None
        else:
            parents = [version]
            if action == "merge":
                other = world.versions[rest[0] % len(world.versions)]
                if other is version:
                    continue
                parents.append(other)
            for parent in parents:
                if not parent.locked:
                    world.client.commit(parent.uuid)
                    parent.locked = True
            if action == "merge":
                body = {"mergeType": "conflict-free", "parents": [parent.uuid for parent in parents], "note": ""}
                answer = world.client.post(f"/api/repo/{version.uuid}/merge", body)
            else:
                answer = world.client.post(f"/api/node/{version.uuid}/branch", {"branch": f"b{number}"})
            assert answer.status == 200, answer.text
            world.versions.append(Version(answer.json()["child"], parents))


@pytest.fixture
def opened(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Database]:
    engine = open_engine(request.param, str(tmp_path))
    with Database.open({"main": engine}, OneStore("main"), options=DatabaseOptions(sync=False)) as database:
        yield database


@pytest.mark.parametrize("opened", ["memory", "leveldb", "lmdb"], indirect=True)
@pytest.mark.parametrize(("some", "many", "kept"), [(2000, 0.2, 1 << 29), (0, 0.5, 1 << 29), (1, 1.0, 0)])
def test_versions_see_what_the_model_sees(
    opened: Database, some: int, many: float, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where changed tables are always made anew, and where only one table is kept."""
    monkeypatch.setattr(tables, "FEW", some)
    monkeypatch.setattr(tables, "MANY", many)
    monkeypatch.setattr(tables, "KEPT", kept)

    @given(steps)
    @settings(max_examples=40, deadline=None)
    def example(taken: list[Any]) -> None:
        world = World(opened)
        run(world, taken)
        for version in world.versions:
            world.check(version, QUERIES)

    example()
