"""The Run of _run.h, and how run arrays enter and leave a kernel."""

from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy
from libcpp.vector cimport vector
cimport numpy as cnp


cdef extern from "_run.h" namespace "dvidcore" nogil:
    cdef cppclass Run:
        int32_t x
        int32_t y
        int32_t z
        int32_t length
    cdef struct RunSpan:
        const Run* data
        size_t size
    const int64_t INT32_LOWEST
    const int64_t INT32_HIGHEST


cdef inline RunSpan run_span(const int32_t[:, ::1] runs) except *:
    """The rows of an int32 array (n, 4) as runs; the memoryview must outlive the answer."""
    cdef RunSpan span
    if runs.shape[1] != 4:
        raise ValueError(f"runs have 4 columns (x, y, z, length), these have {runs.shape[1]}")
    span.size = runs.shape[0]
    span.data = <const Run*> &runs[0, 0] if span.size else NULL
    return span


cdef inline object run_array(const Run* runs, size_t n):
    """A new int32 array (n, 4)."""
    cdef cnp.npy_intp[2] shape
    shape[0], shape[1] = n, 4
    out = cnp.PyArray_EMPTY(2, shape, cnp.NPY_INT32, 0)
    if n:
        memcpy(cnp.PyArray_DATA(out), runs, n * sizeof(Run))
    return out
