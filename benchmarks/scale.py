"""Mutations of a very large body, and a mapping of ten million supervoxels. ``python benchmarks/scale.py [--small]``.

In process, on a LevelDB store in a temporary folder, through the WSGI application, without HTTP. Bodies are made by
POST indices and POST mappings, as bulk loaders do. Times are the best of three, in milliseconds of wall and of CPU.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvidcore import labels
from dvidcore.api.app import create_app
from dvidcore.api.start import opened_server
from dvidcore.config import from_folder
from wsgi import call

Ask = Callable[..., Any]
LARGE, SMALL = 10**12, 10**13


def client(app: Any) -> Ask:
    """Asks the application; answers the body, as JSON where it is some."""

    def ask(verb: str, path: str, body: Any = b"") -> Any:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        path, _, query = path.partition("?")
        answer = call(app, verb, path, data, query)
        return json.loads(answer) if answer[:1] in (b"{", b"[") else answer

    return ask


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """(wall, CPU) milliseconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return (time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3


def peak_mb() -> int:
    """The most memory of this process; what ``getrusage`` says of it begins with the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) >> 10


def show(what: str, times: list[tuple[float, float]]) -> None:
    wall, cpu = (min(part) for part in zip(*times, strict=True))
    print(f"| {what} | {wall:.1f} | {cpu:.1f} |", flush=True)


# -- one large body ----------------------------------------------------------------------------------------------------


def index(body: int, first: int, blocks: int, supervoxels: int, z: int = 0) -> bytes:
    """The index of a body in a box of blocks, each of which has voxels of one of its supervoxels, from ``first`` on."""
    number = np.arange(blocks)
    coords = np.stack((z + number // 2500, number // 50 % 50, number % 50), axis=1).astype(np.int32)
    members = (first + number % supervoxels).astype(np.uint64)
    return labels.encode_index(body, coords, members, np.full(blocks, 1000, np.uint32))


def mapping_ops(supervoxels: NDArray[np.uint64], body: int) -> bytes:
    """A MappingOps message of one operation; supervoxels from 2^28 to 2^35 - 1, five bytes each as varints."""
    assert int(supervoxels.min()) >> 28 and not int(supervoxels.max()) >> 35
    septets = np.stack([supervoxels >> np.uint64(7 * k) & np.uint64(127) for k in range(5)], axis=1).astype(np.uint8)
    septets[:, :4] |= 128
    operation = b"\x10" + varint(body) + b"\x1a" + varint(septets.size) + septets.tobytes()
    return b"\x0a" + varint(len(operation)) + operation


def varint(n: int) -> bytes:
    out = bytearray()
    while n >> 7:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out + bytes((n,)))


def large_body(ask: Ask, seg: str, blocks: int, supervoxels: int) -> None:
    base = 2**28 + LARGE % 1000
    members = np.arange(base, base + supervoxels, dtype=np.uint64)
    body = LARGE + blocks
    ask("POST", f"{seg}/mappings", mapping_ops(members, body))
    ask("POST", f"{seg}/index/{body}", index(body, base, blocks, supervoxels))
    for k in range(3):
        ask("POST", f"{seg}/index/{SMALL + k}", index(SMALL + k, SMALL + k, 10, 1, z=-1))
    name = f"{blocks} blocks, {supervoxels} supervoxels"
    show(
        f"{name}: first read of the index (size and supervoxels)",
        [timed(lambda: ask("GET", f"{seg}/supervoxels/{body}"))],
    )
    show(
        f"{name}: coarse sparse volume", [timed(lambda: ask("GET", f"{seg}/sparsevol-coarse/{body}")) for _ in range(3)]
    )
    show(
        f"{name}: merge of a body of 10 blocks into it",
        [timed(lambda k=k: ask("POST", f"{seg}/merge", [body, SMALL + k])) for k in range(3)],  # type: ignore[misc]
    )
    cleaves = [members[k : k + 1].tolist() for k in range(3)]
    show(
        f"{name}: cleave of one supervoxel from it",
        [timed(lambda c=c: ask("POST", f"{seg}/cleave/{body}", c)) for c in cleaves],  # type: ignore[misc]
    )
    tenth = supervoxels // 10
    cleaves = [members[tenth * (k + 1) : tenth * (k + 2)].tolist() for k in range(3)]
    show(
        f"{name}: cleave of {tenth} supervoxels from it",
        [timed(lambda c=c: ask("POST", f"{seg}/cleave/{body}", c)) for c in cleaves],  # type: ignore[misc]
    )
    show(f"{name}: renumber", [timed(lambda: ask("POST", f"{seg}/renumber", [body + 1, body]))])


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        measure(Path(folder), small="--small" in sys.argv)


def measure(folder: Path, small: bool) -> None:
    print("| request | wall ms | CPU ms |\n|---|---|---|")
    with opened_server(from_folder(folder / "bodies")) as server:
        ask = client(create_app(server))
        root = ask("POST", "/api/repos")["root"]
        for blocks, supervoxels in ((100, 50), (1000, 500), (10_000, 5000), (100_000, 50_000))[: 3 if small else 4]:
            name = f"seg{blocks}"
            ask("POST", f"/api/repo/{root}/instance", {"typename": "labelmap", "dataname": name})
            large_body(ask, f"/api/node/{root}/{name}", blocks, supervoxels)
    count, step = (1_000_000, 500_000) if small else (10_000_000, 1_000_000)
    with opened_server(from_folder(folder / "mapping")) as server:
        ask = client(create_app(server))
        root = ask("POST", "/api/repos")["root"]
        ask("POST", f"/api/repo/{root}/instance", {"typename": "labelmap", "dataname": "seg"})
        seg = f"/api/node/{root}/seg"
        rng = np.random.default_rng(1)
        members = rng.permutation(np.arange(2**28, 2**28 + count, dtype=np.uint64))
        posts = []
        for at in range(0, count, step):
            bodies = [
                mapping_ops(part, LARGE + int(part[0])) for part in np.array_split(members[at : at + step], step // 100)
            ]
            posts.append(timed(lambda b=bodies: ask("POST", f"{seg}/mappings", b"".join(b))))  # type: ignore[misc]
        show(f"POST mappings of {step} supervoxels to {step // 100} bodies", posts)
    print(f"\nPeak so far {peak_mb()} MB. A new process over the {count} mappings:\n", flush=True)
    start = Path(__file__).with_name("scale_start.py")
    sys.stdout.flush()
    subprocess.run([sys.executable, str(start), str(folder / "mapping"), root], check=True)


if __name__ == "__main__":
    main()
