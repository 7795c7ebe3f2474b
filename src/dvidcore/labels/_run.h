// One run of a sparse volume and the order that all run arrays keep.
//
// A run is `length` voxels along x from (x, y, z): the span of DVID's "rles" format, so an int32 array (n, 4) of a
// request body is an array of Run. Everything here works in 64 bits where a sum may leave 32.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

namespace dvidcore {

struct Run {
    int32_t x, y, z, length;

    int64_t stop() const { return int64_t(x) + length; }
    // Rows ascend as (z, y) does: the sign bits are flipped so that one unsigned comparison decides.
    uint64_t row() const { return uint64_t(uint32_t(z) ^ 0x80000000u) << 32 | (uint32_t(y) ^ 0x80000000u); }
};
static_assert(sizeof(Run) == 16, "a Run is a row of an int32 array (n, 4)");

constexpr int64_t INT32_LOWEST = std::numeric_limits<int32_t>::min();
constexpr int64_t INT32_HIGHEST = std::numeric_limits<int32_t>::max();

struct RunBefore {
    bool operator()(const Run& a, const Run& b) const {
        const uint64_t p = a.row(), q = b.row();
        return p != q ? p < q : a.x < b.x;
    }
};

inline void check_runs(const Run* runs, size_t n) {
    for (size_t i = 0; i < n; ++i) {
        if (runs[i].length < 1)
            throw std::invalid_argument("run " + std::to_string(i) + " has length " + std::to_string(runs[i].length));
        if (runs[i].stop() - 1 > INT32_HIGHEST)
            throw std::invalid_argument("run " + std::to_string(i) + " ends beyond x = 2147483647");
    }
}

inline int32_t joined_length(int64_t start, int64_t stop) {
    // Two valid runs that touch may cover more than 2^31 - 1 voxels, which no row can say.
    if (stop - start > INT32_HIGHEST) throw std::invalid_argument("a joined run is longer than 2147483647 voxels");
    return int32_t(stop - start);
}

// The voxels of one row, given from left to right as bits, as the positions where they change: runs are the pairs of
// these. Finding changes takes one loop without a branch on what they mean, which random bits would mispredict.
class RowEdges {
  public:
    explicit RowEdges(size_t voxels) : edge_(voxels + 2) {}

    // Up to 64 voxels from x on, the first lowest.
    void add_bits(int64_t x, uint64_t bits, int voxels) {
        skip_to(x);
        uint64_t changes = bits ^ (bits << 1 | inside_);
        if (voxels < 64) changes &= (uint64_t(1) << voxels) - 1;
        for (; changes; changes &= changes - 1) edge_[size_++] = x + __builtin_ctzll(changes);
        inside_ = bits >> (voxels - 1) & 1;
        stop_ = x + voxels;
    }

    void add_all(int64_t x, int64_t voxels) {
        skip_to(x);
        if (!inside_) edge_[size_++] = x;
        inside_ = 1;
        stop_ = x + voxels;
    }

    // Appends the row's runs and begins another row.
    void finish(int64_t z, int64_t y, std::vector<Run>& out) {
        if (inside_) edge_[size_++] = stop_;
        const size_t first = out.size(), n = size_ / 2;
        out.resize(first + n);
        for (size_t i = 0; i < n; ++i) {
            const int64_t start = edge_[2 * i], stop = edge_[2 * i + 1];
            out[first + i] = {int32_t(start), int32_t(y), int32_t(z), joined_length(start, stop)};
        }
        size_ = 0;
        inside_ = 0;
    }

  private:
    void skip_to(int64_t x) {
        if (x == stop_) return;
        if (inside_) edge_[size_++] = stop_;
        inside_ = 0;
    }

    std::vector<int64_t> edge_;
    size_t size_ = 0;
    uint64_t inside_ = 0;
    int64_t stop_ = INT64_MIN;
};

// Runs in a buffer of the caller, or in one of our own where they had to be brought in order.
struct RunSpan {
    const Run* data = nullptr;
    size_t size = 0;
};

}  // namespace dvidcore
