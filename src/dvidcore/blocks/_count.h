// Counting the voxel values of a coded sub-block without unpacking it where that is faster.
#pragma once

#include <cstdint>
#include <cstring>

#include "_layout.h"

namespace dvidcore {
namespace detail {

// Bits set in each of the eight bytes of a word.
inline uint64_t byte_counts(uint64_t v) {
    v -= (v >> 1) & 0x5555555555555555ULL;
    v = (v & 0x3333333333333333ULL) + ((v >> 2) & 0x3333333333333333ULL);
    return (v + (v >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
}

inline uint32_t sum_bytes(uint64_t v) {
    v = (v & 0x00ff00ff00ff00ffULL) + ((v >> 8) & 0x00ff00ff00ff00ffULL);
    return static_cast<uint32_t>(v * 0x0001000100010001ULL >> 48);
}

inline void histogram_1(const uint8_t *values, uint32_t *out) {
    uint64_t ones = 0;
    for (int i = 0; i < 8; ++i) ones += byte_counts(load64(values + 8 * i));   // at most 64 in a byte
    out[1] = sum_bytes(ones);
    out[0] = VOXELS - out[1];
}

inline void histogram_2(const uint8_t *values, uint32_t *out) {
    constexpr uint64_t low = 0x5555555555555555ULL;
    uint64_t ones = 0, twos = 0, threes = 0;                                   // at most 64 in a byte
    for (int i = 0; i < 16; ++i) {
        const uint64_t word = load64(values + 8 * i), a = word & low, b = (word >> 1) & low;
        ones += byte_counts(a & ~b);
        twos += byte_counts(b & ~a);
        threes += byte_counts(a & b);
    }
    out[1] = sum_bytes(ones);
    out[2] = sum_bytes(twos);
    out[3] = sum_bytes(threes);
    out[0] = VOXELS - out[1] - out[2] - out[3];
}

}  // namespace detail

// How many of the 512 voxels have each value: out[0 .. max(labels, 1)); `out` has room for VOXELS.
inline void histogram(const SubBlock &sub, uint32_t *out) {
    if (sub.bits == 0) {
        out[0] = VOXELS;
    } else if (sub.bits == 1) {
        detail::histogram_1(sub.values, out);
    } else if (sub.bits == 2) {
        detail::histogram_2(sub.values, out);
        if (sub.labels == 3 && out[3] != 0) corrupt("a voxel value of 3 in a sub-block of 3 labels");
    } else if (sub.bits <= 4) {
        uint8_t value[VOXELS];
        unpack(sub, value);
        for (uint32_t i = 0; i < sub.labels; ++i) out[i] = detail::count_byte(value, static_cast<uint8_t>(i));
    } else {
        uint16_t value[VOXELS];
        unpack(sub, value);
        // Four tables, since adding to the same place twice in a row waits for the first sum.
        uint16_t part[4][VOXELS];
        for (auto &row : part) std::memset(row, 0, 2 * sub.labels);
        for (int i = 0; i < VOXELS; i += 4)
            for (int k = 0; k < 4; ++k) ++part[k][value[i + k]];
        for (uint32_t i = 0; i < sub.labels; ++i)
            out[i] = static_cast<uint32_t>(part[0][i]) + part[1][i] + part[2][i] + part[3][i];
    }
}

}  // namespace dvidcore
