"""Blocks of plain voxels: between stored blocks and volumes of any voxel type."""

import numpy as np

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t
from libcpp cimport bool
from libcpp.vector cimport vector

from dvidcore.blocks._buffer cimport Buffer
from dvidcore.blocks._points cimport triple

cdef extern from "../blocks/_copy.h" namespace "dvidcore" nogil:
    cdef cppclass Corner:
        uint8_t *data
        int64_t sz, sy

    void copy_rows(const Corner &source, const Corner &target, int64_t nz, int64_t ny, size_t row)
    bool overlap(
        int64_t at, int64_t size, int64_t origin, int64_t bound, int64_t *start, int64_t *first, int64_t *last
    )


cdef int64_t voxel_bytes(Buffer &array, object source, bool writable) except -1:
    """Acquires an array (z, y, x) or (z, y, x, c) whose rows are contiguous, and answers the bytes of a voxel."""
    cdef int64_t size
    array.array(source, writable)
    if array.ndim() not in (3, 4) or array.itemsize() not in (1, 2, 4, 8):
        raise ValueError("an array (z, y, x) or (z, y, x, channels) of items of 1, 2, 4 or 8 bytes is required")
    size = array.itemsize()
    if array.ndim() == 4:
        if array.shape(3) > 1 and array.stride(3) != size:
            raise ValueError("the channels of a voxel must be contiguous")
        size *= array.shape(3)
    if array.shape(2) > 1 and array.stride(2) != size:
        raise ValueError("the voxels of a row (x) must be contiguous")
    if size == 0:
        raise ValueError("an array without channels")
    return size


cdef int64_t block_bytes(tuple block_shape, int64_t voxel) except -1:
    if min(block_shape) < 1:
        raise ValueError(f"a block of {block_shape} voxels (z, y, x)")
    size = block_shape[0] * block_shape[1] * block_shape[2] * voxel
    if size > 1 << 40:
        raise ValueError(f"a block of {block_shape} voxels (z, y, x) is too large")
    return size


cdef inline Corner corner(const Buffer &array, int64_t z, int64_t y, int64_t x, int64_t voxel) noexcept nogil:
    cdef Corner at
    at.sz, at.sy = array.stride(0), array.stride(1)
    at.data = array.data() + z * at.sz + y * at.sy + x * voxel
    return at


def copy_box(object src not None, object src_start, object dst not None, object dst_start, object size):
    """Copies the box of `size` voxels at `src_start` of `src` to `dst_start` of `dst`; all (z, y, x).

    Both are arrays (z, y, x) or (z, y, x, channels) with contiguous rows and voxels of the same size in bytes (items of
    1, 2, 4 or 8 bytes; their types are not compared). Raises ValueError if a box is not within its array. O(bytes).
    """
    cdef Buffer source, target
    cdef int64_t voxel, nz, ny, nx, z, y, x, tz, ty, tx
    voxel = voxel_bytes(source, src, False)
    if voxel_bytes(target, dst, True) != voxel:
        raise ValueError("the voxels of src and dst differ in size")
    start, stop, extent = triple(src_start, "src_start"), triple(dst_start, "dst_start"), triple(size, "size")
    for axis in range(3):
        if extent[axis] < 0:
            raise ValueError(f"a box of {extent} voxels (z, y, x)")
        if start[axis] < 0 or start[axis] + extent[axis] > source.shape(axis):
            raise ValueError(f"the box of {extent} voxels at {start} is not within src")
        if stop[axis] < 0 or stop[axis] + extent[axis] > target.shape(axis):
            raise ValueError(f"the box of {extent} voxels at {stop} is not within dst")
    nz, ny, nx = extent
    if nz == 0 or ny == 0 or nx == 0:
        return
    z, y, x = start
    tz, ty, tx = stop
    with nogil:
        copy_rows(corner(source, z, y, x, voxel), corner(target, tz, ty, tx, voxel), nz, ny, nx * voxel)


def gather(object out not None, object origin, object block_shape, object coords not None, object blocks not None):
    """Copies into a volume what it shares with each of many blocks of plain voxels.

    `out` is a writable array (z, y, x) or (z, y, x, channels) of items of 1, 2, 4 or 8 bytes with contiguous rows, and
    `origin` the voxel (z, y, x) of its first corner. Block i of `block_shape` voxels (z, y, x) lies at the block
    coordinates ``coords[i]`` (int32 or int64 (n, 3), z, y, x): its first voxel is ``coords[i] * block_shape``. Blocks
    beside the volume are ignored, and voxels that no block covers are left alone.

    Raises ValueError, before anything is written, if a block has not exactly the bytes of `block_shape`. O(bytes).
    """
    cdef Buffer target
    cdef vector[Buffer] sources
    cdef vector[const uint8_t *] data
    cdef int64_t voxel, size, i, n, oz, oy, ox, bz, by, bx, nz, ny, nx
    cdef int64_t[3] start, first, last
    cdef Corner source
    voxel = voxel_bytes(target, out, True)
    extent = triple(block_shape, "block_shape")
    size = block_bytes(extent, voxel)
    where = np.asarray(coords)
    if where.ndim != 2 or where.shape[1] != 3 or where.dtype not in (np.int32, np.int64):
        raise ValueError(f"coords must be int32 or int64 (n, 3), not {where.dtype} {where.shape}")
    cdef const int64_t[:, ::1] at = np.ascontiguousarray(where, np.int64)
    n = at.shape[0]
    if len(blocks) != n:
        raise ValueError(f"{len(blocks)} blocks for {n} coordinates")
    sources = vector[Buffer](n)
    data.resize(n)
    for i in range(n):
        sources[i].bytes(blocks[i])
        if sources[i].size() != size:
            raise ValueError(f"block {i} has {sources[i].size()} bytes, not {size}")
        data[i] = sources[i].data()
    oz, oy, ox = triple(origin, "origin")
    bz, by, bx = extent
    nz, ny, nx = target.shape(0), target.shape(1), target.shape(2)
    source.sz, source.sy = by * bx * voxel, bx * voxel
    with nogil:
        for i in range(n):
            if not (
                overlap(at[i, 0], bz, oz, nz, &start[0], &first[0], &last[0])
                and overlap(at[i, 1], by, oy, ny, &start[1], &first[1], &last[1])
                and overlap(at[i, 2], bx, ox, nx, &start[2], &first[2], &last[2])
            ):
                continue
            source.data = <uint8_t *> data[i] + first[0] * source.sz + first[1] * source.sy + first[2] * voxel
            copy_rows(
                source,
                corner(target, start[0] + first[0], start[1] + first[1], start[2] + first[2], voxel),
                last[0] - first[0],
                last[1] - first[1],
                (last[2] - first[2]) * voxel,
            )


def scatter(object volume not None, object origin, object block_shape, object coord, object out=None):
    """The block of plain voxels at block coordinates `coord` (z, y, x), cut from a volume: the inverse of `gather`.

    `volume`, `origin` and `block_shape` are as in `gather`. Answers bytes, or fills and answers `out`, any writable
    contiguous buffer of exactly that size. Raises ValueError if the block is not within the volume. O(bytes).
    """
    cdef Buffer source, target
    cdef Corner to
    cdef int64_t voxel, size, z, y, x, nz, ny, nx
    voxel = voxel_bytes(source, volume, False)
    extent = triple(block_shape, "block_shape")
    size = block_bytes(extent, voxel)
    corners = triple(origin, "origin")
    at = triple(coord, "coord")
    start = tuple(at[axis] * extent[axis] - corners[axis] for axis in range(3))
    for axis in range(3):
        if start[axis] < 0 or start[axis] + extent[axis] > source.shape(axis):
            raise ValueError(f"block {at} (z, y, x) is not within the volume")
    if out is None:
        out = PyBytes_FromStringAndSize(NULL, size)
        to.data = <uint8_t *> PyBytes_AS_STRING(out)
    else:
        target.writable_bytes(out)
        if target.size() != size:
            raise ValueError(f"out has {target.size()} bytes, not {size}")
        to.data = target.data()
    z, y, x = start
    nz, ny, nx = extent
    to.sz, to.sy = ny * nx * voxel, nx * voxel
    with nogil:
        copy_rows(corner(source, z, y, x, voxel), to, nz, ny, nx * voxel)
    return out
