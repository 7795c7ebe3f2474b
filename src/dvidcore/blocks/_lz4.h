// LZ4 block format of volumes of 64-bit labels.
//
// Labels repeat along a row, from row to row and from plane to plane, so matches are looked for at those few distances
// alone, eight bytes at a time: no hash table, and most of the time goes into comparing words.
// Format: https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace dvidcore {

constexpr size_t LZ4_DISTANCE = 65535 / 8;  // words

// How many words from `p` on equal those `distance` before, at most `most`.
inline size_t lz4_matching(const uint64_t* words, size_t p, size_t distance, size_t most) {
    const uint64_t* now = words + p;
    const uint64_t* before = now - distance;
    size_t k = 0;
    for (; k + 4 <= most; k += 4) {
        const uint64_t differ = (now[k] ^ before[k]) | (now[k + 1] ^ before[k + 1]) | (now[k + 2] ^ before[k + 2]) |
                                (now[k + 3] ^ before[k + 3]);
        if (differ) break;
    }
    while (k < most && now[k] == before[k]) ++k;
    return k;
}

class Lz4Sequences {
   public:
    explicit Lz4Sequences(std::vector<uint8_t>& out) : out_(out) {}

    // Literals, and behind them a match of `length` bytes (none if 0, which only the last sequence may do).
    void put(const uint64_t* literals, size_t words, size_t length, size_t distance) {
        const size_t bytes = 8 * words, at = out_.size();
        out_.resize(at + 16 + bytes + bytes / 255 + length / 255);
        uint8_t* const token = out_.data() + at;
        uint8_t* to = token + 1;
        *token = static_cast<uint8_t>((bytes < 15 ? bytes : 15) << 4);
        if (bytes >= 15) to = more(to, bytes - 15);
        if (bytes) std::memcpy(to, literals, bytes);
        to += bytes;
        if (length) {
            *to++ = static_cast<uint8_t>(8 * distance);
            *to++ = static_cast<uint8_t>(8 * distance >> 8);
            const size_t rest = length - 4;
            *token |= static_cast<uint8_t>(rest < 15 ? rest : 15);
            if (rest >= 15) to = more(to, rest - 15);
        }
        out_.resize(static_cast<size_t>(to - out_.data()));
    }

   private:
    static uint8_t* more(uint8_t* to, size_t n) {
        const size_t full = n / 255;
        std::memset(to, 255, full);
        to[full] = static_cast<uint8_t>(n % 255);
        return to + full + 1;
    }

    std::vector<uint8_t>& out_;
};

// Encodes words[anchor..n) behind what is in `out`; the words before `anchor` were encoded by earlier calls and may be
// referred to. Answers from where words are left for the next call; the last call (`final`) leaves none. Literals that
// no match follows yet are what is left.
inline size_t lz4_encode(const uint64_t* words, size_t n, size_t anchor, size_t row, size_t plane, bool final,
                         std::vector<uint8_t>& out) {
    Lz4Sequences sequences(out);
    const size_t wanted[5] = {row, plane, row - 1, row + 1, 1};
    size_t distances[5], count = 0;
    for (size_t distance : wanted)
        if (distance >= 1 && distance <= LZ4_DISTANCE) distances[count++] = distance;
    // The format ends in at least 5 literal bytes, and no match starts in the last 12.
    const size_t end = final ? (n ? n - 1 : 0) : n;
    size_t p = anchor;
    while (p < end) {
        size_t best = 0, distance = 0;
        for (size_t k = 0; k < count && best < 512; ++k) {
            if (distances[k] > p || words[p] != words[p - distances[k]]) continue;
            const size_t length = lz4_matching(words, p, distances[k], end - p);
            if (length > best) best = length, distance = distances[k];
        }
        if (!best) {
            ++p;
            continue;
        }
        sequences.put(words + anchor, p - anchor, 8 * best, distance);
        p += best;
        anchor = p;
    }
    if (final) {
        sequences.put(words + anchor, n - anchor, 0, 0);
        anchor = n;
    }
    return anchor;
}

}  // namespace dvidcore
