// Whether a coded sub-block is as an encoder writes it, so that it can be copied where one is wanted.
#pragma once

#include <cstdint>
#include <cstring>

#include "_layout.h"

namespace dvidcore {

namespace detail {

// Whether no label comes twice: pairwise while they are few, then by a small hash table.
inline bool distinct(const uint64_t *label, uint32_t n) {
    if (n <= 12) {
        for (uint32_t i = 1; i < n; ++i)
            for (uint32_t k = 0; k < i; ++k)
                if (label[k] == label[i]) return false;
        return true;
    }
    uint16_t slots[2 * VOXELS];
    std::memset(slots, 0, sizeof slots);
    for (uint32_t i = 0; i < n; ++i) {
        size_t at = (label[i] ^ label[i] >> 32) * 0x9e3779b97f4a7c15ULL >> 54;
        for (; slots[at] != 0; at = (at + 1) % (2 * VOXELS))
            if (label[slots[at] - 1] == label[i]) return false;
        slots[at] = static_cast<uint16_t>(i + 1);
    }
    return true;
}

// Whether values first come in the order 0, 1, 2 ..., and all below `n` do: a search for each while they are few.
inline bool ascending_few(const uint8_t *value, uint32_t n) {
    const uint8_t *last = value;
    if (value[0] != 0) return false;
    for (uint32_t i = 1; i < n; ++i) {
        const void *first = std::memchr(value, static_cast<int>(i), VOXELS);
        if (first == nullptr || first < last) return false;
        last = static_cast<const uint8_t *>(first);
    }
    return true;
}

template <typename T> inline bool ascending(const T *value, uint32_t n) {
    uint32_t next = 0;
    for (int i = 0; i < VOXELS; ++i) {
        if (value[i] > next) return false;
        next += value[i] == next;
    }
    return next == n;
}

}  // namespace detail

// Whether the labels of a sub-block are distinct, each has voxels, and they stand in order of first appearance. Checks the
// voxel values that it reads.
inline bool listed_in_order(const Block &block, const SubBlock &sub) {
    if (sub.labels == 0) return false;
    uint64_t label[VOXELS];
    local_labels(block, sub, label);
    if (!detail::distinct(label, sub.labels)) return false;
    if (sub.bits == 0) return true;
    if (sub.bits == 1) {
        uint64_t ones = 0;
        for (int i = 0; i < 64; i += 8) ones |= load64(sub.values + i);
        return (sub.values[0] & 0x80) == 0 && ones != 0;
    }
    if (sub.bits > 8) {
        uint16_t value[VOXELS];
        unpack(sub, value);
        return detail::ascending(value, sub.labels);
    }
    uint8_t value[VOXELS];
    unpack(sub, value);
    return sub.bits <= 4 ? detail::ascending_few(value, sub.labels) : detail::ascending(value, sub.labels);
}

}  // namespace dvidcore
