"""Label blocks: palettes, points and counts, read from the coded form."""

import numpy as np

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy
from libcpp.algorithm cimport sort
from libcpp.pair cimport pair
from libcpp.vector cimport vector

from dvidcore.blocks._buffer cimport Buffer
from dvidcore.blocks._layout cimport SIDE, VOXELS, Block, Cursor, SubBlock, index_subblocks, value_at

cdef extern from "../blocks/_count.h" namespace "dvidcore" nogil:
    void histogram(const SubBlock &sub, uint32_t *out) except +


def palette(object block not None):
    """The palette of a coded block, uint64 (n,): a copy, in its stored order.

    Entries may repeat and may not occur in any voxel. Raises ValueError if the block is corrupt. O(sub-blocks + n).
    """
    cdef Buffer source
    cdef Block parsed
    source.bytes(block)
    parsed.parse(source.data(), source.size())
    out = np.empty(parsed.entries, np.uint64)
    cdef uint64_t[::1] labels = out
    memcpy(&labels[0], parsed.palette, 8 * <size_t> parsed.entries)
    return out


def with_palette(object block not None, object labels not None):
    """The same coded block with another palette: entry i of the old one becomes ``labels[i]`` in every voxel.

    `labels` is uint64 (n,) for a palette of n entries, and may repeat labels. This maps a block to other labels
    without touching its voxels. Raises ValueError for another length or type, or a corrupt block. O(bytes).
    """
    cdef Buffer source, wanted
    cdef Block parsed
    cdef char *out
    cdef size_t after
    source.bytes(block)
    parsed.parse(source.data(), source.size())
    wanted.labels(np.ascontiguousarray(labels))
    if wanted.shape(0) != parsed.entries:
        raise ValueError(f"a palette of {wanted.shape(0)} labels for a block with {parsed.entries}")
    result = PyBytes_FromStringAndSize(NULL, source.size())
    out = PyBytes_AS_STRING(result)
    after = 16 + 8 * <size_t> parsed.entries
    memcpy(out, source.data(), 16)
    memcpy(out + 16, wanted.data(), 8 * <size_t> parsed.entries)
    memcpy(out + after, source.data() + after, source.size() - after)
    return result


def lookup(object block not None, object points not None):
    """The labels at points of a coded block, uint64 (n,).

    `points` is int32 or int64 (n, 3), each row z, y, x in voxels of the block. Only the bits of those voxels are read.
    Raises ValueError for a point outside, or a corrupt block. O(sub-blocks + n).
    """
    cdef Buffer source
    cdef Block parsed
    cdef vector[SubBlock] subs
    cdef const SubBlock *sub
    cdef int64_t i, n, z, y, x
    cdef int64_t bad = -1
    cdef uint32_t value
    source.bytes(block)
    parsed.parse(source.data(), source.size())
    where = np.asarray(points)
    if where.ndim != 2 or where.shape[1] != 3 or where.dtype not in (np.int32, np.int64):
        raise ValueError(f"points must be int32 or int64 (n, 3), not {where.dtype} {where.shape}")
    cdef const int64_t[:, ::1] at = np.ascontiguousarray(where, np.int64)
    n = at.shape[0]
    out = np.empty(n, np.uint64)
    cdef uint64_t[::1] labels = out
    with nogil:
        index_subblocks(parsed, subs)
        for i in range(n):
            z, y, x = at[i, 0], at[i, 1], at[i, 2]
            if z < 0 or y < 0 or x < 0 or z >= SIDE * parsed.gz or y >= SIDE * parsed.gy or x >= SIDE * parsed.gx:
                bad = i
                break
            sub = &subs[((z >> 3) * parsed.gy + (y >> 3)) * parsed.gx + (x >> 3)]
            value = value_at(sub[0], ((z & 7) << 6) | ((y & 7) << 3) | (x & 7))
            labels[i] = 0 if sub.labels == 0 else parsed.label(sub.position(value))
    if bad >= 0:
        raise ValueError(f"point {tuple(where[bad].tolist())} (z, y, x) is not within the block")
    return out


cdef int count_entries(const Block &block, vector[uint64_t] &total) except -1 nogil:
    """Voxels of each palette entry; the last place is for sub-blocks without labels, which are zeros."""
    cdef Cursor cursor = Cursor(block)
    cdef SubBlock sub
    cdef uint32_t[512] local
    cdef uint32_t i
    total.assign(<size_t> block.entries + 1, 0)
    while cursor.next(sub):
        if sub.labels == 0:
            total[block.entries] += VOXELS
        elif sub.bits == 0:
            total[sub.position(0)] += VOXELS
        else:
            histogram(sub, local)
            for i in range(sub.labels):
                total[sub.position(i)] += local[i]
    return 0


def counts(object block not None):
    """The labels that occur in a coded block, 0 too, and how many voxels each has.

    Two uint64 arrays (n,), labels ascending and unique; palette entries of the same label are added up, and entries
    without voxels left out. Sub-blocks of up to four labels are counted by population counts of their packed bits.
    Raises ValueError if the block is corrupt. O(voxels + n log n).
    """
    cdef Buffer source
    cdef Block parsed
    cdef vector[uint64_t] total
    cdef vector[pair[uint64_t, uint64_t]] found
    cdef pair[uint64_t, uint64_t] item
    cdef size_t i, n
    source.bytes(block)
    parsed.parse(source.data(), source.size())
    with nogil:
        count_entries(parsed, total)
        for i in range(total.size()):
            if total[i]:
                item.first = parsed.label(<uint32_t> i) if i < parsed.entries else 0
                item.second = total[i]
                found.push_back(item)
        sort(found.begin(), found.end())
        # Entries of the same label now lie side by side.
        n = 0
        for i in range(found.size()):
            if n and found[n - 1].first == found[i].first:
                found[n - 1].second += found[i].second
            else:
                found[n] = found[i]
                n += 1
    label_array, voxel_array = np.empty(n, np.uint64), np.empty(n, np.uint64)
    cdef uint64_t[::1] labels = label_array
    cdef uint64_t[::1] voxels = voxel_array
    for i in range(n):
        labels[i] = found[i].first
        voxels[i] = found[i].second
    return label_array, voxel_array
