"""Image instances: memory is bounded by what is in flight, not by the size of an answer or a body."""

import http.client
from contextlib import closing
from pathlib import Path

import pytest

from server_process import ServerProcess

MB = 1 << 20

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to see peak memory")


@pytest.fixture
def server(tmp_path):
    process = ServerProcess(tmp_path / "data").wait_until_up()
    yield process
    assert process.stop() == 0


def test_large_answers_and_bodies(server):
    """512 MB of voxels, of which some 300 MB are in memory."""
    path = server.instance("uint64blk", "numbers")
    before = server.peak_memory()
    size = "512_512_256"
    length = 512 * 512 * 256 * 8
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)) as connection:
        pieces = (bytes([k % 251]) * MB for k in range(length // MB))
        headers = {"Content-Length": str(length)}
        connection.request("POST", f"{path}/raw/0_1_2/{size}/0_0_0", pieces, headers)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"")
        for read in (f"raw/0_1_2/{size}/0_0_0", "subvolblocks/512_512_256/0_0_0?compression=uncompressed"):
            connection.request("GET", f"{path}/{read}")
            answer = connection.getresponse()
            assert answer.status == 200
            got = 0
            while data := answer.read(MB):
                got += len(data)
            assert got >= length
    assert server.peak_memory() - before < 450 * MB


def test_a_slice_of_many_bytes_is_refused_and_a_stretched_one_made_in_bands(server):
    path = server.instance("rgba8blk", "colours", VoxelSize="1,1,2")
    before = server.peak_memory()
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)) as connection:
        for size, status in (("9000_9000", 400), ("3000_3000", 200)):
            for kind in ("raw", "isotropic"):
                connection.request("GET", f"{path}/{kind}/xz/{size}/0_0_0")
                answer = connection.getresponse()
                assert answer.status == status
                answer.read()
    assert server.peak_memory() - before < 250 * MB
