"""The parsed compressed label block; see ``_layout.h`` for the contract of each."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libcpp cimport bool
from libcpp.vector cimport vector

# The path is relative to any package beside this one, so that other kernels can cimport this file too.
cdef extern from "../blocks/_layout.h" namespace "dvidcore" nogil:
    const int SIDE
    const int VOXELS
    const uint32_t MAX_SIDE

    uint16_t load16(const uint8_t *p)
    uint32_t load32(const uint8_t *p)
    uint64_t load64(const uint8_t *p)
    uint32_t bits_for(uint32_t labels)

    cdef cppclass SubBlock:
        uint32_t labels
        uint32_t bits
        const uint8_t *positions
        const uint8_t *values
        uint32_t position(uint32_t i)

    cdef cppclass Block:
        uint32_t gx, gy, gz
        uint32_t entries
        uint32_t subblocks
        const uint8_t *data
        const uint8_t *palette
        const uint8_t *counts
        const uint8_t *positions
        const uint8_t *values
        const uint8_t *end
        bool solid()
        uint64_t label(uint32_t position)
        uint64_t voxels()
        void parse(const void *data, size_t size) except +

    cdef cppclass Cursor:
        Cursor()
        Cursor(const Block &block)
        bool next(SubBlock &sub)

    void index_subblocks(const Block &block, vector[SubBlock] &out) except +
    void unpack_bytes "dvidcore::unpack" (const SubBlock &sub, uint8_t *out) except +
    void unpack(const SubBlock &sub, uint16_t *out) except +
    void check_packed_values(const SubBlock &sub) except +
    uint32_t value_at(const SubBlock &sub, uint32_t voxel) except +
    void local_labels(const Block &block, const SubBlock &sub, uint64_t *out)
