"""Volumes elsewhere, for tests: written with tensorstore, served by servers of this process that fail when told to."""

from __future__ import annotations

import http.server
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from apiclient import Client
from dvidcore.config import RemoteConfig
from dvidcore.repos import Database, DatabaseOptions
from dvidcore.storage.memory import Memory

OFFSET = (-10, 5, 3)
"""X, Y, Z of the precomputed volumes."""
CHUNK = (32, 32, 16)


def write(spec: dict[str, Any], voxels: np.ndarray, folder: Path | None = None, **more: Any) -> None:
    """Creates an array as ``spec`` says, whose axes are those of ``voxels``."""
    import tensorstore as ts

    kvstore = spec.pop("kvstore", None) or {"driver": "file", "path": f"{folder}/"}
    if spec["driver"] != "neuroglancer_precomputed":  # which says so itself
        more |= {"dtype": voxels.dtype, "shape": voxels.shape}
    store = ts.open({**spec, "kvstore": kvstore}, create=True, delete_existing=True, **more).result()
    store.write(voxels).result()


def precomputed(
    voxels: np.ndarray,
    *,
    kind: str = "image",
    encoding: str = "raw",
    offset: tuple[int, int, int] = OFFSET,
    resolution: tuple[float, float, float] = (8, 8, 40),
    sharded: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """The specification of a scale for ``voxels`` (x, y, z, channel)."""
    scale: dict[str, Any] = {
        "size": voxels.shape[:3],
        "resolution": resolution,
        "voxel_offset": offset,
        "chunk_size": CHUNK,
        "encoding": encoding,
    }
    if encoding == "compressed_segmentation":
        scale["compressed_segmentation_block_size"] = [8, 8, 8]
    if sharded:
        scale["sharding"] = {
            "@type": "neuroglancer_uint64_sharded_v1",
            "preshift_bits": 1,
            "minishard_bits": 2,
            "shard_bits": 1,
            "hash": "murmurhash3_x86_128",
            "minishard_index_encoding": "gzip",
            "data_encoding": "gzip",
        }
    return {
        "driver": "neuroglancer_precomputed",
        "multiscale_metadata": {"type": kind, "data_type": voxels.dtype.name, "num_channels": voxels.shape[3]},
        "scale_metadata": scale,
        **more,
    }


class Files(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, or fails as its server's ``failure`` says."""

    server: FileServer
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.server.asked[self.path] += 1
        failure = self.server.failure
        if failure == "stall":
            self.server.released.wait(120)
            self.close_connection = True
        elif failure == "truncate" and "info" not in self.path:
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"some bytes")
            self.close_connection = True
        elif failure == "short" and "info" not in self.path:
            self.send_response(200)
            self.send_header("Content-Length", "10")
            self.end_headers()
            self.wfile.write(b"some bytes")
        elif isinstance(failure, int):
            self.send_error(failure, "out of order")
        elif "Range" in self.headers:
            self._send_range(*map(int, self.headers["Range"].removeprefix("bytes=").split("-")))
        else:
            super().do_GET()

    def _send_range(self, first: int, last: int) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        self.send_response(206)
        self.send_header("Content-Length", str(len(data[first : last + 1])))
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.end_headers()
        self.wfile.write(data[first : last + 1])

    do_HEAD = do_GET

    def log_message(self, *_: Any) -> None:
        pass


class FileServer(http.server.ThreadingHTTPServer):
    """A web server of a folder at 127.0.0.1."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path, handler: Any = None) -> None:
        super().__init__(("127.0.0.1", 0), handler or partial(Files, directory=str(folder)))
        self.failure: int | str = ""
        self.released = threading.Event()
        self.asked: Counter[str] = Counter()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: Any) -> None:
        """A client that has gone is no news."""


@contextmanager
def serving(server: FileServer) -> Iterator[FileServer]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def client(store: Memory | None = None, **settings: Any) -> Iterator[Client]:
    """An application whose ``[remote]`` is as given, over a database in memory."""
    options = DatabaseOptions(remote=RemoteConfig(**settings))
    with Database.open({"main": store or Memory.open("")}, options=options) as database:
        yield Client(database)


class Remote:
    """An instance of a client, and what it answers as arrays."""

    def __init__(self, client: Client, url: str, typename: str = "remotevolume", **settings: str) -> None:
        self.client = client
        self.uuid = client.repo()
        self.path = client.instance(self.uuid, "there", typename, URL=url, **settings)

    def get(self, path: str, body: Any = None) -> Any:
        return self.client("GET", f"{self.path}/{path}", body)

    @property
    def extended(self) -> dict[str, Any]:
        found: dict[str, Any] = self.get("info").json()["Extended"]
        return found

    def box(self, offset: tuple[int, ...], size: tuple[int, ...], query: str = "") -> np.ndarray:
        """The voxels of a box given by X, Y, Z, as an array (z, y, x) or (z, y, x, channel)."""
        answer = self.get(f"raw/0_1_2/{'_'.join(map(str, size))}/{'_'.join(map(str, offset))}{query}")
        assert answer.status == 200, answer.text
        extended = self.extended
        channels = (extended["Channels"],) if extended["Channels"] > 1 and "channel=" not in query else ()
        dtype = extended["Values"][0]["DataType"]
        return np.frombuffer(answer.body, dtype).reshape(*size[::-1], *channels)


def expected(voxels: np.ndarray, origin: tuple[int, ...], offset: tuple[int, ...], size: tuple[int, ...]) -> np.ndarray:
    """The box of ``voxels`` (x, y, z[, channel]), which begin at ``origin``, with zeros outside; axes z, y, x."""
    out = np.zeros((*size, *voxels.shape[3:]), voxels.dtype)
    low = [max(o, a) for o, a in zip(origin, offset, strict=True)]
    high = [min(o + n, a + s) for o, n, a, s in zip(origin, voxels.shape, offset, size, strict=False)]
    if all(a < b for a, b in zip(low, high, strict=True)):
        there = tuple(slice(a - o, b - o) for a, b, o in zip(low, high, offset, strict=True))
        here = tuple(slice(a - o, b - o) for a, b, o in zip(low, high, origin, strict=True))
        out[there] = voxels[here]
    return np.moveaxis(out, (2, 1, 0), (0, 1, 2))
