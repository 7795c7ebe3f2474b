"""Runs of a volume cut into the pieces that lie in given blocks."""

from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.string cimport memcpy
from libcpp.vector cimport vector
cimport numpy as cnp

import numpy as np

from ._run cimport Run, RunSpan, run_span

cnp.import_array()

cdef extern from "_cut.h" namespace "dvidcore" nogil:
    cdef cppclass BlockAt:
        int32_t z
        int32_t y
        int32_t x

    cdef cppclass BlockCutter:
        vector[int64_t] starts
        int64_t outside
        uint64_t voxels_outside
        BlockCutter(const BlockAt* blocks, size_t n, const int64_t* shape) except +
        void measure(const Run* runs, size_t n) except +
        void cut(const Run* runs, size_t n, Run* out) except +


cdef enum:
    LARGEST_SIDE = 1 << 20


def cut(runs, coords, block_shape):
    cdef const int32_t[:, ::1] rows = np.ascontiguousarray(runs), at = np.ascontiguousarray(coords)
    cdef RunSpan given = run_span(rows)
    cdef int64_t[3] shape
    cdef BlockCutter* cutter
    cdef Run* out
    if at.shape[1] != 3:
        raise ValueError(f"block coordinates have 3 columns (z, y, x), these have {at.shape[1]}")
    z, y, x = block_shape
    if min(z, y, x) < 1 or max(z, y, x) > LARGEST_SIDE:
        raise ValueError(f"block_shape {tuple(block_shape)} (z, y, x): sides from 1 to {LARGEST_SIDE} are allowed")
    shape[0], shape[1], shape[2] = z, y, x
    cdef size_t n = at.shape[0]
    cutter = new BlockCutter(<const BlockAt*> &at[0, 0] if n else NULL, n, shape)
    try:
        with nogil:
            cutter.measure(given.data, given.size)
        pieces = np.empty((cutter.starts[n], 4), np.int32)
        out = <Run*> cnp.PyArray_DATA(pieces)
        with nogil:
            cutter.cut(given.data, given.size, out)
        starts = np.empty(n + 1, np.int64)
        memcpy(cnp.PyArray_DATA(starts), cutter.starts.data(), (n + 1) * sizeof(int64_t))
        return pieces, starts, cutter.outside, cutter.voxels_outside
    finally:
        del cutter
