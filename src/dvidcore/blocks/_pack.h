// Packing voxel values: the inverse of unpack in _layout.h.
#pragma once

#include <cstdint>
#include <cstring>

#include "_bytes.h"
#include "_layout.h"

namespace dvidcore {
namespace detail {

// Eight bytes below 2^B, first one lowest -> eight B-bit numbers in the low 8*B bits, first one highest.
template <int B> inline uint64_t gather_bits(uint64_t word) {
    word = __builtin_bswap64(word);
    if (B == 8) return word;
    word = ((word >> 8) & 0x00ff00ff00ff00ffULL) << B | (word & 0x00ff00ff00ff00ffULL);
    word = ((word >> 16) & 0x0000ffff0000ffffULL) << 2 * B | (word & 0x0000ffff0000ffffULL);
    return (word >> 32) << 4 * B | (word & 0xffffffffULL);
}

// Writes 64 * B bytes, and up to 8 bytes of rubbish behind them.
template <int B> inline void pack_bytes(const uint8_t *value, uint8_t *out) {
    for (int g = 0; g < 64; ++g)
        store64(out + g * B, __builtin_bswap64(gather_bits<B>(load64(value + 8 * g)) << (64 - 8 * B) % 64));
}

// The inverse of split in _layout.h: 16 bytes of numbers of WIDTH bits from bytes of numbers below 2^B.
template <int WIDTH, int B> inline Bytes join(const uint8_t *value) {
    if constexpr (WIDTH == B) {
        return load_bytes(value);
    } else {
        constexpr int half = WIDTH / 2;
        const Bytes a = join<half, B>(value), b = join<half, B>(value + 16 * (half / B));
        return even_bytes(a, b) << half | odd_bytes(a, b);
    }
}

template <int B> inline void pack_halves(const uint8_t *value, uint8_t *out) {
    for (int i = 0; i < 4 * B; ++i) store_bytes(out + 16 * i, join<8, B>(value + 16 * (8 / B) * i));
}

inline void pack_nine(const uint16_t *value, uint8_t *out) {
    for (int g = 0; g < 64; ++g, value += 8, out += 9) {
        uint64_t word = 0;
        for (int i = 0; i < 7; ++i) word = word << 9 | value[i];
        store64(out, __builtin_bswap64(word << 1 | value[7] >> 8));
        out[8] = static_cast<uint8_t>(value[7]);
    }
}

inline void pack(const uint16_t *value, uint32_t bits, uint8_t *out) {
    if (bits == 9) return pack_nine(value, out);
    uint8_t bytes[VOXELS];
    for (int i = 0; i < VOXELS; ++i) bytes[i] = static_cast<uint8_t>(value[i]);
    switch (bits) {
        case 1: return pack_halves<1>(bytes, out);
        case 2: return pack_halves<2>(bytes, out);
        case 3: return pack_bytes<3>(bytes, out);
        case 4: return pack_halves<4>(bytes, out);
        case 5: return pack_bytes<5>(bytes, out);
        case 6: return pack_bytes<6>(bytes, out);
        case 7: return pack_bytes<7>(bytes, out);
        default: return pack_bytes<8>(bytes, out);
    }
}

}  // namespace detail
}  // namespace dvidcore
