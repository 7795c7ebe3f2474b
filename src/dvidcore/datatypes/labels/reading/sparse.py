"""Sparse volumes: the voxels of a body or a supervoxel as runs along x or as masks of blocks.

The label index says which blocks to read. A block is never turned into voxels: a kernel goes from its coded form and
the body's supervoxels to runs or masks, some rows of blocks at a time.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import lz4.block
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from dvidcore import codecs, labels
from dvidcore.datatypes.call import Buffer, Reply
from dvidcore.datatypes.labels.index import Columns
from dvidcore.datatypes.labels.reading.reader import BlockReader
from dvidcore.errors import BadRequest
from dvidcore.geometry import INT32_MAX, INT32_MIN
from dvidcore.pool import ordered_map

if TYPE_CHECKING:
    from dvidcore.datatypes.call import Call
    from dvidcore.datatypes.labels.engine import LabelEngine

COLLECTED = 256 << 20
"""Runs of a body up to this many bytes wait in memory until their number is known, more of them in a file."""
_PIECE = 1 << 20
_TOGETHER = 16
"""Blocks that one task turns into masks."""
_SLAB = 512
"""Blocks of one z that are turned into runs at once; of more the runs need to be sorted again."""
_WINDOW = 4
_KEPT = 256
_GZIP_LEVEL = 1
_HEADER = struct.Struct("<4B2I")
_BINARY_HEADER = struct.Struct("<3IQ")
_POINT = struct.Struct("<3i")
_ALL_BACKGROUND = 0

Coords = NDArray[np.int32]
Runs = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Bounds:
    """Inclusive bounds in voxels of a scale, (x, y, z), each open where None."""

    low: tuple[int | None, int | None, int | None]
    high: tuple[int | None, int | None, int | None]

    def __bool__(self) -> bool:
        return any(v is not None for v in (*self.low, *self.high))

    def blocks(self, coords: Coords, shape: Sequence[int]) -> Coords:
        """Of block coordinates (n, 3) z, y, x those whose blocks meet the bounds."""
        if not self:
            return coords
        keep = np.ones(len(coords), bool)
        for axis, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            column, side = coords[:, 2 - axis], shape[2 - axis]
            if low is not None:
                keep &= column >= low // side
            if high is not None:
                keep &= column <= high // side
        return coords[keep]

    def clip(self, runs: Runs) -> Runs:
        """Runs cut to the bounds."""
        return labels.clip(runs, self.low, self.high)


def subject(data: LabelEngine, call: Call, label: int, supervoxels: bool) -> Columns | None:
    """The index of a body, or of the supervoxel of that id; None where there is none.

    BadRequest for a supervoxel that was split away.
    """
    if not supervoxels:
        return data.index.columns(call.view, label)
    body = data.mapping.at(call).body(label)
    if body == 0:
        raise BadRequest(f"supervoxel {label} was split and is no longer there")
    columns = data.index.columns(call.view, body)
    if columns is None:
        return None
    own = columns.of(label)
    return own if len(own.supervoxels) else None


def at_scale(coords: Coords, scale: int) -> Coords:
    """Block coordinates of scale 0 as those of a scale, each once, sorted by z, y, x."""
    if not scale or not len(coords):
        return coords
    coarser = coords >> np.int32(min(scale, 31))
    coarser = coarser[np.lexsort((coarser[:, 2], coarser[:, 1], coarser[:, 0]))]
    new = np.concatenate(([True], (coarser[1:] != coarser[:-1]).any(axis=1)))
    return coarser[new]


@dataclass(frozen=True, slots=True)
class SparseVolume:
    """A body's (or supervoxel's) voxels in the blocks of ``coords``, sorted; ``members`` are its supervoxels."""

    reader: BlockReader
    coords: Coords
    members: NDArray[np.uint64]
    bounds: Bounds
    exact: bool

    def __post_init__(self) -> None:
        """BadRequest where a block's voxels leave int32, which no format can say: stored they are, by block coordinates."""
        if not len(self.coords):
            return
        side = np.array(self.reader.shape, np.int64)
        low, high = self.coords.min(axis=0) * side, (self.coords.max(axis=0) + np.int64(1)) * side - 1
        if low.min() < INT32_MIN or high.max() > INT32_MAX:
            raise BadRequest(
                "the label has voxels beyond int32, which runs and masks cannot name; ask for bounds without them"
            )

    @property
    def keep(self) -> bool:
        """Whether the blocks may stay inflated; those of a large body would only drive out others."""
        return len(self.coords) <= _KEPT

    def slabs(self) -> Iterator[Runs]:
        """The runs (n, 4) x, y, z, length, sorted by z, y, x and maximal along x: those of each z of blocks at once."""
        waiting: list[Runs] = []
        at: int | None = None
        for z, runs in ordered_map(self._runs, self._pieces(), _WINDOW):
            if waiting and z != at:
                yield self._sorted(waiting)
                waiting = []
            at = z
            waiting.append(runs)
        if waiting:
            yield self._sorted(waiting)

    def any(self) -> bool:
        """Whether there is a voxel at all: at a coarser scale, or within bounds, the blocks of the index may have none."""
        return any(len(runs) for runs in self.slabs())

    def _pieces(self) -> Iterator[Coords]:
        """The coordinates by z; where that is a great many, in pieces of whole rows of blocks along x."""
        coords = self.coords
        slabs = np.flatnonzero(coords[1:, 0] != coords[:-1, 0]) + 1
        for slab in np.split(coords, slabs):
            if len(slab) <= _SLAB:
                yield slab
                continue
            rows = np.flatnonzero(slab[1:, 1] != slab[:-1, 1]) + 1
            start = 0
            for stop in (*rows.tolist(), len(slab)):
                if stop - start >= _SLAB or stop == len(slab):
                    yield slab[start:stop]
                    start = stop

    def _runs(self, coords: Coords) -> tuple[int, Runs]:
        at = coords.tolist()
        values = self.reader.get(at)
        there = [k for k, value in enumerate(values) if value is not None]
        coded = [self.reader.supervoxels(at[k], value, self.keep) for k in there if (value := values[k]) is not None]
        return int(coords[0, 0]), labels.runs_of_blocks(coded, coords[there], self.reader.shape, self.members)

    def _sorted(self, pieces: list[Runs]) -> Runs:
        runs = pieces[0]
        if len(pieces) > 1:
            runs = np.concatenate(pieces)
            runs = runs[np.lexsort((runs[:, 0], runs[:, 1], runs[:, 2]))]
        return self.bounds.clip(runs) if self.exact and self.bounds else runs

    def masks(self) -> Iterator[Buffer]:
        """The blocks of ``format=blocks``, without the header of the whole."""
        bz, by, bx = self.reader.shape

        def binary(coords: list[list[int]]) -> Buffer:
            out: list[Buffer] = []
            for (z, y, x), value in zip(coords, self.reader.get(coords), strict=True):
                if value is None:
                    continue
                mask = labels.binary_block(self.reader.supervoxels((z, y, x), value, self.keep), self.members)
                # At a coarser scale a block of the index may have lost the body's last voxel in the vote.
                if mask[0] != _ALL_BACKGROUND:
                    out += (_POINT.pack(x * bx, y * by, z * bz), mask)
            return b"".join(out)

        coords = self.coords.tolist()
        batches = [coords[k : k + _TOGETHER] for k in range(0, len(coords), _TOGETHER)]
        return ordered_map(binary, batches, _WINDOW)


# -- answers ---------------------------------------------------------------------------------------------------------


def answer(volume: SparseVolume, label: int, format: str, compression: str) -> Reply:
    """A sparse volume in a format: ``srles``, ``blocks``, and for any other word ``rles``."""
    if format == "srles":
        return _whole_or_pieces(slab.tobytes() for slab in volume.slabs())
    if format == "blocks":
        bz, by, bx = volume.reader.shape
        header = _BINARY_HEADER.pack(bx // 8, by // 8, bz // 8, label)
        return _whole_or_pieces(chain((header,), volume.masks()))
    return rles(volume.slabs(), compression)


def header(runs: int) -> bytes:
    """The 12 bytes before the runs of ``rles``: a binary sparse volume of 3 dimensions with runs along x."""
    return _HEADER.pack(0, 3, 0, 0, 0, runs)


def _whole_or_pieces(pieces: Iterator[Buffer]) -> Reply:
    """One buffer where the answer is small; a large one leaves in pieces, the first made before the answer starts."""
    ready: list[Buffer] = []
    size = 0
    for piece in pieces:
        ready.append(piece)
        size += len(piece)
        if size > _PIECE:
            return Reply(_grouped(chain(ready, pieces)))
    return Reply(b"".join(ready))


def _grouped(pieces: Iterator[Buffer]) -> Iterator[Buffer]:
    waiting: list[Buffer] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size > _PIECE:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


def rles(slabs: Iterator[Runs], compression: str) -> Reply:
    """The runs behind a header that says how many there are."""
    spool = tempfile.SpooledTemporaryFile(COLLECTED)  # noqa: SIM115  its pieces outlive this function
    for slab in slabs:
        spool.write(slab.tobytes())
    size = spool.tell()
    spool.seek(0)
    first = header(size // 16)
    if size <= COLLECTED or compression == "lz4":
        with spool:
            whole = first + spool.read()
        if compression == "gzip":
            return Reply(codecs.gzip(whole, _GZIP_LEVEL))
        if compression == "lz4":
            return Reply(_lz4(whole))
        return Reply(whole)

    def pieces() -> Iterator[Buffer]:
        with spool:
            yield first
            while piece := spool.read(_PIECE):
                yield piece

    if compression == "gzip":
        return Reply(_gzipped(pieces()))
    return Reply(pieces(), length=len(first) + size)


def _lz4(data: bytes) -> bytes:
    try:
        return bytes(lz4.block.compress(data, store_size=False))
    except (OverflowError, ValueError):
        raise BadRequest(f"compression: lz4 cannot hold {len(data)} bytes, ask for gzip or for bounds") from None


def _gzipped(pieces: Iterator[Buffer]) -> Iterator[Buffer]:
    packer = isal_zlib.compressobj(_GZIP_LEVEL, isal_zlib.DEFLATED, 31)
    for piece in pieces:
        if packed := packer.compress(piece):
            yield packed
    yield packer.flush()


# -- coarse volumes ---------------------------------------------------------------------------------------------------


def coarse(coords: Coords) -> bytes:
    """The spans of blocks of a body as ``rles``: header, then x, y, z, length in blocks."""
    runs = labels.coarse(coords)
    return header(len(runs)) + runs.tobytes()


def coarse_volumes(data: LabelEngine, call: Call, first: int, last: int, bounds: Bounds) -> Iterator[Buffer]:
    """For each body from ``first`` to ``last``, ascending: uint64 body, int32 number of spans, the spans."""
    for body, _ in data.index.records(call.view, first, last):
        columns = data.index.columns(call.view, body)
        if columns is not None:
            runs = labels.coarse(bounds.blocks(columns.blocks(), data.block))
            yield struct.pack("<Qi", body, len(runs)) + runs.tobytes()
