// Down-sampling a sub-block: of each 2x2x2 voxels the most frequent label. Among labels, 0 does not count and of a tie
// the smallest wins; among values, 0 is one like any other and of a tie the largest wins.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "_layout.h"

namespace dvidcore {

enum class Vote { labels, values };

namespace detail {

// The voxels become ranks: their label's place among the sub-block's distinct labels, counted from 1, and 0 for what has
// no vote. So the votes for one label are counted together even where a palette repeats it, and the smaller rank wins a
// tie: among labels they ascend and the label 0 has no vote, among values they descend. Fills rank (by voxel value) and
// label (by rank), answers the last rank.
inline uint32_t rank_labels(const uint64_t *local, uint32_t labels, Vote vote, uint16_t *rank, uint64_t *label) {
    struct Place {
        uint64_t label;
        uint32_t value;
    } order[VOXELS];
    for (uint32_t i = 0; i < labels; ++i) order[i] = {local[i], i};
    std::sort(order, order + labels, [](const Place &a, const Place &b) { return a.label < b.label; });
    if (vote == Vote::values) std::reverse(order, order + labels);
    uint16_t last = 0;
    label[0] = 0;
    for (uint32_t i = 0; i < labels; ++i) {
        if (order[i].label != label[last] || (last == 0 && vote == Vote::values)) label[++last] = order[i].label;
        rank[order[i].value] = last;
    }
    return last;
}

// Two labels: voxels are bits, and the votes for value 1 are added up in the nibbles of a word, each for one of the
// 16 output voxels of two slices. Bit 3 of a nibble tells whether they reach a threshold of 1..8.
inline void vote_bits(const uint8_t *values, const uint64_t *local, Vote vote, uint64_t *winner) {
    const uint64_t none = local[0], one = local[1];
    const uint64_t threshold = vote == Vote::values ? (one > none ? 4 : 5)
                               : none == 0          ? 1
                               : one == 0           ? 8
                               : one < none         ? 4
                                                    : 5;
    const uint64_t missing = (8 - threshold) * 0x1111111111111111ULL;
    for (int z = 0; z < 4; ++z, values += 16, winner += 16) {
        uint64_t even = 0, odd = 0;                    // outputs of even and odd x, a row in each byte
        for (int slice = 0; slice < 2; ++slice) {
            const uint64_t word = load64(values + 8 * slice);
            const uint64_t pairs = (word & 0x5555555555555555ULL) + (word >> 1 & 0x5555555555555555ULL);
            odd += pairs & 0x3333333333333333ULL;
            even += pairs >> 2 & 0x3333333333333333ULL;
        }
        // Two rows make one, in every other byte; the bytes between take the odd outputs.
        even = (even + (even >> 8)) & 0x00ff00ff00ff00ffULL;
        odd = (odd + (odd >> 8)) & 0x00ff00ff00ff00ffULL;
        const uint64_t won = (even | odd << 8) + missing;
        for (int y = 0; y < 4; ++y) {                  // of a byte's two outputs the first one is the higher nibble
            const uint64_t row = won >> 16 * y;
            winner[4 * y] = row & 0x80 ? one : none;
            winner[4 * y + 1] = row & 0x8000 ? one : none;
            winner[4 * y + 2] = row & 0x08 ? one : none;
            winner[4 * y + 3] = row & 0x0800 ? one : none;
        }
    }
}

inline Bytes even_rows(Bytes a, Bytes b) {             // rows of four
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
}

inline Bytes odd_rows(Bytes a, Bytes b) {
    return __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
}

// Up to 15 labels: 16 output voxels at a time, whose eight ranks lie in eight vectors. A vote is worth 16 and a rank
// costs itself, so the largest sum is the winner; rank 0 gets no votes.
inline void vote_ranks(const uint8_t *rank, uint8_t *winner) {
    for (int z = 0; z < 4; ++z, winner += 16) {
        Bytes candidate[8], votes[8];
        for (int slice = 0; slice < 2; ++slice, rank += 64) {
            Bytes row[4];
            for (int i = 0; i < 4; ++i) row[i] = load_bytes(rank + 16 * i);
            for (int x = 0; x < 2; ++x) {
                const Bytes low = x ? odd_bytes(row[0], row[1]) : even_bytes(row[0], row[1]);
                const Bytes high = x ? odd_bytes(row[2], row[3]) : even_bytes(row[2], row[3]);
                candidate[4 * slice + x] = even_rows(low, high);
                candidate[4 * slice + 2 + x] = odd_rows(low, high);
            }
        }
#pragma GCC unroll 8
        for (int k = 0; k < 8; ++k) votes[k] = all(1);
#pragma GCC unroll 8
        for (int k = 0; k < 8; ++k) {
#pragma GCC unroll 8
            for (int j = 0; j < k; ++j) {
                const Bytes same = bytes_of(candidate[k] == candidate[j]);   // 255 where they are
                votes[k] -= same;
                votes[j] -= same;
            }
        }
        Bytes best{};
#pragma GCC unroll 8
        for (int k = 0; k < 8; ++k) {
            const Bytes score = (votes[k] << 4) + (all(15) - candidate[k]);
            const Bytes counted = score & bytes_of(candidate[k] != Bytes{});
            best = counted > best ? counted : best;
        }
        const Bytes won = (all(15) - (best & all(15))) & bytes_of(best != Bytes{});
        store_bytes(winner, won);
    }
}

typedef uint16_t Words __attribute__((vector_size(16)));

// Any number of labels, eight output voxels (two rows) at a time: a vote is worth 1024, so the sums stay below 2^14.
inline void vote_any(const uint16_t *rank, uint16_t *winner) {
    for (int pair = 0; pair < 8; ++pair, winner += 8) {
        const uint16_t *corner = rank + (pair >> 1) * 128 + (pair & 1) * 32;
        Words candidate[8], votes[8];
        for (int k = 0; k < 4; ++k) {              // of two slices two rows, for each of the two output rows
            Words first, second;
            std::memcpy(&first, corner + (k >> 1) * 64 + (k & 1) * 8, 16);
            std::memcpy(&second, corner + (k >> 1) * 64 + (k & 1) * 8 + 16, 16);
            candidate[2 * k] = __builtin_shufflevector(first, second, 0, 2, 4, 6, 8, 10, 12, 14);
            candidate[2 * k + 1] = __builtin_shufflevector(first, second, 1, 3, 5, 7, 9, 11, 13, 15);
        }
#pragma GCC unroll 8
        for (int k = 0; k < 8; ++k) votes[k] = Words{} + 1;
#pragma GCC unroll 8
        for (int k = 0; k < 8; ++k) {
#pragma GCC unroll 8
            for (int j = 0; j < k; ++j) {
                const Words same = (Words)(candidate[k] == candidate[j]);    // 65535 where they are
                votes[k] -= same;
                votes[j] -= same;
            }
        }
        Words best{};
#pragma GCC unroll 8
        for (int k = 0; k < 8; ++k) {
            const Words score = (votes[k] << 10) + (1023 - candidate[k]);
            const Words counted = score & (Words)(candidate[k] != Words{});
            best = counted > best ? counted : best;
        }
        const Words won = (1023 - (best & 1023)) & (Words)(best != Words{});
        std::memcpy(winner, &won, 16);
    }
}

}  // namespace detail

// Writes the 4x4x4 labels that a sub-block of a finer scale becomes; sy and sz are the strides in labels.
inline void halve(const Block &block, const SubBlock &sub, Vote vote, uint64_t *out, int sy, int sz) {
    uint64_t winner[64];
    if (sub.bits == 0) {
        std::fill(winner, winner + 64, sub.labels == 0 ? 0 : block.label(sub.position(0)));
    } else {
        uint64_t local[VOXELS];
        local_labels(block, sub, local);
        if (sub.bits == 1 && local[0] != local[1]) {
            detail::vote_bits(sub.values, local, vote, winner);
        } else {
            uint64_t label[VOXELS + 1];
            uint16_t rank[VOXELS];
            const uint32_t last = detail::rank_labels(local, sub.labels, vote, rank, label);
            if (sub.bits <= 8 && last <= 15) {
                uint8_t value[VOXELS], narrow[256], ranks[VOXELS], best[64];
                unpack(sub, value);
                for (uint32_t i = 0; i < sub.labels; ++i) narrow[i] = static_cast<uint8_t>(rank[i]);
                detail::map_bytes(value, VOXELS, narrow, sub.labels, ranks);
                detail::vote_ranks(ranks, best);
                for (int i = 0; i < 64; ++i) winner[i] = label[best[i]];
            } else {
                uint16_t value[VOXELS], best[64];
                unpack(sub, value);
                for (uint16_t &v : value) v = rank[v];
                detail::vote_any(value, best);
                for (int i = 0; i < 64; ++i) winner[i] = label[best[i]];
            }
        }
    }
    for (int z = 0; z < 4; ++z)
        for (int y = 0; y < 4; ++y) std::memcpy(out + z * sz + y * sy, winner + 16 * z + 4 * y, 32);
}

}  // namespace dvidcore
