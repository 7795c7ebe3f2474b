"""Where some supervoxels, or some blocks, are in the index of a body: in columns as ``unpack_rows`` answers them."""

from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy
from libcpp cimport bool as cbool
from libcpp.utility cimport pair
from libcpp.vector cimport vector

import numpy as np

cdef extern from "_hash.h" namespace "dvidcore" nogil:
    cdef cppclass LabelSet:
        LabelSet(const uint64_t* labels, size_t n) except +
        cbool contains(uint64_t label)

cdef extern from "_columns.h" namespace "dvidcore" nogil:
    cdef cppclass LabelTotals:
        LabelTotals() except +
        void add(uint64_t label, uint64_t count) except +
        vector[pair[uint64_t, uint64_t]] sorted() except +


cdef inline cbool _same(const int32_t[:, ::1] coords, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    return coords[i, 0] == coords[j, 0] and coords[i, 1] == coords[j, 1] and coords[i, 2] == coords[j, 2]


cdef inline cbool _before(const int32_t[:, ::1] coords, Py_ssize_t i, const int32_t[:, ::1] others,
                          Py_ssize_t j) noexcept nogil:
    if coords[i, 0] != others[j, 0]:
        return coords[i, 0] < others[j, 0]
    if coords[i, 1] != others[j, 1]:
        return coords[i, 1] < others[j, 1]
    return coords[i, 2] < others[j, 2]


cdef _array(vector[int64_t]& numbers):
    out = np.empty(numbers.size(), np.int64)
    cdef int64_t[::1] to = out
    if numbers.size():
        memcpy(&to[0], numbers.data(), 8 * numbers.size())
    return out


def divide(const int32_t[:, ::1] coords, const uint64_t[::1] supervoxels, const uint64_t[::1] asked):
    cdef Py_ssize_t n = supervoxels.shape[0], first = 0, i, j
    cdef vector[int64_t] leaving, staying
    cdef LabelSet* wanted
    cdef cbool hit = False
    if coords.shape[0] != n or coords.shape[1] != 3:
        raise ValueError(f"{n} supervoxels, but coordinates {coords.shape[0]} x {coords.shape[1]}")
    if asked.shape[0] and n:
        with nogil:
            wanted = new LabelSet(&asked[0], asked.shape[0])
            try:
                for i in range(n + 1):
                    if i == n or not _same(coords, i, first):
                        if hit:
                            for j in range(first, i):
                                if wanted.contains(supervoxels[j]):
                                    leaving.push_back(j)
                                else:
                                    staying.push_back(j)
                        first = i
                        hit = False
                    if i < n and not hit:
                        hit = wanted.contains(supervoxels[i])
            finally:
                del wanted
    return _array(leaving), _array(staying)


def find_blocks(const int32_t[:, ::1] coords, const int32_t[:, ::1] blocks):
    cdef Py_ssize_t n = coords.shape[0], m = blocks.shape[0], k, low, high, middle
    if coords.shape[1] != 3 or blocks.shape[1] != 3:
        raise ValueError("coordinates must have three columns")
    out = np.empty((m, 2), np.int64)
    cdef int64_t[:, ::1] to = out
    with nogil:
        for k in range(m):
            low, high = 0, n
            while low < high:
                middle = (low + high) // 2
                if _before(coords, middle, blocks, k):
                    low = middle + 1
                else:
                    high = middle
            to[k, 0] = low
            high = n
            while low < high:
                middle = (low + high) // 2
                if _before(blocks, k, coords, middle):
                    high = middle
                else:
                    low = middle + 1
            to[k, 1] = low
    return out


def totals(const uint64_t[::1] labels, const uint32_t[::1] counts):
    cdef Py_ssize_t n = labels.shape[0], i
    cdef LabelTotals sums
    cdef vector[pair[uint64_t, uint64_t]] found
    if counts.shape[0] != n:
        raise ValueError(f"{n} labels, but {counts.shape[0]} counts")
    with nogil:
        for i in range(n):
            sums.add(labels[i], counts[i])
        found = sums.sorted()
    out, size = np.empty(found.size(), np.uint64), np.empty(found.size(), np.uint64)
    cdef uint64_t[::1] to = out, to_size = size
    for i in range(<Py_ssize_t>found.size()):
        to[i] = found[i].first
        to_size[i] = found[i].second
    return out, size
