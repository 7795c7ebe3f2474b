// Writing a coded label block, sub-block by sub-block.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "_layout.h"

namespace dvidcore {

// Numbers labels in the order in which they first come: open addressing, linear probing.
class LabelTable {
public:
    std::vector<uint64_t> labels;         // by number

    LabelTable() : slots_(1024, 0) {}

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

// The voxels of one sub-block as numbers into its own labels, both in order of first appearance.
struct Local {
    uint32_t labels = 0;
    uint64_t label[VOXELS];
    uint16_t value[VOXELS];               // not set where there is one label
};

namespace detail {

// Finds or adds a label: a scan while they are few, as nearly always, then a small hash table.
class LocalFinder {
public:
    explicit LocalFinder(Local &local) : local_(local) {}

    uint16_t number(uint64_t label) {
        if (local_.labels <= FEW) {
            for (uint32_t i = 0; i < local_.labels; ++i)
                if (local_.label[i] == label) return static_cast<uint16_t>(i);
            local_.label[local_.labels++] = label;
            if (local_.labels > FEW) {
                std::memset(slots_, 0, sizeof slots_);
                for (uint32_t i = 0; i < local_.labels; ++i) *slot(local_.label[i]) = static_cast<uint16_t>(i + 1);
            }
            return static_cast<uint16_t>(local_.labels - 1);
        }
        uint16_t *at = slot(label);
        if (*at == 0) {
            local_.label[local_.labels++] = label;
            *at = static_cast<uint16_t>(local_.labels);
        }
        return static_cast<uint16_t>(*at - 1);
    }

private:
    static constexpr uint32_t FEW = 24;
    Local &local_;
    uint16_t slots_[2 * VOXELS];

    uint16_t *slot(uint64_t label) {
        size_t at = (label ^ label >> 32) * 0x9e3779b97f4a7c15ULL >> 54;
        while (slots_[at] != 0 && local_.label[slots_[at] - 1] != label) at = (at + 1) % (2 * VOXELS);
        return slots_ + at;
    }
};

// Eight bytes below 2^B, first one lowest -> eight B-bit numbers in the low 8*B bits, first one highest.
template <int B> inline uint64_t gather_bits(uint64_t word) {
    word = __builtin_bswap64(word);
    if (B == 8) return word;
    word = ((word >> 8) & 0x00ff00ff00ff00ffULL) << B | (word & 0x00ff00ff00ff00ffULL);
    word = ((word >> 16) & 0x0000ffff0000ffffULL) << 2 * B | (word & 0x0000ffff0000ffffULL);
    return (word >> 32) << 4 * B | (word & 0xffffffffULL);
}

// Writes 64 * B bytes, and up to 8 bytes of rubbish behind them.
template <int B> inline void pack_bytes(const uint8_t *value, uint8_t *out) {
    for (int g = 0; g < 64; ++g)
        store64(out + g * B, __builtin_bswap64(gather_bits<B>(load64(value + 8 * g)) << (64 - 8 * B) % 64));
}

inline void pack_nine(const uint16_t *value, uint8_t *out) {
    for (int g = 0; g < 64; ++g, value += 8, out += 9) {
        uint64_t word = 0;
        for (int i = 0; i < 7; ++i) word = word << 9 | value[i];
        store64(out, __builtin_bswap64(word << 1 | value[7] >> 8));
        out[8] = static_cast<uint8_t>(value[7]);
    }
}

inline void pack(const uint16_t *value, uint32_t bits, uint8_t *out) {
    if (bits == 9) return pack_nine(value, out);
    uint8_t bytes[VOXELS];
    for (int i = 0; i < VOXELS; ++i) bytes[i] = static_cast<uint8_t>(value[i]);
    switch (bits) {
        case 1: return pack_bytes<1>(bytes, out);
        case 2: return pack_bytes<2>(bytes, out);
        case 3: return pack_bytes<3>(bytes, out);
        case 4: return pack_bytes<4>(bytes, out);
        case 5: return pack_bytes<5>(bytes, out);
        case 6: return pack_bytes<6>(bytes, out);
        case 7: return pack_bytes<7>(bytes, out);
        default: return pack_bytes<8>(bytes, out);
    }
}

}  // namespace detail

// Numbers the labels of the 8x8x8 voxels at `voxels`; sy and sz are the strides of y and z in bytes.
inline void number_voxels(const uint8_t *voxels, int64_t sy, int64_t sz, Local &local) {
    detail::LocalFinder finder(local);
    uint64_t last = load64(voxels);
    uint16_t number = 0;
    local.labels = 1;
    local.label[0] = last;
    uint16_t *value = local.value;
    for (int z = 0; z < SIDE; ++z) {
        for (int y = 0; y < SIDE; ++y, value += SIDE) {
            const uint8_t *row = voxels + z * sz + y * sy;
            uint64_t differ = 0;
            for (int x = 0; x < SIDE; ++x) differ |= load64(row + 8 * x) ^ last;
            if (differ == 0) {
                for (int x = 0; x < SIDE; ++x) value[x] = number;
                continue;
            }
            for (int x = 0; x < SIDE; ++x) {
                const uint64_t label = load64(row + 8 * x);
                if (label != last) {
                    last = label;
                    number = finder.number(label);
                }
                value[x] = number;
            }
        }
    }
}

// Takes the sub-blocks of one block in order, then writes the block. The palette lists labels as they first come.
class Encoder {
public:
    // Sides in sub-blocks. Throws where a side is not allowed.
    void start(int64_t gx, int64_t gy, int64_t gz) {
        const int64_t side[3] = {gx, gy, gz};
        for (int axis = 0; axis < 3; ++axis) {
            if (side[axis] < 2 || side[axis] > MAX_SIDE / SIDE)
                corrupt("a label block of %lld voxels along %c: from 16 to 1024 are allowed",
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

private:
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

}  // namespace dvidcore
