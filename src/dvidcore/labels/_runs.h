// From coded blocks to runs, and to the binary blocks of a sparse volume.
#pragma once

#include "_mask.h"
#include "_run.h"

namespace dvidcore {

struct CodedBlock {
    const uint8_t* data;
    size_t size;
    int64_t z, y, x;  // of its first voxel
};

namespace detail {

// One block of a row of blocks along x, read a layer of sub-blocks (8 planes of voxels) at a time.
class LayerReader {
  public:
    LayerReader(const Block& block, int64_t x, const LabelSet& labels) : block_(block), cursor_(block), x_(x) {
        member_.of(block, labels);
    }

    void next_layer() {
        const uint32_t gx = block_.gx, gy = block_.gy;
        cover_ = Cover::NONE;
        if (member_.members == 0 && !member_.zero) return;
        if (block_.solid()) {
            cover_ = member_.members ? Cover::ALL : Cover::NONE;
            return;
        }
        uint32_t full = 0;
        SubBlock sub;
        uint8_t mask[64];
        for (uint32_t sy = 0; sy < gy; ++sy) {
            for (uint32_t sx = 0; sx < gx; ++sx) {
                cursor_.next(sub);
                const Cover cover = subblock_mask(sub, member_, mask);
                if (cover == Cover::NONE) continue;
                if (cover == Cover::ALL) {
                    ++full;
                    std::memset(mask, 0xff, sizeof mask);
                }
                if (cover_ == Cover::NONE) rows_.assign(size_t(8) * 8 * gy * gx, 0);
                cover_ = Cover::SOME;
                uint8_t* row = rows_.data() + size_t(8) * sy * gx + sx;
                const size_t plane = size_t(8) * gy * gx;
                for (int z = 0; z < 8; ++z)
                    for (int y = 0; y < 8; ++y) row[z * plane + size_t(y) * gx] = mask[8 * z + y];
            }
        }
        if (full == gx * gy) cover_ = Cover::ALL;
    }

    // Row y (voxels) of plane z of the present layer.
    void add_row(int z, uint32_t y, RowEdges& edges) const {
        if (cover_ == Cover::NONE) return;
        if (cover_ == Cover::ALL) return edges.add_all(x_, int64_t(block_.gx) * 8);
        const uint8_t* row = rows_.data() + (size_t(z) * 8 * block_.gy + y) * block_.gx;
        uint32_t at = 0;
        for (; at + 8 <= block_.gx; at += 8) edges.add_bits(x_ + 8 * at, load64(row + at), 64);
        if (at < block_.gx) {
            uint64_t rest = 0;
            std::memcpy(&rest, row + at, block_.gx - at);
            edges.add_bits(x_ + 8 * at, rest, int(8 * (block_.gx - at)));
        }
    }

  private:
    Block block_;
    Cursor cursor_;
    int64_t x_;
    Membership member_;
    Cover cover_ = Cover::NONE;
    std::vector<uint8_t> rows_;  // a bit per voxel, rows of gx bytes
};

inline void check_extent(int64_t first, int64_t side) {
    if (first < INT32_LOWEST || first + side - 1 > INT32_HIGHEST)
        throw std::invalid_argument("a block reaches beyond the coordinates of int32");
}

// The runs of blocks that differ only in x. `stops`: the size of `out` after each plane z.
inline void row_of_blocks(const CodedBlock* blocks, size_t n, const int64_t* shape, const LabelSet& labels,
                          std::vector<Run>& out, std::vector<size_t>& stops) {
    std::vector<LayerReader> readers;
    readers.reserve(n);
    for (size_t i = 0; i < n; ++i) {
        Block block;
        block.parse(blocks[i].data, blocks[i].size);
        if (block.gz * int64_t(8) != shape[0] || block.gy * int64_t(8) != shape[1] || block.gx * int64_t(8) != shape[2])
            corrupt("a label block of %u x %u x %u voxels (z, y, x) among blocks of %d x %d x %d", block.gz * 8,
                    block.gy * 8, block.gx * 8, int(shape[0]), int(shape[1]), int(shape[2]));
        check_extent(blocks[i].z, shape[0]);
        check_extent(blocks[i].y, shape[1]);
        check_extent(blocks[i].x, shape[2]);
        readers.emplace_back(block, blocks[i].x, labels);
    }
    RowEdges edges(n * size_t(shape[2]));
    for (int64_t layer = 0; layer < shape[0]; layer += 8) {
        for (LayerReader& reader : readers) reader.next_layer();
        for (int z = 0; z < 8; ++z) {
            for (int64_t y = 0; y < shape[1]; ++y) {
                for (const LayerReader& reader : readers) reader.add_row(z, uint32_t(y), edges);
                edges.finish(blocks->z + layer + z, blocks->y + y, out);
            }
            stops.push_back(out.size());
        }
    }
}

}  // namespace detail

// `blocks` ascend by z, y, x; all are of `shape` (z, y, x voxels). Appends the canonical runs of all.
// O(voxels of the sub-blocks that mix the labels with others / 8 + sub-blocks + runs).
inline void runs_of_blocks(const std::vector<CodedBlock>& blocks, const int64_t* shape, const LabelSet& labels,
                           std::vector<Run>& out) {
    std::vector<Run> slab;
    std::vector<size_t> stops;
    for (size_t first = 0; first < blocks.size();) {
        // A slab of blocks of one z is done row by row of blocks, but its runs go plane by plane.
        slab.clear();
        stops.clear();
        size_t rows = 0;
        const int64_t z = blocks[first].z;
        while (first < blocks.size() && blocks[first].z == z) {
            size_t stop = first + 1;
            while (stop < blocks.size() && blocks[stop].z == z && blocks[stop].y == blocks[first].y) ++stop;
            detail::row_of_blocks(&blocks[first], stop - first, shape, labels, slab, stops);
            first = stop;
            ++rows;
        }
        if (rows == 1) {
            out.insert(out.end(), slab.begin(), slab.end());
            continue;
        }
        for (int64_t plane = 0; plane < shape[0]; ++plane) {
            for (size_t row = 0; row < rows; ++row) {
                const size_t at = row * size_t(shape[0]) + size_t(plane);
                out.insert(out.end(), slab.begin() + ptrdiff_t(at ? stops[at - 1] : 0), slab.begin() + ptrdiff_t(stops[at]));
            }
        }
    }
}

inline void block_shape(const uint8_t* data, size_t size, int64_t* shape) {
    Block block;
    block.parse(data, size);
    shape[0] = block.gz * 8, shape[1] = block.gy * 8, shape[2] = block.gx * 8;
}

// One block of the sparsevol "blocks" format, from its content flag on.
inline void binary_block(const uint8_t* data, size_t size, const LabelSet& labels, std::vector<uint8_t>& out) {
    Block block;
    block.parse(data, size);
    Membership member;
    member.of(block, labels);
    out.push_back(uint8_t(Cover::SOME));
    Cursor cursor(block);
    uint32_t none = 0, all = 0;
    uint8_t mask[64];
    for (SubBlock sub; cursor.next(sub);) {
        Cover cover = subblock_mask(sub, member, mask);
        if (cover == Cover::SOME) {
            // Listed labels need not occur: what is uniform is said in one byte.
            uint64_t any = 0, every = ~uint64_t(0);
            for (int i = 0; i < 64; i += 8) any |= load64(mask + i), every &= load64(mask + i);
            cover = any == 0 ? Cover::NONE : every == ~uint64_t(0) ? Cover::ALL : Cover::SOME;
        }
        out.push_back(uint8_t(cover));
        if (cover == Cover::SOME) out.insert(out.end(), mask, mask + 64);
        none += cover == Cover::NONE;
        all += cover == Cover::ALL;
    }
    if (none == block.subblocks || all == block.subblocks) out.assign(1, uint8_t(none ? Cover::NONE : Cover::ALL));
}

}  // namespace dvidcore
