"""Sparse volumes straight from coded blocks."""

from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libcpp.deque cimport deque
from libcpp.vector cimport vector
from cpython.bytes cimport PyBytes_FromStringAndSize
cimport numpy as cnp

import numpy as np

from ..blocks._buffer cimport Buffer
from ._run cimport Run, run_array

cnp.import_array()


cdef extern from "_runs.h" namespace "dvidcore" nogil:
    cdef cppclass LabelSet:
        LabelSet(const uint64_t*, size_t) except +
    cdef struct CodedBlock:
        const uint8_t* data
        size_t size
        int64_t z
        int64_t y
        int64_t x
    void runs_of_blocks_ "dvidcore::runs_of_blocks" (
        const vector[CodedBlock]&, const int64_t*, const LabelSet&, vector[Run]&) except +
    void block_shape(const uint8_t*, size_t, int64_t*) except +
    void binary_block_ "dvidcore::binary_block" (
        const uint8_t*, size_t, const LabelSet&, vector[uint8_t]&) except +


def runs(block, labels, origin=(0, 0, 0)):
    cdef const uint64_t[::1] asked = np.ascontiguousarray(labels)
    cdef Buffer held
    cdef vector[CodedBlock] blocks
    cdef vector[Run] out
    cdef CodedBlock one
    cdef int64_t[3] shape
    cdef LabelSet* wanted
    held.bytes(block)
    x, y, z = origin
    for first in (x, y, z):
        if not -1 << 31 <= first < 1 << 31:
            raise ValueError(f"origin {tuple(origin)} is not within int32")
    one.x, one.y, one.z = x, y, z
    one.data, one.size = held.data(), held.size()
    blocks.push_back(one)
    with nogil:
        block_shape(one.data, one.size, shape)
        wanted = new LabelSet(&asked[0], asked.shape[0])
        try:
            runs_of_blocks_(blocks, shape, wanted[0], out)
        finally:
            del wanted
    return run_array(out.data(), out.size())


def runs_of_blocks(blocks, coords, block_shape, labels):
    cdef const int32_t[:, :] at = coords
    cdef const uint64_t[::1] asked = np.ascontiguousarray(labels)
    cdef tuple sources = tuple(blocks)  # another thread may change the sequence meanwhile
    cdef size_t n = len(sources), i
    cdef deque[Buffer] held
    cdef vector[CodedBlock] coded
    cdef vector[Run] out
    cdef int64_t[3] shape
    cdef LabelSet* wanted
    if at.shape[1] != 3 or <size_t> at.shape[0] != n:
        raise ValueError(f"{n} blocks and coordinates of {at.shape[0]} x {at.shape[1]}, not {n} x 3")
    z, y, x = block_shape
    for side in (z, y, x):
        if not (8 <= side <= 1024 and side % 8 == 0):
            raise ValueError(f"block_shape {tuple(block_shape)}: sides are multiples of 8 from 8 to 1024")
    shape[0], shape[1], shape[2] = z, y, x
    coded.resize(n)
    for i in range(n):
        held.emplace_back()
        held.back().bytes(sources[i])
        coded[i].data, coded[i].size = held.back().data(), held.back().size()
        coded[i].z = at[i, 0] * shape[0]
        coded[i].y = at[i, 1] * shape[1]
        coded[i].x = at[i, 2] * shape[2]
        if i and (coded[i - 1].z, coded[i - 1].y, coded[i - 1].x) >= (coded[i].z, coded[i].y, coded[i].x):
            raise ValueError(f"block coordinates are not ascending by z, y, x at row {i}")
    with nogil:
        wanted = new LabelSet(&asked[0], asked.shape[0])
        try:
            runs_of_blocks_(coded, shape, wanted[0], out)
        finally:
            del wanted
    return run_array(out.data(), out.size())


def binary_block(block, labels):
    cdef const uint64_t[::1] asked = np.ascontiguousarray(labels)
    cdef Buffer held
    cdef vector[uint8_t] out
    cdef LabelSet* wanted
    held.bytes(block)
    with nogil:
        wanted = new LabelSet(&asked[0], asked.shape[0])
        try:
            binary_block_(held.data(), held.size(), wanted[0], out)
        finally:
            del wanted
    return PyBytes_FromStringAndSize(<const char*> out.data(), out.size())
