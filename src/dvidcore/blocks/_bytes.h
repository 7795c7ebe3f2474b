// Sixteen bytes at a time, in the vector extensions that GCC and Clang share on every machine.
#pragma once

#include <cstdint>
#include <cstring>

namespace dvidcore {
namespace detail {

typedef uint8_t Bytes __attribute__((vector_size(16)));

inline Bytes all(uint8_t v) { return Bytes{v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v}; }

// A comparison's 255 for true and 0 for false, as bytes to reckon with.
template <typename Mask> inline Bytes bytes_of(Mask mask) { return reinterpret_cast<Bytes>(mask); }

inline Bytes load_bytes(const uint8_t *p) { Bytes v; std::memcpy(&v, p, sizeof v); return v; }
inline void store_bytes(uint8_t *p, Bytes v) { std::memcpy(p, &v, sizeof v); }

inline Bytes even_bytes(Bytes a, Bytes b) {
    return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
}

inline Bytes odd_bytes(Bytes a, Bytes b) {
    return __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}

// map_bytes below for a table of at most MOST entries.
template <int MOST> inline void map_few(
    const uint8_t *value, int n, const uint8_t *table, uint32_t entries, uint8_t *out) {
    Bytes to[MOST] = {};
    for (uint32_t k = 0; k < entries; ++k) to[k] = all(table[k]);
    for (int i = 0; i < n; i += 16) {
        const Bytes in = load_bytes(value + i);
        Bytes mapped{};
#pragma GCC unroll 8
        for (int k = 0; k < MOST; ++k) mapped |= bytes_of(in == all(static_cast<uint8_t>(k))) & to[k];
        store_bytes(out + i, mapped);
    }
}

// out[i] = table[value[i]] for `n` values below `entries`; n is a multiple of 16. A small table is compared with
// rather than looked up.
inline void map_bytes(const uint8_t *value, int n, const uint8_t *table, uint32_t entries, uint8_t *out) {
    if (entries <= 4) return map_few<4>(value, n, table, entries, out);
    if (entries <= 8) return map_few<8>(value, n, table, entries, out);
    for (int i = 0; i < n; ++i) out[i] = table[value[i]];
}

// How often `k` is among 512 values.
inline uint32_t count_byte(const uint8_t *value, uint8_t k) {
    Bytes times{};                                   // at most 32 in a byte
    for (int i = 0; i < 512; i += 16) times -= bytes_of(load_bytes(value + i) == all(k));
    uint8_t part[16];
    store_bytes(part, times);
    uint32_t sum = 0;
    for (const uint8_t v : part) sum += v;
    return sum;
}

}  // namespace detail
}  // namespace dvidcore
