"""multichan16: V3D raw files, their channels and the composite, as slices."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apiclient import Client
from dvidcore.repos import Database
from image_client import image

MAGIC = b"raw_image_stack_by_hpeng"


def v3draw(channels: np.ndarray, **wrong: object) -> bytes:
    """A file of channels (c, z, y, x); ``wrong`` replaces parts of its header."""
    c, z, y, x = channels.shape
    parts = {"magic": MAGIC, "order": b"L", "bytes": channels.itemsize, "x": x, "y": y, "z": z, "c": c, **wrong}
    head = struct.pack("<24scH4I", *parts.values())
    return head + channels.astype(f"<u{channels.itemsize}").tobytes()


def stack(seed: int, shape: tuple[int, ...], dtype: str = "<u2") -> np.ndarray:
    return np.random.default_rng(seed).integers(3, 200 if dtype == "|u1" else 4000, shape).astype(dtype)


def composite(channels: np.ndarray) -> np.ndarray:
    """(z, y, x, 4): the reference."""
    out = np.zeros((*channels.shape[1:], 4), np.uint8)
    for c, volume in enumerate(channels[:3].astype(np.int64)):
        low, high = volume.min(), volume.max()
        if high > low:
            out[..., c] = 255 * (volume - low) // (high - low)
    out[..., 3] = 255
    return out


@pytest.fixture
def client(database: Database) -> Client:
    return Client(database)


@pytest.fixture
def path(client: Client) -> str:
    return client.instance(client.repo(), "stack", "multichan16", BlockSize="16,16,8")


def load(client: Client, path: str, channels: np.ndarray) -> None:
    answer = client.post(f"{path}/load", v3draw(channels))
    assert (answer.status, answer.body) == (200, b""), answer.text


def test_a_post_of_info_answers_it_where_the_version_is_open(client: Client, path: str) -> None:
    answer = client.post(f"{path}/info", {"BlockSize": "8,8,8"})
    assert (answer.status, answer.json()) == (200, client.get(f"{path}/info").json())
    client.commit(path.split("/")[3])
    assert client.post(f"{path}/info", {}).status == 400
    assert client.get(f"{path}/info").json()["Extended"]["BlockSize"] == [16, 16, 8]


@pytest.mark.parametrize(("dtype", "name"), [("<u2", "uint16"), ("|u1", "uint8")])
def test_channels_and_composite_are_what_was_loaded(client: Client, path: str, dtype: str, name: str) -> None:
    channels = stack(1, (4, 9, 21, 35), dtype)
    load(client, path, channels)
    extended = client.get(f"{path}/info").json()["Extended"]
    assert extended["NumChannels"] == 4
    assert extended["Values"] == [{"DataType": name, "Label": f"channel{c}"} for c in range(4)]
    assert (extended["MinPoint"], extended["MaxPoint"]) == ([0, 0, 0], [34, 20, 8])
    for c in range(4):
        assert (image(client.get(f"{path}{c + 1}/xy/35_21/0_0_8").body) == channels[c, 8]).all()
        assert (image(client.get(f"{path}{c + 1}/xz/35_9/0_7_0").body) == channels[c, :, 7]).all()
        assert (image(client.get(f"{path}{c + 1}/YZ/21_9/34_0_0").body) == channels[c, :, :, 34]).all()
    for base in (path, f"{path}0"):
        assert (image(client.get(f"{base}/0_1/35_21/0_0_3").body) == composite(channels)[3]).all()
    assert client.get(f"{path}/xy/35_21/0_0_3/jpg").headers["content-type"] == "image/jpeg"


def test_what_lies_outside_is_zero(client: Client, path: str) -> None:
    channels = stack(2, (2, 5, 20, 20))
    load(client, path, channels)
    want = np.zeros((30, 40), np.uint16)
    want[3:23, 5:25] = channels[1, 4]
    assert (image(client.get(f"{path}2/xy/40_30/-5_-3_4").body) == want).all()
    assert not image(client.get(f"{path}2/xy/40_30/-5_-3_5").body).any()
    shown = image(client.get(f"{path}/xy/40_30/-5_-3_4").body)
    assert (shown[3:23, 5:25] == composite(channels)[4]).all()
    assert not shown[0].any() and not shown[:, 25:].any()


def test_a_constant_and_a_missing_channel_are_black(client: Client, path: str) -> None:
    channels = stack(3, (2, 2, 8, 8))
    channels[0] = 77
    load(client, path, channels)
    shown = image(client.get(f"{path}/xy/8_8/0_0_0").body)
    assert not shown[..., 0].any() and not shown[..., 2].any() and shown[..., 1].any()


def test_a_smaller_stack_hides_the_larger_one(client: Client, path: str) -> None:
    load(client, path, stack(4, (3, 20, 40, 40)))
    channels = stack(5, (1, 3, 10, 10))
    load(client, path, channels)
    want = np.zeros((40, 40), np.uint16)
    want[:10, :10] = channels[0, 2]
    assert (image(client.get(f"{path}1/xy/40_40/0_0_2").body) == want).all()
    assert client.get(f"{path}2/xy/4_4/0_0_0").status == 400
    assert client.get(f"{path}1/xy/4_4/0_0_3").status == 200


def test_versions_have_their_own_stack(client: Client) -> None:
    root = client.repo()
    path = client.instance(root, "stack", "multichan16")
    first, second = stack(6, (1, 4, 10, 10)), stack(7, (2, 3, 12, 9))
    load(client, path, first)
    client.commit(root)
    child = path.replace(root, client.child(root))
    assert (image(client.get(f"{child}1/xy/10_10/0_0_1").body) == first[0, 1]).all()
    assert client.post(f"{path}/load", v3draw(second)).status == 400
    load(client, child, second)
    assert client.get(f"{path}/info").json()["Extended"]["NumChannels"] == 1
    assert (image(client.get(f"{child}2/xy/9_12/0_0_2").body) == second[1, 2]).all()
    assert (image(client.get(f"{path}1/xy/10_10/0_0_3").body) == first[0, 3]).all()


def test_an_instance_of_the_very_name_goes_first(client: Client) -> None:
    root = client.repo()
    path = client.instance(root, "stack", "multichan16")
    load(client, path, stack(8, (2, 2, 4, 4)))
    client.instance(root, "stack1", "keyvalue")
    assert client.get(f"{path}1/keys").status == 200
    assert client.get(f"{path}2/xy/4_4/0_0_0").status == 200
    twelve = client.instance(root, "stack12", "multichan16")
    assert client.get(f"{twelve}/info").json()["Base"]["Name"] == "stack12"
    assert client.get(f"{path}02/xy/4_4/0_0_0").status == 400
    assert client.get(f"{path}{'9' * 5000}/xy/4_4/0_0_0").status == 400
    client.instance(root, "plain", "keyvalue")
    assert client.get(f"/api/node/{root}/plain1/keys").status == 400


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"magic": b"raw_image_stack_by_hpenG"}, "V3D"),
        ({"order": b"B"}, "byte order"),
        ({"bytes": 4}, "bytes per voxel"),
        ({"bytes": 0}, "bytes per voxel"),
        ({"x": 0}, "width"),
        ({"y": 2**32 - 1}, "height"),
        ({"z": 0}, "depth"),
        ({"c": 0}, "channels"),
        ({"c": 2**31}, "channels"),
        ({"c": 3}, "bytes"),
        ({"x": 7}, "bytes"),
        ({"bytes": 1}, "bytes"),
    ],
)
def test_a_damaged_file_is_refused_and_nothing_stored(
    client: Client, path: str, wrong: dict[str, object], named: str
) -> None:
    answer = client.post(f"{path}/load", v3draw(stack(9, (2, 3, 5, 6)), **wrong))
    assert answer.status == 400 and named in answer.text
    assert client.get(f"{path}/info").json()["Extended"]["NumChannels"] == 0
    assert client.get(f"{path}1/xy/4_4/0_0_0").status == 400


def test_what_is_no_file_or_no_slice_is_refused(client: Client, path: str) -> None:
    data = v3draw(stack(10, (1, 3, 5, 6)))
    for body in (b"", data[:20], data[:-1], data + b"\0"):
        assert client.post(f"{path}/load", body).status == 400
    assert client.post(f"{path}1/load", data).status == 400
    assert client.post(f"{path}/load", data).status == 200
    for bad in (
        "xy",
        "0_1_2",
        "xy/8_8",
        "0_1_2/8_8_8/0_0_0",
        "xy/0_8/0_0_0",
        "xy/8_8/0_0_0/webp",
        "xy/60000_60000/0_0_0",
    ):
        answer = client.get(f"{path}/{bad}")
        assert answer.status == 400 and answer.text.strip(), bad


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**31), st.tuples(*[st.integers(1, n) for n in (4, 11, 20, 20)]), st.booleans(), st.data())
def test_any_stack_reads_back(
    client: Client, seed: int, shape: tuple[int, ...], wide: bool, data: st.DataObject
) -> None:
    path = client.instance(client.repo(), "stack", "multichan16", BlockSize="8,7,5")
    channels = stack(seed, shape, "<u2" if wide else "|u1")
    load(client, path, channels)
    c = data.draw(st.integers(1, shape[0]))
    z = data.draw(st.integers(0, shape[1] - 1))
    y, x = (data.draw(st.integers(-3, n)) for n in shape[2:])
    h, w = data.draw(st.integers(1, 24)), data.draw(st.integers(1, 24))
    grown = np.pad(channels[c - 1, z], 30)
    assert (
        image(client.get(f"{path}{c}/xy/{w}_{h}/{x}_{y}_{z}").body) == grown[y + 30 : y + 30 + h, x + 30 : x + 30 + w]
    ).all()
    grown = np.pad(composite(channels)[z], ((30, 30), (30, 30), (0, 0)))
    assert (
        image(client.get(f"{path}/xy/{w}_{h}/{x}_{y}_{z}").body) == grown[y + 30 : y + 30 + h, x + 30 : x + 30 + w]
    ).all()
