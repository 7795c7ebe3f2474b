// Set operations on runs. "Canonical" = sorted by z, y, x, and no two runs overlap or touch: every set of voxels has
// exactly one canonical form, so equality of sets is equality of arrays.
#pragma once

#include <cstring>

#include "_run.h"

namespace dvidcore {

inline bool is_canonical(const Run* runs, size_t n) {
    for (size_t i = 1; i < n; ++i) {
        const uint64_t before = runs[i - 1].row(), row = runs[i].row();
        if (row < before || (row == before && runs[i].x <= runs[i - 1].stop())) return false;
    }
    return true;
}

// Answers the canonical form; `own` holds it if `runs` is not canonical already. O(n), or O(n log n) if unsorted.
inline RunSpan canonical_runs(const Run* runs, size_t n, std::vector<Run>& own) {
    check_runs(runs, n);
    if (is_canonical(runs, n)) return {runs, n};
    own.assign(runs, runs + n);
    if (!std::is_sorted(own.begin(), own.end(), run_before)) std::sort(own.begin(), own.end(), run_before);
    size_t last = 0;
    for (size_t i = 1; i < n; ++i) {
        if (own[i].row() == own[last].row() && own[i].x <= own[last].stop()) {
            own[last].length = joined_length(own[last].x, std::max(own[last].stop(), own[i].stop()));
        } else {
            own[++last] = own[i];
        }
    }
    own.resize(last + 1);
    return {own.data(), own.size()};
}

inline void intersect_runs(RunSpan a, RunSpan b, std::vector<Run>& out) {
    size_t i = 0, j = 0;
    while (i < a.size && j < b.size) {
        const Run &p = a.data[i], &q = b.data[j];
        if (p.row() != q.row()) {
            p.row() < q.row() ? ++i : ++j;
            continue;
        }
        const int64_t start = std::max(p.x, q.x), stop = std::min(p.stop(), q.stop());
        if (start < stop) out.push_back({int32_t(start), p.y, p.z, int32_t(stop - start)});
        p.stop() < q.stop() ? ++i : ++j;
    }
}

inline void subtract_runs(RunSpan a, RunSpan b, std::vector<Run>& out) {
    size_t j = 0;
    for (size_t i = 0; i < a.size; ++i) {
        const Run& p = a.data[i];
        const uint64_t row = p.row();
        int64_t start = p.x;
        while (j < b.size && (b.data[j].row() < row || (b.data[j].row() == row && b.data[j].stop() <= start))) ++j;
        // The last run that cuts p may reach into the next one: j stays on it.
        while (j < b.size && b.data[j].row() == row && b.data[j].x < p.stop()) {
            if (b.data[j].x > start) out.push_back({int32_t(start), p.y, p.z, int32_t(b.data[j].x - start)});
            start = b.data[j].stop();
            if (start >= p.stop()) break;
            ++j;
        }
        if (start < p.stop()) out.push_back({int32_t(start), p.y, p.z, int32_t(p.stop() - start)});
    }
}

// `minimum` and `maximum` are inclusive x, y, z.
inline void clip_runs(const Run* runs, size_t n, const int64_t* minimum, const int64_t* maximum,
                      std::vector<Run>& out) {
    check_runs(runs, n);
    for (size_t i = 0; i < n; ++i) {
        const Run& r = runs[i];
        if (r.z < minimum[2] || r.z > maximum[2] || r.y < minimum[1] || r.y > maximum[1]) continue;
        const int64_t start = std::max<int64_t>(r.x, minimum[0]), last = std::min(r.stop() - 1, maximum[0]);
        if (start <= last) out.push_back({int32_t(start), r.y, r.z, int32_t(last - start + 1)});
    }
}

inline uint64_t count_voxels(const Run* runs, size_t n) {
    check_runs(runs, n);
    uint64_t total = 0;
    for (size_t i = 0; i < n; ++i) total += uint64_t(runs[i].length);
    return total;
}

// Sets the voxels of `mask`, a zeroed C array (z, y, x) whose first voxel is at `start`; voxels outside are left out.
inline void paint_runs(const Run* runs, size_t n, const int64_t* start, const int64_t* shape, uint8_t* mask) {
    check_runs(runs, n);
    for (size_t i = 0; i < n; ++i) {
        const int64_t z = runs[i].z - start[0], y = runs[i].y - start[1], x = runs[i].x - start[2];
        if (z < 0 || z >= shape[0] || y < 0 || y >= shape[1]) continue;
        const int64_t first = std::max<int64_t>(x, 0), stop = std::min(x + runs[i].length, shape[2]);
        if (first < stop) std::memset(mask + (z * shape[1] + y) * shape[2] + first, 1, size_t(stop - first));
    }
}

// The first position from `at` where `row` is non-zero (or zero, if `set` is false), else `stop`.
// Eight bytes at a time: (w - 0x01..) & ~w & 0x80.. is non-zero exactly where w has a zero byte.
template <bool set>
inline int64_t find_byte(const uint8_t* row, int64_t at, int64_t stop) {
    for (; at + 8 <= stop; at += 8) {
        uint64_t w;
        std::memcpy(&w, row + at, 8);
        if (set ? w != 0 : ((w - 0x0101010101010101u) & ~w & 0x8080808080808080u) != 0) break;
    }
    while (at < stop && (row[at] != 0) != set) ++at;
    return at;
}

// The maximal runs of the non-zero bytes of a volume (z, y, x) with strides in bytes, contiguous along x.
inline void mask_runs(const uint8_t* mask, const int64_t* strides, const int64_t* shape, const int64_t* start,
                      std::vector<Run>& out) {
    for (int64_t z = 0; z < shape[0]; ++z) {
        for (int64_t y = 0; y < shape[1]; ++y) {
            const uint8_t* row = mask + z * strides[0] + y * strides[1];
            for (int64_t x = find_byte<true>(row, 0, shape[2]); x < shape[2];) {
                const int64_t stop = find_byte<false>(row, x, shape[2]);
                out.push_back({int32_t(start[2] + x), int32_t(start[1] + y), int32_t(start[0] + z), int32_t(stop - x)});
                x = find_byte<true>(row, stop, shape[2]);
            }
        }
    }
}

}  // namespace dvidcore
