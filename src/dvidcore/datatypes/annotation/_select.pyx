"""Those elements of rows that lie in a box, copied from their stored texts into one answer."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int32_t, uint32_t
from libc.string cimport memcpy
from libcpp.vector cimport vector

cdef enum:
    RECORD = 21  # z, y, x, kind, length, rels: see lists.RECORD


cdef struct Span:
    const char* start
    Py_ssize_t length


cdef inline uint32_t _big(const unsigned char* at) noexcept nogil:
    return <uint32_t>at[0] << 24 | <uint32_t>at[1] << 16 | <uint32_t>at[2] << 8 | at[3]


cdef inline uint32_t _little(const unsigned char* at) noexcept nogil:
    return at[0] | <uint32_t>at[1] << 8 | <uint32_t>at[2] << 16 | <uint32_t>at[3] << 24


cdef bint _collect(
    const unsigned char* value, Py_ssize_t size, const uint32_t* low, const uint32_t* high, vector[Span]& spans
) except -1 nogil:
    """Adds the texts of the elements inside, those that follow each other as one; False where the row is damaged."""
    cdef Py_ssize_t count, at, row, length
    cdef Py_ssize_t start = -1  # of the run of elements inside that ends with the last one
    cdef const unsigned char* record
    cdef bint within
    cdef int axis
    cdef uint32_t place
    if size < 4:
        return False
    count = _little(value)
    at = 4 + RECORD * count
    if at > size:
        return False
    record = value + 4
    for row in range(count):
        if row:  # a comma
            if at == size:
                return False
            at += 1
        length = _little(record + 13)
        if length > size - at:
            return False
        within = True
        for axis in range(3):
            place = _big(record + 4 * axis)
            within &= low[axis] <= place and place <= high[axis]
        if within and start < 0:
            start = at
        elif not within and start >= 0:
            spans.push_back(Span(<const char*>value + start, at - 1 - start))
            start = -1
        at += length
        record += RECORD
    if start >= 0:
        spans.push_back(Span(<const char*>value + start, at - start))
    return at == size


def inside(values, low, high):
    cdef uint32_t first[3]
    cdef uint32_t last[3]
    cdef vector[Py_buffer] held
    cdef vector[Span] spans
    cdef Py_buffer buffer
    cdef Span span
    cdef Py_ssize_t total = 0
    cdef size_t i
    cdef bint whole = True
    cdef char* out
    for axis in range(3):
        first[axis] = <uint32_t>(<int32_t>low[axis]) ^ <uint32_t>0x80000000
        last[axis] = <uint32_t>(<int32_t>high[axis]) ^ <uint32_t>0x80000000
    try:
        for value in values:
            PyObject_GetBuffer(value, &buffer, PyBUF_SIMPLE)
            held.push_back(buffer)
        with nogil:
            for i in range(held.size()):
                whole = whole and _collect(<const unsigned char*>held[i].buf, held[i].len, first, last, spans)
            for i in range(spans.size()):
                total += spans[i].length + (1 if i else 0)
        if not whole:
            raise ValueError("a list of elements is damaged")
        answer = PyBytes_FromStringAndSize(NULL, total)
        out = PyBytes_AS_STRING(answer)
        with nogil:
            for i in range(spans.size()):
                if i:
                    out[0] = c','
                    out += 1
                span = spans[i]
                memcpy(out, span.start, span.length)
                out += span.length
    finally:
        for i in range(held.size()):
            PyBuffer_Release(&held[i])
    return answer
