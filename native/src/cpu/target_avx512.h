// First include of a kernel file that is compiled for AVX-512: everything after it may use those instructions.
// The standard headers come before the pragma, or their inline functions would be shared with files for older CPUs.
// GCC 12 does not define __AVX512F__ after the pragma, so WS_VECTOR_AVX512 says it.
#pragma once

#if defined(WS_ISA)
#error "a target_*.h comes before every other kernel header, once"
#endif

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

// GCC 12 warns about its own intrinsics' deliberately undefined values once they are inlined (GCC bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")
#endif
#define WS_VECTOR_AVX512 1
#define WS_ISA avx512
