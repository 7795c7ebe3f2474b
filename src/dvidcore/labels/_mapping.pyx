"""The table that answers which body a supervoxel belongs to in a version."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy
from libcpp.unordered_map cimport unordered_map
from libcpp.utility cimport pair
from libcpp.vector cimport vector
cimport numpy as cnp

import numpy as np

cnp.import_array()


cdef extern from "_mapping.h" namespace "dvidcore" nogil:
    cdef cppclass MappingTable:
        MappingTable(uint64_t) except +
        void update(uint32_t, const uint64_t*, const uint64_t*, size_t) except +
        void lookup(const uint64_t*, size_t, const uint32_t*, size_t, uint64_t*) except +
        void mapped(const uint64_t*, size_t, const uint32_t*, size_t, uint8_t*) except +
        void items(const uint32_t*, size_t, vector[pair[uint64_t, uint64_t]]&) except +
        void entries(unordered_map[uint32_t, uint64_t]&) except +
        uint64_t size()
        uint64_t bytes()
    const uint32_t MAX_VERSION "dvidcore::MappingTable::MAX_VERSION"


cdef inline uint32_t _big_endian(const uint8_t* raw) noexcept nogil:
    return <uint32_t>raw[0] << 24 | <uint32_t>raw[1] << 16 | <uint32_t>raw[2] << 8 | raw[3]


cdef inline uint64_t _little_endian(value) except? 0:
    """The number in 8 bytes, of an object with at least as many."""
    cdef Py_buffer view
    cdef uint64_t number
    if type(value) is bytes:
        memcpy(&number, PyBytes_AS_STRING(value), 8)
        return number
    PyObject_GetBuffer(value, &view, PyBUF_SIMPLE)
    memcpy(&number, view.buf, 8)
    PyBuffer_Release(&view)
    return number


cdef class Mapping:
    # Made in __cinit__ and never replaced, so that no method can meet a table that is not there.
    cdef MappingTable* table

    def __cinit__(self, capacity=0):
        if not 0 <= capacity <= 1 << 48:
            raise ValueError(f"capacity {capacity} is not within 0 to 2^48")
        self.table = new MappingTable(capacity)

    def __dealloc__(self):
        del self.table

    def __len__(self):
        cdef uint64_t n
        with nogil:
            n = self.table.size()
        return n

    @property
    def nbytes(self):
        cdef uint64_t n
        with nogil:
            n = self.table.bytes()
        return n

    def update(self, version, supervoxels, bodies):
        cdef const uint64_t[::1] keys = np.ascontiguousarray(supervoxels), values = np.ascontiguousarray(bodies)
        cdef size_t n = keys.shape[0]
        cdef uint32_t v
        if not 0 <= version <= MAX_VERSION:
            raise ValueError(f"version {version} is not within 0 to {MAX_VERSION}")
        if values.shape[0] != keys.shape[0]:
            raise ValueError(f"{n} supervoxels and {values.shape[0]} bodies")
        v = version
        if n:
            with nogil:
                self.table.update(v, &keys[0], &values[0], n)

    def load(self, list rows, Py_ssize_t key_offset):
        cdef unordered_map[uint32_t, pair[vector[uint64_t], vector[uint64_t]]] by_version
        cdef pair[vector[uint64_t], vector[uint64_t]]* entries
        cdef bytes key
        cdef const uint8_t* raw
        cdef uint64_t supervoxel, body
        cdef list others = []
        cdef uint32_t version
        cdef Py_ssize_t n
        if key_offset < 0:
            raise ValueError(f"key_offset is {key_offset}")
        for row in rows:
            key, value = row
            n = len(key)
            if n != key_offset + 12:
                raise ValueError(f"a mapping row with a key of {n} bytes")
            if len(value) != 8:
                others.append(row)
                continue
            raw = <const uint8_t*>PyBytes_AS_STRING(key) + key_offset
            supervoxel = <uint64_t>_big_endian(raw) << 32 | _big_endian(raw + 4)
            version = _big_endian(raw + 8)
            if supervoxel == 0:
                raise ValueError("supervoxel 0 is background and cannot be mapped")
            if version > MAX_VERSION:
                raise ValueError(f"version {version} is not within 0 to {MAX_VERSION}")
            body = _little_endian(value)
            entries = &by_version[version]
            entries.first.push_back(supervoxel)
            entries.second.push_back(body)
        with nogil:
            for item in by_version:
                self.table.update(item.first, item.second.first.data(), item.second.second.data(),
                                  item.second.first.size())
        return others

    def lookup(self, labels, const uint32_t[::1] rank, out=None):
        cdef const uint64_t[::1] given
        cdef uint64_t[::1] answer
        cdef const uint32_t* ranks = &rank[0] if rank.shape[0] else NULL
        labels = np.ascontiguousarray(labels)
        if labels.dtype != np.uint64:
            raise ValueError(f"labels are uint64, these are {labels.dtype}")
        if out is None:
            out = np.empty(labels.shape, np.uint64)
        elif out.shape != labels.shape or out.dtype != np.uint64 or not out.flags.c_contiguous:
            raise ValueError(f"out is a contiguous uint64 array of shape {labels.shape}")
        given = labels.reshape(-1)
        answer = out.reshape(-1)
        if given.shape[0]:
            with nogil:
                self.table.lookup(&given[0], given.shape[0], ranks, rank.shape[0], &answer[0])
        return out

    def mapped(self, labels, const uint32_t[::1] rank):
        cdef const uint64_t[::1] given
        cdef uint8_t[::1] answer
        cdef const uint32_t* ranks = &rank[0] if rank.shape[0] else NULL
        labels = np.ascontiguousarray(labels)
        if labels.dtype != np.uint64:
            raise ValueError(f"labels are uint64, these are {labels.dtype}")
        out = np.empty(labels.shape, np.bool_)
        given = labels.reshape(-1)
        answer = out.reshape(-1).view(np.uint8)
        if given.shape[0]:
            with nogil:
                self.table.mapped(&given[0], given.shape[0], ranks, rank.shape[0], &answer[0])
        return out

    def items(self, const uint32_t[::1] rank):
        cdef vector[pair[uint64_t, uint64_t]] found
        cdef const uint32_t* ranks = &rank[0] if rank.shape[0] else NULL
        cdef uint64_t[::1] supervoxels, bodies
        cdef size_t i
        with nogil:
            self.table.items(ranks, rank.shape[0], found)
        supervoxels = np.empty(found.size(), np.uint64)
        bodies = np.empty(found.size(), np.uint64)
        with nogil:
            for i in range(found.size()):
                supervoxels[i] = found[i].first
                bodies[i] = found[i].second
        return supervoxels.base, bodies.base

    def entries(self):
        cdef unordered_map[uint32_t, uint64_t] found
        with nogil:
            self.table.entries(found)
        return {item.first: item.second for item in found}
