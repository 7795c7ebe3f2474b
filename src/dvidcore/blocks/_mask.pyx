"""Label blocks: the voxels of chosen labels."""

import numpy as np

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libcpp.vector cimport vector

from dvidcore.blocks._buffer cimport Buffer
from dvidcore.blocks._layout cimport SIDE, VOXELS, Block, Cursor, SubBlock
from dvidcore.blocks._select cimport select_entries, select_local

cdef extern from "../blocks/_expand.h" namespace "dvidcore" nogil:
    void expand_flags(const SubBlock &sub, const uint8_t *flag, uint8_t *out, int64_t sy, int64_t sz) except +

cdef extern from "../blocks/_count.h" namespace "dvidcore" nogil:
    void histogram(const SubBlock &sub, uint32_t *out) except +


def mask(object block not None, object labels not None, object out=None):
    """Where a coded block has one of the given labels: uint8 (z, y, x), 1 there and 0 elsewhere.

    `labels` is uint64 (n,), in any order. The mask is written to `out` if it is given: a writable uint8 array of the
    block's shape with contiguous rows and any z and y strides. Sub-blocks of which all labels or none are chosen are
    not unpacked, so their voxel values are not checked.

    Raises ValueError for a corrupt block or an `out` that does not fit. O(voxels + palette * log n) for ascending
    labels, else O(voxels + n).
    """
    cdef Buffer source, wanted, target
    cdef Block parsed
    cdef Cursor cursor
    cdef SubBlock sub
    cdef vector[uint8_t] entries
    cdef uint8_t[512] local
    cdef uint32_t chosen
    cdef uint8_t *voxels
    cdef int64_t sy, sz, z, y, x
    source.bytes(block)
    parsed.parse(source.data(), source.size())
    wanted.labels(np.ascontiguousarray(labels))
    shape = (SIDE * <int> parsed.gz, SIDE * <int> parsed.gy, SIDE * <int> parsed.gx)
    if out is None:
        out = np.empty(shape, np.uint8)
    target.mask(out)
    if (target.shape(0), target.shape(1), target.shape(2)) != shape:
        raise ValueError(f"out has the shape {(target.shape(0), target.shape(1), target.shape(2))}, not {shape}")
    sz, sy, voxels = target.stride(0), target.stride(1), target.data()
    with nogil:
        select_entries(parsed, <const uint64_t *> wanted.data(), wanted.shape(0), entries)
        cursor = Cursor(parsed)
        for z in range(parsed.gz):
            for y in range(parsed.gy):
                for x in range(parsed.gx):
                    cursor.next(sub)
                    chosen = select_local(parsed, sub, entries, local)
                    if chosen == 0 or chosen == sub.labels:
                        sub.bits = 0
                    expand_flags(sub, local, voxels + SIDE * (z * sz + y * sy + x), sy, sz)
    return out


def count_in(object block not None, object labels not None):
    """How many voxels of a coded block have one of the given labels.

    `labels` is uint64 (n,), in any order and with repeats allowed. Sub-blocks of which all labels or none are chosen
    are not unpacked. Raises ValueError for a corrupt block. O(voxels + palette * log n) for ascending labels, else
    O(voxels + n).
    """
    cdef Buffer source, wanted
    cdef Block parsed
    cdef Cursor cursor
    cdef SubBlock sub
    cdef vector[uint8_t] entries
    cdef uint8_t[512] local
    cdef uint32_t[512] times
    cdef uint32_t chosen, i
    cdef uint64_t total = 0
    source.bytes(block)
    parsed.parse(source.data(), source.size())
    wanted.labels(np.ascontiguousarray(labels))
    with nogil:
        if select_entries(parsed, <const uint64_t *> wanted.data(), wanted.shape(0), entries):
            cursor = Cursor(parsed)
            while cursor.next(sub):
                chosen = select_local(parsed, sub, entries, local)
                if chosen == 0:
                    continue
                if sub.bits == 0 or chosen == sub.labels:
                    total += VOXELS
                    continue
                histogram(sub, times)
                for i in range(sub.labels):
                    if local[i]:
                        total += times[i]
    return total
