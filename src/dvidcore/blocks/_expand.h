// From a coded sub-block to its 8x8x8 voxels.
#pragma once

#include <cstdint>
#include <cstring>

#include "_cpu.h"
#include "_layout.h"

namespace dvidcore {
namespace detail {

inline void fill(uint64_t label, uint8_t *out, int64_t sy, int64_t sz) {
    for (int z = 0; z < SIDE; ++z)
        for (int y = 0; y < SIDE; ++y)
            for (int x = 0; x < SIDE; ++x) store64(out + z * sz + y * sy + 8 * x, label);
}

template <typename T> inline void look_up(const T *value, const uint64_t *label, uint8_t *out, int64_t sy, int64_t sz) {
    for (int z = 0; z < SIDE; ++z)
        for (int y = 0; y < SIDE; ++y, value += SIDE)
            for (int x = 0; x < SIDE; ++x) store64(out + z * sz + y * sy + 8 * x, label[value[x]]);
}

#ifdef DVIDCORE_AVX2

// Voxel values of one or two bits choose their label by blending: a row's bits, in all four lanes, are shifted so that
// a lane's own bit becomes its sign.
DVIDCORE_AVX2 inline __m256d choose(__m256i bits, __m256d zero, __m256d one) {
    return _mm256_blendv_pd(zero, one, _mm256_castsi256_pd(bits));
}

DVIDCORE_AVX2 inline __m256d everywhere(uint64_t label) {
    return _mm256_castsi256_pd(_mm256_set1_epi64x(static_cast<long long>(label)));
}

DVIDCORE_AVX2 inline void store_half_row(uint8_t *out, __m256d labels) {
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(out), _mm256_castpd_si256(labels));
}

DVIDCORE_AVX2 inline void blend_two(
    const uint8_t *values, const uint64_t *label, uint8_t *out, int64_t sy, int64_t sz) {
    const __m256d zero = everywhere(label[0]), one = everywhere(label[1]);
    const __m256i shift[2] = {_mm256_setr_epi64x(56, 57, 58, 59), _mm256_setr_epi64x(60, 61, 62, 63)};
    for (int z = 0; z < SIDE; ++z) {
        for (int y = 0; y < SIDE; ++y) {
            const __m256i bits = _mm256_set1_epi8(static_cast<char>(*values++));
            for (int half = 0; half < 2; ++half)
                store_half_row(out + z * sz + y * sy + 32 * half,
                               choose(_mm256_sllv_epi64(bits, shift[half]), zero, one));
        }
    }
}

DVIDCORE_AVX2 inline void blend_four(
    const uint8_t *values, const uint64_t *label, uint8_t *out, int64_t sy, int64_t sz) {
    const __m256d zero = everywhere(label[0]), one = everywhere(label[1]);
    const __m256d two = everywhere(label[2]), three = everywhere(label[3]);
    // The high bit of voxel x is bit 15 - 2x of a row's two bytes, first byte first.
    const __m256i shift[2] = {_mm256_setr_epi64x(48, 50, 52, 54), _mm256_setr_epi64x(56, 58, 60, 62)};
    for (int z = 0; z < SIDE; ++z) {
        for (int y = 0; y < SIDE; ++y, values += 2) {
            const __m256i bits = _mm256_set1_epi64x(values[0] << 8 | values[1]);
            for (int half = 0; half < 2; ++half) {
                const __m256i high = _mm256_sllv_epi64(bits, shift[half]), low = _mm256_slli_epi64(high, 1);
                store_half_row(out + z * sz + y * sy + 32 * half,
                               choose(high, choose(low, zero, one), choose(low, two, three)));
            }
        }
    }
}

#endif

}  // namespace detail

// Writes the uint64 labels of a sub-block at `out`; sy and sz are the strides of y and z in bytes.
inline void expand(const Block &block, const SubBlock &sub, uint8_t *out, int64_t sy, int64_t sz) {
    uint64_t label[VOXELS];
    if (sub.bits == 0) return detail::fill(sub.labels == 0 ? 0 : block.label(sub.position(0)), out, sy, sz);
    local_labels(block, sub, label);
#ifdef DVIDCORE_AVX2
    if (sub.bits <= 2 && has_avx2()) {
        if (sub.bits == 1) return detail::blend_two(sub.values, label, out, sy, sz);
        if (sub.labels == 3) {
            check_packed_values(sub);
            label[3] = 0;
        }
        return detail::blend_four(sub.values, label, out, sy, sz);
    }
#endif
    if (sub.bits <= 8) {
        uint8_t value[VOXELS];
        unpack(sub, value);
        detail::look_up(value, label, out, sy, sz);
    } else {
        uint16_t value[VOXELS];
        unpack(sub, value);
        detail::look_up(value, label, out, sy, sz);
    }
}

// Writes a byte for each voxel of a sub-block: flag[voxel value], or flag[0] where it has one label or none.
inline void expand_flags(const SubBlock &sub, const uint8_t *flag, uint8_t *out, int64_t sy, int64_t sz) {
    uint8_t flags[VOXELS];
    if (sub.bits == 0) {
        std::memset(flags, flag[0], VOXELS);
    } else if (sub.bits <= 8) {
        uint8_t value[VOXELS];
        unpack(sub, value);
        detail::map_bytes(value, VOXELS, flag, sub.labels, flags);
    } else {
        uint16_t value[VOXELS];
        unpack(sub, value);
        for (int i = 0; i < VOXELS; ++i) flags[i] = flag[value[i]];
    }
    for (int z = 0; z < SIDE; ++z)
        for (int y = 0; y < SIDE; ++y) std::memcpy(out + z * sz + y * sy, flags + 64 * z + 8 * y, SIDE);
}

}  // namespace dvidcore
