// First include of a kernel file that is compiled for AVX2 with FMA; see target_avx512.h.
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
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#define WS_VECTOR_AVX2 1
#define WS_ISA avx2
