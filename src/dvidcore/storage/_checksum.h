// CRC-32C (Castagnoli, reflected polynomial 0x82f63b78) of one buffer, as fast as memory where the processor can.
//
// Definition: RFC 3720, appendix B.4. Portable: eight bytes at a time by tables (M. E. Kounavis, F. L. Berry, "A
// systematic approach to building high performance software-based CRC generators", 2005). With SSE 4.2: the crc32
// instruction, whose result takes three cycles, on three stretches side by side; V. Gopal et al., "Fast CRC computation
// for iSCSI polynomial using CRC32 instruction" (2011). The stretches are joined by linearity: what a register becomes
// by L bytes of zero is looked up byte by byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__)
#include <nmmintrin.h>
#define CHECKSUM_SSE42 1
#endif

namespace checksum {

constexpr size_t STRETCH = 1024;  // bytes; a multiple of 8

struct Tables {
    uint32_t byte[8][256];   // [k][b]: the register b, moved on by k + 1 bytes
    uint32_t zeros[4][256];  // [k][b]: the register b << 8 * k, moved on by STRETCH bytes of zero

    Tables() {
        for (uint32_t b = 0; b < 256; b++) {
            uint32_t crc = b;
            for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78u : 0);
            byte[0][b] = crc;
        }
        for (uint32_t b = 0; b < 256; b++)
            for (int k = 1; k < 8; k++) byte[k][b] = (byte[k - 1][b] >> 8) ^ byte[0][byte[k - 1][b] & 0xff];
        uint32_t moved[32];
        for (int bit = 0; bit < 32; bit++) {
            uint32_t crc = uint32_t(1) << bit;
            for (size_t i = 0; i < STRETCH; i++) crc = (crc >> 8) ^ byte[0][crc & 0xff];
            moved[bit] = crc;
        }
        for (int k = 0; k < 4; k++)
            for (uint32_t b = 0; b < 256; b++) {
                uint32_t crc = 0;
                for (int bit = 0; bit < 8; bit++)
                    if (b >> bit & 1) crc ^= moved[8 * k + bit];
                zeros[k][b] = crc;
            }
    }
};

inline const Tables& tables() {
    static const Tables made;
    return made;
}

inline uint32_t portable(const uint8_t* data, size_t size) {
    const auto& byte = tables().byte;
    uint32_t crc = 0xffffffffu;
    for (; size >= 8; data += 8, size -= 8) {
        crc ^= data[0] | uint32_t(data[1]) << 8 | uint32_t(data[2]) << 16 | uint32_t(data[3]) << 24;
        crc = byte[7][crc & 0xff] ^ byte[6][crc >> 8 & 0xff] ^ byte[5][crc >> 16 & 0xff] ^ byte[4][crc >> 24] ^
              byte[3][data[4]] ^ byte[2][data[5]] ^ byte[1][data[6]] ^ byte[0][data[7]];
    }
    for (; size; data++, size--) crc = (crc >> 8) ^ byte[0][(crc ^ *data) & 0xff];
    return ~crc;
}

#ifdef CHECKSUM_SSE42

inline uint32_t over_zeros(uint32_t crc) {
    const auto& zeros = tables().zeros;
    return zeros[0][crc & 0xff] ^ zeros[1][crc >> 8 & 0xff] ^ zeros[2][crc >> 16 & 0xff] ^ zeros[3][crc >> 24];
}

inline uint64_t word_at(const uint8_t* data) {
    uint64_t word;
    std::memcpy(&word, data, 8);
    return word;
}

__attribute__((target("sse4.2"))) inline uint32_t sse42(const uint8_t* data, size_t size) {
    uint64_t crc = 0xffffffffu;
    for (; size >= 3 * STRETCH; data += 3 * STRETCH, size -= 3 * STRETCH) {
        uint64_t second = 0, third = 0;
        for (size_t i = 0; i < STRETCH; i += 8) {
            crc = _mm_crc32_u64(crc, word_at(data + i));
            second = _mm_crc32_u64(second, word_at(data + STRETCH + i));
            third = _mm_crc32_u64(third, word_at(data + 2 * STRETCH + i));
        }
        crc = over_zeros(over_zeros(uint32_t(crc)) ^ uint32_t(second)) ^ uint32_t(third);
    }
    for (; size >= 8; data += 8, size -= 8) crc = _mm_crc32_u64(crc, word_at(data));
    uint32_t rest = uint32_t(crc);
    for (; size; data++, size--) rest = _mm_crc32_u8(rest, *data);
    return ~rest;
}

inline bool has_sse42() { return __builtin_cpu_supports("sse4.2"); }

#else

inline uint32_t sse42(const uint8_t* data, size_t size) { return portable(data, size); }
inline bool has_sse42() { return false; }

#endif

}  // namespace checksum
