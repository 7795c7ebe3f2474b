"""Precomputed volumes of the configuration: image instances with a GridStore, made by clients or by themselves."""

from __future__ import annotations

import io
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorstore as ts
from PIL import Image

from apiclient import TOKEN, Answer, Client
from dvidcore import config
from dvidcore.api.app import create_app
from dvidcore.api.start import opened_server
from dvidcore.config import ConfigError, GridConfig
from dvidcore.datatypes.remote import automatic
from image_client import Volume
from remote_tools import OFFSET, FileServer, client, expected, precomputed, serving, write

SHAPE = (70, 50, 40)
GRAY = np.random.default_rng(11).integers(0, 255, SHAPE, np.uint8)


def pyramid(folder: Path, encoding: str = "raw") -> None:
    """Two scales in one folder."""
    write(precomputed(GRAY[..., None], encoding=encoding), GRAY[..., None], folder)
    half = np.ascontiguousarray(GRAY[::2, ::2, ::2, None])
    spec = precomputed(half, encoding=encoding, resolution=(16, 16, 80), offset=(-5, 2, 1))
    kvstore = {"driver": "file", "path": f"{folder}/"}
    ts.open({**spec, "kvstore": kvstore}, create=True).result().write(half).result()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pyramid(tmp_path / "em")
    return tmp_path / "em"


@pytest.fixture
def app(folder: Path) -> Iterator[Client]:
    grid = GridConfig("emdata", f"file://{folder}")
    with client(allowed=(grid.url,), grids=(grid,)) as app:
        yield app


def create(app: Client, typename: str = "uint8blk", **settings: str) -> Answer:
    uuid = app.repo()
    given = {"typename": typename, "dataname": "em", "GridStore": "emdata", **settings}
    return app.post(f"/api/repo/{uuid}/instance", given)


def volume(app: Client, **settings: str) -> Volume:
    uuid = app.repo()
    app.instance(uuid, "em", "uint8blk", GridStore="emdata", **settings)
    return Volume(app, uuid, "em", "uint8blk")


def test_an_instance_is_an_image_instance(app: Client) -> None:
    em = volume(app)
    info = em.get("info").json()
    assert (info["Base"]["TypeName"], info["Base"]["TypeVersion"]) == ("uint8blk", "0.2")
    assert info["Base"]["TypeURL"].endswith("/imageblk/uint8.go")
    extended = info["Extended"]
    assert (extended["GridStore"], extended["ScaleLevel"]) == ("emdata", 0)
    assert (extended["BlockSize"], extended["VoxelSize"]) == ([32, 32, 16], [8, 8, 40])
    assert em.extents() == ([-10, 5, 3], [59, 54, 42])
    box = em.read((0, 0, -10), (30, 40, 50))
    assert (box == expected(GRAY, OFFSET, (-10, 0, 0), (50, 40, 30))).all()
    assert len(em.get("blocks/0_0_0/2").body) == 2 * 32 * 32 * 16
    (found,) = em.blocks("specificblocks?blocks=0,0,0", "lz4", (16, 32, 32)).values()
    assert (found == expected(GRAY, OFFSET, (0, 0, 0), (32, 32, 16))).all()
    for path in ("raw/0_1_2/32_32_16/0_0_0", "blocks/0_0_0/1"):
        assert em.post(path, bytes(32 * 32 * 16)).status == 400


def test_a_coarser_scale(app: Client) -> None:
    em = volume(app, ScaleLevel="1")
    assert em.extents() == ([-5, 2, 1], [29, 26, 20])
    assert em.get("info").json()["Extended"]["VoxelSize"] == [16, 16, 80]
    assert (em.read((1, 2, -5), (20, 25, 35)) == GRAY[::2, ::2, ::2].transpose(2, 1, 0)).all()


def test_extents_and_resolution_can_be_set(app: Client) -> None:
    """As of every image instance; what is read stays the volume."""
    em = volume(app)
    assert em.post("resolution", [4, 4, 20]).status == 200
    assert em.post("extents", {"MinPoint": [-10, 5, 3], "MaxPoint": [9, 24, 12]}).status == 200
    app.commit(em.uuid)
    child = Volume(app, app.child(em.uuid), "em", "uint8blk")
    assert em.post("extents", {"MinPoint": [0, 0, 0], "MaxPoint": [1, 1, 1]}).status == 400
    for path, body in (("extents", [1]), ("resolution", [1, 2]), ("resolution", [1, 2, 0])):
        assert child.post(path, body).status == 400
    assert child.post("extents", {"MinPoint": [0, 5, 3], "MaxPoint": [1, 6, 4]}).status == 200
    assert em.extents() == ([-10, 5, 3], [9, 24, 12])
    assert child.extents() == ([0, 5, 3], [1, 6, 4])
    assert child.get("info").json()["Extended"]["VoxelSize"] == [4, 4, 20]
    axes = child.get("metadata").json()["Axes"]
    assert [(axis["Offset"], axis["Size"], axis["Resolution"]) for axis in axes] == [(0, 2, 4), (5, 2, 4), (3, 2, 20)]
    assert (child.read((3, 5, -10), SHAPE[::-1]) == GRAY.transpose(2, 1, 0)).all()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"GridStore": "nosuch"}, "configured: emdata"),
        ({"ScaleLevel": "2"}, "ScaleLevel"),
        ({"ScaleLevel": "-1"}, "ScaleLevel"),
        ({"ScaleLevel": "x"}, "ScaleLevel"),
        ({"typename": "uint16blk"}, "uint16blk is not"),
        ({"Compression": "snappy"}, "Compression"),
    ],
)
def test_creation_is_refused(app: Client, settings: dict[str, str], text: str) -> None:
    answer = create(app, **settings)
    assert (answer.status, text in answer.text) == (400, True), answer.text


def test_jpeg(tmp_path: Path) -> None:
    """What neuroglancer reads: one block by ``subvolblocks``, behind 16 bytes."""
    pyramid(tmp_path / "em", "jpeg")
    grid = GridConfig("emdata", f"file://{tmp_path}/em")
    with client(allowed=(grid.url,), grids=(grid,)) as app:
        em = volume(app, Compression="jpeg")
        assert em.get("info").json()["Base"]["Compression"] == "jpeg compression, level 32"
        data = em.get("subvolblocks/32_32_16/0_32_16").body
        assert struct.unpack_from("<4i", data) == (0, 1, 1, len(data) - 16)
        assert Image.open(io.BytesIO(data[16:])).size == (32, 512)


def test_a_volume_that_cannot_be_opened_is_unavailable(folder: Path) -> None:
    with serving(FileServer(folder.parent)) as server:
        grid = GridConfig("emdata", f"{server.url}/em")
        with client(allowed=(grid.url,), grids=(grid,), timeout=120, retries=1, recheck=1e-9) as app:
            server.failure = 500
            assert create(app).status == 502
            server.failure = ""
            em = volume(app)
            server.failure = 500
            answer = em.get("raw/0_1_2/8_8_8/0_5_3")
            assert (answer.status, "500" in answer.text) == (503, True)
            server.failure = ""
            assert em.get("raw/0_1_2/8_8_8/0_5_3").status == 200


# -- by themselves -----------------------------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that looks often for what it can make."""
    monkeypatch.setattr(automatic, "_LOOK", 0.02)


def configured(url: str, more: str = "") -> config.Config:
    text = f'[store.main]\nengine = "memory"\n[store.emdata]\nengine = "ngprecomputed"\nref = "{url}"\n{more}'
    return config.parse(text + "\n[remote]\ntimeout = 60\nretries = 1\n", Path("/"))


class Started(Client):
    """A client of a server that was started with a configuration."""

    def __init__(self, server: object) -> None:
        self.server = server  # type: ignore[assignment]
        self.app = create_app(server)  # type: ignore[arg-type]

    def wait_for(self, path: str) -> Answer:
        while (answer := self.get(path)).status != 200:
            time.sleep(0.02)
        return answer


@pytest.mark.usefixtures("impatient")
def test_instances_appear_with_the_repo(folder: Path) -> None:
    with opened_server(configured(f"file://{folder}", 'instance = "grayscale"'), TOKEN) as server:
        app = Started(server)
        uuid = app.repo()
        assert app.wait_for(f"/api/node/{uuid}/grayscale_1/info").json()["Extended"]["ScaleLevel"] == 1
        first = Volume(app, uuid, "grayscale", "uint8blk")
        assert "jpeg" in first.get("info").json()["Base"]["Compression"]
        assert (first.read((3, 5, -10), SHAPE[::-1]) == GRAY.transpose(2, 1, 0)).all()


@pytest.mark.usefixtures("impatient")
def test_an_unreachable_volume_does_not_keep_the_server_from_starting(folder: Path) -> None:
    with serving(FileServer(folder.parent)) as files:
        files.failure = 500
        loaded = configured(f"{files.url}/em", 'instance = "grayscale"')
        with opened_server(loaded, TOKEN) as server:
            app = Started(server)
            uuid = app.repo()
            while not files.asked:
                time.sleep(0.02)
            assert app.get(f"/api/node/{uuid}/grayscale/info").status == 400
            files.failure = ""
            app.wait_for(f"/api/node/{uuid}/grayscale_1/info")


@pytest.mark.usefixtures("impatient")
def test_of_several_repos_one_must_be_named(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened_server(configured(f"file://{folder}", 'instance = "gray"\nuuid = "abc"'), TOKEN) as server:
        app = Started(server)
        others = [app.admin("POST", "/api/repos", {"root": root * 32}).json()["root"] for root in "de"]
        uuid = app.admin("POST", "/api/repos", {"root": "abc" + "0" * 29}).json()["root"]
        app.wait_for(f"/api/node/{uuid}/gray_1/info")
        assert all(app.get(f"/api/node/{other}/gray/info").status == 400 for other in others)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('[store.a]\nengine = "ngprecomputed"\nref = "b/c"\n', "at least one must hold data"),
        ('[store.a]\nengine = "ngprecomputed"\n[store.b]\nengine = "memory"\n', "no ref"),
    ],
)
def test_configurations_that_cannot_be_kept(text: str, wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        config.parse(text, Path("/"))


def test_configuration() -> None:
    found = configured("bucket/em", 'uuid = "3f8c"')
    assert found.remote.grids == (GridConfig("emdata", "gs://bucket/em", "", "3f8c"),)
    assert found.remote.allowed == ("gs://bucket/em",)
    assert list(found.stores) == ["main"]
    assert configured("s3://b/em").remote.grids[0].url == "s3://b/em"
