"""How cost grows with size: volumes, versions of the same blocks, sparse volumes. ``python benchmarks/growth.py``.

In process, on a LevelDB store in a temporary folder, without HTTP. Volumes are made block by block: 64 coded blocks of
warped cells, given other labels at each place. Times are of one run each, in milliseconds unless it says otherwise;
``--small`` leaves the largest sizes out.
"""

from __future__ import annotations

import gzip
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dvidcore import blocks
from dvidcore.datatypes.call import BytesBody, Call
from dvidcore.datatypes.labels.labelmap import LabelMap
from dvidcore.datatypes.labels.reading import volume
from dvidcore.datatypes.labels.reading.reader import BlockReader
from dvidcore.datatypes.labels.writing import ingest
from dvidcore.datatypes.registry import Instances
from dvidcore.geometry import ZYX
from dvidcore.repos import Database
from dvidcore.storage import open_engine
from test_kernels_blocks import generated

SIDE = 64


class Bench:
    """A repo with labelmap instances, and calls on them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.repo = database.new_repo("growth")
        self.node = self.repo.dag.root

    def instance(self, name: str) -> LabelMap:
        config = {"typename": "labelmap", "dataname": name, "MaxDownresLevel": "4"}
        made = Instances(self.database).create(self.repo, self.node, config)
        assert isinstance(made, LabelMap)
        return made

    def call(self, label: LabelMap, body: bytes = b"", node: Any = None) -> Call:
        at = node or self.node
        return Call(label.engine, at, self.database.ancestry_for(self.repo, at, label.record), body=BytesBody(body))


def milliseconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def record(at: tuple[int, int, int], coded: bytes) -> bytes:
    payload = gzip.compress(coded, 1)
    return struct.pack("<3iI", at[2], at[1], at[0], len(payload)) + payload


def posts(coded: list[bytes], side: int) -> Iterator[bytes]:
    """The body of one post of 4 x 4 x 4 blocks after the other, over a volume of ``side`` voxels."""
    per = side // SIDE
    for offset, (z, y, x) in enumerate(np.ndindex(per // 4, per // 4, per // 4), 1):
        body = []
        for k, (c, b, a) in enumerate(np.ndindex(4, 4, 4)):
            palette = blocks.palette(coded[k])
            moved = np.where(palette == 0, palette, palette + np.uint64(offset << 20))
            body.append(record((4 * z + c, 4 * y + b, 4 * x + a), blocks.with_palette(coded[k], moved)))
        yield b"".join(body)


def volumes(bench: Bench, coded: list[bytes], sides: list[int]) -> None:
    print("\n| volume | blocks | post, ms a block | read 256³, ms | a block, µs | labels listed, ms | labels |")
    print("|---|---|---|---|---|---|---|")
    for side in sides:
        label = bench.instance(f"v{side}")
        spent = 0.0
        for body in posts(coded, side):
            call = bench.call(label, body)
            spent += milliseconds(lambda call=call, label=label: ingest.post_blocks(label, call, 0, True, True))
            call.close()
        count = (side // SIDE) ** 3
        middle = ZYX(*(side // 2 - 128,) * 3)
        reads = []
        for _ in range(3):
            call = bench.call(label)
            reads.append(
                milliseconds(
                    lambda c=call, lb=label, at=middle: volume.answer(BlockReader(lb, c), at, ZYX(256, 256, 256), "")
                )
            )
            call.close()
        call = bench.call(label)
        point = min(
            milliseconds(lambda c=call, lb=label, at=side // SIDE // 2: lb.get_blocks(c.view, 0, [ZYX(at, at, at)]))
            for _ in range(9)
        )
        bodies = 0

        def listed(c: Call = call, lb: LabelMap = label) -> None:
            nonlocal bodies
            bodies = sum(1 for _ in lb.index.records(c.view))

        listing = milliseconds(listed)
        call.close()
        print(
            f"| {side}³ | {count} | {spent / count:.2f} | {min(reads):.0f} | {1e3 * point:.0f} | {listing:.0f} | {bodies} |",
            flush=True,
        )


def versions(bench: Bench, coded: list[bytes], counts: list[int]) -> None:
    print(
        "\n| versions of 64 blocks | post, ms | read at the newest, ms | read at the oldest, ms | a new version, ms |"
    )
    print("|---|---|---|---|---|")
    label = bench.instance("versions")
    body = next(posts(coded, 256))
    node = bench.node
    done = 0
    for count in counts:
        post = made = 0.0
        while done < count:
            if done:
                made = milliseconds(lambda n=node: bench.database.commit(bench.repo, n))
                parent = bench.repo.dag.nodes[node.id]
                start = time.perf_counter()
                node = bench.database.new_version(bench.repo, parent)
                made += (time.perf_counter() - start) * 1e3
            call = bench.call(label, body, node)
            post = milliseconds(lambda c=call: ingest.post_blocks(label, c, 0, True, True))
            call.close()
            done += 1
        times = []
        for at in (node, bench.repo.dag.root):
            best = []
            for _ in range(3):
                call = bench.call(label, node=at)
                best.append(
                    milliseconds(
                        lambda c=call: volume.answer(BlockReader(label, c), ZYX(0, 0, 0), ZYX(256, 256, 256), "")
                    )
                )
                call.close()
            times.append(min(best))
        print(f"| {count} | {post:.0f} | {times[0]:.0f} | {times[1]:.0f} | {made:.1f} |", flush=True)


def sparse_volumes(bench: Bench, counts: list[int]) -> None:
    from dvidcore.datatypes.labels.reading import sparse

    print(
        "\n| blocks of a body | sparse volume, ms | runs | ms per 1000 blocks | coarse, ms | first read of the index, ms |"
    )
    print("|---|---|---|---|---|---|")
    shape = np.zeros((SIDE, SIDE, SIDE), np.uint64)
    shape[20:24, 20:24] = 7  # a thread along x through every block
    coded = blocks.encode(shape)
    payload = gzip.compress(coded, 1)
    for count in counts:
        label = bench.instance(f"s{count}")
        for first in range(0, count, 4096):
            body = b"".join(
                struct.pack("<3iI", k % 64, k // 64 % 64, k // 4096, len(payload)) + payload
                for k in range(first, min(first + 4096, count))
            )
            call = bench.call(label, body)
            ingest.post_blocks(label, call, 0, False, True)
            call.close()
        call = bench.call(label)
        index = milliseconds(lambda c=call, lb=label: lb.index.columns(c.view, 7))
        columns = label.index.columns(call.view, 7)
        assert columns is not None
        runs = 0

        def read(c: Call = call, lb: LabelMap = label, coords: Any = columns.blocks()) -> None:
            nonlocal runs
            members = np.array([7], np.uint64)
            whole = sparse.SparseVolume(
                BlockReader(lb, c, 0, True), coords, members, sparse.Bounds((None,) * 3, (None,) * 3), True
            )
            runs = sum(len(slab) for slab in whole.slabs())

        spent = milliseconds(read)
        coarse = milliseconds(lambda cs=columns: sparse.coarse(cs.blocks()))
        call.close()
        print(
            f"| {count} | {spent:.0f} | {runs} | {1e3 * spent / count:.1f} | {coarse:.1f} | {index:.1f} |", flush=True
        )


def main() -> None:
    small = "--small" in sys.argv
    cells = generated(256)
    cut = [
        cells[z : z + SIDE, y : y + SIDE, x : x + SIDE]
        for z, y, x in np.ndindex(4, 4, 4)
        for z, y, x in [(64 * z, 64 * y, 64 * x)]
    ]
    coded = [blocks.encode(c) for c in cut]
    with tempfile.TemporaryDirectory() as folder, Database.open({"main": open_engine("leveldb", folder)}) as database:
        bench = Bench(database)
        volumes(bench, coded, [256, 512, 1024] if small else [256, 512, 1024, 2048])
        sparse_volumes(bench, [10, 100, 1000, 10_000] if small else [10, 100, 1000, 10_000, 100_000])
        versions(bench, coded, [1, 10, 50] if small else [1, 10, 50, 100, 200])


if __name__ == "__main__":
    main()
