// Which palette entries of a block are among given labels.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "_encode.h"
#include "_layout.h"

namespace dvidcore {

// Sets wanted[i] to 1 where palette entry i is one of the `n` labels, else 0; wanted[entries] tells the same of the
// label 0, which sub-blocks without labels stand for. Answers whether any is set.
// O(entries log n) for ascending labels, else O(entries + n).
inline bool select_entries(const Block &block, const uint64_t *labels, size_t n, std::vector<uint8_t> &wanted) {
    const size_t entries = block.entries;
    wanted.assign(entries + 1, 0);
    if (std::is_sorted(labels, labels + n)) {
        for (size_t i = 0; i <= entries; ++i)
            wanted[i] = std::binary_search(labels, labels + n, i < entries ? block.label(static_cast<uint32_t>(i)) : 0);
    } else {
        LabelTable table;
        std::vector<uint32_t> number(entries + 1);
        for (size_t i = 0; i <= entries; ++i)
            number[i] = table.number(i < entries ? block.label(static_cast<uint32_t>(i)) : 0);
        std::vector<uint8_t> found(table.labels.size(), 0);
        for (size_t i = 0; i < n; ++i) {
            const int64_t at = table.find(labels[i]);
            if (at >= 0) found[static_cast<size_t>(at)] = 1;
        }
        for (size_t i = 0; i <= entries; ++i) wanted[i] = found[number[i]];
    }
    return std::find(wanted.begin(), wanted.end(), 1) != wanted.end();
}

// The same flags for the labels of one sub-block, by voxel value. Answers how many are set.
inline uint32_t select_local(
    const Block &block, const SubBlock &sub, const std::vector<uint8_t> &wanted, uint8_t *out) {
    if (sub.labels == 0) return out[0] = wanted[block.entries];
    uint32_t set = 0;
    for (uint32_t i = 0; i < sub.labels; ++i) set += out[i] = wanted[sub.position(i)];
    return set;
}

}  // namespace dvidcore
