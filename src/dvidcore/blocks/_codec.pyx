"""Label blocks: between voxels and coded form.

The format is that of DVID's compressed label block (see ``docs/kernels.md``).
"""

import numpy as np

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy
from libcpp.vector cimport vector

from dvidcore.blocks._buffer cimport Buffer
from dvidcore.blocks._encode cimport Encoder, finish, thread_encoder
from dvidcore.blocks._layout cimport SIDE, Block, Cursor, SubBlock, check_packed_values, index_subblocks
from dvidcore.blocks._points cimport triple

cdef extern from "../blocks/_expand.h" namespace "dvidcore" nogil:
    void expand(const Block &block, const SubBlock &sub, uint8_t *out, int64_t sy, int64_t sz) except +


cdef tuple shape_of(const Block &block):
    return (SIDE * <int> block.gz, SIDE * <int> block.gy, SIDE * <int> block.gx)


def shape(object block not None):
    """The shape (z, y, x) of a coded block, from its header.

    Raises ValueError if the block's header or lengths are corrupt. O(sub-blocks).
    """
    cdef Buffer source
    cdef Block parsed
    source.bytes(block)
    parsed.parse(source.data(), source.size())
    return shape_of(parsed)


def check(object block not None, shape=None):
    """Checks all of a coded block: header, lengths, palette positions and every voxel value.

    Raises ValueError, which says what is wrong, also if `shape` (z, y, x) is given and the block has another.
    O(voxels), a third of the time of `decode`.
    """
    cdef Buffer source
    cdef Block parsed
    cdef Cursor cursor
    cdef SubBlock sub
    source.bytes(block)
    parsed.parse(source.data(), source.size())
    if shape is not None and triple(shape, "shape") != shape_of(parsed):
        raise ValueError(f"a label block of {shape_of(parsed)} voxels (z, y, x) where {tuple(shape)} are expected")
    with nogil:
        cursor = Cursor(parsed)
        while cursor.next(sub):
            check_packed_values(sub)


def encode(object volume not None):
    """The coded block of a volume of labels.

    `volume` is uint64 (z, y, x), each side a multiple of 8 from 8 to 1024. Rows must be contiguous, z and y may have
    any stride, so that a box of a larger volume is encoded where it lies. Read-only arrays will do.
    The palette lists labels in order of first appearance, by sub-block and then by voxel: the encoding of a volume is
    unique. O(voxels) where sub-blocks have few labels.

    Raises ValueError for another shape, type or stride.
    """
    cdef Buffer source
    cdef Encoder *encoder = &thread_encoder()
    cdef int64_t sy, sz, z, y, x, nz, ny, nx
    cdef const uint8_t *voxels
    source.volume(volume, False)
    nz, ny, nx = source.shape(0), source.shape(1), source.shape(2)
    if nz % SIDE or ny % SIDE or nx % SIDE:
        raise ValueError(f"a label block of {(nz, ny, nx)} voxels (z, y, x): each side must be a multiple of {SIDE}")
    sz, sy, voxels = source.stride(0), source.stride(1), source.data()
    encoder.start(nx // SIDE, ny // SIDE, nz // SIDE)
    with nogil:
        for z in range(nz // SIDE):
            for y in range(ny // SIDE):
                for x in range(nx // SIDE):
                    encoder.add(voxels + SIDE * (z * sz + y * sy + 8 * x), sy, sz)
    return finish(encoder)


cdef object output(Buffer &target, object out, tuple shape):
    """The array to fill: `out` if it is given and fits, else a new one."""
    if out is None:
        out = np.empty(shape, np.uint64)
    target.volume(out, True)
    if (target.shape(0), target.shape(1), target.shape(2)) != shape:
        raise ValueError(f"out has the shape {(target.shape(0), target.shape(1), target.shape(2))}, not {shape}")
    return out


def decode(object block not None, out=None):
    """The labels of a coded block, uint64 (z, y, x).

    They are written to `out` if it is given: a writable uint64 array of the block's shape with contiguous rows and any
    z and y strides. Reusing one is several times faster than a new array for each block.

    Raises ValueError for a corrupt block (`out` may then be partly written) or an `out` that does not fit. O(voxels).
    """
    cdef Buffer source, target
    cdef Block parsed
    cdef Cursor cursor
    cdef SubBlock sub
    cdef int64_t sy, sz, z, y, x
    cdef uint8_t *voxels
    source.bytes(block)
    parsed.parse(source.data(), source.size())
    out = output(target, out, shape_of(parsed))
    sz, sy, voxels = target.stride(0), target.stride(1), target.data()
    with nogil:
        cursor = Cursor(parsed)
        for z in range(parsed.gz):
            for y in range(parsed.gy):
                for x in range(parsed.gx):
                    cursor.next(sub)
                    expand(parsed, sub, voxels + SIDE * (z * sz + y * sy + 8 * x), sy, sz)
    return out


def decode_box(object block not None, start, stop, out=None):
    """The labels of a box of a coded block, uint64 (z, y, x), from `start` up to but not including `stop`.

    `start` and `stop` are voxels (z, y, x) within the block; `out` is as in `decode`, of the shape of the box. Only
    sub-blocks that the box touches are decoded. O(all sub-blocks + voxels of those touched).

    Raises ValueError as `decode` does, and for a box that is not within the block. Values of voxels in other
    sub-blocks are not checked.
    """
    cdef Buffer source, target
    cdef Block parsed
    cdef vector[SubBlock] subs
    cdef uint64_t[512] voxels
    cdef int64_t z0, y0, x0, z1, y1, x1, z, y, x, sz, sy, az, ay, ax, bz, by, bx, i, j
    cdef uint8_t *data
    cdef uint8_t *corner
    source.bytes(block)
    parsed.parse(source.data(), source.size())
    first, last, whole = triple(start, "start"), triple(stop, "stop"), shape_of(parsed)
    for axis in range(3):
        if not 0 <= first[axis] <= last[axis] <= whole[axis]:
            raise ValueError(f"the box from {first} to {last} (z, y, x) is not within a block of {whole} voxels")
    z0, y0, x0 = first
    z1, y1, x1 = last
    out = output(target, out, (z1 - z0, y1 - y0, x1 - x0))
    if z0 == z1 or y0 == y1 or x0 == x1:
        return out
    sz, sy, data = target.stride(0), target.stride(1), target.data()
    with nogil:
        index_subblocks(parsed, subs)
        for z in range(z0 // SIDE, (z1 + SIDE - 1) // SIDE):
            for y in range(y0 // SIDE, (y1 + SIDE - 1) // SIDE):
                for x in range(x0 // SIDE, (x1 + SIDE - 1) // SIDE):
                    # The part of this sub-block that lies in the box, in its own voxels.
                    az, bz = max(z0 - SIDE * z, 0), min(z1 - SIDE * z, <int64_t> SIDE)
                    ay, by = max(y0 - SIDE * y, 0), min(y1 - SIDE * y, <int64_t> SIDE)
                    ax, bx = max(x0 - SIDE * x, 0), min(x1 - SIDE * x, <int64_t> SIDE)
                    corner = data + (SIDE * z + az - z0) * sz + (SIDE * y + ay - y0) * sy + 8 * (SIDE * x + ax - x0)
                    if bz - az == SIDE and by - ay == SIDE and bx - ax == SIDE:
                        expand(parsed, subs[(z * parsed.gy + y) * parsed.gx + x], corner, sy, sz)
                        continue
                    expand(parsed, subs[(z * parsed.gy + y) * parsed.gx + x], <uint8_t *> voxels, 64, 512)
                    for i in range(az, bz):
                        for j in range(ay, by):
                            memcpy(corner + (i - az) * sz + (j - ay) * sy, voxels + 64 * i + 8 * j + ax, 8 * (bx - ax))
    return out
