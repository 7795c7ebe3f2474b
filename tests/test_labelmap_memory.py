"""Labels: memory is bounded by the blocks in flight, not by the size of an answer or a body."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from server_process import ServerProcess

MB = 1 << 20
LENGTH = 8 * 512 * 512 * 256

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to see peak memory")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path / "data").wait_until_up()
    yield process
    assert process.stop() == 0


def planes(width: int, height: int, depth: int) -> Iterator[bytes]:
    """The body: cells of 32^3 voxels."""
    y, x = np.mgrid[:height, :width] // 32
    for z in range(depth):
        yield (1 + x + 32 * y + 1024 * (z // 32)).astype("<u8").tobytes()


@pytest.mark.parametrize("size", [(512, 512, 256), (1024, 1024, 64)])
def test_large_answers_and_bodies(server: ServerProcess, size: tuple[int, int, int]) -> None:
    """512 MB of labels, of which some 300 MB are in memory."""
    path = server.instance("labelmap", "seg")
    before = server.peak_memory()
    box = f"{'_'.join(map(str, size))}/0_0_0"
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)) as connection:
        connection.request("POST", f"{path}/raw/0_1_2/{box}", planes(*size), {"Content-Length": str(LENGTH)})
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"")
        for read, least in ((f"raw/0_1_2/{box}", LENGTH), (f"blocks/{box}?compression=uncompressed", LENGTH + 16)):
            connection.request("GET", f"{path}/{read}")
            answer = connection.getresponse()
            assert answer.status == 200
            got = 0
            while data := answer.read(MB):
                got += len(data)
            assert got >= least
    assert server.peak_memory() - before < 450 * MB
