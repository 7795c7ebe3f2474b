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

inline bool run_before(const Run& a, const Run& b) {
    const uint64_t p = a.row(), q = b.row();
    return p != q ? p < q : a.x < b.x;
}

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

// Runs in a buffer of the caller, or in one of our own where they had to be brought in order.
struct RunSpan {
    const Run* data = nullptr;
    size_t size = 0;
};

}  // namespace dvidcore
