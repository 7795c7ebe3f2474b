"""What happens when the service that holds a volume fails: an error with its reason, in time, and nothing wrong kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from apiclient import Client
from dvidcore.datatypes.remote import waiting
from dvidcore.storage.memory import Memory
from remote_tools import OFFSET, Files, FileServer, Remote, client, expected, precomputed, serving, write

SHAPE = (70, 50, 40)
GRAY = np.random.default_rng(2).integers(0, 255, SHAPE, np.uint8)
BOX = "raw/0_1_2/70_50_40/-10_5_3"
PATHS = (
    BOX,
    "label/0_5_3",
    "raw/xy/70_50/-10_5_3",
    "tile/xy/0/0_0_3",
    "blocks/0_0_0/2",
    "specificblocks?blocks=0,0,0",
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    write(precomputed(GRAY[..., None]), GRAY[..., None], tmp_path / "raw")
    with serving(FileServer(tmp_path)) as server:
        yield server


def reader(server: FileServer, timeout: float = 120, store: Memory | None = None) -> AbstractContextManager[Client]:
    return client(store, allowed=(server.url,), timeout=timeout, retries=1)


def create(app: Client, uuid: str, url: str) -> tuple[int, str]:
    answer = app.post(f"/api/repo/{uuid}/instance", {"typename": "remotevolume", "dataname": "there", "URL": url})
    return answer.status, answer.text


@pytest.mark.parametrize(
    ("failure", "status", "text"),
    [
        (500, 502, "500"),
        (503, 502, "503"),
        (403, 502, "403"),
        ("truncate", 502, ""),
        ("short", 502, ""),
        ("stall", 504, "did not answer within 1 seconds"),
    ],
)
def test_reads_say_what_failed_and_go_on_when_it_works_again(
    server: FileServer, failure: int | str, status: int, text: str
) -> None:
    """What stalls is asked for by one who waits for a second, what works by one who waits as long as it takes."""
    store = Memory.open("")
    with reader(server, store=store) as app:
        remote = Remote(app, f"{server.url}/raw")
        server.failure = failure
        paths = PATHS[:2] if failure == "stall" else PATHS
        with reader(server, 1, store) if failure == "stall" else nullcontext(app) as asking:
            with ThreadPoolExecutor(len(paths)) as pool:
                answers = list(pool.map(lambda path: asking.get(f"{remote.path}/{path}"), paths))
            for path, answer in zip(paths, answers, strict=True):
                assert answer.status == status, (path, answer.text)
                assert text in answer.text
                assert "127.0.0.1" in answer.text
                assert len(answer.text) < 1000
            assert asking.get(f"{remote.path}/info").status == 200
            assert asking.get("/api/repos/info").status == 200
            server.failure = ""
            server.released.set()
            # A read of a chunk that is being fetched for another read has the end of that, which may still be a failure.
            while asking.get(f"{remote.path}/{BOX}").status != 200:
                pass
            assert (remote.box(OFFSET, SHAPE) == expected(GRAY, OFFSET, OFFSET, SHAPE)).all()


def test_absent_chunks_are_zero(server: FileServer) -> None:
    with reader(server) as app:
        remote = Remote(app, f"{server.url}/raw")
        server.failure = 404
        assert not remote.box(OFFSET, SHAPE).any()


@pytest.mark.parametrize(("failure", "status"), [(500, 502), (403, 502), ("stall", 504), (404, 400)])
def test_a_volume_that_cannot_be_reached_is_not_created(server: FileServer, failure: int | str, status: int) -> None:
    server.failure = failure
    with reader(server, 0.1 if failure == "stall" else 120) as app:
        uuid = app.repo()
        found, text = create(app, uuid, f"{server.url}/raw")
        assert found == status, text
        assert app.get(f"/api/node/{uuid}/there/info").status == 400


def test_nobody_listens() -> None:
    with client(allowed=("http://127.0.0.1:1",), timeout=120, retries=1) as app:
        status, text = create(app, app.repo(), "http://127.0.0.1:1/raw")
        assert status == 502, text


def test_redirects_are_not_followed(server: FileServer, tmp_path: Path) -> None:
    """A server that may be read must not be able to send the request on to one that may not."""

    class Elsewhere(Files):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", f"{server.url}{self.path}")
            self.send_header("Content-Length", "0")
            self.end_headers()

    handler = partial(Elsewhere, directory=str(tmp_path))
    with serving(FileServer(tmp_path, handler)) as other, client(allowed=(other.url,), timeout=120) as app:
        status, text = create(app, app.repo(), f"{other.url}/raw")
        assert (status, "302" in text) == (502, True), text
    assert not server.asked


def test_a_volume_that_changed_its_type_is_refused(server: FileServer, tmp_path: Path) -> None:
    with client(allowed=(server.url,), timeout=120, recheck=1e-9) as app:
        remote = Remote(app, f"{server.url}/raw")
        other = GRAY.astype(np.uint16)[..., None]
        write(precomputed(other), other, tmp_path / "raw")
        answer = remote.get(BOX)
        assert (answer.status, "has changed" in answer.text) == (502, True), answer.text


def test_a_service_that_hangs_leaves_threads_for_others(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Places for those who wait are fewer than the server's threads; once they are taken, others are refused."""
    monkeypatch.setattr(waiting, "PATIENCE", 0.3)
    with client(allowed=(server.url,), timeout=120, concurrency=3, retries=20) as app:
        remote = Remote(app, f"{server.url}/raw")
        kv = app.instance(app.repo(), "kv")
        server.failure = "stall"
        found: list[int] = []
        threads = [threading.Thread(target=lambda: found.append(remote.get(BOX).status)) for _ in range(6)]
        for thread in threads:
            thread.start()
        # Two thirds of the three places are this service's; the other four requests give up by themselves.
        while len(found) < 4:
            time.sleep(0.01)
        assert found == [503] * 4
        assert app.post(f"{kv}/key/a", b"1").status == 200
        answer = remote.get(BOX)
        assert (answer.status, "try again later" in answer.text) == (503, True)
        server.failure = ""
        server.released.set()
        for thread in threads:
            thread.join()
        assert sorted(found) == [200, 200, 503, 503, 503, 503]  # sent again, when the connections broke
        assert remote.get(BOX).status == 200


def test_the_cache_saves_requests_and_is_bounded(tmp_path: Path) -> None:
    shape = (128, 128, 64)
    voxels = np.random.default_rng(3).integers(0, 255, shape, np.uint8)[..., None]
    write(precomputed(voxels, offset=(0, 0, 0)), voxels, tmp_path / "raw")  # 64 chunks of 16 KiB: 1 MiB
    first, last = "raw/0_1_2/32_32_16/0_0_0", "raw/0_1_2/32_32_16/96_96_48"
    whole = "raw/0_1_2/128_128_64/0_0_0"
    with serving(FileServer(tmp_path)) as server:

        def asked(cache: int, *paths: str) -> int:
            """How many chunks are fetched for the last of some requests."""
            with client(allowed=(server.url,), cache_bytes=cache) as app:
                remote = Remote(app, f"{server.url}/raw")
                before = 0
                for path in paths:
                    before = server.asked.total()
                    assert remote.get(path).status == 200
                return server.asked.total() - before

        assert asked(4 << 20, whole, whole) == 0
        assert asked(4 << 20, first, last, first) == 0
        assert asked(1, first, first) == 1
        # A quarter of the volume fits, and what is in use beside it: having read all of it, much is fetched again.
        assert asked(256 << 10, whole, whole) >= 16
