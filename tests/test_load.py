"""``dvidcore load``: every kind of source into a store and into a server, edges, refusals, and kill -9 in the middle."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import dvidcore
from dvidcore.cli import cli
from dvidcore.errors import BadRequest, NotFound, Unavailable
from dvidcore.geometry import ZYX
from dvidcore.loading import Server, ServerTarget, stacks
from dvidcore.loading.parallel import Workers
from dvidcore.loading.plan import Plan
from dvidcore.loading.run import adapted
from server_process import ROOT, ServerProcess, free_port

GRAY = np.random.default_rng(0).integers(0, 256, (37, 50, 61), np.uint8)
LABELS = np.random.default_rng(1).integers(0, 2**62, (3, 4, 5), np.uint64).repeat(12, 0).repeat(13, 1).repeat(12, 2)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: object, code: int = 0) -> str:
    """Output of a load in this process; ``dvidcore load`` writes it to stderr."""
    result = CliRunner().invoke(cli, ["load", *map(str, arguments)])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def to_store(*arguments: object, typename: str = "uint8blk", code: int = 0) -> str:
    return run(*arguments, "--to", "store", "--instance", "data", "--create", typename, code=code)


def stored(box: tuple[slice, ...]) -> np.ndarray:
    with dvidcore.open("store") as store:
        data = store.node(":master")["data"]
        found: np.ndarray = (data.supervoxels if data.typename == "labelmap" else data)[box]
        return found


def at(volume: np.ndarray, low: tuple[int, int, int] = (0, 0, 0)) -> tuple[slice, ...]:
    return tuple(slice(a, a + n) for a, n in zip(low, volume.shape, strict=False))


def sections(folder: Path, volume: np.ndarray, suffix: str, **options) -> Path:
    """A stack whose names sort wrongly as text."""
    folder.mkdir()
    for z, section in enumerate(volume):
        Image.fromarray(section).save(folder / f"section-{z}{suffix}", **options)
    (folder / "readme.txt").write_text("no image")
    return folder


# -- sources ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_a_folder_of_gray_sections(folder, suffix):
    to_store(sections(folder / "in", GRAY, suffix), "--offset", "-7,40,-3")
    assert (stored(at(GRAY, (-3, 40, -7))) == GRAY).all()
    assert not list(folder.glob("*.state"))


def test_jpegs_as_pillow_decodes_them(folder):
    smooth = np.add.outer(np.add.outer(np.arange(9), np.arange(40)), np.arange(48)).astype(np.uint8)
    path = sections(folder / "in", smooth, ".jpg", quality=95)
    to_store(path)
    decoded = np.stack([np.asarray(Image.open(path / f"section-{z}.jpg")) for z in range(9)])
    assert (stored(at(smooth)) == decoded).all() and np.abs(decoded.astype(int) - smooth).max() < 9


def test_pages_of_several_tiffs(folder):
    for name, part in (("b1.tif", GRAY[:5]), ("b2.tif", GRAY[5:6]), ("b10.tif", GRAY[6:])):
        pages = [Image.fromarray(section) for section in part]
        pages[0].save(folder / name, save_all=True, append_images=pages[1:])
    to_store("b10.tif", "b1.tif", "b2.tif", "--workers", 3)
    assert (stored(at(GRAY)) == GRAY).all()


def test_sixteen_bits_colours_and_labels_of_32_bits(folder):
    deep = GRAY.astype(np.uint16) * 250
    to_store(sections(folder / "deep", deep, ".png"), typename="uint16blk")
    assert (stored(at(deep)) == deep).all()
    rgb = np.random.default_rng(2).integers(0, 256, (4, 20, 30, 3), np.uint8)
    run(sections(folder / "rgb", rgb, ".png"), "--to", "store", "--instance", "rgba", "--create", "rgba8blk")
    labels = np.random.default_rng(3).integers(0, 2**32, (4, 20, 30), np.uint32)
    path = sections(folder / "seg", labels, ".tif")
    for file in path.glob("*.tif"):  # Pillow writes the sample format of signed numbers
        signed = b"\x53\x01\x03\x00\x01\x00\x00\x00\x02\x00"
        file.write_bytes(file.read_bytes().replace(signed, signed[:-2] + b"\x01\x00"))
    run(path, "--to", "store", "--instance", "seg", "--create", "labelmap")
    with dvidcore.open("store") as store:
        node = store.node(":master")
        assert (node["rgba"][0:4, 0:20, 0:30, 0:3] == rgb).all() and (node["rgba"][0:4, 0:20, 0:30, 3] == 255).all()
        assert (node["seg"][0:4, 0:20, 0:30] == labels).all()


def test_palettes_and_single_bits(folder):
    image = Image.fromarray(GRAY[0] % 3, mode="P")
    image.putpalette([5, 5, 5, 90, 90, 90, 200, 200, 200])
    image.save("palette.png")
    to_store("palette.png")
    assert (stored((0, slice(0, 50), slice(0, 61))) == np.array([5, 90, 200], np.uint8)[GRAY[0] % 3]).all()
    run("palette.png", "--to", "store", "--instance", "seg", "--create", "labelmap")
    Image.fromarray(GRAY[0] > 99).save("bits.png")
    run("bits.png", "--to", "store", "--instance", "bits", "--create", "uint8blk")
    run("bits.png", "--to", "store", "--instance", "mask", "--create", "labelmap")
    with dvidcore.open("store") as store:
        node = store.node(":master")
        assert (node["seg"][0, 0:50, 0:61] == GRAY[0] % 3).all()
        assert (node["bits"][0, 0:50, 0:61] == np.where(GRAY[0] > 99, 255, 0)).all()
        assert (node["mask"][0, 0:50, 0:61] == (GRAY[0] > 99)).all()


@pytest.mark.parametrize("axes", ["zyx", "xyz", "yzx"])
@pytest.mark.parametrize("kind", ["npy", "h5", "zarr"])
def test_arrays_in_any_order_of_axes(kind, axes):
    array = np.ascontiguousarray(LABELS.transpose(["zyx".index(axis) for axis in axes]))
    path = Path(f"in.{kind}")
    if kind == "npy":
        np.save(path, array)
    elif kind == "h5":
        import h5py

        with h5py.File(path, "w") as file:
            file["main/labels"] = array
            file["other"] = array[:1]
    else:
        import zarr

        group = zarr.open_group(str(path), mode="w")
        group.create_array("main/labels", shape=array.shape, dtype=array.dtype, chunks=(8, 8, 8))[...] = array
    more = () if kind == "npy" else ("--dataset", "main/labels")
    to_store(path, "--axes", axes, *more, "--offset", "1,-2,3", "--box", 1, typename="labelmap")
    assert (stored(at(LABELS, (3, -2, 1))) == LABELS).all()


def test_a_zarr_array_and_the_only_dataset_need_no_name():
    import h5py
    import zarr

    zarr.open_array("in.zarr", mode="w", shape=GRAY.shape, dtype="u1", chunks=(16, 16, 16))[...] = GRAY
    to_store("in.zarr")
    assert (stored(at(GRAY)) == GRAY).all()
    with h5py.File("in.h5", "w") as file:
        file["volume"] = 255 - GRAY
    to_store("in.h5")
    assert (stored(at(GRAY)) == 255 - GRAY).all()


def test_a_section_alone_and_a_part_of_a_source():
    np.save("one.npy", GRAY[5])
    to_store("one.npy", "--offset", "0,0,9")
    assert (stored((9, slice(0, 50), slice(0, 61))) == GRAY[5]).all()
    np.save("all.npy", GRAY)
    to_store("all.npy", "--from", "3,4,5", "--size", "10,20,30", "--offset", "100,0,0")
    part = GRAY[5:35, 4:24, 3:13]
    assert (stored(at(part, (0, 0, 100))) == part).all()
    assert not stored((slice(30, 31), slice(0, 20), slice(100, 110))).any()


def test_a_layer_that_is_too_large_for_memory_goes_through_a_file(folder, monkeypatch):
    monkeypatch.setattr(stacks, "IN_MEMORY", 1000)
    to_store(sections(folder / "in", GRAY, ".png"))
    assert (stored(at(GRAY)) == GRAY).all()


def test_voxels_around_the_volume_stay(folder):
    with dvidcore.open("store") as store:
        node = store.new_repo()["master"]
        node.create("data", "labelmap", block_size=(16, 16, 16), MaxDownresLevel=1)[-20:60, -20:80, -20:90] = 5
    np.save("in.npy", LABELS)
    run("in.npy", "--to", "store", "--instance", "data", "--offset", "7,-3,1", "--box", 1)
    model = np.full((80, 100, 110), 5, np.uint64)
    model[21:57, 17:69, 27:87] = LABELS
    assert (stored((slice(-20, 60), slice(-20, 80), slice(-20, 90))) == model).all()


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_what_cannot_be_loaded_is_refused_and_nothing_is_stored(folder):
    np.save("in.npy", GRAY)
    np.save("float.npy", GRAY.astype(np.float32))
    np.save("wide.npy", GRAY.astype(np.int64) + 1)
    np.save("five.npy", np.zeros((1, 1, 1, 1, 1), np.uint8))
    (folder / "broken.npy").write_bytes(b"nothing")
    (folder / "broken.png").write_bytes(b"nothing")
    (folder / "broken.h5").write_bytes(b"nothing")
    (folder / "empty").mkdir()
    Image.fromarray(np.random.default_rng(4).integers(0, 256, (8, 8, 3), np.uint8)).save("colour.png")
    Image.fromarray(GRAY[0]).save("a1.png")
    Image.fromarray(GRAY[0, :9]).save("a2.png")
    Image.fromarray(GRAY[0]).convert("CMYK").save("cmyk.tif")
    to_store("in.npy", "--size", "1,1,1")
    with dvidcore.open("store") as store:
        store.node(":master").create("notes", "keyvalue")
    for arguments, text in (
        (("missing.npy",), "does not exist"),
        (("float.npy",), "float32 cannot be stored as uint8"),
        (("wide.npy",), "do not fit uint8"),
        (("five.npy",), "3 axes"),
        (("broken.npy",), "no array"),
        (("broken.png",), "no image"),
        (("broken.h5",), "cannot be read"),
        (("empty",), "no images"),
        (("colour.png",), "3 colours"),
        (("a1.png", "a2.png"), "a2.png, page 1: 61 x 9"),
        (("cmyk.tif",), "mode CMYK"),
        (("in.npy", "a1.png"), "give one array"),
        (("in.npy", "--axes", "zzz"), "axes"),
        (("in.npy", "--dataset", "x"), "dataset"),
        (("a1.png", "--dataset", "x"), "dataset"),
        (("in.npy", "--from", "0,0,37"), "not inside"),
        (("in.npy", "--size", "62,1,1"), "not inside"),
        (("in.npy", "--size", "0,1,1"), "not inside"),
        (("in.npy", "--offset", "2147483640,0,0"), "int32"),
        (("in.npy", "--version", "abcdef"), "no version"),
    ):
        output = to_store(*arguments, code=1).replace("\n", " ")
        assert text in output, (arguments, output)
    assert "has no voxels" in run("in.npy", "--to", "store", "--instance", "notes", code=1)
    assert "no data instance" in run("in.npy", "--to", "store", "--instance", "none", code=1)
    assert "no store" in run("in.npy", "--to", "elsewhere", "--instance", "data", code=1)
    assert "3 separated by" in run("in.npy", "--to", "store", "--instance", "data", "--offset", "1,2", code=2)
    assert "NAME=VALUE" in to_store("in.npy", "--set", "BlockSize", code=2)
    assert stored((slice(0, 64),) * 3).sum() == GRAY[0, 0, 0] and not list(folder.glob("*.state"))


def test_gray_in_colours_is_gray_and_nothing_else_is():
    gray = GRAY[:2, :3, :4]
    rgb = np.stack([gray] * 3, -1)
    rgba = np.concatenate((rgb, np.full((*gray.shape, 1), 255, np.uint8)), -1)
    for images in (gray, rgb, rgba):
        assert (adapted(images, np.dtype("u1"), 1) == gray).all()
    assert (adapted(rgb, np.dtype("u1"), 4) == rgba).all() and adapted(gray, np.dtype("<u8"), 1).dtype == np.uint64
    rgba[0, 0, 0, 3] = 254
    with pytest.raises(BadRequest):
        adapted(rgba, np.dtype("u1"), 1)
    with pytest.raises(BadRequest):
        adapted(gray, np.dtype("u1"), 4)


boxes = st.tuples(*[st.integers(-300, 300)] * 3), st.tuples(*[st.integers(1, 300)] * 3)


@given(*boxes, st.tuples(*[st.sampled_from([1, 8, 32, 100])] * 3), st.integers(1, 2**21))
def test_a_plan_tiles_the_volume_and_shares_no_block(low, size, block, voxels):
    plan = Plan.of(ZYX(*low), ZYX(*size), ZYX(*block), voxels)
    assert all(step % side == 0 for step, side in zip(plan.step, block, strict=True))
    assert np.prod([float(n) for n in plan.step]) <= max(voxels, np.prod([float(b) for b in block]))
    if len(plan) > 3000:
        return
    found = [box for layer in plan.layers() for box in layer]
    assert [box.number for box in found] == list(range(len(plan)))
    assert sum(box.voxels for box in found) == np.prod(size)
    for box in found:
        for a, n, first, total, step in zip(box.low, box.size, low, size, plan.step, strict=True):
            assert first <= a and a + n <= first + total and a // step == (a + n - 1) // step


# -- servers ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    process = ServerProcess(tmp_path_factory.mktemp("server") / "data").wait_until_up()
    yield process
    assert process.stop() == 0


def test_a_server_is_loaded_as_a_store_is(server, folder):
    url = f"http://localhost:{server.port}"
    path = sections(folder / "in", GRAY, ".png")
    arguments = (path, "--to", url, "--instance", "gray", "--create", "uint8blk", "--user", "anna")
    run(*arguments, "--offset", "-7,40,-3", "--set", "BlockSize=16,16,16")
    run(*arguments, "--offset", "-6,40,-3", "--workers", 4)
    np.save("labels.npy", LABELS)
    run("labels.npy", "--to", url + "/", "--instance", "seg", "--create", "labelmap", "--offset", "5,5,5", "--box", 1)
    node = "/api/node/:master"
    wanted = np.zeros((37, 50, 62), np.uint8)
    wanted[:, :, 0], wanted[:, :, 1:] = GRAY[:, :, 0], GRAY
    assert server.ask("GET", f"{node}/gray/raw/0_1_2/62_50_37/-7_40_-3")[1] == wanted.tobytes()
    x, y, z = reversed(LABELS.shape)
    assert server.ask("GET", f"{node}/seg/raw/0_1_2/{x}_{y}_{z}/5_5_5")[1] == LABELS.tobytes()
    assert server.json(f"{node}/gray/info")["Extended"]["BlockSize"] == [16, 16, 16]
    target = ServerTarget(url, ":master", "seg")
    assert target.labels and target.block == (64, 64, 64)


def test_what_a_server_refuses_is_the_same_error(server, folder):
    url = f"http://localhost:{server.port}"
    np.save("in.npy", GRAY)
    run("in.npy", "--to", url, "--instance", "first", "--create", "uint8blk", "--size", "1,1,1")
    with pytest.raises(BadRequest, match="no data instance"):
        ServerTarget(url, ":master", "none")
    with pytest.raises(NotFound):
        Server(url).ask("GET", "/api/nothing")
    with pytest.raises(BadRequest, match="URL of a server"):
        Server("ftp://here")
    assert "no voxels" in run("in.npy", "--to", url, "--instance", "kv", "--create", "keyvalue", code=1)
    server.ask("POST", "/api/node/:master/commit", {"note": ""})
    assert "committed" in run("in.npy", "--to", url, "--instance", "first", code=1)
    server.ask("POST", "/api/node/:master/newversion")


def test_a_server_that_is_away_is_waited_for(monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    with pytest.raises(Unavailable, match="does not answer"):
        Server(f"http://localhost:{free_port()}").ask("GET", "/api/server/info")
    assert pauses == [0.25, 0.5, 1, 2, 4]


# -- going on ---------------------------------------------------------------------------------------------------------


def start(*arguments: object, command: Sequence[str] = ("-m", "dvidcore.cli")) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    whole = [sys.executable, *command, "load", *map(str, arguments)]
    return subprocess.Popen(whole, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


KILLED = """
import os, signal, sys
from dvidcore.cli import main
from dvidcore.loading import progress

boxes = int(sys.argv.pop(1))

class Mortal(progress.Progress):
    def add(self, number):
        super().add(number)
        if len(self.done) >= boxes:
            os.kill(os.getpid(), signal.SIGKILL)

progress.Progress = Mortal
main()
"""


def killed_after(boxes: int, arguments: Sequence[object], folder: Path) -> int:
    """A load that is killed once it has noted some boxes, while others are written; how many its state file knows."""
    process = start(*arguments, command=["-c", KILLED, str(boxes)])
    _, errors = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, errors.decode()
    (state,) = folder.glob("*.state")
    return len(state.read_text().split("\n")) - 2


@pytest.mark.parametrize("typename", ["uint8blk", "labelmap"])
def test_a_killed_load_has_no_half_boxes_and_goes_on(folder, typename):
    block = (32, 64, 64)
    if typename == "uint8blk":
        volume = np.random.default_rng(5).integers(1, 256, (100, 300, 400), np.uint8)
    else:
        volume = np.arange(1, 3 * 6 * 8 + 1, dtype=np.uint64).reshape(3, 6, 8)
        volume = volume.repeat(30, 0).repeat(40, 1).repeat(40, 2)
    np.save("in.npy", volume)
    low = (-7, 3, 9)
    arguments = ("in.npy", "--to", "store", "--instance", "data", "--create", typename, "--offset", "9,3,-7")
    arguments += ("--set", "BlockSize=64,64,32", "--box", 1)
    known = killed_after(3, arguments, folder)
    assert known >= 3
    found = stored(at(volume, low))
    half = total = 0
    for z in range(-32, 128, 32):
        for y in range(0, 320, 64):
            for x in range(0, 448, 64):
                cell = tuple(
                    slice(max(0, c - o), max(0, c - o + b)) for c, o, b in zip((z, y, x), low, block, strict=True)
                )
                if volume[cell].size:
                    same = found[cell] == volume[cell]
                    half += not (same.all() or not found[cell].any())
                    total += bool(same.all())
    assert half == 0 and total > 0
    for more in (9, None):
        if more is not None:
            known = killed_after(known + more, arguments, folder)
            continue
        process = start(*arguments)
        _, output = process.communicate(timeout=120)
        assert process.returncode == 0
        goes_on = re.search(rb"goes on: (\d+) of (\d+) boxes", output)
        assert goes_on and int(goes_on[1]) == known < int(goes_on[2])
    assert (stored(at(volume, low)) == volume).all() and not list(folder.glob("*.state"))


def test_a_load_that_is_done_begins_again_and_other_loads_have_other_states(folder):
    np.save("in.npy", GRAY)
    assert "goes on" not in to_store("in.npy")
    np.save("in.npy", 255 - GRAY)
    assert "goes on" not in to_store("in.npy")
    assert (stored(at(GRAY)) == 255 - GRAY).all()
    state = folder / "my.state"
    state.write_text(json.dumps({"another": "load"}) + "\n0\n")
    assert "state of another load" in to_store("in.npy", "--state", state, code=1).replace("\n", " ")
    assert state.read_text().count("\n") == 2


def test_a_torn_state_file_is_read_up_to_its_last_whole_line(folder):
    from dvidcore.loading.progress import Progress

    path = folder / "a.state"
    with Progress(path, {"a": 1}) as progress:
        for number in (0, 2, 12):
            progress.add(number)
    path.write_bytes(path.read_bytes() + b"1")
    with Progress(path, {"a": 1}) as progress:
        assert progress.done == {0, 2, 12}
        progress.add(1)
    with Progress(path, {"a": 1}) as progress:
        assert progress.done == {0, 1, 2, 12}
        progress.finish()
    path.write_bytes(b'{"a": ')
    with Progress(path, {"a": 1}) as progress:
        assert progress.done == set()
    assert not path.exists()


def test_workers_stop_at_the_first_failure():
    begun: list[int] = []

    def work(k: int) -> int:
        begun.append(k)
        if k == 3:
            raise ValueError("three")
        if k > 3:
            time.sleep(0.05)  # the other thread gets to say that it has failed
        return k

    with Workers(2) as workers:
        assert sorted(workers.each(work, range(3))) == [0, 1, 2]
        with pytest.raises(ValueError, match="three"):
            list(workers.each(work, range(3, 1000)))
        assert len(begun) < 20
