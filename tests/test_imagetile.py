"""imagetile: tiles that are posted, blanks, images stitched from tiles, and what is refused."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from apiclient import Client
from dvidcore.repos import Database
from image_client import Volume, image, noise

LEVELS = {
    "0": {"Resolution": [8, 8, 16], "TileSize": [24, 20, 16]},
    "1": {"Resolution": [16, 16, 32], "TileSize": [24, 20, 16]},
}
SIZES = {"xy": (20, 24), "xz": (16, 24), "yz": (16, 20)}


def encoded(pixels: np.ndarray, format: str = "PNG", **how: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format, **how)
    return out.getvalue()


@pytest.fixture
def client(database: Database) -> Client:
    return Client(database)


def tiles(client: Client, levels: Any = LEVELS, **given: str) -> str:
    path = client.instance(client.repo(), "tiles", "imagetile", **given)
    if levels:
        assert client.post(f"{path}/metadata", {"Levels": levels}).status == 200
    return path


def refused(answer: Any, *words: str) -> None:
    assert answer.status == 400, answer.text
    for word in words:
        assert word in answer.text, answer.text


@pytest.mark.parametrize("plane", SIZES)
def test_a_posted_tile_is_answered_as_it_is(client: Client, plane: str) -> None:
    path = tiles(client)
    data = encoded(noise(1, SIZES[plane]))
    assert client.post(f"{path}/tile/{plane}/1/2_3_4", data).status == 200
    answer = client.get(f"{path}/tile/{plane}/1/2_3_4?noblanks=true")
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, data, "image/png")
    assert client.get(f"{path}/tile/{plane}/0/2_3_4?noblanks=true").status == 404
    head = client("HEAD", f"{path}/tile/{plane}/1/2_3_4")
    assert head.headers["content-length"] == str(len(data))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", ["empty"]),
        (b"no image", ["PNG"]),
        (encoded(noise(1, (20, 24)), "JPEG"), ["PNG"]),
        (encoded(noise(1, (20, 24)))[:-30], ["PNG"]),
        (encoded(noise(1, (20, 24)))[:60] + b"x" * 600, ["PNG"]),
        (encoded(noise(1, (24, 20))), ["24 x 20", "20 x 24"]),
        (encoded(noise(1, (1, 1))), ["1 x 1"]),
    ],
)
def test_what_is_no_tile_is_refused_and_not_stored(client: Client, body: bytes, words: list[str]) -> None:
    path = tiles(client)
    good = encoded(noise(2, (20, 24)))
    assert client.post(f"{path}/tile/xy/0/0_0_0", good).status == 200
    refused(client.post(f"{path}/tile/xy/0/0_0_0", body), *words)
    assert client.get(f"{path}/tile/xy/0/0_0_0").body == good


def test_a_huge_picture_is_refused_by_its_header(client: Client) -> None:
    path = tiles(client, None)
    out = io.BytesIO()
    Image.new("1", (20_000, 300)).save(out, "PNG")
    refused(client.post(f"{path}/tile/xy/0/0_0_0", out.getvalue()), "20000 x 300")


@pytest.mark.parametrize("coord", ["-1_0_0", "0_-1_0", "0_0", "0_0_0_0", "a_0_0", "0_0_3000000000"])
def test_tiles_that_nobody_could_read_are_refused(client: Client, coord: str) -> None:
    refused(client.post(f"{tiles(client)}/tile/xy/0/{coord}", encoded(noise(1, (20, 24)))), "coord")


def test_a_scale_beyond_the_levels_is_refused(client: Client) -> None:
    path, data = tiles(client), encoded(noise(1, (20, 24)))
    refused(client.post(f"{path}/tile/xy/2/0_0_0", data), "scale")
    refused(client.post(f"{path}/tile/xy/256/0_0_0", data), "scale")
    assert client.post(f"{path}/tile/xy/0/0_0_-7", data).status == 200, "the slice may lie before the origin"
    assert client.get(f"{path}/tile/xy/0/0_0_-7?noblanks=true").body == data


def test_without_a_specification_any_picture_is_stored_and_none_answered(client: Client) -> None:
    path, data = tiles(client, None), encoded(noise(1, (5, 7)))
    assert client.post(f"{path}/tile/xy/9/0_0_0", data).status == 200
    refused(client.get(f"{path}/tile/xy/9/0_0_0"), "metadata")
    assert client.post(f"{path}/metadata", {"Levels": LEVELS}).status == 200
    assert client.get(f"{path}/tile/xy/9/0_0_0").body == data


def test_a_malformed_request_is_no_missing_tile(client: Client) -> None:
    path = tiles(client)
    for bad in ("tile/nosuch/0/0_0_0", "tile/xy/x/0_0_0", "tile/xy/0/0_0", "tile/xy/7/0_0_0", "tile/vol/0/0_0_0"):
        refused(client.get(f"{path}/{bad}?noblanks=true"))
    refused(client.get(f"{path}/tile/xy/0/0_0_0/webp"), "format")


@pytest.mark.parametrize(
    "level",
    [
        {"TileSize": [8, 8, 8]},
        {"Resolution": [1, 1, 1]},
        {"Resolution": [1, 1], "TileSize": [8, 8, 8]},
        {"Resolution": [1, 1, 0], "TileSize": [8, 8, 8]},
        {"Resolution": [1, 1, -1], "TileSize": [8, 8, 8]},
        {"Resolution": [1, 1, 1], "TileSize": [8, 0, 8]},
        {"Resolution": [1, 1, 1], "TileSize": [8, 8]},
        {"Resolution": [1, 1, 1], "TileSize": [8, 8, 8.5]},
        {"Resolution": [1, 1, 1], "TileSize": [8, 8, 100000]},
        {"Resolution": [1, 1, 1], "TileSize": [16000, 16000, 1]},
        {"Resolution": [1, True, 1], "TileSize": [8, 8, 8]},
        [1],
        None,
    ],
)
def test_a_level_that_makes_no_sense_is_refused(client: Client, level: Any) -> None:
    path = tiles(client)
    refused(client.post(f"{path}/metadata", {"Levels": {"0": level}}), "level 0")
    assert client.get(f"{path}/metadata").json()["Levels"] == LEVELS


def test_a_single_level_may_have_no_resolution(client: Client) -> None:
    path = tiles(client)
    level = {"Resolution": [0, 0, 0], "TileSize": [128, 128, 1]}
    assert client.post(f"{path}/metadata", {"Levels": {"0": level}}).status == 200
    assert client.get(f"{path}/metadata").json()["Levels"] == {"0": level}
    refused(client.post(f"{path}/metadata", {"Levels": {"0": level, "1": level}}), "level 0")
    bare = client.instance(path.split("/")[3], "bare", "imagetile")
    assert client.post(f"{bare}/metadata", {"Levels": {"0": level}}).status == 200
    square = client.get(f"{bare}/isotropic/xy/20_10/0_0_0")
    assert square.status == 200 and square.body == client.get(f"{bare}/raw/xy/20_10/0_0_0").body


def test_the_keys_of_a_specification_are_taken_in_any_case(client: Client) -> None:
    path = tiles(client)
    level = {"resolution": [4, 4, 4], "TILESIZE": [8, 8, 8]}
    body = {"levels": {"0": level}, "mintilecoord": [1, 2, 3], "MAXTILECOORD": [4, 5, 6]}
    assert client.post(f"{path}/metadata", body).status == 200
    kept = {"MinTileCoord": [1, 2, 3], "MaxTileCoord": [4, 5, 6]}
    assert client.get(f"{path}/metadata").json() == {
        **kept,
        "Levels": {"0": {"Resolution": [4, 4, 4], "TileSize": [8, 8, 8]}},
    }


def test_ratios_of_resolutions_are_whole_numbers(client: Client) -> None:
    path = tiles(client)

    def post(*resolutions: list[float]) -> Any:
        levels = {str(k): {"Resolution": r, "TileSize": [8, 8, 8]} for k, r in enumerate(resolutions)}
        return client.post(f"{path}/metadata", {"Levels": levels})

    for bad in ([15, 10, 10], [14.9, 10, 10], [5, 10, 10], [10, 10, 12]):
        refused(post([10, 10, 10], bad), "level 1", "Resolution")
    assert post([3.3, 3.3, 33.3], [6.6, 3.3, 99.9], [6.6, 13.2, 99.9]).status == 200
    refused(post(*[[2.0**k] * 3 for k in range(22)]), "level 21")
    for bad in (
        {"MinTileCoord": [0, 0]},
        {"MaxTileCoord": ["a", 0, 0]},
        {"MinTileCoord": [2, 0, 0], "MaxTileCoord": [1, 9, 9]},
    ):
        refused(client.post(f"{path}/metadata", {"Levels": LEVELS, **bad}), "TileCoord")


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16"])
def test_the_format_lz4_takes_png_and_answers_png(client: Client, mode: str) -> None:
    path = tiles(client, Format="lz4")
    pixels = noise(3, (20, 24), "<u2") if mode == "I;16" else noise(3, (20, 24, max(1, len(mode)))).squeeze()
    assert client.post(f"{path}/tile/xy/0/1_0_2", encoded(pixels)).status == 200
    answer = client.get(f"{path}/tile/xy/0/1_0_2")
    assert answer.headers["content-type"] == "image/png"
    assert (image(answer.body) == pixels).all()
    refused(client.post(f"{path}/tile/xy/0/1_0_2", encoded(noise(1, (20, 24)), "JPEG")), "PNG")
    assert client.get(f"{path}/raw/xy/24_20/24_0_2").status == 200


def test_placeholders_are_drawn_in_tiles_and_in_raw(client: Client) -> None:
    path = tiles(client, Placeholder="true")
    drawn = image(client.get(f"{path}/tile/xy/0/1_1_3").body)
    assert drawn.shape == (20, 24) and len(np.unique(drawn)) > 2
    assert (image(client.get(f"{path}/raw/xy/24_20/24_20_3").body) == drawn).all()
    assert client.get(f"{path}/tile/xy/0/1_1_3?noblanks=true").status == 404


def test_raw_and_isotropic_need_no_source(client: Client) -> None:
    path = tiles(client)
    pixels = noise(4, (16, 24))
    assert client.post(f"{path}/tile/xz/0/0_5_0", encoded(pixels)).status == 200
    assert (image(client.get(f"{path}/raw/xz/24_16/0_5_0").body) == pixels).all()
    stretched = image(client.get(f"{path}/isotropic/xz/24_32/0_5_0").body)  # z has half the resolution
    assert (stretched == pixels.repeat(2, 0)).all()
    wrong = client.instance(path.split("/")[3], "wrong", "imagetile", Source="tiles")
    assert client.post(f"{wrong}/metadata", {"Levels": LEVELS}).status == 200
    refused(client.get(f"{wrong}/raw/xy/8_8/0_0_0"), "uint8blk")
    refused(client.get(f"{path}/raw/xy/16000_16001/0_0_0"))
    tiny = {"0": {"Resolution": [1, 1, 1], "TileSize": [1, 1, 1]}}
    assert client.post(f"{path}/metadata", {"Levels": tiny}).status == 200
    refused(client.get(f"{path}/raw/xy/200_200/0_0_0"), "tiles")
    refused(client.get(f"{path}/raw/xy/200000_1/0_0_0"), "tiles")


RGBA = np.dstack([noise(6, (16, 24, 3)), np.full((16, 24), 255, np.uint8)])


@pytest.mark.parametrize(
    ("typename", "posted", "shown"),
    [
        ("uint16blk", noise(5, (16, 24)), noise(5, (16, 24)) * np.uint16(257)),
        ("uint16blk", noise(5, (16, 24), "<u2"), noise(5, (16, 24), "<u2")),
        ("uint8blk", noise(5, (16, 24), "<u2"), (noise(5, (16, 24), "<u2") >> 8).astype("u1")),
        ("rgba8blk", noise(5, (16, 24)), np.dstack([noise(5, (16, 24))] * 3 + [np.full((16, 24), 255, "u1")])),
        ("rgba8blk", RGBA, RGBA),
        ("rgba8blk", RGBA[..., :3], RGBA),
        (
            "uint8blk",
            RGBA,
            ((RGBA[..., :3].astype("u8") * 257 @ np.array([19595, 38470, 7471], "u8") + 2**15) >> np.uint64(24)).astype(
                "u1"
            ),
        ),
    ],
)
def test_images_have_the_pixels_of_the_source(client: Client, typename: str, posted: Any, shown: Any) -> None:
    uuid = client.repo()
    client.instance(uuid, "source", typename, VoxelSize="8,8,16")
    path = client.instance(uuid, "tiles", "imagetile", Source="source")
    assert client.post(f"{path}/metadata", {"Levels": LEVELS}).status == 200
    assert client.post(f"{path}/tile/xz/0/0_5_0", encoded(posted)).status == 200
    got = image(client.get(f"{path}/raw/xz/30_20/0_5_-3").body)
    want = np.zeros((20, 30, *shown.shape[2:]), shown.dtype)
    want[3:19, :24] = shown[:16]
    assert got.dtype == want.dtype and (got == want).all()
    assert (image(client.get(f"{path}/isotropic/xz/24_32/0_5_0").body) == shown.repeat(2, 0)).all()


@pytest.mark.parametrize("typename", ["keyvalue", "labelmap", "float32blk"])
def test_what_is_no_picture_cannot_be_stitched(client: Client, typename: str) -> None:
    uuid = client.repo()
    client.instance(uuid, "source", typename)
    path = client.instance(uuid, "tiles", "imagetile", Source="source")
    assert client.post(f"{path}/metadata", {"Levels": LEVELS}).status == 200
    for word in ("raw", "isotropic"):
        refused(client.get(f"{path}/{word}/xy/8_8/0_0_0"), "uint16blk")


@pytest.mark.parametrize("typename", ["uint8blk", "rgba8blk", "keyvalue"])
def test_a_missing_tile_is_black_whatever_the_source_holds(client: Client, typename: str) -> None:
    uuid = client.repo()
    source = client.instance(uuid, "source", typename)
    if typename != "keyvalue":
        voxels = np.full(32**3 * (4 if typename == "rgba8blk" else 1), 9, np.uint8)
        assert client.post(f"{source}/raw/0_1_2/32_32_32/0_0_0", voxels.tobytes()).status == 200
    path = client.instance(uuid, "tiles", "imagetile", Source="source")
    assert client.post(f"{path}/metadata", {"Levels": LEVELS}).status == 200
    for word, size in (("xy", (20, 24)), ("xz", (16, 24)), ("yz", (16, 20))):
        answer = client.get(f"{path}/tile/{word}/0/0_0_0")
        assert answer.headers["content-type"] == "image/png"
        pixels = image(answer.body)
        assert pixels.shape == size and not pixels.any()
        assert client.get(f"{path}/tile/{word}/0/0_0_0?noblanks=true").status == 404


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_raw_against_a_canvas(client: Client, data: st.DataObject) -> None:
    """Posted tiles over what the Source holds where they are synced with it, and over nothing where they are not."""
    draw = data.draw
    sync = draw(st.sampled_from(["gray", ""]))
    uuid = client.repo()
    gray = Volume.create(client, uuid=uuid)
    voxels = noise(draw(st.integers(0, 99)), (32, 96, 96))
    gray.put(voxels, (0, 0, 0))
    path = client.instance(uuid, "tiles", "imagetile", Source="gray", sync=sync)
    assert client.post(f"{path}/metadata", {"Levels": LEVELS}).status == 200
    canvas = np.zeros((160, 160), np.uint8)
    if sync:
        canvas[:96, :96] = voxels[5]
    for k in range(draw(st.integers(0, 6))):
        tx, ty = draw(st.integers(0, 5)), draw(st.integers(0, 6))
        pixels = noise(k, (20, 24))
        assert client.post(f"{path}/tile/xy/0/{tx}_{ty}_5", encoded(pixels)).status == 200
        canvas[20 * ty : 20 * ty + 20, 24 * tx : 24 * tx + 24] = pixels
    x, y = draw(st.integers(-20, 100)), draw(st.integers(-20, 100))
    w, h = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    want = np.pad(canvas, 20)[y + 20 : y + 20 + h, x + 20 : x + 20 + w]
    assert (image(client.get(f"{path}/raw/xy/{w}_{h}/{x}_{y}_5").body) == want).all()


def test_tiles_of_two_branches_come_together_and_a_conflict_is_named(client: Client) -> None:
    path = tiles(client)
    root = path.split("/")[3]
    client.commit(root)
    a, b = (client.post(f"/api/node/{root}/branch", {"branch": name}).json()["child"] for name in "ab")
    pictures = {}
    for uuid, coord in ((a, "0_0_1"), (b, "1_0_1"), (a, "2_0_1"), (b, "2_0_1")):
        pictures[coord] = encoded(noise(len(pictures) + ord(uuid[0]), (20, 24)))
        assert client.post(f"{path.replace(root, uuid)}/tile/xy/0/{coord}", pictures[coord]).status == 200
    for uuid in (a, b):
        client.commit(uuid)
    answer = client.post(f"/api/repo/{root}/merge", {"mergeType": "conflict-free", "parents": [a, b]})
    merged = path.replace(root, answer.json()["child"])
    for coord in ("0_0_1", "1_0_1"):
        assert client.get(f"{merged}/tile/xy/0/{coord}").body == pictures[coord]
    answer = client.get(f"{merged}/tile/xy/0/2_0_1")
    assert answer.status == 409 and "tile xy/0/2_0_1" in answer.text
    assert client.post(f"{merged}/tile/xy/0/2_0_1", pictures["2_0_1"]).status == 200
    assert client.get(f"{merged}/tile/xy/0/2_0_1").body == pictures["2_0_1"]
