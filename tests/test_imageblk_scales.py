"""Coarser scales of image instances: how voxels are halved, and that each scale follows from the finer one."""

from __future__ import annotations

import copy
import io
import threading
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from apiclient import Client
from dvidcore.datatypes.imageblk.downres import METHODS, halved
from dvidcore.datatypes.imageblk.elements import FLOAT32, RGBA8, UINT8, UINT16, UINT32, UINT64, Element
from dvidcore.datatypes.registry import Instances
from dvidcore.repos import Database, OneStore
from dvidcore.storage.memory import Memory
from image_client import Lattice, Volume, noise, xyz

ELEMENTS = [UINT8, UINT16, UINT32, UINT64, FLOAT32, RGBA8]
LOW, SIDE, BLOCK, LEVELS = -32, 64, 4, 3
"""The space of the models: 2 blocks of the coarsest scale along each axis."""


def reference(volume: np.ndarray, method: str) -> np.ndarray:
    """Half the resolution, voxel by voxel, in Python's numbers."""
    out = np.empty([n // 2 for n in volume.shape[:3]] + list(volume.shape[3:]), volume.dtype)
    for at in np.ndindex(*out.shape[:3]):
        eight = [
            volume[tuple(2 * a + c for a, c in zip(at, corner, strict=True))] for corner in product((0, 1), repeat=3)
        ]
        if method == "nearest":
            out[at] = eight[0]
        elif method == "majority":
            keys = [e.tobytes() if volume.ndim == 4 else e.item() for e in eight]
            order = (lambda k: int.from_bytes(k, "little")) if volume.ndim == 4 else (lambda k: k)
            out[at] = eight[keys.index(min(keys, key=lambda k: (-keys.count(k), order(k))))]
        elif volume.dtype.kind == "f":
            out[at] = np.float32(sum(float(e) for e in eight) / 8)
        else:
            channels = np.array([e.tolist() for e in eight], object).reshape(8, -1)
            out[at] = ((channels.sum(axis=0) + 4) // 8).astype(volume.dtype).reshape(out[at].shape)
    return out


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(ELEMENTS), st.sampled_from(METHODS), st.data())
def test_halving_against_the_reference(element: Element, method: str, data: st.DataObject) -> None:
    shape = element.shape(tuple(2 * data.draw(st.integers(1, 3)) for _ in range(3)))
    if element.dtype.kind == "f":
        values = st.floats(-1000, 1000, width=32)
    else:
        top = int(np.iinfo(element.dtype).max)
        values = st.one_of(st.integers(0, 3), st.integers(top - 5, top), st.integers(0, top))
    volume = data.draw(hnp.arrays(element.dtype, shape, elements=values))
    assert (halved(volume, method, element) == reference(volume, method)).all()


@pytest.mark.parametrize("element", ELEMENTS, ids=lambda e: e.name)
def test_halving_in_pieces(element: Element) -> None:
    """Volumes of many pieces, whole and as a view of a larger one."""
    rng = np.random.default_rng(3)
    large = rng.integers(0, 200, element.shape((6, 520, 530))).astype(element.dtype)
    for volume in (large, large[1:5, 2:500, 3:521]):
        sums = sum(volume[z::2, y::2, x::2].astype(np.float64) for z, y, x in product((0, 1), repeat=3))
        want = sums / 8 if element.dtype.kind == "f" else (sums + 4) // 8
        assert (halved(volume, "mean", element) == want.astype(element.dtype)).all()


def test_a_mean_of_floats_is_safe_with_what_is_no_number() -> None:
    volume = np.zeros((2, 2, 4), np.float32)
    volume[0, 0, 0] = np.nan
    volume[1, 1, 3] = np.inf
    assert np.isnan(halved(volume, "mean", FLOAT32)[0, 0, 0]) and np.isinf(halved(volume, "mean", FLOAT32)[0, 0, 1])


class Pyramid(Lattice):
    """The model: a version's voxels, and the coarser scales that follow from them."""

    def __init__(
        self, dtype: str = "u1", channels: tuple[int, ...] = (), background: int = 0, method: str = "mean"
    ) -> None:
        super().__init__(LOW, SIDE, dtype, channels, background)
        self.method = method
        self.element = next(e for e in ELEMENTS if e.dtype == np.dtype(dtype) and (e.channels > 1) == bool(channels))

    def copy(self) -> Pyramid:
        other = copy.copy(self)
        other.voxels = self.voxels.copy()
        return other

    def scales(self) -> list[np.ndarray]:
        out = [self.voxels]
        for _ in range(LEVELS):
            out.append(halved(out[-1], self.method, self.element))
        return out


def check(volume: Volume, model: Pyramid) -> None:
    """Every scale of a version, whole."""
    for scale, want in enumerate(model.scales()):
        side, low = SIDE >> scale, LOW >> scale
        answer = volume.get(f"raw/0_1_2/{side}_{side}_{side}/{low}_{low}_{low}?scale={scale}")
        assert answer.status == 200, answer.text
        got = np.frombuffer(answer.body, volume.dtype).reshape(want.shape)
        assert (got == want).all(), f"scale {scale}"


def scaled(client: Client, typename: str = "uint8blk", **given: str) -> Volume:
    return Volume.create(
        client, typename, BlockSize=f"{BLOCK},{BLOCK},{BLOCK}", **{"MaxDownresLevel": str(LEVELS), **given}
    )


@pytest.fixture
def client(database: Database) -> Client:
    return Client(database)


def branch(client: Client, uuid: str, name: str) -> str:
    answer = client.post(f"/api/node/{uuid}/branch", {"branch": name})
    assert answer.status == 200, answer.text
    return str(answer.json()["child"])


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_scales_against_a_model(data: st.DataObject) -> None:
    """Random writes of boxes, masked boxes and rows of blocks, commits and branches."""
    draw = data.draw
    client = Client(Database.open({"main": Memory.open("")}, OneStore("main")))
    typename, dtype, channels = draw(
        st.sampled_from(
            [("uint8blk", "u1", ()), ("uint16blk", "<u2", ()), ("uint64blk", "<u8", ()), ("rgba8blk", "u1", (4,))]
        )
    )
    method = draw(st.sampled_from(METHODS))
    background = draw(st.sampled_from([0, 9]))
    volume = scaled(client, typename, DownresMethod=method, Background=str(background))
    client.instance(volume.uuid, "half", "roi", BlockSize=f"{BLOCK},{BLOCK},{BLOCK}")
    spans = [[z, y, -4, 0] for z in range(-4, 4) for y in range(-4, 4, 2)]
    assert client.post(f"/api/node/{volume.uuid}/half/roi", spans).status == 200
    models = {volume.uuid: Pyramid(dtype, channels, background, method)}
    opened = [volume.uuid]
    for step in range(draw(st.integers(1, 7))):
        version = draw(st.sampled_from(opened))
        here, model = volume.at(version), models[version]
        count = [draw(st.integers(1, 3)) for _ in range(3)]
        at = [draw(st.integers(-4, 4 - n)) for n in count]
        kind = draw(st.sampled_from(["raw", "roi", "blocks", "child"]))
        if kind == "child":
            client.commit(version)
            opened.remove(version)
            for name in range(draw(st.integers(1, 2))):
                child = branch(client, version, f"b{step}-{name}")
                models[child] = model.copy()
                opened.append(child)
            continue
        if kind == "blocks":
            count[:2] = 1, 1
        offset, size = [BLOCK * a for a in at], [BLOCK * n for n in count]
        voxels = noise(step, (*size, *channels), dtype) % 5 if step % 2 else noise(step, (*size, *channels), dtype)
        if kind == "blocks":
            z, y, x = at
            body = b"".join(voxels[:, :, BLOCK * k : BLOCK * (k + 1)].tobytes() for k in range(count[2]))
            assert here.post(f"blocks/{x}_{y}_{z}/{count[2]}", body).status == 200
            model[offset, size][:] = voxels
        elif kind == "raw":
            here.put(voxels, offset)
            model[offset, size][:] = voxels
        else:
            here.put(voxels, offset, "?roi=half")
            inside = np.zeros((16, 16, 16), bool)  # from block -8
            inside[4:12, 4:12:2, 4:9] = True
            whole = inside.repeat(BLOCK, 0).repeat(BLOCK, 1).repeat(BLOCK, 2)
            where = tuple(slice(o - LOW, o - LOW + s) for o, s in zip(offset, size, strict=True))
            model.voxels[where][whole[where]] = voxels[whole[where]]
    for version, model in models.items():
        check(volume.at(version), model)


def test_every_way_of_reading_takes_a_scale(client: Client) -> None:
    volume, model = scaled(client, Compression="none"), Pyramid()
    voxels = noise(1, (24, 32, 20))
    volume.put(voxels, (-8, 0, -12))
    model[(-8, 0, -12), (24, 32, 20)][:] = voxels
    one = model.scales()[1]
    low, side = LOW // 2, SIDE // 2
    shown = Image.open(io.BytesIO(volume.get(f"raw/xy/{side}_{side}/{low}_{low}_3?scale=1").body))
    assert (np.asarray(shown) == one[3 - low]).all()
    shown = Image.open(io.BytesIO(volume.get(f"isotropic/xz/{side}_{side}/{low}_5_{low}?scale=1").body))
    assert (np.asarray(shown) == one[:, 5 - low]).all()
    got = np.frombuffer(volume.get("blocks/-2_1_0/3?scale=1").body, "u1").reshape(3, BLOCK, BLOCK, BLOCK)
    want = one[-low : BLOCK - low, BLOCK - low : 2 * BLOCK - low, -2 * BLOCK - low : BLOCK - low]
    assert (got == want.reshape(BLOCK, BLOCK, 3, BLOCK).transpose(2, 0, 1, 3)).all()
    shape = (BLOCK,) * 3
    found = volume.blocks(f"subvolblocks/{side}_{side}_{side}/{low}_{low}_{low}?scale=1", "none", shape)
    assert set(found) == set(product(range(-1, 2), range(4), range(-2, 1)))
    for (z, y, x), block in found.items():
        where = tuple(slice(c * BLOCK - low, (c + 1) * BLOCK - low) for c in (z, y, x))
        assert (block == one[where]).all()
    picked = volume.blocks("specificblocks?scale=1&blocks=0,0,0,7,7,7,-2,1,1", "none", shape)
    assert set(picked) == {(0, 0, 0), (1, 1, -2)}


def test_an_roi_masks_a_coarser_scale(client: Client) -> None:
    volume = scaled(client, Background="3")
    client.instance(volume.uuid, "some", "roi", BlockSize=f"{BLOCK},{BLOCK},{BLOCK}")
    assert client.post(f"/api/node/{volume.uuid}/some/roi", [[0, 0, 0, 0]]).status == 200
    volume.put(np.full((8, 8, 8), 200, np.uint8), (0, 0, 0))
    got = volume.get("raw/0_1_2/8_8_8/0_0_0?scale=1&roi=some").body
    want = np.full((8, 8, 8), 3, np.uint8)
    want[:2, :2, :2] = 200
    assert got == want.tobytes()
    client.instance(volume.uuid, "odd", "roi", BlockSize="8,8,4")
    assert volume.get("raw/0_1_2/8_8_8/0_0_0?scale=3&roi=odd").status == 400


def test_without_the_setting_nothing_is_different(client: Client) -> None:
    plain = Volume.create(client)
    plain.put(noise(1, (32, 32, 32)), (0, 0, 0))
    assert "MaxDownresLevel" not in plain.get("info").json()["Extended"]
    assert plain.get("raw/0_1_2/8_8_8/0_0_0?scale=0").status == 200
    assert plain.get("raw/0_1_2/8_8_8/0_0_0?scale=1").status == 400
    extended = scaled(client).get("info").json()["Extended"]
    assert (extended["MaxDownresLevel"], extended["DownresMethod"]) == (LEVELS, "mean")
    labels = scaled(client, "uint64blk").get("info").json()["Extended"]
    assert labels["DownresMethod"] == "majority"


@pytest.mark.parametrize(
    "wrong",
    [
        {"MaxDownresLevel": "-1"},
        {"MaxDownresLevel": "25"},
        {"MaxDownresLevel": "x"},
        {"DownresMethod": "median"},
        {"MaxDownresLevel": "1", "BlockSize": "8,8,7"},
    ],
)
def test_settings_that_make_no_sense_are_refused(client: Client, wrong: dict[str, str]) -> None:
    config = {"typename": "uint8blk", "dataname": "gray", **wrong}
    uuid = client.repo()
    answer = client.post(f"/api/repo/{uuid}/instance", config)
    assert answer.status == 400 and next(iter(wrong)) in answer.text
    assert client.get(f"/api/node/{uuid}/gray/info").status == 400


def test_scales_cannot_be_written_nor_read_beyond_the_last(client: Client) -> None:
    volume = scaled(client)
    block = noise(1, (BLOCK,) * 3)
    for path in ("raw/0_1_2/8_8_8/0_0_0?scale=1", "blocks/0_0_0/1?scale=1", "blocks/0_0_0/1?scale=-1"):
        answer = volume.post(path, block.tobytes())
        assert answer.status == 400 and "scale" in answer.text
    for path in (
        "raw/0_1_2/8_8_8/0_0_0",
        "raw/xy/8_8/0_0_0",
        "blocks/0_0_0/1",
        "subvolblocks/8_8_8/0_0_0",
        "specificblocks",
    ):
        for scale in ("4", "-1", "x", "4000000000"):
            answer = volume.get(f"{path}?blocks=0,0,0&scale={scale}")
            assert answer.status == 400 and "scale" in answer.text
    assert not volume.read((0, 0, 0), (8, 8, 8)).any()
    answer = client("POST", f"{volume.path}/raw/0_1_2/1024_1024_1024/0_0_0", b"", CONTENT_LENGTH=str(1 << 30))
    assert answer.status == 400 and "MaxDownresLevel" in answer.text


def merge(client: Client, root: str, *parents: str) -> str:
    for parent in parents:
        client.commit(parent)
    answer = client.post(f"/api/repo/{root}/merge", {"mergeType": "conflict-free", "parents": parents})
    assert answer.status == 200, answer.text
    return str(answer.json()["child"])


def test_a_merge_of_versions_that_wrote_below_the_same_coarser_block(client: Client) -> None:
    volume, model = scaled(client), Pyramid()
    first = noise(1, (32, 32, 32))
    volume.put(first, (0, 0, 0))
    model[(0, 0, 0), (32, 32, 32)][:] = first
    client.commit(volume.uuid)
    a, b = branch(client, volume.uuid, "a"), branch(client, volume.uuid, "b")
    for uuid, at in ((a, (0, 0, 8)), (b, (0, 8, 0)), (b, (-8, -8, -8))):
        voxels = noise(sum(at) + 50, (8, 8, 8))
        volume.at(uuid).put(voxels, at)
        model[at, (8, 8, 8)][:] = voxels
    merged = merge(client, volume.uuid, a, b)
    check(volume.at(merged), model)
    voxels = noise(9, (8, 8, 24))
    volume.at(merged).put(voxels, (8, 8, -8))
    model[(8, 8, -8), (8, 8, 24)][:] = voxels
    check(volume.at(merged), model)


def test_a_conflict_is_one_at_all_scales_until_a_write_settles_it(client: Client) -> None:
    volume, model = scaled(client), Pyramid()
    client.commit(volume.uuid)
    a, b = branch(client, volume.uuid, "a"), branch(client, volume.uuid, "b")
    ones = np.full((8, 8, 16), 1, np.uint8)
    volume.at(a).put(ones, (0, 0, 0))
    volume.at(b).put(2 * ones, (0, 0, 0))
    merged = volume.at(merge(client, volume.uuid, a, b))
    for scale in range(LEVELS + 1):
        answer = merged.get(f"raw/0_1_2/2_2_2/0_0_0?scale={scale}")
        assert answer.status == 409 and "block 0,0,0 " in answer.text
    voxels = noise(4, (8, 8, 8))
    merged.put(voxels, (0, 0, 0))  # of the two blocks in conflict, one
    model[(0, 0, 0), (8, 8, 8)][:] = voxels
    assert merged.get("raw/0_1_2/8_8_8/0_0_0").body == voxels.tobytes()
    assert merged.get("raw/0_1_2/2_2_2/0_0_0?scale=2").status == 409
    voxels = noise(5, (16, 8, 8))
    merged.put(voxels, (0, 0, 8))
    model[(0, 0, 8), (16, 8, 8)][:] = voxels
    check(merged, model)


def test_resolve_lets_the_first_parent_win_at_all_scales(client: Client) -> None:
    volume, model = scaled(client), Pyramid()
    client.commit(volume.uuid)
    a, b = branch(client, volume.uuid, "a"), branch(client, volume.uuid, "b")
    mine, theirs = noise(1, (16, 16, 16)), noise(2, (16, 16, 32))
    volume.at(a).put(mine, (0, 0, 0))
    volume.at(b).put(theirs, (0, 0, 0))
    model[(0, 0, 0), (16, 16, 32)][:] = theirs
    model[(0, 0, 0), (16, 16, 16)][:] = mine
    for uuid in (a, b):
        client.commit(uuid)
    answer = client.post(f"/api/repo/{volume.uuid}/resolve", {"data": ["gray"], "parents": [a, b], "note": ""})
    assert answer.status == 200, answer.text
    check(volume.at(answer.json()["child"]), model)


@pytest.mark.parametrize("processes", [1, 2])
def test_writers_of_blocks_side_by_side_lose_nothing(client: Client, processes: int) -> None:
    """With two sets of instances the locks do not hold, as between processes: the guard does."""
    volume, model = scaled(client), Pyramid()
    clients = [client]
    for _ in range(processes - 1):
        other = Client(client.server.database)
        other.server.instances = Instances(client.server.database)
        clients.append(other)
    at = [tuple(8 * (c - 1) for c in corner) for corner in product(range(3), repeat=3)]
    failed = []

    def write(worker: int) -> None:
        mine = Volume(clients[worker % processes], volume.uuid, volume.name)
        for place in at[worker::4]:
            answer = mine.post(f"raw/0_1_2/8_8_8/{xyz(place)}", noise(abs(hash(place)) % 1000, (8, 8, 8)).tobytes())
            if answer.status != 200:
                failed.append(answer.text)

    threads = [threading.Thread(target=write, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    for place in at:
        model[place, (8, 8, 8)][:] = noise(abs(hash(place)) % 1000, (8, 8, 8))
    check(volume, model)


def test_a_write_that_outgrows_a_batch_has_its_scales_too(client: Client) -> None:
    volume = Volume.create(client, BlockSize="64,64,64", MaxDownresLevel="2", Compression="none")
    small = noise(1, (64, 64, 64))
    volume.put(small, (0, 0, -64))
    voxels = np.tile(noise(2, (64, 64, 64)), (4, 4, 6))
    whole = np.concatenate([voxels, voxels[::-1]])
    assert whole.nbytes >= 48 << 20
    volume.put(whole, (0, 0, 0))
    one = halved(whole, "mean", UINT8)
    got = volume.get("raw/0_1_2/192_128_256/0_0_0?scale=1").body
    assert got == one.tobytes()
    assert volume.get("raw/0_1_2/96_64_128/0_0_0?scale=2").body == halved(one, "mean", UINT8).tobytes()
    assert volume.get("raw/0_1_2/32_32_32/-32_0_0?scale=1").body == halved(small, "mean", UINT8).tobytes()
