// Neuroglancer's compressed_segmentation, one channel of uint64, sub-blocks of 8x8x8:
// https://github.com/google/neuroglancer/tree/master/src/sliceview/compressed_segmentation
#pragma once

#include <cstdint>
#include <vector>

#include "_encode.h"

namespace dvidcore {

class Segmentation {
public:
    // `words` begins with the number of channels' offsets (1), then the channel: two words for each sub-block.
    explicit Segmentation(size_t subblocks) : words(1 + 2 * subblocks, 0), header_(1) { words[0] = 1; }
    Segmentation() : Segmentation(0) {}

    std::vector<uint32_t> words;

    // Takes the sub-blocks in order; sy and sz are the strides of y and z in bytes.
    void add(const uint8_t *voxels, int64_t sy, int64_t sz) {
        number_voxels(voxels, sy, sz, local_);
        const uint32_t bits = encoded_bits(local_.labels);
        const size_t values = words.size() - 1;            // offsets count from the start of the channel
        switch (bits) {
            case 1: pack<1>(); break;
            case 2: pack<2>(); break;
            case 4: pack<4>(); break;
            case 8: pack<8>(); break;
            case 16: pack<16>(); break;
        }
        const size_t table = words.size() - 1;
        if (table >= size_t(1) << 24)
            corrupt("the volume is too large for compressed_segmentation: a table lies at word %zu, beyond 24 bits",
                    table);
        for (uint32_t i = 0; i < local_.labels; ++i) {
            words.push_back(static_cast<uint32_t>(local_.label[i]));
            words.push_back(static_cast<uint32_t>(local_.label[i] >> 32));
        }
        words[header_++] = static_cast<uint32_t>(table) | bits << 24;
        words[header_++] = static_cast<uint32_t>(values);
    }

private:
    size_t header_;
    Local local_;

    static uint32_t encoded_bits(uint32_t labels) {
        return labels <= 1 ? 0 : labels <= 2 ? 1 : labels <= 4 ? 2 : labels <= 16 ? 4 : labels <= 256 ? 8 : 16;
    }

    // Least significant bits first.
    template <int BITS> void pack() {
        constexpr int each = 32 / BITS;
        const size_t at = words.size();
        words.resize(at + VOXELS / each);
        for (int i = 0; i < VOXELS / each; ++i) {
            uint32_t word = 0;
            for (int k = 0; k < each; ++k) word |= static_cast<uint32_t>(local_.value[each * i + k]) << BITS * k;
            words[at + static_cast<size_t>(i)] = word;
        }
    }
};

}  // namespace dvidcore
