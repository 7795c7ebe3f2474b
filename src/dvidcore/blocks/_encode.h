// Writing a coded label block, sub-block by sub-block.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "_layout.h"
#include "_number.h"
#include "_pack.h"

namespace dvidcore {

// Numbers labels in the order in which they first come: open addressing, linear probing.
class LabelTable {
public:
    std::vector<uint64_t> labels;         // by number

    LabelTable() : slots_(1024, 0) {}

    void clear() {
        labels.clear();
        slots_.assign(1024, 0);
    }

    uint32_t number(uint64_t label) {
        size_t at = hash(label) & (slots_.size() - 1);
        while (slots_[at] != 0) {
            if (labels[slots_[at] - 1] == label) return slots_[at] - 1;
            at = (at + 1) & (slots_.size() - 1);
        }
        labels.push_back(label);
        slots_[at] = static_cast<uint32_t>(labels.size());
        if (2 * labels.size() > slots_.size()) grow();
        return static_cast<uint32_t>(labels.size() - 1);
    }

    // The number of a label that may not be there: -1 then.
    int64_t find(uint64_t label) const {
        size_t at = hash(label) & (slots_.size() - 1);
        while (slots_[at] != 0) {
            if (labels[slots_[at] - 1] == label) return slots_[at] - 1;
            at = (at + 1) & (slots_.size() - 1);
        }
        return -1;
    }

private:
    std::vector<uint32_t> slots_;         // number + 1; 0 is free

    // The finaliser of MurmurHash3: neighbouring ids must not share a slot.
    static size_t hash(uint64_t v) {
        v = (v ^ v >> 33) * 0xff51afd7ed558ccdULL;
        v = (v ^ v >> 33) * 0xc4ceb9fe1a85ec53ULL;
        return static_cast<size_t>(v ^ v >> 33);
    }

    void grow() {
        slots_.assign(2 * slots_.size(), 0);
        for (size_t i = 0; i < labels.size(); ++i) {
            size_t at = hash(labels[i]) & (slots_.size() - 1);
            while (slots_[at] != 0) at = (at + 1) & (slots_.size() - 1);
            slots_[at] = static_cast<uint32_t>(i + 1);
        }
    }
};

// Takes the sub-blocks of one block in order, then writes the block. The palette lists labels as they first come. An
// encoder can be started again, and keeps its memory for the next block unless that is large.
class Encoder {
public:
    // Sides in sub-blocks. Throws where a side is not allowed.
    void start(int64_t gx, int64_t gy, int64_t gz) {
        forget();
        const int64_t side[3] = {gx, gy, gz};
        for (int axis = 0; axis < 3; ++axis) {
            if (side[axis] < 1 || side[axis] > MAX_SIDE / SIDE)
                corrupt("a label block of %lld voxels along %c: from 8 to 1024 are allowed",
                        static_cast<long long>(side[axis]) * SIDE, "xyz"[axis]);
            grid_[axis] = static_cast<uint32_t>(side[axis]);
        }
        counts_.reserve(static_cast<size_t>(gx * gy * gz));
    }

    void add(const uint8_t *voxels, int64_t sy, int64_t sz) {
        number_voxels(voxels, sy, sz, local_);
        add(local_);
    }

    void add(const Local &local) {
        const uint32_t bits = bits_for(local.labels);
        counts_.push_back(static_cast<uint16_t>(local.labels));
        for (uint32_t i = 0; i < local.labels; ++i) positions_.push_back(table_.number(local.label[i]));
        if (bits == 0) return;
        const size_t at = reserve_values(bits);
        detail::pack(local.value, bits, values_.data() + at);
    }

    void add_solid(uint64_t label) {
        counts_.push_back(1);
        positions_.push_back(table_.number(label));
    }

    // A sub-block of another block, as it is coded there.
    void add(const Block &block, const SubBlock &sub) {
        if (sub.labels == 0) return add_solid(0);
        counts_.push_back(static_cast<uint16_t>(sub.labels));
        for (uint32_t i = 0; i < sub.labels; ++i) positions_.push_back(table_.number(block.label(sub.position(i))));
        if (sub.bits == 0) return;
        const size_t at = reserve_values(sub.bits);
        std::memcpy(values_.data() + at, sub.values, 64 * static_cast<size_t>(sub.bits));
    }

    // The same with other labels: `palette` has one for each entry of the palette there.
    void add(const SubBlock &sub, const uint64_t *palette) {
        counts_.push_back(static_cast<uint16_t>(sub.labels));
        for (uint32_t i = 0; i < sub.labels; ++i) positions_.push_back(table_.number(palette[sub.position(i)]));
        if (sub.bits == 0) return;
        const size_t at = reserve_values(sub.bits);
        std::memcpy(values_.data() + at, sub.values, 64 * static_cast<size_t>(sub.bits));
    }

    size_t size() const {
        const size_t head = 16 + 8 * table_.labels.size();
        return solid() ? head : head + 2 * counts_.size() + 4 * positions_.size() + used_;
    }

    // Writes size() bytes.
    void write(uint8_t *out) const {
        const uint32_t head[4] = {grid_[0], grid_[1], grid_[2], static_cast<uint32_t>(table_.labels.size())};
        out = put(out, head, sizeof head);
        out = put(out, table_.labels.data(), 8 * table_.labels.size());
        if (solid()) return;
        out = put(out, counts_.data(), 2 * counts_.size());
        out = put(out, positions_.data(), 4 * positions_.size());
        put(out, values_.data(), used_);
    }

    void forget() {
        if (values_.capacity() + 4 * positions_.capacity() > MOST_KEPT) {
            *this = Encoder();
            return;
        }
        table_.clear();
        counts_.clear();
        positions_.clear();
        used_ = 0;
    }

private:
    static constexpr size_t MOST_KEPT = 4 << 20;

    uint32_t grid_[3] = {0, 0, 0};
    LabelTable table_;
    std::vector<uint16_t> counts_;
    std::vector<uint32_t> positions_;
    std::vector<uint8_t> values_;
    size_t used_ = 0;                     // bytes of values_ that are written
    Local local_;

    bool solid() const { return table_.labels.size() == 1; }

    // Room for the values of one more sub-block; packing writes up to 8 bytes too many.
    size_t reserve_values(uint32_t bits) {
        const size_t at = used_;
        used_ += 64 * static_cast<size_t>(bits);
        if (values_.size() < used_ + 8) values_.resize(2 * used_ + 4096);
        return at;
    }

    static uint8_t *put(uint8_t *out, const void *from, size_t size) {
        if (size != 0) std::memcpy(out, from, size);
        return out + size;
    }
};

// The encoder of the calling thread. Kernels do not call each other, so one is enough; a new one for each block would
// have malloc give its memory back to the system, and fetch it again, every time.
inline Encoder &thread_encoder() {
    static thread_local Encoder encoder;
    return encoder;
}

}  // namespace dvidcore
