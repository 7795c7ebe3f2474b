"""The kernels over the columns of a body's index, beside dictionaries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvidcore import labels
from dvidcore.datatypes.labels.index import Columns
from reference_runs import pack_row

Index = dict[tuple[int, int, int], dict[int, int]]

numbers = st.sampled_from([-(2**31), -2, -1, 0, 1, 2**31 - 1])
blocks_of = st.tuples(numbers, numbers, numbers)
supervoxels_of = st.sampled_from([0, 1, 2, 3, 2**32, 2**64 - 1])
indices = st.dictionaries(
    blocks_of, st.dictionaries(supervoxels_of, st.integers(1, 2**32 - 1), min_size=1, max_size=5), max_size=6
)


def columns(index: Index) -> Columns:
    rows = [(*at, supervoxel, n) for at in sorted(index) for supervoxel, n in sorted(index[at].items())]
    return Columns(
        np.array([row[:3] for row in rows], np.int32).reshape(-1, 3),
        np.array([row[3] for row in rows], np.uint64),
        np.array([row[4] for row in rows], np.uint32),
        np.array([row[4] % 7 for row in rows], np.uint64),
    )


def same(one: Columns, other: Columns) -> bool:
    return all((a == b).all() and a.dtype == b.dtype for a, b in zip(one, other, strict=True))


@given(indices, st.sets(supervoxels_of))
def test_divide(index: Index, asked: set[int]) -> None:
    whole = columns(index)
    leaving, staying = labels.divide(whole.coords, whole.supervoxels, np.array(sorted(asked), np.uint64))
    touched = {at: row for at, row in index.items() if asked & set(row)}
    left = {at: {s: n for s, n in row.items() if s in asked} for at, row in touched.items()}
    stay = {at: {s: n for s, n in row.items() if s not in asked} for at, row in touched.items()}
    assert same(whole.where(leaving), columns(left))
    assert same(whole.where(staying), columns(stay))


@given(indices, indices, st.sets(blocks_of, max_size=4))
def test_patched_columns(index: Index, other: Index, gone: set[tuple[int, int, int]]) -> None:
    changed = sorted(gone | set(other))
    fresh = {at: row for at, row in other.items() if at not in gone}
    expected = {at: row for at, row in index.items() if at not in changed} | fresh
    patched = columns(index).patched(np.array(changed, np.int32).reshape(-1, 3), columns(fresh))
    assert same(patched, columns(expected))
    assert not any(column.flags.writeable for column in patched)


@given(indices, st.lists(blocks_of, max_size=5))
def test_find_blocks(index: Index, asked: list[tuple[int, int, int]]) -> None:
    whole = columns(index)
    found = labels.find_blocks(whole.coords, np.array(asked, np.int32).reshape(-1, 3))
    assert found.shape == (len(asked), 2)
    for at, (start, stop) in zip(asked, found.tolist(), strict=True):
        assert whole.coords[start:stop].tolist() == [list(at)] * len(index.get(at, {}))
        assert start == sum(len(row) for other, row in index.items() if other < at)


@given(indices)
def test_totals(index: Index) -> None:
    expected: dict[int, int] = {}
    for row in index.values():
        for supervoxel, n in row.items():
            expected[supervoxel] = expected.get(supervoxel, 0) + n
    whole = columns(index)
    found, sums = labels.totals(whole.supervoxels, whole.counts)
    assert list(zip(found.tolist(), sums.tolist(), strict=True)) == sorted(expected.items())


def test_totals_of_many_labels() -> None:
    rng = np.random.default_rng(5)
    asked = rng.integers(0, 5000, 100_000).astype(np.uint64)
    counts = rng.integers(0, 2**32, 100_000).astype(np.uint32)
    found, sums = labels.totals(asked, counts)
    assert found.tolist() == np.unique(asked).tolist()
    for label, total in zip(found[::500].tolist(), sums[::500].tolist(), strict=True):
        assert total == int(counts[asked == label].sum(dtype=np.uint64))


@given(indices)
def test_supervoxels_of_rows(index: Index) -> None:
    rows = [pack_row(dict(sorted(row.items()))) for row in index.values()]
    expected = sorted({supervoxel for row in index.values() for supervoxel in row})
    assert labels.supervoxels_of(rows).tolist() == expected
    assert labels.supervoxels_of(map(memoryview, rows)).dtype == np.uint64


def test_malformed_arguments() -> None:
    whole = columns({(0, 0, 0): {1: 1, 2: 2}})
    asked = np.array([1], np.uint64)
    with pytest.raises(ValueError, match="2 supervoxels, but coordinates 1 x 3"):
        labels.divide(whole.coords[:1], whole.supervoxels, asked)
    with pytest.raises(ValueError, match="2 x 2"):
        labels.divide(np.zeros((2, 2), np.int32), whole.supervoxels, asked)
    with pytest.raises(ValueError, match="three columns"):
        labels.find_blocks(np.zeros((2, 2), np.int32), whole.coords)
    with pytest.raises(ValueError, match="2 labels, but 1 counts"):
        labels.totals(whole.supervoxels, whole.counts[:1])
    with pytest.raises(ValueError, match="3 bytes"):
        labels.supervoxels_of([pack_row({1: 2}), b"abc"])
    with pytest.raises(ValueError, match="do not ascend"):
        labels.join_rows(pack_row({2: 1, 1: 1}), pack_row({3: 1}))
