"""googlevoxels against a stand-in of the BrainMaps service, and over an object store."""

from __future__ import annotations

import base64
import http.server
import io
import json
import math
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import lz4.block
import numpy as np
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from PIL import Image

from apiclient import Client
from dvidcore.config import RemoteConfig
from dvidcore.datatypes.remote.geometries import Geometry, ScaleMap
from dvidcore.geometry import ZYX
from dvidcore.repos import Database, DatabaseOptions
from dvidcore.storage.memory import Memory
from remote_tools import CHUNK, FileServer, client, precomputed, serving, write

VOLUME = "281930192:stanford"
FINE = np.random.default_rng(7).integers(0, 255, (60, 80, 100), np.uint8)
"""Z, Y, X."""
SCALES = [FINE, FINE[:, ::2, ::2], FINE[::4, ::4, ::4]]
PIXELS = [(8, 8, 8), (16, 16, 8), (32, 32, 32)]
PRIVATE = rsa.generate_private_key(65537, 1024)  # it protects nothing, and is made and checked soon


class Service(http.server.BaseHTTPRequestHandler):
    """What BrainMaps answers, as far as it is described."""

    server: BrainMapsServer
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.handle_request(b"")

    def do_POST(self) -> None:
        self.handle_request(self.rfile.read(int(self.headers["Content-Length"])))

    def handle_request(self, body: bytes) -> None:
        self.server.asked[self.path] += 1
        failure = self.server.failure
        if self.path == "/token":
            self.answer(200, self.token(parse_qs(body.decode())["assertion"][0]))
        elif self.headers["Authorization"] != "Bearer opened":
            self.answer(401, b"who are you?")
        elif failure == "drip":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            while not self.server.released.wait(0.05):
                self.wfile.write(b".")
                self.wfile.flush()
        elif failure == "short":
            self.answer(200, b"some bytes")
        elif isinstance(failure, int):
            self.answer(failure, b"out of\norder")
        elif self.path == f"/v1/volumes/{VOLUME}":
            self.answer(200, json.dumps({"geometry": self.server.geometry}).encode())
        elif self.path.startswith(f"/v1/volumes/{VOLUME}/"):
            self.server.bodies.append(json.loads(body))
            self.answer(200, self.box(self.path.rpartition("/")[2], json.loads(body)))
        else:
            self.answer(404, b"no such volume")

    def token(self, assertion: str) -> bytes:
        head, claims, signature = assertion.split(".")
        decoded = [base64.urlsafe_b64decode(part + "==") for part in (head, claims, signature)]
        PRIVATE.public_key().verify(decoded[2], f"{head}.{claims}".encode(), PKCS1v15(), hashes.SHA256())
        found = json.loads(decoded[1])
        assert found["iss"] == "someone@project" and found["scope"].endswith("/auth/brainmaps")
        return json.dumps({"access_token": "opened", "expires_in": 3600}).encode()

    def box(self, what: str, body: Any) -> bytes:
        geometry = body["imageSpec"]["geometry"] if what == "imagetile:binary" else body["geometry"]
        x, y, z = map(int, geometry["corner"].split(","))
        dx, dy, dz = map(int, geometry["size"].split(","))
        volume = SCALES[geometry["scale"]]
        part = volume[z : z + dz, y : y + dy, x : x + dx]
        assert part.shape == (dz, dy, dx), "the service refuses boxes that cross an edge"
        if body.get("subvolumeFormat") == "RAW":
            return part.tobytes()
        options = body["imageSpec"]["imageOptions"] if what == "imagetile:binary" else body["imageOptions"]
        flat = part.reshape([n for n in part.shape if n != 1] if what == "imagetile:binary" else (-1, dx))
        out = io.BytesIO()
        Image.fromarray(flat).save(out, options["imageFormat"])
        return out.getvalue()


class BrainMapsServer(FileServer):
    def __init__(self) -> None:
        super().__init__(Path(), Service)
        self.bodies: list[Any] = []
        self.geometry = [
            {
                "volumeSize": {axis: str(n) for axis, n in zip("zyx", volume.shape, strict=True)},
                "channelCount": "1",
                "channelType": "UINT8",
                "pixelSize": dict(zip("xyz", pixel, strict=True)),
            }
            for volume, pixel in zip(SCALES, PIXELS, strict=True)
        ]


@pytest.fixture
def service() -> Iterator[BrainMapsServer]:
    with serving(BrainMapsServer()) as server:
        yield server  # type: ignore[misc]


@pytest.fixture
def app(service: BrainMapsServer, tmp_path: Path) -> Iterator[Client]:
    private = PRIVATE.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    key = {"client_email": "someone@project", "private_key": private, "token_uri": f"{service.url}/token"}
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "key.json").write_text(json.dumps(key))
    (keys / "other.json").write_text("{}")
    (keys / "bad.json").write_text(json.dumps(key | {"private_key": "-----"}))
    (tmp_path / "outside.json").write_text(json.dumps(key))
    with client(brainmaps_url=f"{service.url}/v1", key_folder=keys, timeout=120, concurrency=3) as app:
        yield app


def create(app: Client, **settings: str) -> tuple[str, Any]:
    given = {"typename": "googlevoxels", "dataname": "em", "volumeid": VOLUME, "jwtfile": "key.json", **settings}
    uuid = app.repo()
    answer = app.post(f"/api/repo/{uuid}/instance", {key: value for key, value in given.items() if value})
    return f"/api/node/{uuid}/em", answer


@pytest.fixture
def em(app: Client) -> str:
    path, answer = create(app)
    assert answer.status == 200, answer.text
    return path


def picture(answer: Any) -> np.ndarray:
    assert answer.status == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.body)))


def test_info(app: Client, em: str) -> None:
    answer = app.get(f"{em}/info")
    found = answer.json()
    assert (found["Base"]["TypeName"], found["Base"]["TypeVersion"]) == ("googlevoxels", "0.1")
    extended = found["Extended"]
    assert extended["VolumeID"] == VOLUME
    assert (extended["TileSize"], extended["MinTileCoord"], extended["MaxTileCoord"]) == (512, [0, 0, 0], [1, 1, 1])
    assert extended["GeomMap"] == {"XY:0": 0, "XZ:0": 0, "YZ:0": 0, "XYZ:0": 0, "XY:1": 1, "XYZ:2": 2}
    assert extended["HighResIndex"] == 0
    assert extended["Levels"]["2"] == {"Resolution": [32, 32, 32], "TileSize": [512, 512, 512]}
    assert extended["Scales"][1]["volumeSize"] == {"x": 50, "y": 40, "z": 60}
    assert "private" not in answer.text and "key.json" not in answer.text


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"volumeid": ""}, '"volumeid" is missing'),
        ({"jwtfile": ""}, '"jwtfile" is missing'),
        ({"jwtfile": "nosuch.json"}, "no key"),
        ({"jwtfile": "../outside.json"}, "no key"),
        ({"jwtfile": "/etc/passwd"}, "no key"),
        ({"jwtfile": "x\0y"}, "no key"),
        ({"jwtfile": "other.json"}, "not the JSON key"),
        ({"jwtfile": "bad.json"}, "not an RSA key"),
        ({"volumeid": "nobody:nothing"}, "404"),
        ({"tilesize": "0"}, "tilesize"),
        ({"volumeid": "s3://bucket/a"}, "allowed"),
    ],
)
def test_creation_is_refused(app: Client, settings: dict[str, str], text: str) -> None:
    path, answer = create(app, **settings)
    assert (answer.status, text in answer.text) == (400, True), answer.text
    assert app.get(f"{path}/info").status == 400


def test_keys_need_a_configured_folder(service: BrainMapsServer) -> None:
    with client(brainmaps_url=f"{service.url}/v1") as app:
        answer = create(app, jwtfile="/etc/passwd")[1]
        assert (answer.status, "keyFolder" in answer.text) == (400, True)


def test_a_whole_tile_is_passed_through(app: Client, service: BrainMapsServer, em: str) -> None:
    answer = app.get(f"{em}/tile/xy/0/1_0_7/jpeg:60?tilesize=32")
    assert answer.headers["content-type"] == "image/jpeg"
    assert picture(answer).shape == (32, 32)
    assert service.bodies == [
        {
            "imageSpec": {
                "geometry": {"corner": "32,0,7", "size": "32,32,1", "scale": 0},
                "imageOptions": {"imageFormat": "JPEG", "jpegQuality": 60},
            }
        }
    ]
    assert (picture(app.get(f"{em}/tile/xz/0/1_20_0?tilesize=16")) == FINE[:16, 20, 16:32]).all()
    assert (picture(app.get(f"{em}/tile/yz/0/30_1_1/png:3?tilesize=16")) == FINE[16:32, 16:32, 30]).all()
    assert service.bodies[-1]["imageSpec"]["imageOptions"] == {"imageFormat": "PNG", "pngCompressionLevel": 3}
    assert (picture(app.get(f"{em}/tile/xy/1/0_1_7?tilesize=16")) == SCALES[1][7, 16:32, :16]).all()
    assert (picture(app.get(f"{em}/tile/xz/2/1_5_0?tilesize=8")) == SCALES[2][:8, 5, 8:16]).all()


def test_an_edge_tile_is_padded(app: Client, em: str) -> None:
    tile = picture(app.get(f"{em}/tile/xy/0/0_0_7"))
    assert tile.shape == (512, 512)
    assert (tile[:80, :100] == FINE[7]).all()
    assert not tile[80:].any() and not tile[:, 100:].any()
    tile = picture(app.get(f"{em}/raw/xz/20_30/-5_10_40/jpg"))
    assert tile.shape == (30, 20)
    assert (picture(app.get(f"{em}/raw/xy/20_10/-5_-3_4"))[3:, 5:] == FINE[4, :7, :15]).all()


def test_outside(app: Client, service: BrainMapsServer, em: str) -> None:
    asked = service.asked.total()
    assert not picture(app.get(f"{em}/tile/xy/0/1_0_7")).any()
    assert app.get(f"{em}/tile/xy/0/1_0_7?noblanks=true").status == 404
    assert app.get(f"{em}/tile/xy/0/0_0_60?noblanks=true").status == 404
    answer = app.get(f"{em}/raw/0_1_2/8_8_8/100_0_0")
    assert (answer.status, answer.body) == (200, b"")
    assert service.asked.total() == asked


def test_boxes(app: Client, service: BrainMapsServer, em: str) -> None:
    answer = app.get(f"{em}/raw/0_1_2/10_9_8/5_6_7")
    assert answer.body == FINE[7:15, 6:15, 5:15].tobytes()
    assert service.bodies[-1] == {
        "geometry": {"corner": "5,6,7", "size": "10,9,8", "scale": 0},
        "subvolumeFormat": "RAW",
    }
    answer = app.get(f"{em}/raw/0_1_2/10_9_8/5_6_7?compression=lz4")
    assert lz4.block.decompress(answer.body, 720) == FINE[7:15, 6:15, 5:15].tobytes()
    wanted = np.zeros((10, 20, 30), np.uint8)
    wanted[5:, 4:, :25] = FINE[:5, :16, 75:]
    assert app.get(f"{em}/raw/0_1_2/30_20_10/75_-4_-5?compression=raw").body == wanted.tobytes()
    assert app.get(f"{em}/raw/0_1_2/4_5_6/1_2_3?scale=2").body == SCALES[2][3:9, 2:7, 1:5].tobytes()
    image = picture(app.get(f"{em}/raw/0_1_2/10_9_8/5_6_7/png"))
    assert (image == FINE[7:15, 6:15, 5:15].reshape(72, 10)).all()
    assert service.bodies[-1]["subvolumeFormat"] == "SINGLE_IMAGE"
    assert (picture(app.get(f"{em}/raw/0_1_2/30_20_10/75_-4_-5/png")) == wanted.reshape(200, 30)).all()


@pytest.mark.parametrize(
    "path",
    [
        "raw/0_1_2/8_8_8/0_0_0?scale=1",
        "raw/0_1_2/8_8_8/0_0_0?scale=7",
        "raw/0_1_2/8_8_8/0_0_0?compression=gzip",
        "raw/xy/8_8/0_0_0/tif",
        "raw/xy/8_8/0_0_0/jpeg:x",
        "raw/xy/8_8/0_0_0/png:10",
        "raw/xy/8_8_8/0_0_0",
        "tile/xy/0/0_0",
        "tile/0_1_2/0/0_0_0",
        "tile/xy/0/0_0_0?tilesize=x",
        "label/0_0_0",
    ],
)
def test_bad_requests(app: Client, em: str, path: str) -> None:
    assert app.get(f"{em}/{path}").status == 400


def test_it_is_never_written(app: Client, em: str) -> None:
    assert app.post(f"{em}/raw/0_1_2/8_8_8/0_0_0", b"x" * 512).status == 400


@pytest.mark.parametrize(
    ("failure", "status", "text"),
    [
        (500, 502, "answered 500 Internal Server Error: out of order"),
        (403, 502, "answered 403"),
        ("short", 502, ""),
    ],
)
def test_failures(app: Client, service: BrainMapsServer, failure: int | str, status: int, text: str) -> None:
    em = create(app)[0]
    service.failure = failure
    for path in ("raw/0_1_2/10_9_8/5_6_7", "tile/xy/0/0_0_7"):
        answer = app.get(f"{em}/{path}")
        assert (answer.status, text in answer.text) == (status, True), answer.text
    assert app.get(f"{em}/info").status == 200
    service.failure = ""
    assert app.get(f"{em}/raw/0_1_2/10_9_8/5_6_7").status == 200


def test_a_service_that_sends_a_byte_now_and_then(app: Client, service: BrainMapsServer, em: str) -> None:
    """The time-out is that of the whole answer."""
    options = app.server.database.options
    options = replace(options, remote=replace(options.remote, timeout=1.0))
    with Database.open(app.server.database.stores, options=options) as database:
        service.failure = "drip"
        answer = Client(database).get(f"{em}/raw/0_1_2/10_9_8/5_6_7")
        assert (answer.status, "did not answer within 1 seconds" in answer.text) == (504, True), answer.text


def test_the_token_is_asked_for_once(app: Client, service: BrainMapsServer, em: str) -> None:
    for _ in range(3):
        app.get(f"{em}/raw/0_1_2/10_9_8/5_6_7")
    assert service.asked["/token"] == 1


@pytest.mark.parametrize(
    ("pixel", "name"),
    [
        ((16, 16, 8), "XY:1"),
        ((16, 8, 16), "XZ:1"),
        ((8, 40, 40), "YZ:3"),
        ((16, 16, 16), "XYZ:1"),
        ((24, 24, 24), "XYZ:2"),
        ((32, 16, 8), "XY:2"),
        ((32, 8, 8), "XYZ:2"),
    ],
)
def test_which_scale_a_geometry_serves(pixel: tuple[float, float, float], name: str) -> None:
    geometries = [Geometry(ZYX(9, 9, 9), 1, "UINT8", pixel), Geometry(ZYX(9, 9, 9), 1, "UINT8", (8, 8, 8))]
    found = ScaleMap(geometries)
    assert found.finest == 1
    assert found.by_name == {"XY:0": 1, "XZ:0": 1, "YZ:0": 1, "XYZ:0": 1, name: 0}
    assert found.levels == 1 + math.ceil(math.log2(max(pixel) / 8))


def test_an_object_store_in_its_place(tmp_path: Path) -> None:
    """The volume's first voxel is 0, as BrainMaps has it, wherever the store's begins."""
    voxels = FINE.transpose(2, 1, 0)[..., None]
    write(precomputed(voxels, offset=(-7, 5, 3)), voxels, tmp_path / "em")
    with client(allowed=(f"file://{tmp_path}",)) as app:
        path, answer = create(app, volumeid=f"file://{tmp_path}/em", jwtfile="", tilesize="64")
        assert answer.status == 200, answer.text
        extended = app.get(f"{path}/info").json()["Extended"]
        assert (extended["MaxTileCoord"], extended["TileSize"]) == ([2, 2, 1], 64)
        assert app.get(f"{path}/raw/0_1_2/10_9_8/5_6_7").body == FINE[7:15, 6:15, 5:15].tobytes()
        assert (picture(app.get(f"{path}/tile/xy/0/1_1_7"))[:16, :36] == FINE[7, 64:, 64:]).all()
        assert picture(app.get(f"{path}/raw/0_1_2/10_9_8/5_6_7/jpg")).shape == (72, 10)
        assert app.get(f"{path}/raw/0_1_2/8_8_8/100_0_0").body == b""


def test_images_of_an_object_store_have_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of bytes, as voxels may have eight, and of what must be read, since chunks are read whole."""
    voxels = FINE.transpose(2, 1, 0)[..., None].astype(np.uint64)
    write(precomputed(voxels), voxels, tmp_path / "em")
    options = DatabaseOptions(
        remote=RemoteConfig(allowed=(f"file://{tmp_path}",)), max_data_request=2 * 8 * math.prod(CHUNK)
    )
    with Database.open({"main": Memory.open("")}, options=options) as database:
        app = Client(database)
        path, answer = create(app, volumeid=f"file://{tmp_path}/em", jwtfile="", tilesize="64")
        assert answer.status == 200, answer.text
        assert app.get(f"{path}/raw/xy/20_20/0_0_0").status == 200
        for far in ("raw/xy/70_20/0_0_0", "tile/xy/0/0_0_0", "raw/0_1_2/70_2_2/0_0_0/png"):
            answer = app.get(f"{path}/{far}")
            assert (answer.status, "maxDataRequest" in answer.text) == (400, True), answer.text
        monkeypatch.setattr("dvidcore.datatypes.remote.googlevoxels.MAX_IMAGE", 8 * 20 * 20 - 1)
        answer = app.get(f"{path}/raw/xy/20_20/0_0_0")
        assert (answer.status, "too large" in answer.text) == (400, True), answer.text


def test_a_type_that_cannot_be_read(service: BrainMapsServer, app: Client) -> None:
    service.geometry[0]["channelType"] = "UINT16"
    path, answer = create(app)
    assert answer.status == 200, answer.text
    answer = app.get(f"{path}/raw/0_1_2/8_8_8/0_0_0")
    assert (answer.status, "UINT16" in answer.text) == (400, True)
    assert app.get(f"{path}/raw/xy/8_8/0_0_0?scale=1").status == 200


def test_places_are_given_back(app: Client, service: BrainMapsServer, em: str) -> None:
    service.failure = 500
    threads = [threading.Thread(target=app.get, args=(f"{em}/raw/0_1_2/10_9_8/5_6_7",)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    service.failure = ""
    assert app.get(f"{em}/raw/0_1_2/10_9_8/5_6_7").status == 200
