"""The Python face of volumes: slicing beside a numpy model, with negative coordinates, steps and unaligned writes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dvidcore
from dvidcore.errors import BadRequest, Forbidden, Locked
from dvidcore.local import Store
from dvidcore.local.selection import select

LOW, SIDE = -40, 80
"""The model is a cube of coordinates LOW … LOW + SIDE - 1."""
BLOCK = (8, 16, 24)
few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def store() -> Iterator[Store]:
    with dvidcore.open(engine="memory") as opened:
        opened.new_repo("test")
        yield opened


def make(store: Store, typename: str = "uint8blk", name: str = "data", block=BLOCK, **more: Any):
    return store.repo("test")["master"].create(name, typename, block_size=block, **more)


@st.composite
def axis_keys(draw) -> int | slice:
    """An index along one axis whose coordinates lie in the model."""
    inside = st.integers(LOW, LOW + SIDE - 1)
    if draw(st.integers(0, 3)) == 0:
        return draw(inside)
    step = draw(st.sampled_from([1, 1, 1, 2, 3, 9, -1, -2, -7, None]))
    first, last = draw(inside), draw(inside)
    if draw(st.booleans()):
        first, last = sorted((first, last), reverse=(step or 1) < 0)
    return slice(first, last, step)


keys = st.tuples(axis_keys(), axis_keys(), axis_keys())


def in_model(key: tuple[int | slice, ...]) -> tuple[Any, ...]:
    """The same index in the numpy model, as arrays of positions so that nothing counts from the end."""
    parts = [np.arange(k.start, k.stop, k.step or 1) if isinstance(k, slice) else np.array([k]) for k in key]
    return np.ix_(*(p - LOW for p in parts))


def expected(model: np.ndarray, key: tuple[int | slice, ...]) -> np.ndarray:
    found = model[in_model(key)]
    return found[tuple(slice(None) if isinstance(k, slice) else 0 for k in key)]


@few
@given(keys)
def test_reading_is_numpy_slicing(reading, key):
    volume, model = reading
    found, wanted = volume[key], expected(model, key)
    assert np.shape(found) == wanted.shape and (found == wanted).all()
    assert found.dtype == model.dtype


@pytest.fixture(scope="module", params=["uint8blk", "labelmap"])
def reading(request):
    with dvidcore.open(engine="memory") as store:
        store.new_repo("test")
        dtype = np.uint8 if request.param == "uint8blk" else np.uint64
        block = BLOCK if request.param == "uint8blk" else (16, 32, 16)
        volume = make(store, request.param, block=block)
        model = np.random.default_rng(0).integers(0, 9, (SIDE,) * 3).astype(dtype)
        model[:20] = 0
        volume[-20 : LOW + SIDE, LOW : LOW + SIDE, LOW : LOW + SIDE] = model[20:]
        yield volume, model


@few
@given(st.lists(st.tuples(keys, st.integers(0, 2**32)), min_size=1, max_size=4), st.sampled_from(["uint8", "label"]))
def test_writing_is_numpy_assignment(store, writes, kind):
    """Any sequence of assignments leaves what it leaves in an array; what was not assigned stays background."""
    if "data" in store.repo("test")["master"]:
        store.repo("test").delete_instance("data")
    if kind == "uint8":
        volume, model = make(store), np.zeros((SIDE,) * 3, np.uint8)
    else:
        volume, model = make(store, "labelmap", block=(16, 16, 32)), np.zeros((SIDE,) * 3, np.uint64)
    for key, seed in writes:
        rng = np.random.default_rng(seed)
        value = rng.integers(1, 200, expected(model, key).shape).astype(model.dtype)
        if seed % 3 == 0:
            value = value.dtype.type(7)
        volume[key] = value
        target = model[in_model(key)]
        target[tuple(slice(None) if isinstance(k, slice) else 0 for k in key)] = value
        model[in_model(key)] = target
    box = (slice(LOW, LOW + SIDE),) * 3
    assert (volume[box] == model).all()


@given(st.integers(-5, 5) | st.none(), st.integers(-5, 5) | st.none(), st.sampled_from([None, 1, 2, -1, -3]))
def test_open_ends_are_those_of_the_extents(start, stop, step):
    selection = select((slice(start, stop, step), 0, 0), lambda: (slice(-3, 4), slice(0, 1), slice(0, 1)))
    low, high = (-3, 4) if (step or 1) > 0 else (3, -4)
    assert list(selection.ranges[0]) == list(
        range(low if start is None else start, high if stop is None else stop, step or 1)
    )


def test_properties_follow_what_was_written(store):
    volume = make(store, voxel_size=(40, 8, 8.5), Background="9")
    assert volume.shape == (0, 0, 0) and volume[...].shape == (0, 0, 0) and len(volume) == 0
    assert volume[0, 0, 0] == 9 and volume[-1000:-998, 5, 5].tolist() == [9, 9]
    volume[-8:8, 0:16, 24:48] = 3
    assert volume.extents == (slice(-8, 8), slice(0, 16), slice(24, 48)) and volume.origin == (-8, 0, 24)
    assert volume.shape == (16, 16, 24) and volume.ndim == 3 and volume.dtype == np.uint8
    assert volume.voxel_size == (40.0, 8.0, 8.5) and volume.voxel_units == ("nanometers",) * 3
    assert volume.block_size == BLOCK and volume.background == 9
    assert volume.info["Extended"]["MinPoint"] == [24, 0, -8]
    assert np.asarray(volume).shape == (16, 16, 24) and np.asarray(volume, np.float32).dtype == np.float32
    assert (volume[volume.extents] == 3).all() and volume[-1].shape == (16, 24) and volume[..., 0].shape == (16, 16)
    assert len(list(volume)) == 16 and volume[-9:-7, 0, 24].tolist() == [9, 3]
    with pytest.raises(ValueError, match="without a copy"):
        volume.__array__(copy=False)


@pytest.mark.parametrize(
    "typename, dtype", [("uint16blk", "u2"), ("uint32blk", "u4"), ("uint64blk", "u8"), ("float32blk", "f4")]
)
def test_every_number_type(store, typename, dtype):
    volume = make(store, typename)
    values = np.random.default_rng(1).integers(0, 60000, (9, 17, 25)).astype(dtype)
    volume[-3:6, 1:18, 7:32] = values
    assert volume.dtype == np.dtype(dtype) and (volume[-3:6, 1:18, 7:32] == values).all()


def test_colours_are_a_fourth_axis(store):
    volume = make(store, "rgba8blk", block=(8, 8, 8))
    rgba = np.random.default_rng(2).integers(0, 256, (5, 6, 7, 4), np.uint8)
    volume[-2:3, 0:6, 1:8] = rgba
    assert volume.shape == (16, 8, 8, 4) and volume.ndim == 4
    assert (volume[-2:3, 0:6, 1:8] == rgba).all()
    assert (volume[2:-3:-2, 0, ::3][..., 0].shape) == (3, 3)
    assert (volume[-2:3, 0:6, 1:8, 1] == rgba[..., 1]).all() and volume[0, 0, 1, 3] == rgba[2, 0, 0, 3]
    volume[0, 0:6, 1:8, 3] = 255
    volume[1, 0, 1] = [1, 2, 3, 4]
    rgba[2, :, :, 3] = 255
    rgba[3, 0, 0] = [1, 2, 3, 4]
    assert (volume[-2:3, 0:6, 1:8] == rgba).all()
    with pytest.raises(BadRequest, match="index"):
        volume[0, 0, 0, 4]


@pytest.mark.parametrize(
    "key", [True, "a", 1.5, None, [0, 1], (0, 0, 0, 0), (..., ...), slice(0, 4, 0), 2**31, -(2**40)]
)
def test_other_indices_are_refused(store, key):
    volume = make(store)
    for use in (lambda: volume[key], lambda: volume.__setitem__(key, 1)):
        with pytest.raises(BadRequest, match="index"):
            use()


@pytest.mark.parametrize("value", [256, -1, 1.0, "a", np.zeros((2, 2)), [1, 300], np.zeros(3, np.uint8)])
def test_values_that_do_not_fit_are_refused_and_nothing_is_stored(store, value):
    volume = make(store)
    with pytest.raises(BadRequest, match="value"):
        volume[0:2, 0:2, 0:2] = value
    assert volume.shape == (0, 0, 0)


def test_committed_versions_and_read_only_stores_take_no_voxels(store, tmp_path):
    volume = make(store)
    volume[0, 0, 0] = 5
    node = volume.node
    node.commit()
    with pytest.raises(Locked, match="committed"):
        volume[0, 0, 0] = 6
    child = node.newversion()["data"]
    child[0, 0, 0] = 7
    assert (volume[0, 0, 0], child[0, 0, 0]) == (5, 7)

    with dvidcore.open(tmp_path / "store") as written:
        written.new_repo("test")
        make(written)[0, 0, 0] = 1
        written.node(":master").commit()
    with dvidcore.open(tmp_path / "store", fullwrite=True) as full:
        full.node(":master")["data"][0, 0, 0] = 2
    with dvidcore.open(tmp_path / "store", readonly=True) as read:
        data = read.node(":master")["data"]
        assert data[0, 0, 0] == 2
        with pytest.raises(Forbidden, match="read only"):
            data[0, 0, 0] = 3
        with pytest.raises(Forbidden, match="read only"):
            read.new_repo()


def test_threads_that_write_into_the_same_blocks_lose_nothing(store):
    volume = make(store, block=(32, 32, 32))

    def write(k: int) -> None:
        for z in range(k, 32, 4):
            volume[z, 3:30, 5:9] = z + 1

    threads = [threading.Thread(target=write, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (volume[0:32, 3:30, 5:9] == np.arange(1, 33)[:, None, None]).all()


def test_reads_and_writes_as_the_server_does(store):
    """What the face writes is what HTTP reads, and the other way round."""
    from apiclient import Client

    client = Client(store.database)
    volume = make(store)
    voxels = np.random.default_rng(3).integers(0, 256, (16, 16, 24), np.uint8)
    volume[-8:8, -16:0, 0:24] = voxels
    path = f"/api/node/{volume.node.uuid}/data/raw/0_1_2/24_16_16/0_-16_-8"
    assert client.get(path).body == voxels.tobytes()
    assert client.post(path, voxels[::-1].tobytes()).status == 200
    assert (volume[-8:8, -16:0, 0:24] == voxels[::-1]).all()
    assert volume.request("GET", "raw/0_1_2/24_16_16/0_-16_-8") == voxels[::-1].tobytes()
