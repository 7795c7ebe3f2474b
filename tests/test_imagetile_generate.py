"""Tiles of a volume: made in the background, and cut when they are asked for. Both are the same tiles."""

from __future__ import annotations

import io
import itertools
import json
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from apiclient import Client
from dvidcore.datatypes.background import Task
from dvidcore.datatypes.imagetile import ImageTile, generate, source
from dvidcore.datatypes.imagetile.tiles import GENERATION, TILES
from dvidcore.repos import Database, OneStore
from dvidcore.storage.keys import kind_range
from dvidcore.storage.memory import Memory
from image_client import Volume, image, noise

PLANES = {"xy": (0, 1, 2), "xz": (1, 0, 2), "yz": (2, 0, 1)}
"""The slice axis, the rows and the columns, as axes of (z, y, x)."""
LEVELS = {
    "0": {"Resolution": [8, 8, 8], "TileSize": [20, 16, 12]},
    "1": {"Resolution": [16, 16, 16], "TileSize": [20, 16, 12]},
    "2": {"Resolution": [48, 16, 32], "TileSize": [9, 30, 7]},
}


class Tiled:
    """A volume and its tiles, and the reference that tells what each tile is."""

    def __init__(
        self, client: Client, voxels: np.ndarray, offset: tuple[int, ...], *, synced: bool = True, **given: str
    ) -> None:
        self.client = client
        self.gray = Volume.create(client, BlockSize="16,16,16")
        self.uuid = self.gray.uuid
        low = [o // 16 * 16 for o in offset]
        high = [-(-(o + n) // 16) * 16 for o, n in zip(offset, voxels.shape, strict=True)]
        whole = np.zeros([b - a for a, b in zip(low, high, strict=True)], np.uint8)
        whole[tuple(slice(o - a, o - a + n) for o, a, n in zip(offset, low, voxels.shape, strict=True))] = voxels
        self.gray.put(whole, tuple(low))
        end = [o + n - 1 for o, n in zip(offset, voxels.shape, strict=True)]
        extents = {"MinPoint": list(offset[::-1]), "MaxPoint": end[::-1]}
        assert self.gray.post("extents", extents).status == 200
        self.voxels, self.offset = voxels, offset
        self.shrunk: dict[Any, Any] = {}
        self.path = client.instance(self.uuid, "tiles", "imagetile", Source="gray", **given)
        if synced:
            assert client.post(f"{self.path}/sync", {"sync": "gray"}).status == 200

    def instance(self) -> ImageTile:
        database = self.client.server.database
        repo, _ = database.resolve(self.uuid)
        found = self.client.server.instances.named(repo, "tiles")
        assert isinstance(found, ImageTile)
        return found

    def generate(self, query: str = "", levels: Any = LEVELS) -> dict[str, Any]:
        answer = self.client.post(f"{self.path}/generate{query}", levels)
        assert answer.status == 200, answer.text
        assert answer.json()["State"] == "running"
        assert self.instance().generation.wait(120)
        known: dict[str, Any] = self.client.get(f"{self.path}/generate").json()
        return known

    def want(self, place: tuple[str, int, int, int, int], levels: Any = LEVELS) -> np.ndarray | None:
        """The pixels of a tile (plane, scale, column, row, slice), shrunk from a large black canvas.

        None where it lies outside the extents.
        """
        plane, scale, column, row, at = place
        axes = PLANES[plane]
        if not 0 <= at - self.offset[axes[0]] < self.voxels.shape[axes[0]]:
            return None
        key = plane, scale, at, json.dumps(levels)
        if key not in self.shrunk:
            self.shrunk[key] = self.canvas(plane, scale, at, levels)
        canvas, inside = self.shrunk[key]
        size = levels[str(scale)]["TileSize"][::-1]
        h, w = size[axes[1]], size[axes[2]]
        y, x = canvas.shape[0] // 2 + row * h, canvas.shape[1] // 2 + column * w
        place = slice(max(y, 0), max(y + h, 0)), slice(max(x, 0), max(x + w, 0))
        if not inside[place].any():
            return None
        out = np.zeros((h, w), np.uint8)
        part, top, left = canvas[place], max(-y, 0), max(-x, 0)
        out[top : top + part.shape[0], left : left + part.shape[1]] = part
        return out

    def canvas(self, plane: str, scale: int, at: int, levels: Any) -> tuple[np.ndarray, np.ndarray]:
        """A slice at a scale with black around it, and which of its pixels show the volume."""
        axes = PLANES[plane]
        volume, offset = self.voxels.transpose(axes), [self.offset[a] for a in axes]
        margin = 216 * (1 + (max(self.voxels.shape) + 70) // 216)  # a multiple of all products of ratios
        canvas = np.zeros((2 * margin, 2 * margin), np.int64)
        y, x = (margin + o for o in offset[1:])
        canvas[y : y + volume.shape[1], x : x + volume.shape[2]] = volume[at - offset[0]]
        inside = np.zeros(canvas.shape, bool)
        inside[y : y + volume.shape[1], x : x + volume.shape[2]] = True
        for k in range(1, scale + 1):
            now, before = (levels[str(n)]["Resolution"][::-1] for n in (k, k - 1))
            ratio = [int(a // b) for a, b in zip(now, before, strict=True)]
            m, n = ratio[axes[1]], ratio[axes[2]]
            shape = canvas.shape[0] // m, m, canvas.shape[1] // n, n
            canvas = canvas.reshape(shape).sum(axis=(1, 3)) // (m * n)
            inside = inside.reshape(shape).any(axis=(1, 3))
        return canvas, inside

    def tile(self, plane: str, scale: int, column: int, row: int, at: int) -> Any:
        point = dict(zip(PLANES[plane], (at, row, column), strict=True))
        answer = self.client.get(f"{self.path}/tile/{plane}/{scale}/{point[2]}_{point[1]}_{point[0]}?noblanks=true")
        if answer.status == 404:
            return None
        assert answer.status == 200, answer.text
        return image(answer.body)

    def stored(self) -> set[bytes]:
        instance = self.instance()
        with instance.engine.snapshot() as snapshot:
            return set(snapshot.scan(*kind_range(instance.record.id, TILES), keys_only=True))

    def check(self, places: Any, levels: Any = LEVELS) -> int:
        """Compares tiles; answers how many had something to show."""
        shown = 0
        for place in places:
            want, got = self.want(place, levels), self.tile(*place)
            assert (want is None) == (got is None), place
            if want is not None:
                assert (got == want).all(), place
                shown += 1
        return shown


def around(tiled: Tiled) -> Any:
    for plane, axes in PLANES.items():
        for at in (
            tiled.offset[axes[0]] - 1,
            tiled.offset[axes[0]],
            tiled.offset[axes[0]] + tiled.voxels.shape[axes[0]] - 1,
        ):
            for scale, column, row in itertools.product(range(3), range(-2, 4), range(-2, 5)):
                yield plane, scale, column, row, at


@pytest.fixture
def client(database: Database) -> Client:
    return Client(database)


@pytest.mark.parametrize("offset", [(0, 0, 0), (5, 17, 33), (-7, 3, -20)])
def test_tiles_are_cut_where_none_are_stored(client: Client, offset: tuple[int, int, int]) -> None:
    tiled = Tiled(client, noise(1, (22, 40, 50)), offset)
    assert client.post(f"{tiled.path}/metadata", {"Levels": LEVELS}).status == 200
    assert tiled.check(around(tiled)) > 40
    assert not tiled.stored()


@pytest.mark.parametrize("offset", [(0, 0, 0), (5, 17, 33), (-7, 3, -20)])
def test_generated_tiles_are_the_same(client: Client, offset: tuple[int, int, int]) -> None:
    tiled = Tiled(client, noise(1, (22, 40, 50)), offset, synced=False)
    known = tiled.generate()
    assert (known["State"], known["Done"], known["Total"]) == ("done", 22 + 40 + 50, 22 + 40 + 50)
    assert client.get(f"{tiled.path}/metadata").json()["Levels"] == LEVELS
    assert len(tiled.stored()) > 300
    # All but those before the origin are stored, and stay when the volume changes.
    places = [p for p in around(tiled) if min(p[2:4]) >= 0]
    assert (before := tiled.check(places)) > 20
    tiled.gray.put(np.zeros((64, 96, 128), np.uint8), (-16, 0, -32))
    assert tiled.check(places) == before


@settings(max_examples=10, deadline=None)
@given(st.data())
def test_any_specification(data: st.DataObject) -> None:
    with Database.open({"main": Memory.open("")}, OneStore("main")) as database:
        check_any_specification(Client(database), data.draw)


def check_any_specification(client: Client, draw: Any) -> None:
    levels, resolution = {}, [4, 4, 4]
    for k in range(draw(st.integers(1, 4))):
        size = [draw(st.integers(3, 30)) for _ in range(3)]
        levels[str(k)] = {"Resolution": resolution, "TileSize": size}
        resolution = [r * draw(st.integers(1, 3)) for r in resolution]
    shape = tuple(draw(st.integers(1, n)) for n in (6, 40, 40))
    tiled = Tiled(client, noise(draw(st.integers(0, 99)), shape), tuple(draw(st.integers(-30, 60)) for _ in shape))
    planes = draw(st.sampled_from(["xy", "xy;0_2", "yz;xz", "1,2"]))
    assert tiled.generate(f"?planes={planes}", levels)["State"] == "done"
    places = []
    for _ in range(40):
        plane = draw(st.sampled_from(list(PLANES)))
        axes, scale = PLANES[plane], draw(st.integers(0, len(levels) - 1))
        at = tiled.offset[axes[0]] + draw(st.integers(-1, shape[axes[0]]))
        places.append((plane, scale, draw(st.integers(-2, 6)), draw(st.integers(-2, 6)), at))
    tiled.check(places, levels)


def test_ranges_limit_the_slices_of_their_plane(client: Client) -> None:
    tiled = Tiled(client, noise(2, (12, 20, 24)), (0, 0, 0))
    known = tiled.generate("?xrange=20,99&yrange=3,3&zrange=-5,1")
    assert known["Total"] == 4 + 1 + 2 and known["Done"] == 7
    slices = {key[8:20] for key in tiled.stored()}
    assert slices
    assert tiled.generate("?planes=yz&zrange=5,6")["Total"] == 24
    for bad in ("?xrange=9,3", "?zrange=1", "?yrange=a,b", "?planes=vol", "?planes=ab", "?planes=xy&zrange=50,60"):
        answer = client.post(f"{tiled.path}/generate{bad}", LEVELS)
        assert answer.status == 400 and answer.text.strip(), bad


def test_without_a_specification_levels_double_until_all_fits_one_tile(client: Client) -> None:
    tiled = Tiled(client, noise(3, (2, 3, 1100)), (0, 0, 0))
    assert tiled.gray.post("resolution", [4, 4, 40]).status == 200
    assert tiled.generate("?planes=xz", None)["State"] == "done"
    levels = client.get(f"{tiled.path}/metadata").json()
    assert levels["Levels"] == {
        str(k): {"Resolution": [4 * 2**k, 4 * 2**k, 40 * 2**k], "TileSize": [512] * 3} for k in range(3)
    }
    assert (levels["MinTileCoord"], levels["MaxTileCoord"]) == ([0, 0, 0], [0, 0, 0])
    assert tiled.check([("xz", k, 0, 0, 1) for k in range(3)], levels["Levels"]) == 3


@pytest.mark.parametrize(
    ("format", "pillow", "exact"), [("png", "PNG", True), ("jpg", "JPEG", False), ("lz4", "PNG", True)]
)
def test_tiles_have_the_format_of_the_instance(client: Client, format: str, pillow: str, exact: bool) -> None:
    smooth = np.add.outer(np.arange(16), np.add.outer(np.arange(40), np.arange(50))).astype(np.uint8)
    tiled = Tiled(client, smooth, (0, 0, 0), Format=format)
    assert client.post(f"{tiled.path}/metadata", {"Levels": LEVELS}).status == 200
    for _ in range(2):
        answer = client.get(f"{tiled.path}/tile/xy/0/1_1_3")
        assert answer.headers["content-type"] == f"image/{pillow.lower()}"
        shown = Image.open(io.BytesIO(answer.body))
        want = tiled.want(("xy", 0, 1, 1, 3))
        assert want is not None and shown.format == pillow
        difference = np.abs(np.asarray(shown).astype(int) - want)
        assert difference.max() <= (0 if exact else 4)
        tiled.generate()


def test_a_volume_that_is_not_there(client: Client) -> None:
    uuid = client.repo()
    for name, named in (("none", ""), ("orphan", "nosuch"), ("wrong", "none")):
        path = client.instance(uuid, name, "imagetile", Source=named)
        answer = client.post(f"{path}/generate", LEVELS)
        assert answer.status == 400 and "Source" in answer.text
        assert client.get(f"{path}/generate").json() == {"State": "none"}
    Volume.create(client, uuid=uuid, name="empty")
    path = client.instance(uuid, "tiles", "imagetile", Source="empty")
    answer = client.post(f"{path}/generate", LEVELS)
    assert answer.status == 400 and "no voxels" in answer.text
    for bad in ({"0": {"Resolution": [1, 1, 1]}}, {}, [], {"1": LEVELS["0"]}):
        assert client.post(f"{path}/generate", bad).status == 400
    assert client.get(f"{path}/metadata").status == 400


def test_a_committed_version_gets_no_tiles(client: Client) -> None:
    tiled = Tiled(client, noise(4, (8, 20, 20)), (0, 0, 0))
    client.commit(tiled.uuid)
    assert client.post(f"{tiled.path}/generate", LEVELS).status == 400
    child = client.child(tiled.uuid)
    path = tiled.path.replace(tiled.uuid, child)
    answer = client.post(f"{path}/generate?planes=xy", LEVELS)
    assert answer.json()["Version"] == child
    assert tiled.instance().generation.wait(120)
    assert any("generate" in line for line in client.get(f"/api/node/{child}/log").json()["log"])
    assert tiled.stored()


def test_one_generation_at_a_time_and_one_that_died_is_told(client: Client) -> None:
    tiled = Tiled(client, noise(5, (8, 20, 20)), (0, 0, 0))
    task = tiled.instance().generation
    release = threading.Event()

    def work(progress: Any) -> None:
        progress.advance(3)
        release.wait(120)

    task.start({"Version": tiled.uuid}, 9, work)
    answer = client.post(f"{tiled.path}/generate", LEVELS)
    assert answer.status == 409 and "running" in answer.text
    assert client.get(f"{tiled.path}/metadata").status == 400
    # As another process sees it that starts later over the same store.
    assert Task(tiled.instance(), "generate", GENERATION).known()["State"] == "interrupted"
    release.set()
    assert task.wait(120)
    assert task.known()["State"] == "done"

    def fail(progress: Any) -> None:
        raise ZeroDivisionError

    task.start({}, 1, fail)
    assert task.wait(120)
    assert task.known()["State"] == "failed" and "internal error" in task.known()["Error"]
    assert tiled.generate()["State"] == "done"


def test_wide_slices_go_through_in_bands(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "_BAND", 700)
    monkeypatch.setattr(generate, "_HELD", 5000)
    monkeypatch.setattr(source, "_BAND", 300)
    tiled = Tiled(client, noise(6, (22, 40, 50)), (5, 17, 33))
    assert client.post(f"{tiled.path}/metadata", {"Levels": LEVELS}).status == 200
    assert tiled.check(around(tiled)) > 40
    assert tiled.generate()["State"] == "done"
    assert tiled.check(around(tiled)) > 40


def test_a_tile_of_many_voxels_is_cut_from_a_coarser_scale(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    uuid = client.repo()
    gray = Volume.create(client, uuid=uuid, BlockSize="16,16,16", MaxDownresLevel="2")
    voxels = noise(7, (16, 96, 112))
    gray.put(voxels, (0, 0, 0))
    path = client.instance(uuid, "tiles", "imagetile", Source="gray", sync="gray")
    levels = {str(k): {"Resolution": [4**k, 4**k, 1], "TileSize": [24, 24, 24]} for k in range(2)}
    assert client.post(f"{path}/metadata", {"Levels": levels}).status == 200
    whole = image(client.get(f"{path}/tile/xy/1/0_0_9?noblanks=true").body)
    monkeypatch.setattr(source, "MAX_CUT", 96 * 96 // 4)
    one = np.frombuffer(gray.get("raw/0_1_2/48_48_1/0_0_4?scale=1").body, "u1").reshape(48, 48).astype(int)
    want = (one[0::2, 0::2] + one[1::2, 0::2] + one[0::2, 1::2] + one[1::2, 1::2]) // 4
    got = image(client.get(f"{path}/tile/xy/1/0_0_9?noblanks=true").body)
    assert (got == want).all() and (got != whole).any()
    monkeypatch.setattr(source, "MAX_CUT", 96 * 96 // 17)
    assert client.get(f"{path}/tile/xy/1/0_0_9?noblanks=true").status == 404
    assert not image(client.get(f"{path}/tile/xy/1/0_0_9").body).any()


def test_a_server_that_ends_interrupts_the_work() -> None:
    store = Memory.open("")
    database = Database.open({"main": store}, OneStore("main"))
    client = Client(database)
    tiled = Tiled(client, noise(5, (8, 20, 20)), (0, 0, 0))
    task = tiled.instance().generation
    begun = threading.Event()

    def work(progress: Any) -> None:
        while True:
            progress.advance(0)
            begun.set()

    task.start({"Version": tiled.uuid}, 9, work)
    assert begun.wait(120)
    database.jobs.close()
    assert task.known()["State"] == "interrupted"
    database.close()
