"""``gray``, ``gray_1``, ``gray_2`` …: instances at half the resolution each, made from the one before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apiclient import Client
from dvidcore.datatypes.imageblk import ImageBlock
from dvidcore.datatypes.imageblk.downres import halved
from dvidcore.datatypes.imageblk.elements import UINT8, UINT64
from dvidcore.repos import Database
from image_client import Volume, noise

BLOCK = {"BlockSize": "8,8,8"}


@pytest.fixture
def client(database: Database) -> Client:
    return Client(database)


def downres(target: Volume, body: Any) -> dict[str, Any]:
    answer = target.post("downres", body)
    assert answer.status == 200, answer.text
    client = target.client
    repo, _ = client.server.database.resolve(target.uuid)
    instance = client.server.instances.named(repo, target.name)
    assert isinstance(instance, ImageBlock)
    assert instance.downres.wait(120)
    known: dict[str, Any] = target.get("downres").json()
    assert known["State"] == "done", known
    return known


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_chain_of_two(client: Client, data: st.DataObject) -> None:
    draw = data.draw
    typename, element = draw(st.sampled_from([("uint8blk", UINT8), ("uint64blk", UINT64)]))
    gray = Volume.create(client, typename, **BLOCK)
    chain = [Volume.create(client, typename, f"gray_{k}", gray.uuid, **BLOCK) for k in (1, 2)]
    method = "mean" if element is UINT8 else "majority"
    canvas = np.zeros((64, 64, 64), element.dtype)
    version = gray.uuid
    for step in range(draw(st.integers(1, 3))):
        since = {}
        if step and draw(st.booleans()):
            client.commit(version)
            since = {"Since": version}
            version = client.child(version)
        for k in range(draw(st.integers(1, 3))):
            size = [8 * draw(st.integers(1, 3)) for _ in range(3)]
            at = [8 * draw(st.integers(-4, 1)) for _ in range(3)]
            voxels = noise(10 * step + k, tuple(size), element.dtype.str) % 7
            gray.at(version).put(voxels, tuple(at))
            canvas[tuple(slice(32 + a, 32 + a + n) for a, n in zip(at, size, strict=True))] = voxels
        known = [
            downres(target.at(version), {"Source": name, **since})
            for target, name in zip(chain, ("gray", "gray_1"), strict=True)
        ]
        assert known[0]["Done"] == known[0]["Total"] > 0
        want = canvas
        for target in chain:
            want = halved(want, method, element)
            low, side = (-want.shape[0] // 2,) * 3, want.shape
            assert (target.at(version).read(low, side) == want).all()
        fine, coarse = (v.at(version).extents() for v in (gray, chain[1]))
        assert coarse == tuple([c // 4 for c in end] for end in fine)


def test_only_what_was_changed_since_is_made_again(client: Client) -> None:
    gray = Volume.create(client, **BLOCK)
    half = Volume.create(client, name="gray_1", uuid=gray.uuid, **BLOCK)
    gray.put(noise(1, (32, 32, 32)), (0, 0, 0))
    assert downres(half, {"Source": "gray"})["Total"] == 8
    client.commit(gray.uuid)
    child = client.child(gray.uuid)
    gray.at(child).put(noise(2, (8, 8, 16)), (0, 0, 8))
    assert downres(half.at(child), {"Source": "gray", "Since": gray.uuid})["Total"] == 2
    assert downres(half.at(child), {"Source": "gray"})["Total"] == 8
    assert half.post("downres", {"Source": "gray"}).status == 400, "committed"


def test_what_cannot_be_halved_is_refused(client: Client) -> None:
    gray = Volume.create(client, **BLOCK)
    for name, typename, wanted in (
        ("numbers", "uint16blk", BLOCK),
        ("other", "uint8blk", {"BlockSize": "16,16,16"}),
        ("odd", "uint8blk", {"BlockSize": "7,8,8"}),
        ("odder", "uint8blk", {"BlockSize": "7,8,8"}),
        ("scaled", "uint8blk", {**BLOCK, "MaxDownresLevel": "1"}),
    ):
        client.instance(gray.uuid, name, typename, **wanted)
    client.instance(gray.uuid, "keys", "keyvalue")
    for name, body in (
        ("numbers", {"Source": "gray"}),
        ("other", {"Source": "gray"}),
        ("odd", {"Source": "odder"}),
        ("scaled", {"Source": "gray"}),
        ("gray", {"Source": "gray"}),
        ("gray", {"Source": "keys"}),
        ("gray", {"Source": "nosuch"}),
        ("gray", {"Source": 3}),
        ("gray", {}),
        ("gray", []),
        ("gray", {"Source": "scaled", "since": gray.uuid}),
        ("gray", {"Source": "scaled", "Since": gray.uuid}),
        ("gray", {"Source": "scaled", "Since": "zzz"}),
        ("gray", {"Source": "scaled", "Since": client.repo()}),
    ):
        answer = client.post(f"/api/node/{gray.uuid}/{name}/downres", body)
        assert answer.status == 400 and answer.text.strip(), (name, body)
        assert client.get(f"/api/node/{gray.uuid}/{name}/downres").json() == {"State": "none"}
