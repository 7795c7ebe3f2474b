// The compressed label block: reading its parts.
//
// A coded block is, little-endian: uint32 gx, gy, gz (sides / 8) and N; N x uint64 palette; then only if N > 1:
// gx*gy*gz x uint16 counts (labels of each sub-block), sum(counts) x uint32 positions in the palette, and for each
// sub-block 64*b bytes of voxel values of b = ceil(log2(count)) bits, most significant bit first. Sub-blocks are
// 8x8x8 and ordered Z, Y, X (x fastest), as are the 512 voxels within one.
//
// Block::parse checks everything but the voxel values; unpack checks those. After that nothing can point outside.
// The bytes stay the caller's: they must live, and not change, for as long as a Block refers to them.
// What is corrupt throws std::invalid_argument, which Cython turns into ValueError.
#pragma once

#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "_bytes.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the block kernels read little-endian integers in place"
#endif

namespace dvidcore {

constexpr int SIDE = 8;        // voxels along each side of a sub-block
constexpr int VOXELS = 512;    // voxels of a sub-block, and so the most labels that one can need
constexpr uint32_t MAX_SIDE = 1024;

[[noreturn]] __attribute__((format(printf, 1, 2))) inline void corrupt(const char *format, ...) {
    char message[200];
    va_list args;
    va_start(args, format);
    std::vsnprintf(message, sizeof message, format, args);
    va_end(args);
    throw std::invalid_argument(message);
}

// Integers lie at any address within a coded block, so they are read by copy.
inline uint16_t load16(const uint8_t *p) { uint16_t v; std::memcpy(&v, p, sizeof v); return v; }
inline uint32_t load32(const uint8_t *p) { uint32_t v; std::memcpy(&v, p, sizeof v); return v; }
inline uint64_t load64(const uint8_t *p) { uint64_t v; std::memcpy(&v, p, sizeof v); return v; }
inline void store64(void *p, uint64_t v) { std::memcpy(p, &v, sizeof v); }

// Bits of a voxel value in a sub-block of `labels` labels: the smallest b with 2^b >= labels; 0 for 0 and 1.
inline uint32_t bits_for(uint32_t labels) { return labels < 2 ? 0 : 32 - __builtin_clz(labels - 1); }

// One sub-block. `labels` = 0 means 512 zeros, 1 means 512 times that label; both have no values (bits = 0).
struct SubBlock {
    uint32_t labels = 0;
    uint32_t bits = 0;
    const uint8_t *positions = nullptr;   // labels x uint32: positions in the palette, all < Block::entries
    const uint8_t *values = nullptr;      // 64 * bits bytes

    uint32_t position(uint32_t i) const { return load32(positions + 4 * static_cast<size_t>(i)); }
};

struct Block {
    uint32_t gx = 0, gy = 0, gz = 0;      // sub-blocks along each axis
    uint32_t entries = 0;                 // N, labels in the palette
    uint32_t subblocks = 0;               // gx * gy * gz
    const uint8_t *data = nullptr;
    const uint8_t *palette = nullptr;
    const uint8_t *counts = nullptr;      // these three are null in a solid block
    const uint8_t *positions = nullptr;
    const uint8_t *values = nullptr;
    const uint8_t *end = nullptr;

    bool solid() const { return entries == 1; }
    uint64_t label(uint32_t position) const { return load64(palette + 8 * static_cast<size_t>(position)); }
    uint64_t voxels() const { return static_cast<uint64_t>(subblocks) * VOXELS; }

    // Reads the header and checks all lengths and every palette position. O(sub-blocks + positions).
    void parse(const void *bytes, size_t size) {
        data = static_cast<const uint8_t *>(bytes);
        end = data + size;
        if (size < 24) corrupt("a label block of %zu bytes, 24 at least", size);
        gx = load32(data);
        gy = load32(data + 4);
        gz = load32(data + 8);
        entries = load32(data + 12);
        check_side(gx, "x");
        check_side(gy, "y");
        check_side(gz, "z");
        subblocks = gx * gy * gz;         // at most 128^3
        if (entries == 0) corrupt("a label block without labels");
        palette = data + 16;
        uint64_t need = 16 + 8 * static_cast<uint64_t>(entries);
        if (entries == 1) {
            counts = positions = values = nullptr;
            if (size != need) corrupt("%zu bytes after a solid label block", static_cast<size_t>(size - need));
            return;
        }
        if (size < need + 2 * static_cast<uint64_t>(subblocks))
            corrupt("a label block of %zu bytes is too short for its %u labels and %u sub-blocks", size, entries,
                    subblocks);
        counts = data + need;
        uint64_t listed = 0, bits = 0;
        for (uint32_t i = 0; i < subblocks; ++i) {
            const uint32_t n = load16(counts + 2 * static_cast<size_t>(i));
            if (n > VOXELS) corrupt("sub-block %u lists %u labels for its 512 voxels", i, n);
            listed += n;
            bits += bits_for(n);
        }
        need += 2 * static_cast<uint64_t>(subblocks) + 4 * listed + 64 * bits;
        if (size != need)
            corrupt("a label block of %zu bytes whose parts need %llu", size, static_cast<unsigned long long>(need));
        positions = counts + 2 * static_cast<size_t>(subblocks);
        values = positions + 4 * listed;
        uint32_t last = 0;
        for (uint64_t i = 0; i < listed; ++i) {
            const uint32_t p = load32(positions + 4 * i);
            last = p > last ? p : last;
        }
        if (last >= entries) corrupt("a sub-block lists position %u of a palette of %u labels", last, entries);
    }

private:
    static void check_side(uint32_t g, const char *axis) {
        if (g < 1 || g > MAX_SIDE / SIDE)
            corrupt("a label block of %llu voxels along %s: from 8 to 1024 are allowed",
                    static_cast<unsigned long long>(g) * SIDE, axis);
    }
};

// Walks the sub-blocks of a parsed block in order. In a solid block each one lists palette position 0.
class Cursor {
public:
    Cursor() = default;
    explicit Cursor(const Block &block) : count_(block.counts), left_(block.subblocks) {
        static const uint8_t first[4] = {0, 0, 0, 0};
        at_.labels = 1;
        at_.positions = block.solid() ? first : block.positions;
        at_.values = block.values;
    }

    bool next(SubBlock &sub) {
        if (left_ == 0) return false;
        --left_;
        if (count_ == nullptr) {
            sub = at_;
            return true;
        }
        sub.labels = load16(count_);
        sub.bits = bits_for(sub.labels);
        sub.positions = at_.positions;
        sub.values = at_.values;
        count_ += 2;
        at_.positions += 4 * static_cast<size_t>(sub.labels);
        at_.values += 64 * static_cast<size_t>(sub.bits);
        return true;
    }

private:
    SubBlock at_;
    const uint8_t *count_ = nullptr;
    uint32_t left_ = 0;
};

// All sub-blocks, for access in any order: number z*gy*gx + y*gx + x.
inline void index_subblocks(const Block &block, std::vector<SubBlock> &out) {
    out.resize(block.subblocks);
    Cursor cursor(block);
    for (SubBlock &sub : out) cursor.next(sub);
}

namespace detail {

// Eight B-bit numbers (B <= 8) in the top 8*B bits of `word`, first one highest -> eight bytes, first one lowest.
template <int B> inline uint64_t spread(uint64_t word) {
    if (B == 8) return __builtin_bswap64(word);
    constexpr uint64_t m4 = (uint64_t(1) << 4 * B) - 1, m2 = (uint64_t(1) << 2 * B) - 1, m1 = (uint64_t(1) << B) - 1;
    word >>= (64 - 8 * B) % 64;
    word = (word >> 4 * B) << 32 | (word & m4);
    word = ((word >> 2 * B) & (m2 | m2 << 32)) << 16 | (word & (m2 | m2 << 32));
    constexpr uint64_t ones = m1 | m1 << 16 | m1 << 32 | m1 << 48;
    word = ((word >> B) & ones) << 8 | (word & ones);
    return __builtin_bswap64(word);
}

template <int B> inline void unpack_bytes(const uint8_t *values, uint8_t *out) {
    constexpr int whole = 64 - (7 + B) / B + 1;   // groups of eight whose 8-byte load stays within the sub-block
    for (int g = 0; g < whole; ++g)
        store64(out + 8 * g, spread<B>(__builtin_bswap64(load64(values + g * B))));
    const uint64_t tail = __builtin_bswap64(load64(values + 64 * B - 8));
    for (int g = whole; g < 64; ++g)
        store64(out + 8 * g, spread<B>(tail << (64 - 8 * B * (64 - g))));
}

// Splits 16 bytes of numbers of WIDTH bits each into bytes of numbers of B bits: a step splits every number in two,
// and keeps the halves side by side, the high one first.
template <int WIDTH, int B> inline void split(Bytes v, uint8_t *out) {
    if constexpr (WIDTH == B) {
        store_bytes(out, v);
    } else {
        constexpr int half = WIDTH / 2;
        const Bytes high = v >> half, low = v & all((1 << half) - 1);
        split<half, B>(__builtin_shufflevector(
            high, low, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23), out);
        split<half, B>(__builtin_shufflevector(
            high, low, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31), out + 16 * (half / B));
    }
}

template <int B> inline void unpack_halves(const uint8_t *values, uint8_t *out) {
    for (int i = 0; i < 4 * B; ++i) split<8, B>(load_bytes(values + 16 * i), out + 16 * (8 / B) * i);
}

inline void unpack_nine(const uint8_t *values, uint16_t *out) {
    for (int g = 0; g < 64; ++g, values += 9, out += 8) {
        const uint64_t word = __builtin_bswap64(load64(values));
        for (int i = 0; i < 7; ++i) out[i] = (word >> (55 - 9 * i)) & 511;
        out[7] = static_cast<uint16_t>((values[7] & 1) << 8 | values[8]);
    }
}

template <typename T> inline void check_values(const SubBlock &sub, const T *value) {
    if (sub.labels == 1u << sub.bits) return;
    T last = 0;
    for (int i = 0; i < VOXELS; ++i) last = value[i] > last ? value[i] : last;
    if (last >= sub.labels) corrupt("a voxel value of %u in a sub-block of %u labels", unsigned(last), sub.labels);
}

}  // namespace detail

// The 512 voxel values of a sub-block of up to 8 bits, each < max(labels, 1). About 2 operations a voxel.
inline void unpack(const SubBlock &sub, uint8_t *out) {
    switch (sub.bits) {
        case 0: std::memset(out, 0, VOXELS); return;
        case 1: detail::unpack_halves<1>(sub.values, out); return;   // both values are valid
        case 2: detail::unpack_halves<2>(sub.values, out); break;
        case 3: detail::unpack_bytes<3>(sub.values, out); break;
        case 4: detail::unpack_halves<4>(sub.values, out); break;
        case 5: detail::unpack_bytes<5>(sub.values, out); break;
        case 6: detail::unpack_bytes<6>(sub.values, out); break;
        case 7: detail::unpack_bytes<7>(sub.values, out); break;
        case 8: detail::unpack_bytes<8>(sub.values, out); break;
        default: corrupt("voxel values of %u bits do not fit bytes", sub.bits);
    }
    detail::check_values(sub, out);
}

// The same for any sub-block.
inline void unpack(const SubBlock &sub, uint16_t *out) {
    if (sub.bits <= 8) {
        uint8_t bytes[VOXELS];
        unpack(sub, bytes);
        for (int i = 0; i < VOXELS; ++i) out[i] = bytes[i];
        return;
    }
    detail::unpack_nine(sub.values, out);
    detail::check_values(sub, out);
}

// Whether all voxel values of a sub-block are below its labels, without keeping them.
inline void check_packed_values(const SubBlock &sub) {
    if (sub.labels == 1u << sub.bits || sub.bits == 0) return;
    if (sub.bits == 2) {              // three labels: no pair of bits may both be set
        uint64_t both = 0;
        for (int i = 0; i < 16; ++i) {
            const uint64_t word = load64(sub.values + 8 * i);
            both |= word & word >> 1 & 0x5555555555555555ULL;
        }
        if (both != 0) corrupt("a voxel value of 3 in a sub-block of 3 labels");
        return;
    }
    uint16_t value[VOXELS];
    unpack(sub, value);
}

// One voxel value (number 0..511 in Z, Y, X order), reading only its own bytes.
inline uint32_t value_at(const SubBlock &sub, uint32_t voxel) {
    if (sub.bits == 0) return 0;
    const uint32_t bit = voxel * sub.bits, shift = bit & 7;
    const uint8_t *p = sub.values + (bit >> 3);
    uint32_t word = uint32_t(p[0]) << 8;
    if (shift + sub.bits > 8) word |= p[1];
    const uint32_t value = (word >> (16 - shift - sub.bits)) & ((1u << sub.bits) - 1);
    if (value >= sub.labels) corrupt("a voxel value of %u in a sub-block of %u labels", value, sub.labels);
    return value;
}

// The labels of a sub-block by voxel value; `out` has room for VOXELS. A sub-block without labels has the label 0.
inline void local_labels(const Block &block, const SubBlock &sub, uint64_t *out) {
    out[0] = out[1] = 0;
    for (uint32_t i = 0; i < sub.labels; ++i) out[i] = block.label(sub.position(i));
}

}  // namespace dvidcore
