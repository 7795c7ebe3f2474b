"""Label indices: the protobuf messages in which indices and mappings cross the wire."""

from libc.stddef cimport size_t
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy
from libcpp.deque cimport deque
from libcpp.string cimport string
from libcpp.vector cimport vector
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
cimport numpy as cnp

import numpy as np

from ..blocks._buffer cimport Buffer

cnp.import_array()


cdef extern from "_index.h" namespace "dvidcore" nogil:
    cdef struct Bytes:
        const uint8_t* data
        size_t size
    cdef cppclass IndexRow:
        pass
    cdef cppclass LabelIndex:
        uint64_t label
        uint64_t last_mutid
        string last_mod_time
        string last_mod_user
        string last_mod_app
        vector[IndexRow] rows
    cdef cppclass MappingOp:
        uint64_t mutid
        uint64_t mapped
        vector[uint64_t] original
    void encode_label_index(const LabelIndex&, const int32_t*, const uint64_t*, const uint32_t*,
                            const uint64_t*, size_t, string&) except +
    void decode_label_index(const uint8_t*, size_t, LabelIndex&) except +
    void split_columns(const LabelIndex&, int32_t*, uint64_t*, uint32_t*, uint64_t*)
    void repeated_messages(const uint8_t*, size_t, vector[Bytes]&) except +
    void decode_mapping_op(Bytes, MappingOp&) except +
    cdef cppclass WireWriter:
        WireWriter(string&)
        void bytes(uint32_t, const void*, size_t) except +


cdef tuple _columns(size_t n):
    return np.empty((n, 3), np.int32), np.empty(n, np.uint64), np.empty(n, np.uint32), np.empty(n, np.uint64)


cdef int _hold(object sources, deque[Buffer]& held, vector[Bytes]& out) except -1:
    """The bytes of all, held until `held` goes: another thread may change the sequence meanwhile."""
    cdef Bytes one
    for source in tuple(sources):
        held.emplace_back()
        held.back().bytes(source)
        one.data = held.back().data()
        one.size = held.back().size()
        out.push_back(one)
    return 0


cdef uint64_t _uint64(object value, str name) except? 0:
    if not 0 <= value < 1 << 64:
        raise ValueError(f"{name} {value} is not within uint64")
    return value


def encode_index(label, coords, supervoxels, counts, surface=None, last_mutid=0, str last_mod_time="",
                 str last_mod_user="", str last_mod_app=""):
    cdef const int32_t[:, ::1] at = np.ascontiguousarray(coords)
    cdef const uint64_t[::1] keys = np.ascontiguousarray(supervoxels)
    cdef const uint32_t[::1] numbers = np.ascontiguousarray(counts)
    cdef const uint64_t[::1] changed = None if surface is None else np.ascontiguousarray(surface)
    cdef const uint64_t* changes = NULL
    cdef size_t n = keys.shape[0]
    cdef LabelIndex header
    cdef string out
    if at.shape[1] != 3 or at.shape[0] != keys.shape[0] or numbers.shape[0] != keys.shape[0]:
        raise ValueError(f"index columns of {at.shape[0]} x {at.shape[1]} coordinates, {n} supervoxels "
                         f"and {numbers.shape[0]} counts")
    if changed is not None:
        if changed.shape[0] != keys.shape[0]:
            raise ValueError(f"index columns of {n} supervoxels and {changed.shape[0]} surface_mutid")
        changes = &changed[0] if n else NULL
    header.label = _uint64(label, "label")
    header.last_mutid = _uint64(last_mutid, "last_mutid")
    header.last_mod_time = last_mod_time.encode()
    header.last_mod_user = last_mod_user.encode()
    header.last_mod_app = last_mod_app.encode()
    with nogil:
        encode_label_index(header, &at[0, 0] if n else NULL, &keys[0] if n else NULL,
                           &numbers[0] if n else NULL, changes, n, out)
    return <bytes> out


def decode_index(data):
    cdef Buffer held
    cdef LabelIndex index
    cdef int32_t* coords_data
    cdef uint64_t* supervoxels_data
    cdef uint32_t* counts_data
    cdef uint64_t* surface_data
    held.bytes(data)
    with nogil:
        decode_label_index(held.data(), held.size(), index)
    coords, supervoxels, counts, surface = _columns(index.rows.size())
    coords_data = <int32_t*> cnp.PyArray_DATA(coords)
    supervoxels_data = <uint64_t*> cnp.PyArray_DATA(supervoxels)
    counts_data = <uint32_t*> cnp.PyArray_DATA(counts)
    surface_data = <uint64_t*> cnp.PyArray_DATA(surface)
    with nogil:
        split_columns(index, coords_data, supervoxels_data, counts_data, surface_data)
    return (index.label, coords, supervoxels, counts, surface, index.last_mutid, (<bytes> index.last_mod_time).decode(),
            (<bytes> index.last_mod_user).decode(), (<bytes> index.last_mod_app).decode())


def encode_indices(indices):
    cdef deque[Buffer] held
    cdef vector[Bytes] messages
    cdef string out
    cdef WireWriter* writer
    cdef size_t i
    _hold(indices, held, messages)
    with nogil:
        writer = new WireWriter(out)
        try:
            for i in range(messages.size()):
                writer.bytes(1, messages[i].data, messages[i].size)
        finally:
            del writer
    return <bytes> out


def decode_indices(data):
    cdef Buffer held
    cdef vector[Bytes] messages
    cdef size_t i, start
    held.bytes(data)
    with nogil:
        repeated_messages(held.data(), held.size(), messages)
    view = memoryview(data).cast("B")
    out = []
    for i in range(messages.size()):
        start = messages[i].data - held.data()
        out.append(view[start:start + messages[i].size])
    return out


def decode_mapping_ops(data):
    cdef Buffer held
    cdef vector[Bytes] messages
    cdef MappingOp op
    cdef size_t i, n
    held.bytes(data)
    with nogil:
        repeated_messages(held.data(), held.size(), messages)
    out = []
    for i in range(messages.size()):
        with nogil:
            decode_mapping_op(messages[i], op)
        n = op.original.size()
        original = np.empty(n, np.uint64)
        if n:
            memcpy(cnp.PyArray_DATA(original), op.original.data(), 8 * n)
        out.append((op.mutid, op.mapped, original))
    return out
