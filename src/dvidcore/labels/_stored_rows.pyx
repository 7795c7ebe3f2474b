"""The stored rows of a label index: one row for each (body, block).

The value of a row is, little-endian, ``uint64 surface_mutid``, then n uint64 supervoxels (ascending), then n uint32
voxel counts, n >= 1: 8 + 12 n bytes. Its key holds the block's z, y, x, each a big-endian uint32 with the sign bit
flipped. ``docs/storage-format.md`` says where.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy
from libcpp.algorithm cimport sort, unique
from libcpp.vector cimport vector

import numpy as np

cdef enum:
    HEAD = 8
    WIDTH = 12  # bytes of one supervoxel and its count


cdef Py_ssize_t _entries(Py_ssize_t size) except -1:
    """How many supervoxels a row of ``size`` bytes has."""
    if size < HEAD + WIDTH or (size - HEAD) % WIDTH:
        raise ValueError(f"an index row of {size} bytes")
    return (size - HEAD) // WIDTH


cdef bytes _row(uint64_t surface, const uint64_t* supervoxels, const uint32_t* counts, Py_ssize_t n):
    cdef bytes row = PyBytes_FromStringAndSize(NULL, HEAD + WIDTH * n)
    cdef char* at = PyBytes_AS_STRING(row)
    memcpy(at, &surface, 8)
    memcpy(at + HEAD, supervoxels, 8 * n)
    memcpy(at + HEAD + 8 * n, counts, 4 * n)
    return row


def pack_rows(const uint64_t[::1] supervoxels, const uint32_t[::1] counts, const int64_t[::1] starts,
              surface_mutid=0):
    """The rows of consecutive (body, block) groups: a list of bytes, one for each start.

    supervoxels uint64 (n,), ascending within a group; counts uint32 (n,); starts int64: where each group begins,
    ascending, the first 0; the last group ends at n; surface_mutid one of all groups, or uint64, one for each. Raises
    ValueError for lengths and starts that don't fit.
    """
    cdef Py_ssize_t n = supervoxels.shape[0], groups = starts.shape[0], i, first, stop
    cdef bint one = isinstance(surface_mutid, int)
    cdef uint64_t surface_of_all = surface_mutid if one else 0
    cdef const uint64_t[:] surface
    if not one:
        surface = np.broadcast_to(np.asarray(surface_mutid, np.uint64), groups)
    if counts.shape[0] != n:
        raise ValueError(f"{n} supervoxels, but {counts.shape[0]} counts")
    if (groups == 0) != (n == 0) or (groups and starts[0] != 0):
        raise ValueError("the first group must start at 0")
    rows = []
    for i in range(groups):
        first = starts[i]
        stop = starts[i + 1] if i + 1 < groups else n
        if not 0 <= first < stop <= n:
            raise ValueError(f"group {i} from {first} to {stop} of {n} rows")
        rows.append(_row(surface_of_all if one else surface[i], &supervoxels[first], &counts[first], stop - first))
    return rows


def row_voxels(row):
    """The voxels that a row counts; 0 for an empty one (a row that is not there)."""
    cdef Py_buffer view
    cdef uint64_t total = 0
    cdef uint32_t count
    cdef Py_ssize_t n, i
    if not len(row):
        return 0
    PyObject_GetBuffer(row, &view, PyBUF_SIMPLE)
    try:
        n = _entries(view.len)
        for i in range(n):
            memcpy(&count, <char*>view.buf + HEAD + 8 * n + 4 * i, 4)
            total += count
        return total
    finally:
        PyBuffer_Release(&view)


def join_rows(first, second):
    """One row of the supervoxels of both, ascending, counts of the same one added, surface_mutid the larger one.

    Raises ValueError where a row is malformed or a count leaves uint32. O(entries).
    """
    cdef Py_buffer one, two
    cdef vector[uint64_t] supervoxels
    cdef vector[uint32_t] counts
    cdef uint64_t surface
    PyObject_GetBuffer(first, &one, PyBUF_SIMPLE)
    try:
        PyObject_GetBuffer(second, &two, PyBUF_SIMPLE)
        try:
            surface = _join(<const char*>one.buf, _entries(one.len), <const char*>two.buf, _entries(two.len),
                            supervoxels, counts)
        finally:
            PyBuffer_Release(&two)
    finally:
        PyBuffer_Release(&one)
    return _row(surface, supervoxels.data(), counts.data(), supervoxels.size())


cdef uint64_t _join(const char* a, Py_ssize_t n, const char* b, Py_ssize_t m, vector[uint64_t]& supervoxels,
                    vector[uint32_t]& counts) except? 0:
    """Merges the entries of two rows; answers the larger surface_mutid."""
    cdef uint64_t left = 0, right = 0, least, sum, one, other
    cdef Py_ssize_t i = 0, j = 0
    supervoxels.reserve(n + m)
    counts.reserve(n + m)
    while i < n or j < m:
        if i < n:
            memcpy(&left, a + HEAD + 8 * i, 8)
        if j < m:
            memcpy(&right, b + HEAD + 8 * j, 8)
        least = left if i < n and (j == m or left <= right) else right
        sum = 0
        if i < n and left == least:
            sum += _count(a, n, i)
            i += 1
        if j < m and right == least:
            sum += _count(b, m, j)
            j += 1
        if not supervoxels.empty() and supervoxels.back() >= least:
            raise ValueError("an index row whose supervoxels do not ascend")
        if sum >> 32:
            raise ValueError("the joined row counts more voxels than a block can have")
        supervoxels.push_back(least)
        counts.push_back(<uint32_t>sum)
    memcpy(&one, a, 8)
    memcpy(&other, b, 8)
    return max(one, other)


cdef inline uint64_t _count(const char* row, Py_ssize_t entries, Py_ssize_t at) noexcept nogil:
    cdef uint32_t count
    memcpy(&count, row + HEAD + 8 * entries + 4 * at, 4)
    return count


def supervoxels_of(rows):
    """The supervoxels in a sequence of rows, each once: uint64 (n,), ascending.

    Raises ValueError where a row is malformed. O(entries log entries).
    """
    cdef Py_buffer view
    cdef vector[uint64_t] found
    cdef size_t at = 0
    cdef Py_ssize_t n
    for row in rows:
        PyObject_GetBuffer(row, &view, PyBUF_SIMPLE)
        try:
            n = _entries(view.len)
            found.resize(at + n)
            memcpy(found.data() + at, <const char*>view.buf + HEAD, 8 * n)
            at += n
        finally:
            PyBuffer_Release(&view)
    cdef size_t size
    with nogil:
        sort(found.begin(), found.end())
        found.erase(unique(found.begin(), found.end()), found.end())
        size = found.size()
    out = np.empty(size, np.uint64)
    cdef uint64_t[::1] to = out
    if size:
        memcpy(&to[0], found.data(), 8 * size)
    return out


def unpack_rows(keys, values, Py_ssize_t key_offset):
    """Rows as columns: ``(coords, supervoxels, counts, surface)``, an entry for each (row, supervoxel), in their order.

    keys and values: sequences of bytes-like of the same length; z, y, x of a row stand in its key from ``key_offset``.
    Answers int32 (n, 3) z, y, x; uint64 (n,); uint32 (n,); uint64 (n,) surface_mutid. Raises ValueError for keys too
    short and values that are no rows. O(n).
    """
    cdef Py_ssize_t rows = len(keys), total = 0, i, j, n, at = 0
    cdef Py_buffer view
    cdef int32_t zyx[3]
    cdef uint64_t row_surface
    cdef const uint8_t* raw
    if len(values) != rows:
        raise ValueError(f"{rows} keys, but {len(values)} values")
    if key_offset < 0:
        raise ValueError(f"key_offset is {key_offset}")
    for value in values:
        total += _entries(len(value))
    coords = np.empty((total, 3), np.int32)
    supervoxels = np.empty(total, np.uint64)
    counts = np.empty(total, np.uint32)
    surface = np.empty(total, np.uint64)
    cdef int32_t[:, ::1] to_coords = coords
    cdef uint64_t[::1] to_supervoxels = supervoxels
    cdef uint32_t[::1] to_counts = counts
    cdef uint64_t[::1] to_surface = surface
    for i in range(rows):
        PyObject_GetBuffer(keys[i], &view, PyBUF_SIMPLE)
        try:
            if view.len < 12 or view.len - 12 < key_offset:
                raise ValueError(f"an index key of {view.len} bytes")
            raw = <const uint8_t*>view.buf + key_offset
            for j in range(3):
                zyx[j] = <int32_t>(
                    (<uint32_t>raw[4 * j] << 24 | <uint32_t>raw[4 * j + 1] << 16 | <uint32_t>raw[4 * j + 2] << 8
                     | <uint32_t>raw[4 * j + 3]) ^ <uint32_t>0x80000000)
        finally:
            PyBuffer_Release(&view)
        PyObject_GetBuffer(values[i], &view, PyBUF_SIMPLE)
        try:
            n = _entries(view.len)
            if at + n > total:
                raise ValueError("a value changed its length")
            raw = <const uint8_t*>view.buf
            memcpy(&row_surface, raw, 8)
            memcpy(&to_supervoxels[at], raw + HEAD, 8 * n)
            memcpy(&to_counts[at], raw + HEAD + 8 * n, 4 * n)
            for j in range(n):
                to_coords[at + j, 0] = zyx[0]
                to_coords[at + j, 1] = zyx[1]
                to_coords[at + j, 2] = zyx[2]
                to_surface[at + j] = row_surface
            at += n
        finally:
            PyBuffer_Release(&view)
    if at != total:
        raise ValueError("a value changed its length")
    return coords, supervoxels, counts, surface
