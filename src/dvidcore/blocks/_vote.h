// Down-sampling a sub-block: of each 2x2x2 voxels the most frequent label that is not 0, on a tie the smallest.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "_layout.h"

namespace dvidcore {
namespace detail {

// The voxels become ranks: their label's place among the sub-block's distinct labels in ascending order, counted
// from 1, and 0 for the label 0. So the votes for one label are counted together even where a palette repeats it,
// and the smaller rank is the smaller label. Fills rank (by voxel value) and label (by rank).
inline void rank_labels(const uint64_t *local, uint32_t labels, uint16_t *rank, uint64_t *label) {
    uint16_t order[VOXELS];
    for (uint32_t i = 0; i < labels; ++i) order[i] = static_cast<uint16_t>(i);
    std::sort(order, order + labels, [local](uint16_t a, uint16_t b) { return local[a] < local[b]; });
    uint16_t last = 0;
    label[0] = 0;
    for (uint32_t i = 0; i < labels; ++i) {
        const uint64_t next = local[order[i]];
        if (next != label[last]) label[++last] = next;
        rank[order[i]] = last;
    }
}

// candidate[k][i]: the rank of voxel k (of 8) under output voxel i (of 64).
// A vote is worth 512 and a rank costs itself, so the largest sum is the winner; 0 gets no votes.
inline void vote(const uint16_t candidate[8][64], uint16_t *winner) {
    for (int i = 0; i < 64; ++i) {
        uint16_t best = 0;
        for (int k = 0; k < 8; ++k) {
            const uint16_t rank = candidate[k][i];
            uint16_t votes = 0;
            for (int j = 0; j < 8; ++j) votes = static_cast<uint16_t>(votes + (candidate[j][i] == rank));
            const uint16_t score = static_cast<uint16_t>(rank == 0 ? 0 : votes * 1024 + 1023 - rank);
            best = score > best ? score : best;
        }
        winner[i] = static_cast<uint16_t>(best == 0 ? 0 : 1023 - best % 1024);
    }
}

}  // namespace detail

// Writes the 4x4x4 labels that a sub-block of a finer scale becomes; sy and sz are the strides in labels.
inline void halve(const Block &block, const SubBlock &sub, uint64_t *out, int sy, int sz) {
    if (sub.bits == 0) {
        const uint64_t label = sub.labels == 0 ? 0 : block.label(sub.position(0));
        for (int z = 0; z < 4; ++z)
            for (int y = 0; y < 4; ++y)
                for (int x = 0; x < 4; ++x) out[z * sz + y * sy + x] = label;
        return;
    }
    uint64_t local[VOXELS], label[VOXELS + 1];
    uint16_t rank[VOXELS], value[VOXELS], candidate[8][64], winner[64];
    local_labels(block, sub, local);
    detail::rank_labels(local, sub.labels, rank, label);
    unpack(sub, value);
    for (int z = 0; z < SIDE; ++z)
        for (int y = 0; y < SIDE; ++y)
            for (int x = 0; x < SIDE; ++x)
                candidate[(z & 1) * 4 + (y & 1) * 2 + (x & 1)][(z >> 1) * 16 + (y >> 1) * 4 + (x >> 1)] =
                    rank[value[z * 64 + y * 8 + x]];
    detail::vote(candidate, winner);
    for (int z = 0; z < 4; ++z)
        for (int y = 0; y < 4; ++y)
            for (int x = 0; x < 4; ++x) out[z * sz + y * sy + x] = label[winner[z * 16 + y * 4 + x]];
}

}  // namespace dvidcore
