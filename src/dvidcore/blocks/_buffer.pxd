"""Python buffers held for the length of a function; see ``_buffer.h``."""

from libc.stdint cimport int64_t, uint8_t
from libcpp cimport bool

cdef extern from "../blocks/_buffer.h" namespace "dvidcore":
    cdef cppclass Buffer:
        Buffer()
        int bytes(object source) except -1
        int writable_bytes(object source) except -1
        int array(object source, bool writable) except -1
        int volume(object source, bool writable) except -1
        int mask(object source) except -1
        int labels(object source) except -1
        uint8_t *data() nogil
        int64_t size() nogil
        int ndim() nogil
        int64_t itemsize() nogil
        int64_t shape(int axis) nogil
        int64_t stride(int axis) nogil
