// Which voxels of a coded block carry one of a set of labels, sub-block by sub-block and one bit a voxel, without
// decoding labels: membership is decided once per palette entry, then once per value of a sub-block.
#pragma once

#include <cstring>
#include <vector>

#include "../blocks/_layout.h"
#include "_hash.h"

namespace dvidcore {

enum class Cover : uint8_t { NONE = 0, ALL = 1, SOME = 2 };  // the flags of the sparsevol "blocks" format

// One byte per palette entry: 1 if its label is in the set. `members` answers how many are.
struct Membership {
    std::vector<uint8_t> entry;
    size_t members = 0;
    bool zero = false;  // of sub-blocks that list no label

    void of(const Block& block, const LabelSet& labels) {
        entry.resize(block.entries);
        members = 0;
        for (uint32_t i = 0; i < block.entries; ++i) members += entry[i] = labels.contains(block.label(i));
        zero = labels.contains_zero();
    }
};

namespace detail {

// Eight bytes of 0 or 1 -> eight bits, the first byte lowest: the product gathers bit 8*i at bit 56 + i.
inline uint8_t gather_bits(uint64_t bytes) { return uint8_t((bytes * 0x0102040810204080u) >> 56); }

inline void pack_bits(const uint8_t* bytes, uint64_t flip, uint8_t* mask) {
    for (int row = 0; row < 64; ++row) mask[row] = gather_bits(load64(bytes + 8 * row) ^ flip);
}

// The bits of each byte in opposite order.
inline uint64_t reverse_bytes_bits(uint64_t w) {
    w = (w >> 1 & 0x5555555555555555u) | (w & 0x5555555555555555u) << 1;
    w = (w >> 2 & 0x3333333333333333u) | (w & 0x3333333333333333u) << 2;
    return (w >> 4 & 0x0f0f0f0f0f0f0f0fu) | (w & 0x0f0f0f0f0f0f0f0fu) << 4;
}

}  // namespace detail

// Writes 64 bytes, a bit per voxel in Z, Y, X order with the first voxel lowest, if the answer is SOME; otherwise
// `mask` stays as it is, and the values of the sub-block are not read. SOME can mean all or none where the sub-block
// lists labels that it does not use.
inline Cover subblock_mask(const SubBlock& sub, const Membership& member, uint8_t* mask) {
    if (sub.labels == 0) return member.zero ? Cover::ALL : Cover::NONE;
    uint8_t flag[VOXELS];
    uint32_t members = 0;
    for (uint32_t i = 0; i < sub.labels; ++i) members += flag[i] = member.entry[sub.position(i)];
    if (members == 0) return Cover::NONE;
    if (members == sub.labels) return Cover::ALL;
    if (sub.bits == 1) {
        const uint64_t flip = flag[0] ? ~uint64_t(0) : 0;
        for (int i = 0; i < 64; i += 8) store64(mask + i, detail::reverse_bytes_bits(load64(sub.values + i)) ^ flip);
        return Cover::SOME;
    }
    uint8_t is_member[VOXELS];
    if (sub.bits > 8) {
        uint16_t value[VOXELS];
        unpack(sub, value);
        for (int i = 0; i < VOXELS; ++i) is_member[i] = flag[value[i]];
        detail::pack_bits(is_member, 0, mask);
        return Cover::SOME;
    }
    uint8_t value[VOXELS];
    unpack(sub, value);
    // Usually the set holds one of the sub-block's labels, or all but one. A comparison with each of few is
    // vectorised, a table is not.
    const bool inverse = 2 * members > sub.labels;
    const uint32_t few = inverse ? sub.labels - members : members;
    if (few > 4) {
        for (int i = 0; i < VOXELS; ++i) is_member[i] = flag[value[i]];
        detail::pack_bits(is_member, 0, mask);
        return Cover::SOME;
    }
    std::memset(is_member, 0, sizeof is_member);
    for (uint32_t v = 0; v < sub.labels; ++v) {
        if (flag[v] == inverse) continue;
        const uint8_t wanted = uint8_t(v);
        for (int i = 0; i < VOXELS; ++i) is_member[i] |= uint8_t(value[i] == wanted);
    }
    detail::pack_bits(is_member, inverse ? 0x0101010101010101u : 0, mask);
    return Cover::SOME;
}

}  // namespace dvidcore
