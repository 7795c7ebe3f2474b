"""The demo: its volumes, and a server that loads one on its first start alone."""

import http.client
import io
import re
import time
import urllib.request

import numpy as np
import pytest
from rich.console import Console

from dvidcore import demo, samples
from dvidcore.config import from_folder
from server_process import ServerProcess


@pytest.fixture(scope="module")
def small():
    return samples.generate(64, seed=3)


def console():
    return Console(file=io.StringIO(), width=200)


# -- samples ----------------------------------------------------------------------------------------------------------


def check(volume):
    assert volume.gray.dtype == np.uint8 and volume.supervoxels.dtype == np.uint64
    assert volume.gray.shape == volume.supervoxels.shape
    assert not any(side % 64 for side in volume.gray.shape)
    members = [supervoxel for group in volume.bodies.values() for supervoxel in group]
    present = set(np.unique(volume.supervoxels).tolist()) - {0}
    assert len(members) == len(set(members)) and set(members) == present
    assert all(body == group[0] and group == sorted(group) for body, group in volume.bodies.items())


def test_the_generated_volume_depends_on_its_seed_alone(small):
    check(small)
    again, other = samples.generate(64, seed=3), samples.generate(64, seed=4)
    assert (again.gray == small.gray).all() and again.bodies == small.bodies
    assert not (other.gray == small.gray).all()


def test_the_generated_volume_resembles_tissue(small):
    """Supervoxels are compact, bodies have several, and membranes between them are dark."""
    assert len(small.bodies) > 1
    assert max(map(len, small.bodies.values())) > 1
    edge = np.zeros(small.gray.shape, bool)
    edge[:, :, :-1] = small.supervoxels[:, :, 1:] != small.supervoxels[:, :, :-1]
    assert edge.mean() < 0.15
    assert small.gray[edge].mean() < small.gray[~edge].mean() - 30


@pytest.mark.skipif(not samples.MEDULLA.is_dir(), reason="the real volume is not beside the checkout")
def test_the_real_volume():
    volume = samples.sample()
    check(volume)
    assert volume.gray.shape == (256, 256, 256) and len(volume.bodies) == 210
    assert not volume.gray[250:].any() and not volume.supervoxels[:, :, 250:].any()


# -- loading ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data"


def address(server):
    return demo.Client(f"http://127.0.0.1:{server.port}")


def test_loading_through_http_and_only_once(folder, small):
    server = ServerProcess(folder).wait_until_up()
    client = address(server)
    root = demo.load(client, console(), small)
    gray = client.get(f"/api/node/{root}/grayscale/raw/0_1_2/64_64_64/0_0_0")
    assert gray == small.gray.tobytes()
    mapped = np.zeros(int(small.supervoxels.max()) + 1, np.uint64)
    for body, members in small.bodies.items():
        mapped[members] = body
    labels = client.get(f"/api/node/{root}/segmentation/raw/0_1_2/64_64_64/0_0_0")
    assert labels == mapped[small.supervoxels.astype(np.int64)].tobytes()
    assert demo.load(client, console(), small) == root
    assert len(server.json("/api/repos/info")) == 1
    for _, url in demo.urls(client, root):
        with urllib.request.urlopen(url) as answer:
            assert answer.status == 200 and answer.read()
    assert server.stop() == 0
    demo.remove_unfinished(from_folder(folder))
    server = ServerProcess(folder).wait_until_up()
    assert address(server).demo_repo() == root
    assert server.stop() == 0


def test_loading_where_only_administrators_make_repos(folder, small, monkeypatch):
    monkeypatch.setenv("DVID_ADMIN_TOKEN", "a secret & more")
    server = ServerProcess(folder, token="a secret & more").wait_until_up()
    root = demo.load(address(server), console(), small)
    assert address(server).demo_repo() == root
    assert server.stop() == 0


@pytest.mark.parametrize("at", ["/api/repo/", "/merge"])
def test_an_interrupted_start_is_made_good_by_the_next(folder, small, at):
    """The server dies at the first request of a kind."""
    server = ServerProcess(folder).wait_until_up()
    other = server.instance("keyvalue", "mine").split("/")[3]

    class Interrupted(demo.Client):
        def post(self, path, body):
            if at in path:
                server.kill()
            return super().post(path, body)

    with pytest.raises((OSError, http.client.HTTPException)):
        demo.load(Interrupted(address(server).url), console(), small)

    demo.remove_unfinished(from_folder(folder))
    server = ServerProcess(folder).wait_until_up()
    assert list(server.json("/api/repos/info")) == [other]
    root = demo.load(address(server), console(), small)
    assert address(server).demo_repo() == root
    assert server.stop() == 0


def test_the_command_loads_serves_and_shows_urls_that_work(folder):
    server = ServerProcess(folder, "demo")
    deadline = time.monotonic() + 120
    while "Stop with Ctrl-C" not in server.log.read_text():
        assert time.monotonic() < deadline and server.process.poll() is None, server.log.read_text()
        time.sleep(0.05)
    urls = re.findall(r"http://127\.0\.0\.1:\d+/api\S+", server.log.read_text())
    kinds = set()
    for url in urls:
        with urllib.request.urlopen(url) as answer:
            assert answer.status == 200 and answer.read()
            kinds.add(answer.headers["content-type"])
    assert kinds >= {"image/png", "image/jpeg", "application/json", "application/octet-stream"}
    assert server.stop() == 0


def test_a_store_in_use_is_said_in_one_line(folder):
    server = ServerProcess(folder).wait_until_up()
    second = ServerProcess(folder, "demo")
    assert second.process.wait(120) == 1
    assert "in use" in server.log.read_text()
    assert "Traceback" not in server.log.read_text()
    assert server.stop() == 0
