"""The view at a version against the rule itself, written out over sets."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvidcore import errors
from dvidcore.storage import Batch, Engine, keys, open_engine
from dvidcore.storage.versioned import Ancestry, KeyConflict, VersionedBatch, View

PREFIX = keys.data_prefix(5, 1)
RANGE = keys.kind_range(5, 1)
Parents = Mapping[int, Sequence[int]]


@pytest.fixture(params=["leveldb", "lmdb", "memory"], scope="module")
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with open_engine(request.param, str(tmp_path_factory.mktemp("db"))) as opened:
        yield opened


def ancestors(version: int, parents: Parents) -> set[int]:
    found: set[int] = set()
    for parent in parents.get(version, ()):
        found |= {parent} | ancestors(parent, parents)
    return found


def seen(version: int, parents: Parents, entries: Mapping[int, bytes]) -> dict[int, bytes]:
    """The rule: writer → value of what the version sees; none, one, or a conflict."""
    writers = (ancestors(version, parents) | {version}) & entries.keys()
    writers -= {above for writer in writers for above in ancestors(writer, parents)}
    return {writer: entries[writer] for writer in writers if entries[writer]}


def store(engine: Engine, table: Mapping[bytes, Mapping[int, bytes]]) -> None:
    """Replaces all rows by those of the table, prefix key → version → value (empty: deleted)."""
    engine.delete_range(b"\x01", b"\x02")
    batch = Batch()
    for prefix_key, entries in table.items():
        for version, value in entries.items():
            at_version = VersionedBatch(batch, version)
            if value:
                at_version.put(prefix_key, value)
            else:
                at_version.delete(prefix_key)
    # Neighbours that no view of this kind may show.
    for neighbour in (keys.data_prefix(5, 0), keys.data_prefix(5, 2), keys.data_prefix(4, 255), keys.data_prefix(6, 0)):
        VersionedBatch(batch, 1).put(neighbour + keys.text_key("a"), b"neighbour")
    engine.write(batch, sync=False)


def check(engine: Engine, table: Mapping[bytes, Mapping[int, bytes]], version: int, parents: Parents) -> None:
    """Every way of reading the view answers what the rule says."""
    ancestry = Ancestry.from_parents(version, parents)
    visible = {prefix_key: seen(version, parents, entries) for prefix_key, entries in table.items()}
    members = ancestors(version, parents) | {version}
    with engine.snapshot() as snapshot:
        view = View(snapshot, ancestry)
        for prefix_key, writers in visible.items():
            if len(writers) > 1:
                for read in (view.get, view.writer):
                    with pytest.raises(KeyConflict) as caught:
                        read(prefix_key)
                    assert caught.value.writers == tuple(sorted(writers))
                    assert caught.value.prefix_key == prefix_key
            else:
                assert view.get(prefix_key) == next(iter(writers.values()), None)
                assert view.writer(prefix_key) == next(iter(writers), None)
        assert list(view.keys(*RANGE)) == sorted(prefix_key for prefix_key, writers in visible.items() if writers)
        conflicts = {prefix_key: found for prefix_key, found in view.conflicts(*RANGE)}
        assert conflicts.keys() == {prefix_key for prefix_key, writers in visible.items() if len(writers) > 1}
        for prefix_key, found in conflicts.items():
            assert {writer for writer, deleted in found if not deleted} == visible[prefix_key].keys()
            assert all(deleted == (not table[prefix_key][writer]) for writer, deleted in found)
        clean = sorted((prefix_key, *writers.values()) for prefix_key, writers in visible.items() if len(writers) == 1)
        if conflicts:
            with pytest.raises(KeyConflict):
                list(view.scan(*RANGE))
        else:
            assert [(prefix_key, bytes(value)) for prefix_key, value in view.scan(*RANGE)] == clean
        assert view.get_many([prefix_key for prefix_key, _ in clean]) == [value for _, value in clean]
        raw = [
            (prefix_key, writer, table[prefix_key][writer])
            for prefix_key in sorted(table)
            for writer in sorted(table[prefix_key])
            if writer in members
        ]
        assert [(prefix_key, writer, bytes(value)) for prefix_key, writer, value in view.scan_entries(*RANGE)] == raw


@st.composite
def graphs(draw: st.DrawFn) -> dict[int, list[int]]:
    """Versions with up to three parents among the earlier ones; ids in order of creation or not."""
    count = draw(st.integers(1, 9))
    ids = list(range(1, count + 1))
    if draw(st.booleans()):
        ids = draw(st.permutations(ids))
    merges = draw(st.booleans())
    parents: dict[int, list[int]] = {ids[0]: []}
    for place in range(1, count):
        most = min(place, 3 if merges else 1)
        parents[ids[place]] = draw(st.lists(st.sampled_from(ids[:place]), min_size=1, max_size=most, unique=True))
    return parents


TYPE_KEYS = [keys.text_key(text) for text in ("", "a", "a\x01", "ab", "b")]
TABLES = st.dictionaries(
    st.sampled_from([PREFIX + type_key for type_key in TYPE_KEYS]),
    st.dictionaries(st.integers(1, 9), st.sampled_from([b"", b"1", b"2"]), max_size=9),
)


@settings(max_examples=150, deadline=None)
@given(graphs(), TABLES)
def test_random_graphs(engine: Engine, parents: dict[int, list[int]], table: dict[bytes, dict[int, bytes]]) -> None:
    store(engine, table)
    for version in parents:
        check(engine, table, version, parents)


@settings(max_examples=80, deadline=None)
@given(graphs(), st.sets(st.integers(1, 12)))
def test_ancestry(parents: dict[int, list[int]], writers: set[int]) -> None:
    for version in parents:
        ancestry = Ancestry.from_parents(version, parents)
        members = ancestors(version, parents) | {version}
        assert set(ancestry.rank) == members == set(ancestry.order) == set(ancestry.ids)
        assert list(ancestry.ids) == sorted(members)
        assert [ancestry.rank[member] for member in ancestry.order] == list(range(len(members)))
        assert ancestry.order[-1] == version
        assert ancestry.linear == all(len(parents[member]) <= 1 for member in members)
        for one in members:
            for other in members:
                assert ancestry.is_ancestor(one, other) == (one in ancestors(other, parents))
        inside = writers & members
        expected = inside - {above for writer in inside for above in ancestors(writer, parents)}
        frontier = ancestry.frontier(writers)
        assert set(frontier) == expected
        assert frontier == sorted(expected, key=ancestry.rank.__getitem__, reverse=True)


#       1 - 2 - 3 ----- 6 - 7
#            \- 4 - 5 -/
MERGED: Parents = {1: [], 2: [1], 3: [2], 4: [2], 5: [4], 6: [3, 5], 7: [6]}


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ({1: b"old"}, b"old"),
        ({1: b"old", 2: b""}, None),
        ({1: b"old", 2: b"", 3: b"new"}, b"new"),
        ({2: b"both", 3: b""}, None),  # a deletion merged with what is untouched
        ({2: b"both", 3: b"", 5: b"change"}, b"change"),  # and with a change
        ({2: b"both", 3: b"", 4: b""}, None),
        ({2: b"both", 4: b"older", 5: b"newer"}, b"newer"),
        ({3: b"x", 4: b"y", 6: b"settled"}, b"settled"),
        ({3: b"x", 4: b"y", 7: b""}, None),
        ({3: b"x", 4: b"y", 5: b""}, b"x"),
    ],
)
def test_the_rule_by_example(engine: Engine, entries: dict[int, bytes], expected: bytes | None) -> None:
    store(engine, {PREFIX + keys.text_key("k"): entries})
    with engine.snapshot() as snapshot:
        assert View(snapshot, Ancestry.from_parents(7, MERGED)).get(PREFIX + keys.text_key("k")) == expected
    check(engine, {PREFIX + keys.text_key("k"): entries}, 7, MERGED)


def test_a_conflict_is_listed_and_names_its_writers(engine: Engine) -> None:
    key = PREFIX + keys.text_key("k")
    store(engine, {key: {1: b"old", 3: b"x", 4: b"y"}})
    with engine.snapshot() as snapshot:
        view = View(snapshot, Ancestry.from_parents(6, MERGED))
        assert list(view.keys(*RANGE)) == [key]
        with pytest.raises(errors.Conflict, match="versions 3 and 4"):
            view.get(key)
        with pytest.raises(errors.Conflict):
            view.get_many([PREFIX + keys.text_key("other"), key])
        assert list(view.conflicts(*RANGE)) == [(key, [(4, False), (3, False)])]
        for version in (3, 5):
            assert View(snapshot, Ancestry.from_parents(version, MERGED)).get(key) is not None


def test_ranges_within_a_kind(engine: Engine) -> None:
    points = [(z, y, x) for z in (-1, 0) for y in (0, 3) for x in range(-2, 3)]
    store(engine, {PREFIX + keys.zyx_key(*point): {1: b"v", 2: b"w"} for point in points})
    with engine.snapshot() as snapshot:
        view = View(snapshot, Ancestry.from_parents(1, {1: []}))
        start, last = PREFIX + keys.zyx_key(-1, 3, -1), PREFIX + keys.zyx_key(0, 0, 1)
        expected = [point for point in sorted(points) if (-1, 3, -1) <= point < (0, 0, 1)]
        assert [keys.zyx_of(prefix_key) for prefix_key, _ in view.scan(start, last)] == expected
        included = [keys.zyx_of(prefix_key) for prefix_key in view.keys(start, keys.prefix_end(last))]
        assert included == [*expected, (0, 0, 1)]
        assert list(view.scan(last, start)) == []


def test_many_versions_and_long_side_branches(engine: Engine) -> None:
    """A chain 1…300, and branches of ten versions off every tenth; ids interleave as they were created."""
    pick = random.Random(4)
    parents: dict[int, list[int]] = {1: []}
    main, side = [1], 1
    for version in range(2, 301):
        if version % 3:
            parents[version] = [main[-1]]
            main.append(version)
        else:
            parents[version] = [pick.choice([side, main[-1]])]
            side = version
    table = {
        PREFIX + keys.u64_key(number): {
            version: pick.choice([b"", b"v%d" % version]) for version in parents if pick.random() < density
        }
        for number, density in enumerate((1, 0.5, 0.1, 0.01, 0))
    }
    store(engine, table)
    for version in (1, 150, 151, main[-1], side, 300):
        check(engine, table, version, parents)


def test_deep_histories_need_no_recursion() -> None:
    parents = {version: [version - 1] for version in range(2, 5001)}
    ancestry = Ancestry.from_parents(5000, parents)
    assert ancestry.linear and ancestry.ordered and len(ancestry.rank) == 5000
    assert ancestry.is_ancestor(1, 5000) and not ancestry.is_ancestor(5000, 1)


def test_a_circle_is_refused() -> None:
    with pytest.raises(ValueError, match="its own ancestor"):
        Ancestry.from_parents(3, {3: [2], 2: [1], 1: [3]})
    with pytest.raises(ValueError, match="its own ancestor"):
        Ancestry.from_parents(1, {1: [1]})


def test_an_empty_value_is_refused() -> None:
    batch = Batch()
    for empty in (b"", memoryview(b"")):
        with pytest.raises(ValueError, match="must not be empty"):
            VersionedBatch(batch, 1).put(b"k", empty)
    assert len(batch) == 0
