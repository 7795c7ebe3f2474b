"""Volumes so wide that a layer of their blocks goes through a temporary file."""

from __future__ import annotations

import gzip
import os
from typing import Any

import lz4.block
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiclient import Client
from dvidcore import errors
from dvidcore.datatypes import bands
from dvidcore.datatypes.call import BytesBody
from dvidcore.geometry import ZYX
from dvidcore.repos import Database


@pytest.fixture
def client(database: Database) -> Client:
    return Client(database)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly everything is too wide."""
    monkeypatch.setattr(bands, "LARGEST_LAYER", 40_000)
    monkeypatch.setattr(bands, "BAND", 300_000)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(*[st.integers(1, 4)] * 3),
    st.tuples(*[st.integers(1, 5)] * 3),
    st.sampled_from([1, 2, 8]),
    st.integers(1, 400),
)
def test_bands_are_the_volume(count: tuple[int, ...], block: tuple[int, ...], itemsize: int, limit: int) -> None:
    size = ZYX(*(n * b for n, b in zip(count, block, strict=True)))
    volume = np.random.default_rng(limit).integers(0, 256, (*size, itemsize), np.uint8)
    out = np.zeros_like(volume)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bands, "BAND", limit)
        for z, y, part, voxels in bands.bands(BytesBody(volume.tobytes()).read, size, ZYX(*block), itemsize):
            assert part.z == block[0] and part.x == size.x and part.y % block[1] == 0
            assert len(voxels) <= max(limit, block[0] * block[1] * size.x * itemsize)
            target = out[z : z + part.z, y : y + part.y]
            assert not target.any() or not volume[z : z + part.z, y : y + part.y].any()
            target[:] = np.frombuffer(voxels, np.uint8).reshape(*part, itemsize)
    assert (out == volume).all()


@pytest.mark.parametrize("compression", ["", "lz4", "gzip"])
@pytest.mark.parametrize("roi", [False, True])
@pytest.mark.usefixtures("narrow")
def test_wide_labels(client: Client, compression: str, roi: bool) -> None:
    root = client.repo()
    seg = client.instance(root, "seg", "labelmap", BlockSize="32,32,32", MaxDownresLevel="1")
    y, x = np.mgrid[:96, :160] // 20
    volume = (1 + x + 8 * y + 64 * (np.arange(64) // 20)[:, None, None]).astype("<u8")
    query = "?"
    if roi:
        area = client.instance(root, "area", "roi", BlockSize="32,32,32")
        assert client.post(f"{area}/roi", [[1, 1, 1, 3], [2, 2, 0, 0]]).status == 200
        query = "?roi=area&"
    packed = {"": bytes, "gzip": gzip.compress, "lz4": lambda data: lz4.block.compress(data, store_size=False)}
    body = packed[compression](volume.tobytes())
    posted = client.post(f"{seg}/raw/0_1_2/160_96_64/0_32_32{query}compression={compression}", body)
    assert posted.status == 200, posted.text
    got = np.frombuffer(client.get(f"{seg}/raw/0_1_2/160_96_64/0_32_32").body, "<u8").reshape(volume.shape)
    want = volume
    if roi:
        want = np.zeros_like(volume)
        want[:32, :32, 32:128] = volume[:32, :32, 32:128]
        want[32:64, 32:64, :32] = volume[32:64, 32:64, :32]
    assert (got == want).all()
    label = int(want.max())
    assert client.get(f"{seg}/size/{label}").json() == {"voxels": int((want == label).sum())}


@pytest.mark.parametrize("typename", ["uint8blk", "rgba8blk", "float32blk"])
@pytest.mark.usefixtures("narrow")
def test_wide_images(client: Client, typename: str) -> None:
    root = client.repo()
    image = client.instance(root, "image", typename, MaxDownresLevel="1")
    other = client.instance(root, "other", typename, MaxDownresLevel="1")
    item = 1 if typename == "uint8blk" else 4
    voxels = np.random.default_rng(0).integers(0, 120, (64, 96, 160, item), np.uint8).tobytes()
    for layer in range(2):  # one at a time is narrow enough for the other
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bands, "LARGEST_LAYER", 1 << 30)
            half = len(voxels) // 2
            part = voxels[layer * half : (layer + 1) * half]
            assert client.post(f"{other}/raw/0_1_2/160_96_32/-32_64_{32 * layer}", part).status == 200
    assert client.post(f"{image}/raw/0_1_2/160_96_64/-32_64_0", voxels).status == 200
    for read in ("raw/0_1_2/160_96_64/-32_64_0", "raw/0_1_2/80_48_32/-16_32_0?scale=1"):
        got = client.get(f"{image}/{read}")
        assert got.status == 200
        assert got.body == client.get(f"{other}/{read}").body
    assert client.get(f"{image}/raw/0_1_2/160_96_64/-32_64_0").body == voxels


@pytest.mark.usefixtures("narrow")
def test_what_is_cut_short_or_damaged_is_refused_whole(client: Client) -> None:
    seg = client.instance(client.repo(), "seg", "labelmap", BlockSize="32,32,32")
    data = np.arange(64 * 96 * 160, dtype="<u8").tobytes()
    whole = gzip.compress(data, 1)
    url = f"{seg}/raw/0_1_2/160_96_64/0_0_0?compression=gzip"
    for bad in (
        gzip.compress(data[:-8], 1),
        gzip.compress(data + bytes(8), 1),
        whole[: len(whole) // 2],
        whole[:-4],
        b"no gzip",
    ):
        answer = client.post(url, bad)
        assert answer.status == 400, answer.text
    assert client.get(f"{seg}/listlabels").body == b""
    assert client.post(url, whole).status == 200


@pytest.mark.usefixtures("narrow")
def test_a_full_temporary_folder_is_an_error_that_says_so(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    image = client.instance(client.repo(), "image", "uint8blk")
    pwrite = os.pwrite

    def full(file: int, data: Any, at: int) -> int:
        if at > 100_000:
            raise OSError(28, "No space left on device")
        return pwrite(file, data[:70_000], at)

    with monkeypatch.context() as patch:
        patch.setattr("dvidcore.datatypes.bands.os.pwrite", full)
        answer = client.post(f"{image}/raw/0_1_2/160_96_64/0_0_0", bytes(160 * 96 * 64))
    assert answer.status >= 500 and "temporary file" in answer.text and "No space left" in answer.text
    assert client.get(f"{image}/info").json()["Extended"]["MinPoint"] is None
    with pytest.raises(errors.StoreError), monkeypatch.context() as patch:
        patch.setattr("dvidcore.datatypes.bands.os.preadv", lambda *_: 0)
        list(bands.bands(BytesBody(bytes(1000)).read, ZYX(10, 10, 10), ZYX(5, 5, 5), 1))
