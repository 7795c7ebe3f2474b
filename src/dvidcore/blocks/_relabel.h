// Giving the voxels of some labels other labels, by whether they lie in runs, on the coded block.
//
// A sub-block that lists none of the labels is copied. One that does, but lies wholly inside or outside of the runs, gets
// other entries in its list and keeps its values. Only a sub-block that a run divides is decoded and coded again.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "_count.h"
#include "_encode.h"
#include "_layout.h"

namespace dvidcore {

// Runs as a bit for each voxel: a byte for each row of 8, 64 bytes for each sub-block.
class Marks {
public:
    static constexpr int64_t ALL_WITHIN = -1;

    // `runs` are n rows of x, y, z, length in voxels of the block. Answers the first that is not within it, or ALL_WITHIN.
    int64_t set(const Block &block, const int32_t *runs, int64_t n) {
        rows_.assign(static_cast<size_t>(block.subblocks) * 64, 0);
        for (int64_t i = 0; i < n; ++i, runs += 4) {
            const int64_t first = runs[0], y = runs[1], z = runs[2], stop = first + runs[3];
            if (runs[3] < 1 || first < 0 || y < 0 || z < 0) return i;
            if (stop > SIDE * int64_t(block.gx) || y >= SIDE * int64_t(block.gy) || z >= SIDE * int64_t(block.gz)) return i;
            uint8_t *row = rows_.data() + ((z >> 3) * block.gy + (y >> 3)) * block.gx * 64 + (z & 7) * 8 + (y & 7);
            const int64_t a = first >> 3, b = (stop - 1) >> 3;
            const unsigned from = 0xffu << (first & 7) & 0xff, to = 0xffu >> (7 - ((stop - 1) & 7));
            if (a == b) {
                row[64 * a] |= static_cast<uint8_t>(from & to);
                continue;
            }
            row[64 * a] |= static_cast<uint8_t>(from);
            for (int64_t x = a + 1; x < b; ++x) row[64 * x] = 0xff;
            row[64 * b] |= static_cast<uint8_t>(to);
        }
        return ALL_WITHIN;
    }

    const uint8_t *of(uint32_t subblock) const { return rows_.data() + 64 * static_cast<size_t>(subblock); }

    // Voxels that are marked, each once.
    uint64_t count() const {
        uint64_t total = 0;
        for (size_t i = 0; i < rows_.size(); i += 8) total += static_cast<uint64_t>(__builtin_popcountll(load64(&rows_[i])));
        return total;
    }

private:
    std::vector<uint8_t> rows_;
};

// What becomes of label `old[i]`: `inside[i]` in the runs, `outside[i]` elsewhere. No label is listed twice in `old`.
struct Relabelling {
    const uint64_t *old, *inside, *outside;
    size_t n;
};

class Relabeller {
public:
    // Voxels of each old label in the runs and elsewhere: voxels[2 * i] and voxels[2 * i + 1].
    std::vector<uint64_t> voxels;

    // Writes the block into the encoder, which was started for it.
    void run(const Block &block, const Marks &marks, const Relabelling &change, Encoder &encoder) {
        voxels.assign(2 * change.n, 0);
        look_up(block, change);
        Cursor cursor(block);
        SubBlock sub;
        for (uint32_t i = 0; cursor.next(sub); ++i) {
            if (!lists_old(block, sub)) {
                encoder.add(block, sub);
                continue;
            }
            const uint8_t *marked = marks.of(i);
            uint64_t any = 0, all = ~uint64_t(0);
            for (int k = 0; k < 64; k += 8) {
                any |= load64(marked + k);
                all &= load64(marked + k);
            }
            const int side = any == 0 ? OUTSIDE : ~all == 0 ? INSIDE : -1;
            if (side >= 0 && !collides(block, sub, palette_[side])) {
                count(block, sub, side);
                rename(block, sub, palette_[side], encoder);
            } else {
                divide(block, sub, marked, encoder);
            }
        }
    }

private:
    static constexpr int INSIDE = 0, OUTSIDE = 1;
    static constexpr uint32_t FEW = 32;
    static constexpr uint32_t NONE = ~uint32_t(0);

    std::vector<uint32_t> number_;        // by palette entry: which old label it is, or NONE; last: that of the label 0
    std::vector<uint64_t> palette_[2];    // by palette entry: the label in the runs, and elsewhere
    LabelTable table_;

    void look_up(const Block &block, const Relabelling &change) {
        const size_t entries = block.entries;
        number_.assign(entries + 1, NONE);
        for (auto &palette : palette_) palette.resize(entries + 1);
        table_.clear();
        for (size_t i = 0; i < change.n; ++i) table_.number(change.old[i]);
        for (size_t p = 0; p <= entries; ++p) {
            const uint64_t label = p < entries ? block.label(static_cast<uint32_t>(p)) : 0;
            const int64_t at = change.n == 1 ? (label == change.old[0] ? 0 : -1) : table_.find(label);
            number_[p] = at < 0 ? NONE : static_cast<uint32_t>(at);
            palette_[INSIDE][p] = at < 0 ? label : change.inside[at];
            palette_[OUTSIDE][p] = at < 0 ? label : change.outside[at];
        }
    }

    // The palette entry of a voxel value; a sub-block without labels has the label 0.
    static uint32_t entry(const Block &block, const SubBlock &sub, uint32_t value) {
        return sub.labels == 0 ? block.entries : sub.position(value);
    }

    bool lists_old(const Block &block, const SubBlock &sub) const {
        if (sub.labels == 0) return number_[block.entries] != NONE;
        for (uint32_t i = 0; i < sub.labels; ++i)
            if (number_[sub.position(i)] != NONE) return true;
        return false;
    }

    // Whether renaming could list a label twice.
    bool collides(const Block &block, const SubBlock &sub, const std::vector<uint64_t> &palette) const {
        if (sub.labels < 2) return false;
        if (sub.labels > FEW) return true;
        for (uint32_t i = 0; i < sub.labels; ++i) {
            const uint32_t p = sub.position(i);
            if (number_[p] == NONE || palette[p] == block.label(p)) continue;
            for (uint32_t k = 0; k < sub.labels; ++k)
                if (k != i && palette[sub.position(k)] == palette[p]) return true;
        }
        return false;
    }

    void count(const Block &block, const SubBlock &sub, int side) {
        uint32_t local[VOXELS];
        histogram(sub, local);
        for (uint32_t i = 0; i < (sub.labels ? sub.labels : 1); ++i) {
            const uint32_t number = number_[entry(block, sub, i)];
            if (number != NONE) voxels[2 * static_cast<size_t>(number) + side] += local[i];
        }
    }

    static void rename(
        const Block &block, const SubBlock &sub, const std::vector<uint64_t> &palette, Encoder &encoder) {
        if (sub.labels == 0)
            encoder.add_solid(palette[block.entries]);
        else
            encoder.add(sub, palette.data());
    }

    void divide(const Block &block, const SubBlock &sub, const uint8_t *marked, Encoder &encoder) {
        const uint32_t labels = sub.labels ? sub.labels : 1;
        uint64_t label[2][VOXELS], out[VOXELS];
        uint16_t value[VOXELS];
        uint32_t found[2][VOXELS];
        for (uint32_t i = 0; i < labels; ++i) {
            const uint32_t p = entry(block, sub, i);
            label[INSIDE][i] = palette_[INSIDE][p];
            label[OUTSIDE][i] = palette_[OUTSIDE][p];
            found[INSIDE][i] = found[OUTSIDE][i] = 0;
        }
        unpack(sub, value);
        for (int i = 0; i < VOXELS; ++i) {
            const int side = marked[i >> 3] >> (i & 7) & 1 ? INSIDE : OUTSIDE;
            out[i] = label[side][value[i]];
            ++found[side][value[i]];
        }
        for (uint32_t i = 0; i < labels; ++i) {
            const uint32_t number = number_[entry(block, sub, i)];
            if (number == NONE) continue;
            voxels[2 * static_cast<size_t>(number)] += found[INSIDE][i];
            voxels[2 * static_cast<size_t>(number) + 1] += found[OUTSIDE][i];
        }
        encoder.add(reinterpret_cast<const uint8_t *>(out), 8 * SIDE, 8 * SIDE * SIDE);
    }
};

// The labels of the voxels of the runs, in order of first appearance, and how many voxels each has; `runs` were checked
// by Marks. A voxel of several runs counts in each.
inline void labels_along(
    const Block &block, const int32_t *runs, int64_t n, LabelTable &table, std::vector<uint64_t> &voxels) {
    std::vector<SubBlock> subs;
    index_subblocks(block, subs);
    voxels.clear();
    for (int64_t i = 0; i < n; ++i, runs += 4) {
        const int64_t y = runs[1], z = runs[2], stop = int64_t(runs[0]) + runs[3];
        const size_t row = static_cast<size_t>(((z >> 3) * block.gy + (y >> 3)) * block.gx);
        const uint32_t first = static_cast<uint32_t>((z & 7) << 6 | (y & 7) << 3);
        for (int64_t x = runs[0]; x < stop;) {
            const SubBlock &sub = subs[row + static_cast<size_t>(x >> 3)];
            const int64_t end = stop < (x | 7) + 1 ? stop : (x | 7) + 1;
            while (x < end) {
                const uint32_t value = value_at(sub, first | static_cast<uint32_t>(x & 7));
                int64_t next = sub.bits == 0 ? end : x + 1;
                while (next < end && value_at(sub, first | static_cast<uint32_t>(next & 7)) == value) ++next;
                const uint32_t number = table.number(sub.labels == 0 ? 0 : block.label(sub.position(value)));
                if (number == voxels.size()) voxels.push_back(0);
                voxels[number] += static_cast<uint64_t>(next - x);
                x = next;
            }
        }
    }
}

}  // namespace dvidcore
