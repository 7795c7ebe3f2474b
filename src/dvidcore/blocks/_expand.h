// From a coded sub-block to its 8x8x8 voxels.
#pragma once

#include <cstdint>
#include <cstring>

#include "_layout.h"

namespace dvidcore {

// Writes the uint64 labels of a sub-block at `out`; sy and sz are the strides of y and z in bytes.
inline void expand(const Block &block, const SubBlock &sub, uint8_t *out, int64_t sy, int64_t sz) {
    if (sub.bits == 0) {
        const uint64_t label = sub.labels == 0 ? 0 : block.label(sub.position(0));
        for (int z = 0; z < SIDE; ++z)
            for (int y = 0; y < SIDE; ++y)
                for (int x = 0; x < SIDE; ++x) store64(out + z * sz + y * sy + 8 * x, label);
        return;
    }
    uint64_t table[VOXELS];
    local_labels(block, sub, table);
    uint16_t wide[VOXELS];
    uint8_t narrow[VOXELS];
    const bool bytes = sub.bits <= 8;
    if (bytes) unpack(sub, narrow);
    else unpack(sub, wide);
    for (int z = 0; z < SIDE; ++z) {
        for (int y = 0; y < SIDE; ++y) {
            uint8_t *row = out + z * sz + y * sy;
            const int at = 64 * z + 8 * y;
            if (bytes)
                for (int x = 0; x < SIDE; ++x) store64(row + 8 * x, table[narrow[at + x]]);
            else
                for (int x = 0; x < SIDE; ++x) store64(row + 8 * x, table[wide[at + x]]);
        }
    }
}

// Writes a byte for each voxel of a sub-block: flag[voxel value], or flag[0] where it has one label or none.
inline void expand_flags(const SubBlock &sub, const uint8_t *flag, uint8_t *out, int64_t sy, int64_t sz) {
    uint16_t value[VOXELS];
    uint8_t flags[VOXELS];
    if (sub.bits == 0) {
        std::memset(flags, flag[0], VOXELS);
    } else {
        unpack(sub, value);
        for (int i = 0; i < VOXELS; ++i) flags[i] = flag[value[i]];
    }
    for (int z = 0; z < SIDE; ++z)
        for (int y = 0; y < SIDE; ++y) std::memcpy(out + z * sz + y * sy, flags + 64 * z + 8 * y, SIDE);
}

}  // namespace dvidcore
