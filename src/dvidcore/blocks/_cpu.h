// Which vector instructions this machine has. The package is compiled for any machine of its kind; functions for
// AVX2 lie beside portable ones, marked DVIDCORE_AVX2, and are called only where has_avx2(). With DVIDCORE_PORTABLE in
// the environment they are not, so that both can be tested on one machine.
#pragma once

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#include <immintrin.h>

#include <cstdlib>

#define DVIDCORE_AVX2 __attribute__((target("avx2")))

namespace dvidcore {

inline bool has_avx2() {
    static const bool has = std::getenv("DVIDCORE_PORTABLE") == nullptr && __builtin_cpu_supports("avx2");
    return has;
}

}  // namespace dvidcore
#endif
