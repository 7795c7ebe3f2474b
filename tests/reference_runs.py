"""Sparse volumes and label indices in plain numpy and Python: slow, short, and what the kernels must agree with."""

import struct
from itertools import pairwise

import numpy as np
from hypothesis import settings
from numpy.typing import NDArray

# Of a shared machine a deadline says nothing.
examples = settings(deadline=None, max_examples=60)

Volume = NDArray[np.uint64]
Runs = NDArray[np.int32]
Voxel = tuple[int, int, int]


def encode_block(volume: Volume) -> bytes:
    """A coded block of a volume (z, y, x): palette and positions by first appearance, values bit by bit."""
    gz, gy, gx = (side // 8 for side in volume.shape)
    palette: dict[int, int] = {}
    counts, positions, values = b"", b"", b""
    for z, y, x in np.ndindex(gz, gy, gx):
        voxels = volume[8 * z : 8 * z + 8, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8].ravel().tolist()
        own = {label: i for i, label in enumerate(dict.fromkeys(voxels))}
        for label in own:
            palette.setdefault(label, len(palette))
        counts += struct.pack("<H", len(own))
        positions += b"".join(struct.pack("<I", palette[label]) for label in own)
        bits = (len(own) - 1).bit_length()
        if bits:
            text = "".join(format(own[label], f"0{bits}b") for label in voxels)
            values += int(text, 2).to_bytes(64 * bits, "big")
    head = struct.pack("<4I", gx, gy, gz, len(palette)) + b"".join(struct.pack("<Q", label) for label in palette)
    return head if len(palette) == 1 else head + counts + positions + values


def mask_to_runs(mask: NDArray[np.bool_], start: Voxel = (0, 0, 0)) -> Runs:
    """The maximal x-runs of a mask (z, y, x) whose first voxel is ``start`` (z, y, x), sorted by z, y, x."""
    padded = np.zeros((*mask.shape[:2], mask.shape[2] + 2), np.int8)
    padded[:, :, 1:-1] = mask
    step = np.diff(padded, axis=2)
    z, y, x = np.nonzero(step == 1)
    stop = np.nonzero(step == -1)[2]
    return np.column_stack([x + start[2], y + start[1], z + start[0], stop - x]).astype(np.int32)


def runs_to_set(runs: Runs) -> set[Voxel]:
    """The voxels (z, y, x) of runs."""
    return {(z, y, x + i) for x, y, z, n in runs.tolist() for i in range(n)}


def set_to_runs(voxels: set[Voxel]) -> Runs:
    """The maximal runs of voxels (z, y, x), sorted by z, y, x."""
    ordered = sorted(voxels)
    breaks = [0, *(i for i, (a, b) in enumerate(pairwise(ordered), 1) if (a[0], a[1], a[2] + 1) != b), len(ordered)]
    rows = [(ordered[i][2], ordered[i][1], ordered[i][0], j - i) for i, j in pairwise(breaks) if i < j]
    return np.array(rows, np.int32).reshape(-1, 4)


def binary_block(mask: NDArray[np.bool_]) -> bytes:
    """One block of the sparsevol "blocks" format, without its coordinates."""
    if mask.all() or not mask.any():
        return bytes([int(mask.all())])
    out = b"\x02"
    for z, y, x in np.ndindex(*(side // 8 for side in mask.shape)):
        sub = mask[8 * z : 8 * z + 8, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8]
        if sub.all() or not sub.any():
            out += bytes([int(sub.all())])
        else:
            out += b"\x02" + np.packbits(sub.ravel(), bitorder="little").tobytes()
    return out


def pack_row(entries: dict[int, int], surface: int = 0) -> bytes:
    """The stored value of one (body, block)."""
    return struct.pack(f"<Q{len(entries)}Q{len(entries)}I", surface, *entries, *entries.values())


def block_key(z: int, y: int, x: int) -> bytes:
    """A block in a stored key."""
    return struct.pack(">3I", z + 2**31, y + 2**31, x + 2**31)


def varint(n: int) -> bytes:
    """A protobuf number."""
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes([*out, n])


def field(number: int, value: int | bytes) -> bytes:
    """A protobuf field."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value
