"""Which palette entries are among given labels; see ``_select.h`` for the contract of each."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libcpp cimport bool
from libcpp.vector cimport vector

from dvidcore.blocks._layout cimport Block, SubBlock

cdef extern from "../blocks/_select.h" namespace "dvidcore" nogil:
    bool select_entries(const Block &block, const uint64_t *labels, size_t n, vector[uint8_t] &wanted) except +
    uint32_t select_local(const Block &block, const SubBlock &sub, const vector[uint8_t] &wanted, uint8_t *out)
