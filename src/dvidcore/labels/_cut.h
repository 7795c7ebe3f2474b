// Runs of a volume cut into the pieces that lie in given blocks.
#pragma once

#include <algorithm>
#include <vector>

#include "_run.h"

namespace dvidcore {

// A block coordinate: a row of an int32 array (n, 3).
struct BlockAt {
    int32_t z, y, x;
};
static_assert(sizeof(BlockAt) == 12, "a BlockAt is a row of an int32 array (n, 3)");

inline int64_t floor_div(int64_t a, int64_t b) {
    const int64_t q = a / b;
    return q * b > a ? q - 1 : q;
}

class BlockCutter {
public:
    std::vector<int64_t> starts;          // by block: its first piece; one more at the end
    int64_t outside = -1;                 // the first run that leaves the blocks, -1 for none
    uint64_t voxels_outside = 0;

    // `shape` is z, y, x of a block in voxels; the blocks ascend strictly by z, y, x.
    BlockCutter(const BlockAt *blocks, size_t n, const int64_t *shape) : blocks_(blocks), n_(n), shape_(shape) {
        for (size_t i = 1; i < n; ++i)
            if (!before(blocks[i - 1], blocks[i].z, blocks[i].y, blocks[i].x))
                throw std::invalid_argument("block coordinates must ascend strictly by z, y, x");
    }

    // Counts the pieces: `starts` are set. O(runs + pieces), where runs of one row of blocks follow each other.
    void measure(const Run *runs, size_t n) {
        check_runs(runs, n);
        starts.assign(n_ + 1, 0);
        for (size_t i = 0; i < n; ++i) {
            int64_t covered = 0;
            each(runs[i], [&](size_t block, int64_t, int64_t length) {
                ++starts[block + 1];
                covered += length;
            });
            if (covered < runs[i].length) {
                if (outside < 0) outside = static_cast<int64_t>(i);
                voxels_outside += static_cast<uint64_t>(runs[i].length - covered);
            }
        }
        for (size_t k = 0; k < n_; ++k) starts[k + 1] += starts[k];
    }

    // Writes the starts[n_] pieces, in voxels of their blocks; those of one block in the order of the runs.
    void cut(const Run *runs, size_t n, Run *out) {
        std::vector<int64_t> next(starts.begin(), starts.end() - 1);
        for (size_t i = 0; i < n; ++i) {
            const int32_t y = local(runs[i].y, shape_[1]), z = local(runs[i].z, shape_[0]);
            each(runs[i], [&](size_t block, int64_t x, int64_t length) {
                out[next[block]++] = {static_cast<int32_t>(x), y, z, static_cast<int32_t>(length)};
            });
        }
    }

private:
    const BlockAt *blocks_;
    size_t n_;
    const int64_t *shape_;
    size_t first_ = 0, last_ = 0;         // the row of blocks that was looked up last: [first_, last_)
    size_t hint_ = 0;
    int64_t row_z_ = 0, row_y_ = 0;
    bool looked_ = false;

    static bool before(const BlockAt &a, int64_t z, int64_t y, int64_t x) {
        return a.z != z ? a.z < z : a.y != y ? a.y < y : a.x < x;
    }

    static int32_t local(int64_t at, int64_t side) { return static_cast<int32_t>(at - floor_div(at, side) * side); }

    size_t lower(int64_t z, int64_t y, int64_t x) const {
        size_t low = 0, high = n_;
        while (low < high) {
            const size_t middle = low + (high - low) / 2;
            if (before(blocks_[middle], z, y, x))
                low = middle + 1;
            else
                high = middle;
        }
        return low;
    }

    void find_row(int64_t z, int64_t y) {
        if (looked_ && z == row_z_ && y == row_y_) return;
        first_ = hint_ = lower(z, y, INT32_LOWEST - 1);
        last_ = lower(z, y, INT32_HIGHEST + 1);
        row_z_ = z;
        row_y_ = y;
        looked_ = true;
    }

    // Calls use(block, x in it, length) for each block that a run meets.
    template <typename Use> void each(const Run &run, const Use &use) {
        const int64_t side = shape_[2], stop = run.stop(), bx = floor_div(run.x, side);
        find_row(floor_div(run.z, shape_[0]), floor_div(run.y, shape_[1]));
        // Most runs begin in the block of the last one, or in the next.
        if (hint_ == last_ || blocks_[hint_].x > bx || (hint_ + 1 < last_ && blocks_[hint_ + 1].x <= bx)) {
            const BlockAt *at = std::lower_bound(
                blocks_ + first_, blocks_ + last_, bx, [](const BlockAt &a, int64_t x) { return a.x < x; });
            hint_ = static_cast<size_t>(at - blocks_);
        }
        for (size_t k = hint_; k < last_; ++k) {
            const int64_t begin = static_cast<int64_t>(blocks_[k].x) * side;
            if (begin >= stop) break;
            const int64_t from = std::max<int64_t>(run.x, begin), to = std::min(stop, begin + side);
            if (from < to) use(k, from - begin, to - from);
        }
    }
};

}  // namespace dvidcore
