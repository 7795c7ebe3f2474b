"""dvidcore's kernels and their peers from PyPI in one table, on the same blocks in the same run: ``make bench``.

The peers and the blocks are those of ``kernel_peers.py`` in the folder ``../shared/bench`` beside the checkout; where
it is missing there is nothing to compare with, and this says so. Every kernel goes over the 64 blocks of 64^3 labels, five
times on one thread and five times on two; ``2 thr`` is the throughput of two threads over one.

    python benchmarks/peers.py [FOLDER of the benchmark volume, made on first use] [--own]

``--own`` leaves the peers out.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dvidcore import blocks, labels

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "bench"


class Scratch(threading.local):
    """Warm buffers, one set for each thread: fresh pages would be measured otherwise."""

    def __init__(self) -> None:
        self.block = np.zeros((64, 64, 64), np.uint64)
        self.mask = np.zeros((64, 64, 64), np.uint8)
        self.gray = np.zeros((256, 256, 256), np.uint8)


def kernels(volume: Any, cut: Sequence[Any]) -> list[tuple[str, Callable[[Any], object], list[Any], int, int]]:
    """(name, kernel, items, voxels of all items, bytes of a voxel)."""
    scratch = Scratch()
    coded = [blocks.encode(block) for block in cut]
    families = [coded[k : k + 8] for k in range(0, len(coded), 8)]
    biggest = np.uint64(volume.sv[np.argmax(volume.size)])
    one = np.array([biggest], np.uint64)
    bodies, sizes = np.unique(volume.body, return_counts=True)
    many = np.asarray(volume.sv[volume.body == bodies[np.argmax(sizes)]])
    gray = np.asarray(volume.gray[128:384, 128:384, 128:384])
    coords = np.array([(z, y, x) for z in range(4) for y in range(4) for x in range(4)], np.int32)
    planes = [blocks.scatter(gray, (0, 0, 0), (64, 64, 64), tuple(c)) for c in coords.tolist()]
    voxels = sum(block.size for block in cut)
    gathers = [(coords, planes)] * 4
    palettes = [(block, blocks.palette(block) + np.uint64(1)) for block in coded]
    return [
        ("dvidcore encode", blocks.encode, list(cut), voxels, 8),
        ("dvidcore decode", lambda b: blocks.decode(b, scratch.block), coded, voxels, 8),
        ("dvidcore check (of a block that was sent)", blocks.check, coded, voxels, 8),
        ("dvidcore down-sample, per voxel of the eight", blocks.downsample, families, voxels, 8),
        ("dvidcore counts on the coded block", blocks.counts, coded, voxels, 8),
        ("dvidcore map the label list", lambda p: blocks.with_palette(*p), palettes, voxels, 8),
        ("dvidcore runs of one supervoxel", lambda b: labels.runs(b, one), coded, voxels, 8),
        ("dvidcore runs of the largest body", lambda b: labels.runs(b, many), coded, voxels, 8),
        ("dvidcore mask of the largest body", lambda b: blocks.mask(b, many, scratch.mask), coded, voxels, 8),
        ("dvidcore compressed_segmentation", blocks.compressed_segmentation, list(cut), voxels, 8),
        (
            "dvidcore gather 256^3 uint8 from 64^3 blocks",
            lambda g: blocks.gather(scratch.gray, (0, 0, 0), (64, 64, 64), *g),
            gathers,
            4 * gray.size,
            1,
        ),
    ]


def main() -> int:
    if not (SHARED / "kernel_peers.py").exists():
        print("no peers to compare with: ../shared/bench/kernel_peers.py is not beside this checkout")
        return 0
    sys.path.insert(0, str(SHARED))
    import bench_data
    import kernel_peers

    arguments = [a for a in sys.argv[1:] if not a.startswith("-")]
    folder = Path(arguments[0] if arguments else "build/benchdata")
    volume = bench_data.load(folder, 512)
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as lines:
        for name, kernel, items, voxels, width in kernels(volume, kernel_peers.octant_blocks(volume.labels)):
            # Passes of some 100 ms: of shorter ones the start of two threads is a large part.
            once = kernel_peers.timed(kernel, items, 1)[0]
            repeat = max(1, round(0.1 / once))
            items, voxels = items * repeat, voxels * repeat
            for threads in (1, 2):
                seconds = kernel_peers.timed(kernel, items, threads)
                figure = {
                    "kernel": name,
                    "threads": threads,
                    "mbps_best": voxels * width / seconds[0] / 1e6,
                    "mbps_median": voxels * width / statistics.median(seconds) / 1e6,
                    "ns_voxel_best": seconds[0] / voxels * 1e9,
                }
                lines.write(json.dumps(figure) + "\n")
                print(f"{name:50} {threads} threads {figure['ns_voxel_best']:8.3f} ns/voxel", flush=True)
        lines.flush()
        if "--own" in sys.argv:
            return 0
        command = [sys.executable, str(SHARED / "kernel_peers.py"), "--data", str(folder), "--external", lines.name]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
