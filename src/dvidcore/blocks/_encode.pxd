"""Writing coded label blocks; see ``_encode.h`` for the contract of each."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libcpp.vector cimport vector

from dvidcore.blocks._layout cimport Block, SubBlock

cdef extern from "../blocks/_encode.h" namespace "dvidcore" nogil:
    cdef cppclass LabelTable:
        vector[uint64_t] labels
        LabelTable() except +
        uint32_t number(uint64_t label) except +
        int64_t find(uint64_t label)

    cdef cppclass Local:
        uint32_t labels
        uint64_t *label
        uint16_t *value

    void number_voxels(const uint8_t *voxels, int64_t sy, int64_t sz, Local &local)

    cdef cppclass Encoder:
        Encoder() except +
        void start(int64_t gx, int64_t gy, int64_t gz) except +
        void add(const uint8_t *voxels, int64_t sy, int64_t sz) except +
        void add_local "add" (const Local &local) except +
        void add_coded "add" (const Block &block, const SubBlock &sub) except +
        void add_solid(uint64_t label) except +
        size_t size()
        void write(uint8_t *out)
        void forget()

    Encoder &thread_encoder() except +


cdef inline bytes finish(Encoder *encoder):
    """The block that was written, as bytes."""
    block = PyBytes_FromStringAndSize(NULL, encoder.size())
    encoder.write(<uint8_t *> PyBytes_AS_STRING(block))
    encoder.forget()
    return block
