"""Set operations on sparse volumes given as runs (int32 (n, 4): x, y, z, length)."""

from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libcpp.vector cimport vector
cimport numpy as cnp

from operator import index

import numpy as np

from ._run cimport INT32_HIGHEST, INT32_LOWEST, Run, RunSpan, run_array, run_span

cnp.import_array()


cdef extern from "_rle.h" namespace "dvidcore" nogil:
    RunSpan canonical_runs(const Run*, size_t, vector[Run]&) except +
    void intersect_runs(RunSpan, RunSpan, vector[Run]&) except +
    void subtract_runs(RunSpan, RunSpan, vector[Run]&) except +
    void clip_runs(const Run*, size_t, const int64_t*, const int64_t*, vector[Run]&) except +
    uint64_t count_voxels(const Run*, size_t) except +
    void paint_runs(const Run*, size_t, const int64_t*, const int64_t*, uint8_t*) except +
    void mask_runs(const uint8_t*, const int64_t*, const int64_t*, const int64_t*, vector[Run]&) except +


def join(runs):
    cdef const int32_t[:, ::1] rows = np.ascontiguousarray(runs)
    cdef RunSpan given = run_span(rows), joined
    cdef vector[Run] own
    with nogil:
        joined = canonical_runs(given.data, given.size, own)
    return run_array(joined.data, joined.size)


def intersect(a, b):
    cdef const int32_t[:, ::1] a_rows = np.ascontiguousarray(a), b_rows = np.ascontiguousarray(b)
    cdef RunSpan p = run_span(a_rows), q = run_span(b_rows)
    cdef vector[Run] own_p, own_q, out
    with nogil:
        p = canonical_runs(p.data, p.size, own_p)
        q = canonical_runs(q.data, q.size, own_q)
        intersect_runs(p, q, out)
    return run_array(out.data(), out.size())


def subtract(a, b):
    cdef const int32_t[:, ::1] a_rows = np.ascontiguousarray(a), b_rows = np.ascontiguousarray(b)
    cdef RunSpan p = run_span(a_rows), q = run_span(b_rows)
    cdef vector[Run] own_p, own_q, out
    with nogil:
        p = canonical_runs(p.data, p.size, own_p)
        q = canonical_runs(q.data, q.size, own_q)
        subtract_runs(p, q, out)
    return run_array(out.data(), out.size())


cdef int _read_bounds(object bounds, int64_t unbounded, int64_t* out) except -1:
    if bounds is None:
        bounds = (None, None, None)
    x, y, z = bounds
    for i, bound in enumerate((x, y, z)):
        # One beyond int32 keeps the meaning of a bound outside it: everything, or nothing.
        out[i] = unbounded if bound is None else max(INT32_LOWEST - 1, min(INT32_HIGHEST + 1, index(bound)))
    return 0


def clip(runs, minimum=None, maximum=None):
    cdef const int32_t[:, ::1] rows = np.ascontiguousarray(runs)
    cdef RunSpan given = run_span(rows)
    cdef int64_t[3] low, high
    cdef vector[Run] out
    _read_bounds(minimum, INT32_LOWEST, low)
    _read_bounds(maximum, INT32_HIGHEST, high)
    with nogil:
        clip_runs(given.data, given.size, low, high, out)
    return run_array(out.data(), out.size())


def voxels(runs):
    cdef const int32_t[:, ::1] rows = np.ascontiguousarray(runs)
    cdef RunSpan given = run_span(rows)
    cdef uint64_t total
    with nogil:
        total = count_voxels(given.data, given.size)
    return total


cdef int _read_start(object start, int64_t* out) except -1:
    z, y, x = start
    for i, first in enumerate((z, y, x)):
        if not INT32_LOWEST <= first <= INT32_HIGHEST:
            raise ValueError(f"start {tuple(start)} is not within int32")
        out[i] = first
    return 0


def to_mask(runs, start, shape):
    cdef const int32_t[:, ::1] rows = np.ascontiguousarray(runs)
    cdef RunSpan given = run_span(rows)
    cdef int64_t[3] first, sides
    cdef uint8_t* data
    _read_start(start, first)
    z, y, x = shape
    mask = np.zeros((z, y, x), np.uint8)
    sides[0], sides[1], sides[2] = z, y, x
    data = <uint8_t*> cnp.PyArray_DATA(mask)
    with nogil:
        paint_runs(given.data, given.size, first, sides, data)
    return mask


def from_mask(mask, start=(0, 0, 0)):
    cdef int64_t[3] first, sides, strides
    cdef vector[Run] out
    cdef const uint8_t* data
    cdef int i
    mask = np.asarray(mask)
    if mask.ndim != 3 or mask.dtype not in (np.uint8, np.bool_):
        raise ValueError(f"a mask is 3-d and of uint8 or bool, this is {mask.ndim}-d and of {mask.dtype}")
    if mask.shape[2] > 1 and mask.strides[2] != 1:
        mask = np.ascontiguousarray(mask)
    _read_start(start, first)
    for i in range(3):
        sides[i] = mask.shape[i]
        strides[i] = mask.strides[i]
        if first[i] + sides[i] - 1 > INT32_HIGHEST:
            raise ValueError(f"the mask of shape {mask.shape} at {tuple(start)} reaches beyond int32")
    data = <const uint8_t*> cnp.PyArray_DATA(mask)
    with nogil:
        mask_runs(data, strides, sides, first, out)
    return run_array(out.data(), out.size())


def coarse(coords):
    cdef const int32_t[:, :] at = coords
    cdef size_t n = at.shape[0], i
    cdef vector[Run] blocks, own
    cdef RunSpan joined
    if at.shape[1] != 3:
        raise ValueError(f"block coordinates have 3 columns (z, y, x), these have {at.shape[1]}")
    with nogil:
        blocks.resize(n)
        for i in range(n):
            blocks[i].x = at[i, 2]
            blocks[i].y = at[i, 1]
            blocks[i].z = at[i, 0]
            blocks[i].length = 1
        joined = canonical_runs(blocks.data(), n, own)
    return run_array(joined.data, joined.size)
