"""Plain references for the label kernels, written to be read rather than to be fast, and what tests draw blocks from.

Volumes are uint64 (z, y, x). A coded block is described in ``docs/kernels.md``.
"""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray

Volume = NDArray[np.uint64]

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"
SAMPLES = [
    "cx-64x64x64-sample1.dat.gz",
    "cx-64x64x64-sample2.dat.gz",
    "fib19-64x64x64-sample1.dat.gz",
    "fib19-64x64x64-sample2.dat.gz",
]


def real_bytes(name: str) -> bytes:
    """An unpacked file of real labels; skips the test where the data are not at hand."""
    path = SHARED / "labels" / name
    if not path.exists():
        pytest.skip(f"needs {name}")
    return gzip.decompress(path.read_bytes())


def real_volume(name: str) -> Volume:
    return np.frombuffer(real_bytes(name), "<u8").reshape(64, 64, 64)


# ---- the coded block ---------------------------------------------------------------------------------------------
def corners(shape: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """The first voxel of each sub-block, in the order of the format."""
    return [(z, y, x) for z in range(0, shape[0], 8) for y in range(0, shape[1], 8) for x in range(0, shape[2], 8)]


def pack(values: list[int], bits: int) -> bytes:
    """Numbers of `bits` bits, most significant bit first."""
    digits = "".join(format(v, f"0{bits}b") for v in values)
    return int(digits, 2).to_bytes(len(digits) // 8, "big")


def write(shape: tuple[int, int, int], palette: list[int], lists: list[list[int]], values: list[list[int]]) -> bytes:
    """A coded block from its parts, whatever they are: each sub-block's positions in the palette, and its values."""
    head = struct.pack("<4I", shape[2] // 8, shape[1] // 8, shape[0] // 8, len(palette))
    out = [head, np.array(palette, "<u8").tobytes()]
    if len(palette) > 1:
        out.append(np.array([len(positions) for positions in lists], "<u2").tobytes())
        out.append(np.array([p for positions in lists for p in positions], "<u4").tobytes())
        for positions, numbers in zip(lists, values, strict=True):
            bits = (len(positions) - 1).bit_length() if positions else 0
            if bits:
                out.append(pack(numbers, bits))
    return b"".join(out)


def encode(volume: Volume) -> bytes:
    palette: dict[int, int] = {}
    lists, values = [], []
    for z, y, x in corners(volume.shape):
        voxels = volume[z : z + 8, y : y + 8, x : x + 8].ravel().tolist()
        local = {label: i for i, label in enumerate(dict.fromkeys(voxels))}
        lists.append([palette.setdefault(label, len(palette)) for label in local])
        values.append([local[label] for label in voxels])
    return write(volume.shape, list(palette), lists, values)


def decode(block: bytes) -> Volume:
    gx, gy, gz, n = struct.unpack_from("<4I", block)
    palette = np.frombuffer(block, "<u8", n, 16)
    volume = np.zeros((8 * gz, 8 * gy, 8 * gx), np.uint64)
    if n == 1:
        volume[:] = palette[0]
        return volume
    at = 16 + 8 * n
    counts = np.frombuffer(block, "<u2", gx * gy * gz, at).tolist()
    at += 2 * len(counts)
    positions = np.frombuffer(block, "<u4", sum(counts), at)
    at += 4 * positions.size
    for (z, y, x), count in zip(corners(volume.shape), counts, strict=True):
        mine, positions = positions[:count], positions[count:]
        bits = max(count - 1, 0).bit_length()
        digits = np.unpackbits(np.frombuffer(block, np.uint8, 64 * bits, at)).reshape(512, bits)
        at += 64 * bits
        value = digits.astype(np.int64) @ (1 << np.arange(bits)[::-1])
        labels = palette[mine][value] if count else np.zeros(512, np.uint64)
        volume[z : z + 8, y : y + 8, x : x + 8] = labels.reshape(8, 8, 8)
    assert at == len(block)
    return volume


# ---- what kernels answer ----------------------------------------------------------------------------------------
def downsample(volume: Volume, zeros: bool = False) -> Volume:
    """Half the resolution: the most frequent label that is not 0, the smallest on a tie.

    With ``zeros`` 0 counts too, and it is the largest on a tie.
    """
    z, y, x = (n // 2 for n in volume.shape)
    eight = volume.reshape(z, 2, y, 2, x, 2).transpose(0, 2, 4, 1, 3, 5).reshape(-1, 8)
    out = np.zeros(len(eight), np.uint64)
    for i, row in enumerate(eight):
        labels, votes = np.unique(row if zeros else row[row != 0], return_counts=True)
        if labels.size:
            out[i] = labels[votes == votes.max()].max() if zeros else labels[votes.argmax()]
    return out.reshape(z, y, x)


def mask_of_runs(runs: NDArray[np.int32], shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    out = np.zeros(shape, bool)
    for x, y, z, length in runs.tolist():
        out[z, y, x : x + length] = True
    return out


def read_segmentation(data: bytes, shape: tuple[int, int, int]) -> Volume:
    """Decodes one channel of Neuroglancer's compressed_segmentation with sub-blocks of 8x8x8."""
    words = np.frombuffer(data, "<u4")
    assert words[0] == 1
    channel = words[1:]
    volume = np.zeros(shape, np.uint64)
    for i, (z, y, x) in enumerate(corners(shape)):
        head, values = (int(v) for v in channel[2 * i : 2 * i + 2])
        table, bits = head & 0xFFFFFF, head >> 24
        number = np.zeros(512, np.int64)
        if bits:
            packed = channel[values : values + 16 * bits].view(np.uint8)
            digits = np.unpackbits(packed, bitorder="little").reshape(512, bits).astype(np.int64)
            number = digits @ (1 << np.arange(bits))
        pairs = channel[table : table + 2 * (int(number.max()) + 1)].astype(np.uint64)
        labels = pairs[0::2] | pairs[1::2] << np.uint64(32)
        volume[z : z + 8, y : y + 8, x : x + 8] = labels[number].reshape(8, 8, 8)
    return volume


# ---- blocks to draw ---------------------------------------------------------------------------------------------
LABELS = st.one_of(st.integers(0, 5), st.sampled_from([2**32 - 1, 2**32, 2**63, 2**64 - 1]), st.integers(0, 2**64 - 1))
SHAPES = st.sampled_from([(16, 16, 16), (16, 24, 16), (32, 16, 24), (24, 16, 40), (8, 8, 8), (8, 24, 16), (16, 8, 8)])
EVEN_SHAPES = st.sampled_from([(16, 16, 16), (16, 32, 16), (32, 16, 48)])


@st.composite
def volumes(draw: st.DrawFn, shapes: st.SearchStrategy[tuple[int, int, int]] = SHAPES) -> Volume:
    """Volumes whose sub-blocks have from one to hundreds of labels, in boxes as in a segmentation or at random."""
    shape = draw(shapes)
    labels = np.array(draw(st.lists(LABELS, min_size=1, max_size=20)), np.uint64)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    volume = np.full(shape, labels[0], np.uint64)
    for _ in range(draw(st.integers(0, 30))):
        start = [int(rng.integers(0, n)) for n in shape]
        stop = [int(rng.integers(a, n)) + 1 for a, n in zip(start, shape, strict=True)]
        volume[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = rng.choice(labels)
    for z, y, x in corners(shape):
        kind = rng.random()
        if kind < 0.1:
            count = int(rng.choice([2, 3, 5, 16, 17, 33, 64, 100, 200, 256, 257, 400, 512]))
            own = rng.integers(0, 2**64, count, np.uint64)
            volume[z : z + 8, y : y + 8, x : x + 8] = own[rng.permutation(512) % count].reshape(8, 8, 8)
        elif kind < 0.3:
            volume[z : z + 8, y : y + 8, x : x + 8] = rng.choice(labels)
    return volume


@st.composite
def strange_blocks(draw: st.DrawFn, shapes: st.SearchStrategy[tuple[int, int, int]] = SHAPES) -> bytes:
    """Valid blocks as no encoder writes them: repeated and unused palette entries, zeros, sub-blocks without labels."""
    shape = draw(shapes)
    palette = draw(st.lists(LABELS, min_size=1, max_size=40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lists, values = [], []
    for _ in corners(shape):
        count = int(rng.choice([0, 1, 1, 2, 3, 4, 5, 8, 9, 16, 30, 70, 140, 300, 512]))
        lists.append(rng.integers(0, len(palette), count).tolist())
        values.append(rng.integers(0, max(count, 1), 512).tolist())
    return write(shape, palette, lists, values)
