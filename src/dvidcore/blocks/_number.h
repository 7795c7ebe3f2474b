// The labels of 8x8x8 voxels, numbered in order of first appearance.
#pragma once

#include <cstdint>
#include <cstring>

#include "_cpu.h"
#include "_layout.h"

namespace dvidcore {

// The voxels of one sub-block as numbers into its own labels, both in order of first appearance.
struct Local {
    uint32_t labels = 0;
    uint64_t label[VOXELS];
    uint16_t value[VOXELS];               // not set where there is one label
};

namespace detail {

// Finds or adds a label: a scan while they are few, as nearly always, then a small hash table.
class LocalFinder {
public:
    explicit LocalFinder(Local &local) : local_(local) {}

    uint16_t number(uint64_t label) {
        if (local_.labels <= FEW) {
            for (uint32_t i = 0; i < local_.labels; ++i)
                if (local_.label[i] == label) return static_cast<uint16_t>(i);
            local_.label[local_.labels++] = label;
            if (local_.labels > FEW) {
                std::memset(slots_, 0, sizeof slots_);
                for (uint32_t i = 0; i < local_.labels; ++i) *slot(local_.label[i]) = static_cast<uint16_t>(i + 1);
            }
            return static_cast<uint16_t>(local_.labels - 1);
        }
        uint16_t *at = slot(label);
        if (*at == 0) {
            local_.label[local_.labels++] = label;
            *at = static_cast<uint16_t>(local_.labels);
        }
        return static_cast<uint16_t>(*at - 1);
    }

private:
    static constexpr uint32_t FEW = 24;
    Local &local_;
    uint16_t slots_[2 * VOXELS];

    uint16_t *slot(uint64_t label) {
        size_t at = (label ^ label >> 32) * 0x9e3779b97f4a7c15ULL >> 54;
        while (slots_[at] != 0 && local_.label[slots_[at] - 1] != label) at = (at + 1) % (2 * VOXELS);
        return slots_ + at;
    }
};

// Any voxels: rows that go on with the last label, as most do, are found by one comparison.
inline void number_any(const uint8_t *voxels, int64_t sy, int64_t sz, Local &local) {
    LocalFinder finder(local);
    uint64_t last = load64(voxels);
    uint16_t number = 0;
    local.labels = 1;
    local.label[0] = last;
    uint16_t *value = local.value;
    for (int z = 0; z < SIDE; ++z) {
        for (int y = 0; y < SIDE; ++y, value += SIDE) {
            const uint8_t *row = voxels + z * sz + y * sy;
            uint64_t differ = 0;
            for (int x = 0; x < SIDE; ++x) differ |= load64(row + 8 * x) ^ last;
            if (differ == 0) {
                for (int x = 0; x < SIDE; ++x) value[x] = number;
                continue;
            }
            for (int x = 0; x < SIDE; ++x) {
                const uint64_t label = load64(row + 8 * x);
                if (label != last) {
                    last = label;
                    number = finder.number(label);
                }
                value[x] = number;
            }
        }
    }
}

#ifdef DVIDCORE_AVX2

// Bit x of same[8*z + y] tells whether a voxel has the label.
DVIDCORE_AVX2 inline void compare(const uint8_t *voxels, int64_t sy, int64_t sz, uint64_t label, uint8_t *same) {
    const __m256i wanted = _mm256_set1_epi64x(static_cast<long long>(label));
    for (int z = 0; z < SIDE; ++z) {
        for (int y = 0; y < SIDE; ++y) {
            const __m256i *row = reinterpret_cast<const __m256i *>(voxels + z * sz + y * sy);
            __builtin_prefetch(row + 8);          // for the sub-block four further on: rows lie far apart
            const __m256i low = _mm256_cmpeq_epi64(_mm256_loadu_si256(row), wanted);
            const __m256i high = _mm256_cmpeq_epi64(_mm256_loadu_si256(row + 1), wanted);
            *same++ = static_cast<uint8_t>(_mm256_movemask_pd(_mm256_castsi256_pd(low)) |
                                           _mm256_movemask_pd(_mm256_castsi256_pd(high)) << 4);
        }
    }
}

// The numbers of 512 voxels from their bits.
template <int B> DVIDCORE_AVX2 inline void join_planes(const uint64_t plane[3][8], uint16_t *value) {
    const __m128i own = _mm_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128);
    for (int row = 0; row < 64; ++row, value += SIDE) {
        __m128i number = _mm_setzero_si128();
        for (int p = 0; p < B; ++p) {
            const __m128i bits = _mm_set1_epi16(static_cast<short>(plane[p][row >> 3] >> 8 * (row & 7)));
            const __m128i set = _mm_cmpeq_epi16(_mm_and_si128(bits, own), own);
            number = _mm_or_si128(number, _mm_and_si128(set, _mm_set1_epi16(static_cast<short>(1 << p))));
        }
        _mm_storeu_si128(reinterpret_cast<__m128i *>(value), number);
    }
}

// Voxels of up to eight labels: one pass of comparisons for each label. False where there are more.
DVIDCORE_AVX2 inline bool number_few(const uint8_t *voxels, int64_t sy, int64_t sz, Local &local) {
    uint64_t left[8], same[8], plane[3][8] = {};      // a bit for each voxel; plane[p] has bit p of its number
    std::memset(left, 0xff, sizeof left);
    local.labels = 0;
    for (int word = 0; word < 8;) {
        if (left[word] == 0) {
            ++word;
            continue;
        }
        const uint32_t number = local.labels++;
        if (number == 8) return false;
        const int bit = __builtin_ctzll(left[word]);
        local.label[number] = load64(voxels + word * sz + (bit >> 3) * sy + 8 * (bit & 7));
        compare(voxels, sy, sz, local.label[number], reinterpret_cast<uint8_t *>(same));
        for (int i = 0; i < 8; ++i) {
            left[i] &= ~same[i];
            for (int p = 0; p < 3; ++p) plane[p][i] |= number >> p & 1 ? same[i] : 0;
        }
    }
    switch (bits_for(local.labels)) {
        case 1: join_planes<1>(plane, local.value); break;
        case 2: join_planes<2>(plane, local.value); break;
        case 3: join_planes<3>(plane, local.value); break;
    }
    return true;
}

#endif

}  // namespace detail

// Numbers the labels of the 8x8x8 voxels at `voxels`; sy and sz are the strides of y and z in bytes.
inline void number_voxels(const uint8_t *voxels, int64_t sy, int64_t sz, Local &local) {
#ifdef DVIDCORE_AVX2
    if (has_avx2() && detail::number_few(voxels, sy, sz, local)) return;
#endif
    detail::number_any(voxels, sy, sz, local);
}

}  // namespace dvidcore
