"""The supervoxel -> body table against a dict of dicts."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from numpy.typing import NDArray

from dvidcore.labels import Mapping
from reference_runs import examples
from side_by_side import beside

supervoxels = st.integers(1, 12) | st.integers(2**64 - 5, 2**64 - 1)
bodies = st.integers(0, 12)
versions = st.integers(0, 6)
ranks = st.lists(st.integers(0, 2**32 - 1), max_size=8).map(lambda r: [v if r.count(v) == 1 else 0 for v in r])


def u64(values: object) -> NDArray[np.uint64]:
    return np.array(values, np.uint64).reshape(-1)


def u32(values: object) -> NDArray[np.uint32]:
    return np.array(values, np.uint32).reshape(-1)


class Model:
    """{supervoxel: {version: body}}"""

    def __init__(self) -> None:
        self.entries: dict[int, dict[int, int]] = {}

    def update(self, version: int, pairs: list[tuple[int, int]]) -> None:
        for supervoxel, body in pairs:
            self.entries.setdefault(supervoxel, {})[version] = body

    def visible(self, label: int, rank: list[int]) -> dict[int, int]:
        return {v: b for v, b in self.entries.get(label, {}).items() if v < len(rank) and rank[v]}

    def lookup(self, label: int, rank: list[int]) -> int:
        visible = self.visible(label, rank)
        return visible[max(visible, key=lambda v: rank[v])] if visible else label


class MappingMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.mapping, self.model = Mapping(), Model()

    @rule(version=versions, pairs=st.lists(st.tuples(supervoxels, bodies), max_size=8))
    def update(self, version: int, pairs: list[tuple[int, int]]) -> None:
        self.mapping.update(version, u64([s for s, _ in pairs]), u64([b for _, b in pairs]))
        self.model.update(version, pairs)

    @rule(rank=ranks)
    def read(self, rank: list[int]) -> None:
        asked = [0, *range(1, 14), *range(2**64 - 6, 2**64)]
        expected = [self.model.lookup(label, rank) for label in asked]
        assert self.mapping.lookup(u64(asked), u32(rank)).tolist() == expected
        mapped = self.mapping.mapped(u64(asked), u32(rank))
        assert mapped.dtype == np.bool_
        assert mapped.tolist() == [bool(self.model.visible(label, rank)) for label in asked]
        pairs = [(a, b) for a, b in zip(asked, expected, strict=True) if a != b]
        found, found_bodies = self.mapping.items(u32(rank))
        assert list(zip(found.tolist(), found_bodies.tolist(), strict=True)) == pairs

    @invariant()
    def counts_supervoxels(self) -> None:
        assert len(self.mapping) == len(self.model.entries)
        assert self.mapping.entries() == Counter(v for entries in self.model.entries.values() for v in entries)


TestMapping = MappingMachine.TestCase
TestMapping.settings = examples


@examples
@given(st.integers(0, 3000), st.integers(0, 5000))
def test_it_grows_from_any_capacity(n: int, capacity: int) -> None:
    mapping = Mapping(capacity)
    labels = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(2**40 + 1)
    mapping.update(1, labels, labels + np.uint64(1))
    assert len(mapping) == n
    np.testing.assert_array_equal(mapping.lookup(labels, u32([0, 7])), labels + np.uint64(1))
    np.testing.assert_array_equal(mapping.lookup(labels, u32([7, 0])), labels)


def test_many_versions_of_many_supervoxels() -> None:
    rng = np.random.default_rng(0)
    mapping, model = Mapping(), Model()
    for version in range(20):
        labels, to = rng.integers(1, 400, 100).astype(np.uint64), rng.integers(1, 400, 100).astype(np.uint64)
        mapping.update(version, labels, to)
        model.update(version, list(zip(labels.tolist(), to.tolist(), strict=True)))
    asked = np.arange(500, dtype=np.uint64)
    for _ in range(10):
        rank = rng.permutation(25)[:18].tolist()
        assert mapping.lookup(asked, u32(rank)).tolist() == [model.lookup(label, rank) for label in range(500)]


def test_a_nearer_identity_hides_a_farther_entry() -> None:
    mapping = Mapping()
    mapping.update(0, u64([5, 6]), u64([9, 9]))
    mapping.update(2, u64([5]), u64([5]))
    assert mapping.lookup(u64([5, 6]), u32([1, 0, 2])).tolist() == [5, 9]
    assert mapping.mapped(u64([5, 6, 7, 0]).reshape(2, 2), u32([1, 0, 2])).tolist() == [[True, True], [False, False]]
    assert mapping.mapped(u64([5, 6]), u32([0, 0, 2])).tolist() == [True, False]
    with pytest.raises(ValueError, match="uint64"):
        mapping.mapped(np.array([5]), u32([1]))  # type: ignore[arg-type]
    assert mapping.lookup(u64([5, 6]), u32([2, 0, 1])).tolist() == [9, 9]
    assert [a.tolist() for a in mapping.items(u32([1, 0, 2]))] == [[6], [9]]


def test_lookup_keeps_the_shape_and_may_write_in_place() -> None:
    mapping = Mapping()
    mapping.update(0, u64([3]), u64([8]))
    labels = np.arange(24, dtype=np.uint64).reshape(2, 3, 4)
    answer = mapping.lookup(labels, u32([1]))
    assert answer.shape == (2, 3, 4) and answer[0, 0, 3] == 8
    assert mapping.lookup(labels.T, u32([1])).shape == (4, 3, 2)
    assert mapping.lookup(labels, u32([1]), out=labels) is labels
    np.testing.assert_array_equal(labels, answer)
    assert mapping.lookup(u64([]), u32([])).shape == (0,)


def test_update_from_the_columns_of_pairs() -> None:
    mapping = Mapping()
    pairs = np.array([[3, 8], [4, 9]], np.uint64)
    mapping.update(0, pairs[:, 0], pairs[:, 1])
    assert mapping.lookup(pairs[:, 0], u32([1])).tolist() == [8, 9]


def test_memory_of_many_entries() -> None:
    mapping = Mapping()
    labels = np.arange(1, 300_001, dtype=np.uint64)
    mapping.update(0, labels, labels)
    assert 20 * len(labels) <= mapping.nbytes <= 40 * len(labels)


def test_readers_see_each_update_whole_while_a_writer_works() -> None:
    mapping = Mapping()
    labels = np.arange(1, 3001, dtype=np.uint64)
    rank = u32([1, 2])
    mapping.update(0, labels, np.zeros_like(labels))

    def read() -> None:
        assert len(np.unique(mapping.lookup(labels, rank))) == 1
        assert len(np.unique(mapping.items(rank)[1])) <= 1

    with beside(read, read, read):
        for round_ in range(1, 60):
            mapping.update(1, labels, np.full_like(labels, round_))
            extra = np.arange(1, 500, dtype=np.uint64) + np.uint64(10_000 * round_)
            mapping.update(5, extra, extra)  # invisible, and makes the table grow
    assert len(mapping) == 3000 + 59 * 499


def test_malformed_arguments_change_nothing() -> None:
    mapping = Mapping()
    mapping.update(0, u64([1]), u64([2]))
    with pytest.raises(ValueError, match="supervoxel 0"):
        mapping.update(0, u64([1, 0]), u64([7, 7]))
    with pytest.raises(ValueError, match="1 supervoxels and 2 bodies"):
        mapping.update(0, u64([1]), u64([7, 7]))
    for version in (-1, 2**31 - 1, 2**40):
        with pytest.raises(ValueError, match="version"):
            mapping.update(version, u64([1]), u64([7]))
    with pytest.raises(ValueError):
        mapping.update(0, np.array([1], np.int64), u64([7]))
    with pytest.raises(ValueError, match="uint64"):
        mapping.lookup(np.array([1]), u32([1]))
    with pytest.raises(ValueError):
        mapping.lookup(u64([1]), u64([1]))  # type: ignore[arg-type]
    for out in (np.empty(2, np.uint64), np.empty(1, np.int64), np.empty((1, 1), np.uint64)):
        with pytest.raises(ValueError, match="out"):
            mapping.lookup(u64([1]), u32([1]), out=out)
    read_only = u64([1])
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        mapping.lookup(u64([1]), u32([1]), out=read_only)
    for capacity in (-1, 2**60):
        with pytest.raises(ValueError, match="capacity"):
            Mapping(capacity)
    assert mapping.lookup(u64([0, 1]), u32([1])).tolist() == [0, 2]


def row(supervoxel: int, version: int, body: int) -> tuple[bytes, bytes]:
    return b"before" + supervoxel.to_bytes(8, "big") + version.to_bytes(4, "big"), body.to_bytes(8, "little")


def test_rows_of_a_store_are_loaded() -> None:
    mapping, other = Mapping(), Mapping()
    entries = [(s, v, (s * 7 + v) % 2**64) for s in (1, 2**40, 2**64 - 1) for v in (1, 2, 2**31 - 2)]
    rows = [row(*entry) for entry in entries]
    strange = (rows[0][0], b"elsewhere")
    assert mapping.load([*rows[:4], strange, *((key, memoryview(value)) for key, value in rows[4:])], 6) == [strange]
    for supervoxel, version, body in entries:
        other.update(version, u64([supervoxel]), u64([body]))
    rank = np.zeros(4, np.uint32)
    for visible in ([1], [2], [1, 2], []):
        rank[:] = 0
        rank[visible] = visible
        asked = u64([1, 2**40, 2**64 - 1, 5])
        assert mapping.lookup(asked, rank).tolist() == other.lookup(asked, rank).tolist()
    assert mapping.load([], 6) == [] and len(mapping) == 3


def test_malformed_rows_change_nothing() -> None:
    mapping = Mapping()
    good = row(5, 1, 6)
    for key, offset in ((b"short", 6), (good[0] + b"x", 6), (good[0], 5), (good[0], -1)):
        with pytest.raises(ValueError):
            mapping.load([good, (key, good[1])] if offset == 6 else [(key, good[1])], offset)
    with pytest.raises(ValueError, match="supervoxel 0"):
        mapping.load([good, row(0, 1, 6)], 6)
    with pytest.raises(ValueError, match="version"):
        mapping.load([good, row(7, 2**31 - 1, 6)], 6)
    assert len(mapping) == 0
