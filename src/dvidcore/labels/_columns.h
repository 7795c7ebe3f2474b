// The sum of counts of each label, in open addressing with linear probing; it doubles when it is half full.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "_hash.h"

namespace dvidcore {

class LabelTotals {
  public:
    using Entry = std::pair<uint64_t, uint64_t>;

    LabelTotals() : seed_(random_seed()), slots_(size_t(1) << bits_) {}

    // Label 0 has a place of its own, since it marks what is empty.
    void add(uint64_t label, uint64_t count) {
        if (label == 0) {
            zero_ = true;
            zero_total_ += count;
            return;
        }
        Entry& entry = slots_[find(label)];
        if (entry.first == 0) {
            if (2 * ++used_ > slots_.size()) {
                grow();
                add(label, count);
                --used_;
                return;
            }
            entry.first = label;
        }
        entry.second += count;
    }

    // Ascending by label.
    std::vector<Entry> sorted() const {
        std::vector<Entry> out;
        out.reserve(used_ + 1);
        if (zero_) out.emplace_back(0, zero_total_);
        for (const Entry& entry : slots_)
            if (entry.first != 0) out.push_back(entry);
        std::sort(out.begin(), out.end());
        return out;
    }

  private:
    size_t find(uint64_t label) const {
        size_t i = mix(label, seed_) >> (64 - bits_);
        while (slots_[i].first != 0 && slots_[i].first != label) i = (i + 1) & (slots_.size() - 1);
        return i;
    }

    void grow() {
        std::vector<Entry> old(size_t(1) << ++bits_);
        old.swap(slots_);
        for (const Entry& entry : old)
            if (entry.first != 0) slots_[find(entry.first)] = entry;
    }

    uint64_t seed_;
    int bits_ = 6;
    size_t used_ = 0;
    bool zero_ = false;
    uint64_t zero_total_ = 0;
    std::vector<Entry> slots_;  // label 0: empty
};

}  // namespace dvidcore
