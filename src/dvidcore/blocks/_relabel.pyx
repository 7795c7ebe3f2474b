"""Label blocks: giving some voxels of a label another one."""

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libcpp cimport bool
from libcpp.vector cimport vector

from dvidcore.blocks._buffer cimport Buffer
from dvidcore.blocks._encode cimport Encoder, finish, thread_encoder
from dvidcore.blocks._layout cimport SIDE, VOXELS, Block, Cursor, SubBlock, load64

cdef extern from "../blocks/_expand.h" namespace "dvidcore" nogil:
    void expand(const Block &block, const SubBlock &sub, uint8_t *out, int64_t sy, int64_t sz) except +


cdef int64_t mark(const Block &block, const int32_t[:, ::1] runs, vector[uint8_t] &marked) except -2 nogil:
    """Sets a bit for every voxel of the runs: a byte for each row of 8, 64 bytes for each sub-block.

    Answers the first run that is not within the block, or -1.
    """
    cdef int64_t i, x, y, z, first, last, row
    marked.assign(<size_t> block.subblocks * 64, 0)
    for i in range(runs.shape[0]):
        first, y, z = runs[i, 0], runs[i, 1], runs[i, 2]
        last = first + runs[i, 3]
        if runs[i, 3] < 1 or first < 0 or y < 0 or z < 0:
            return i
        if last > SIDE * block.gx or y >= SIDE * block.gy or z >= SIDE * block.gz:
            return i
        row = ((z >> 3) * block.gy + (y >> 3)) * block.gx
        for x in range(first >> 3, (last + 7) >> 3):
            marked[(row + x) * 64 + (z & 7) * 8 + (y & 7)] |= (
                (0xFF << max(first - 8 * x, 0)) & (0xFF >> max(8 * x + 8 - last, 0))
            )
    return -1


cdef bool any_marked(const uint8_t *rows) noexcept nogil:
    cdef uint64_t bits = 0
    cdef int i
    for i in range(8):
        bits |= load64(rows + 8 * i)
    return bits != 0


cdef bool lists(const Block &block, const SubBlock &sub, uint64_t label) noexcept nogil:
    cdef uint32_t i
    if sub.labels == 0:
        return label == 0
    for i in range(sub.labels):
        if block.label(sub.position(i)) == label:
            return True
    return False


cdef int64_t relabel(
    const Block &block, const uint8_t *marked, uint64_t old, uint64_t new, Encoder *encoder
) except -1 nogil:
    """Writes the block with its marked voxels of `old` as `new`, and answers how many there were."""
    cdef Cursor cursor = Cursor(block)
    cdef SubBlock sub
    cdef uint64_t[512] voxels
    cdef int64_t total = 0, changed
    cdef int i
    while cursor.next(sub):
        changed = 0
        if any_marked(marked) and lists(block, sub, old):
            expand(block, sub, <uint8_t *> voxels, 64, 512)
            for i in range(VOXELS):
                if voxels[i] == old and (marked[i >> 3] >> (i & 7)) & 1:
                    voxels[i] = new
                    changed += 1
        if changed:
            encoder.add(<uint8_t *> voxels, 64, 512)
        else:
            encoder.add_coded(block, sub)
        total += changed
        marked += 64
    return total


def relabel_runs(object block not None, object runs not None, old, new):
    """The coded block in which the voxels of label `old` that lie in the runs have the label `new`, and their number.

    `runs` is int32 (n, 4), each row x, y, z, length in voxels of the block; order is free and runs may overlap. Only
    sub-blocks that change are coded anew, the others are copied. The palette lists what sub-blocks list, in their
    order: from a block as `encode` writes it comes one as `encode` writes it.

    Raises ValueError for a corrupt block, for runs of another type or shape, and for a run that is empty or not within
    the block. O(sub-blocks + runs + voxels of the sub-blocks touched).
    """
    cdef Buffer source
    cdef Block parsed
    cdef Encoder *encoder = &thread_encoder()
    cdef vector[uint8_t] marked
    cdef uint64_t before = old, after = new
    cdef int64_t outside, changed = 0
    source.bytes(block)
    parsed.parse(source.data(), source.size())
    where = np.asarray(runs)
    if where.ndim != 2 or where.shape[1] != 4 or where.dtype != np.int32:
        raise ValueError(f"runs must be int32 (n, 4), not {where.dtype} {where.shape}")
    cdef const int32_t[:, ::1] rows = np.ascontiguousarray(where)
    encoder.start(parsed.gx, parsed.gy, parsed.gz)
    with nogil:
        outside = mark(parsed, rows, marked)
        if outside < 0 and before != after:
            changed = relabel(parsed, marked.data(), before, after, encoder)
    if outside >= 0:
        raise ValueError(f"run {tuple(where[outside].tolist())} (x, y, z, length) is not within the block")
    if changed == 0:
        return bytes(block), 0
    return finish(encoder), changed
