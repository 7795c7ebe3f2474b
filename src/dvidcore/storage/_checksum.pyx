"""CRC-32C of many buffers in one call; the method is described in _checksum.h."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc

cdef extern from "_checksum.h" namespace "checksum" nogil:
    uint32_t portable(const uint8_t* data, size_t size)
    uint32_t sse42(const uint8_t* data, size_t size)
    bint has_sse42()

cdef struct Item:
    Py_buffer buffer
    uint32_t crc

cdef bint native = has_sse42()

# What takes less than some 20 µs is not worth the wait for the GIL afterwards.
cdef size_t KEEP_GIL = 256 * 1024


cdef void check(Item* items, Py_ssize_t count, bint plain) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        if plain:
            items[i].crc = portable(<const uint8_t*>items[i].buffer.buf, items[i].buffer.len)
        else:
            items[i].crc = sse42(<const uint8_t*>items[i].buffer.buf, items[i].buffer.len)


def crc32c_each(list values, *, bint accelerated=True) -> list:
    """See the .pyi."""
    cdef Py_ssize_t count = len(values), opened = 0, i
    cdef size_t total = 0
    cdef bint plain = not (accelerated and native)
    cdef Item* items = <Item*>malloc((count or 1) * sizeof(Item))
    if items == NULL:
        raise MemoryError
    try:
        while opened < count:
            PyObject_GetBuffer(values[opened], &items[opened].buffer, PyBUF_SIMPLE)
            total += items[opened].buffer.len
            opened += 1
        if total > KEEP_GIL:
            with nogil:
                check(items, count, plain)
        else:
            check(items, count, plain)
        return [items[i].crc for i in range(count)]
    finally:
        for i in range(opened):
            PyBuffer_Release(&items[i].buffer)
        free(items)
