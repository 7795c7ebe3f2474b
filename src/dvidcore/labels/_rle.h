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
    if (!std::is_sorted(own.begin(), own.end(), RunBefore())) std::sort(own.begin(), own.end(), RunBefore());
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

// Eight bytes -> eight bits, the first byte lowest, each 1 where the byte is not 0.
inline uint64_t nonzero_bits(uint64_t bytes) {
    const uint64_t high = ((bytes & 0x7f7f7f7f7f7f7f7fu) + 0x7f7f7f7f7f7f7f7fu) | bytes;
    return ((high >> 7 & 0x0101010101010101u) * 0x0102040810204080u) >> 56;
}

// The maximal runs of the non-zero bytes of a volume (z, y, x) with strides in bytes, contiguous along x.
inline void mask_runs(const uint8_t* mask, const int64_t* strides, const int64_t* shape, const int64_t* start,
                      std::vector<Run>& out) {
    RowEdges edges{size_t(shape[2])};
    for (int64_t z = 0; z < shape[0]; ++z) {
        for (int64_t y = 0; y < shape[1]; ++y) {
            const uint8_t* row = mask + z * strides[0] + y * strides[1];
            int64_t x = 0;
            for (; x + 64 <= shape[2]; x += 64) {
                uint64_t bytes[8], bits = 0;
                std::memcpy(bytes, row + x, 64);
                for (int i = 0; i < 8; ++i) bits |= nonzero_bits(bytes[i]) << (8 * i);
                edges.add_bits(start[2] + x, bits, 64);
            }
            if (x < shape[2]) {
                const int rest = int(shape[2] - x);
                uint64_t bytes[8] = {}, bits = 0;
                std::memcpy(bytes, row + x, size_t(rest));
                for (int i = 0; i < 8; ++i) bits |= nonzero_bits(bytes[i]) << (8 * i);
                edges.add_bits(start[2] + x, bits, rest);
            }
            edges.finish(start[0] + z, start[1] + y, out);
        }
    }
}

}  // namespace dvidcore
