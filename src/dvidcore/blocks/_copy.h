// Copying boxes of voxels between arrays.
#pragma once

#include <cstdint>
#include <cstring>

namespace dvidcore {

// A corner of a 3-d array whose rows are contiguous; strides in bytes.
struct Corner {
    uint8_t *data;
    int64_t sz, sy;
};

namespace detail {

template <size_t ROW> inline void copy_rows(const Corner &from, const Corner &to, int64_t nz, int64_t ny) {
    for (int64_t z = 0; z < nz; ++z)
        for (int64_t y = 0; y < ny; ++y)
            std::memcpy(to.data + z * to.sz + y * to.sy, from.data + z * from.sz + y * from.sy, ROW);
}

}  // namespace detail

// Copies nz x ny rows of `row` bytes. The common lengths are constants, so that no call is made for a short row.
inline void copy_rows(const Corner &from, const Corner &to, int64_t nz, int64_t ny, size_t row) {
    switch (row) {
        case 16: return detail::copy_rows<16>(from, to, nz, ny);
        case 32: return detail::copy_rows<32>(from, to, nz, ny);
        case 64: return detail::copy_rows<64>(from, to, nz, ny);
        case 128: return detail::copy_rows<128>(from, to, nz, ny);
    }
    for (int64_t z = 0; z < nz; ++z)
        for (int64_t y = 0; y < ny; ++y)
            std::memmove(to.data + z * to.sz + y * to.sy, from.data + z * from.sz + y * from.sy, row);
}

// The part [first, last) of block number `at` along an axis that lies in an array of `bound` voxels from `origin` on,
// in voxels of the block, whose own first voxel is at `start` of the array; false where there is none.
inline bool overlap(
    int64_t at, int64_t size, int64_t origin, int64_t bound, int64_t *start, int64_t *first, int64_t *last) {
    int64_t corner;
    // Voxels have 64-bit coordinates, so a block whose corner has none lies nowhere.
    if (__builtin_mul_overflow(at, size, &corner) || __builtin_sub_overflow(corner, origin, &corner)) return false;
    if (corner >= bound || corner <= -size) return false;
    *start = corner;
    *first = corner < 0 ? -corner : 0;
    *last = size < bound - corner ? size : bound - corner;
    return true;
}

}  // namespace dvidcore
