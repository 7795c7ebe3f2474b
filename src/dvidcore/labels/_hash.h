// Hashing of labels. Labels come from clients, so the seed is random: nobody can choose labels that collide.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace dvidcore {

// Drawn once per process: asking the system costs more than a small block.
inline uint64_t random_seed() {
    static const uint64_t seed = [] {
        std::random_device random;
        return uint64_t(random()) << 32 | random();
    }();
    return seed;
}

// splitmix64's finaliser (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
inline uint64_t mix(uint64_t label, uint64_t seed) {
    uint64_t h = label ^ seed;
    h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9u;
    h = (h ^ (h >> 27)) * 0x94d049bb133111ebu;
    return h ^ (h >> 31);
}

// A set of labels that is asked for once per entry of every block's palette.
class LabelSet {
  public:
    LabelSet(const uint64_t* labels, size_t n) : seed_(random_seed()) {
        while ((size_t(1) << bits_) < 2 * n) ++bits_;
        slots_.assign(size_t(1) << bits_, 0);
        for (size_t i = 0; i < n; ++i) {
            if (labels[i] == 0) zero_ = true;
            else slots_[find(labels[i])] = labels[i];
        }
    }

    bool contains(uint64_t label) const { return label == 0 ? zero_ : slots_[find(label)] == label; }
    bool contains_zero() const { return zero_; }

  private:
    size_t find(uint64_t label) const {
        size_t i = mix(label, seed_) >> (64 - bits_);
        while (slots_[i] != 0 && slots_[i] != label) i = (i + 1) & (slots_.size() - 1);
        return i;
    }

    uint64_t seed_;
    int bits_ = 1;
    bool zero_ = false;
    std::vector<uint64_t> slots_;  // 0: empty
};

}  // namespace dvidcore
