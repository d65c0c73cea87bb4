// 16 fp32 lanes with the same arithmetic on every instruction set, elementwise functions, and row reductions whose
// order is fixed by this file alone. A masked tail gives the bits that a full vector would. Build with
// -ffp-contract=off.
//
// Include it after a target_*.h (see isa.h). Without one it takes what the compiler's flags allow. Everything lives in
// an inline namespace named after the instruction set, so files for different sets never share a function.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#if !defined(WS_VECTOR_AVX512) && !defined(WS_VECTOR_AVX2) && !defined(WS_VECTOR_PORTABLE)
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#define WS_VECTOR_AVX512 1
#define WS_ISA flags_avx512
#elif defined(__AVX2__) && defined(__FMA__)
#define WS_VECTOR_AVX2 1
#define WS_ISA flags_avx2
#else
#define WS_VECTOR_PORTABLE 1
#define WS_ISA flags_portable
#endif
#endif

#if defined(WS_VECTOR_AVX512) || defined(WS_VECTOR_AVX2)
#include <immintrin.h>
#endif

#define WS_INLINE [[gnu::always_inline]] inline

namespace wideseek {
inline namespace WS_ISA {

constexpr int kLanes = 16;

// How many lanes of a vector are in use: all, known when compiling, or the first `count`, 0 <= count <= 16.
struct AllLanes {
  static constexpr int count = kLanes;
};
struct FirstLanes {
  int count;
};

}  // namespace WS_ISA
}  // namespace wideseek

#if defined(WS_VECTOR_AVX512)
#include "cpu/vector_avx512.h"
#elif defined(WS_VECTOR_AVX2)
#include "cpu/vector_avx2.h"
#else
#include "cpu/vector_portable.h"
#endif

namespace wideseek {
inline namespace WS_ISA {

WS_INLINE F16 load(const float* p, AllLanes) { return load(p); }
WS_INLINE void store(float* p, F16 a, AllLanes) { store(p, a); }
WS_INLINE F16 load_bf16(const uint16_t* p, AllLanes) { return load_bf16(p); }
WS_INLINE F16 operator-(F16 a) { return splat(-0.0f) - a; }

// ---- elementwise functions: exp, log, sigmoid

using Number = F16;
using Integer = I16;
using Truth = Mask16;
#define WS_ELEMENTWISE WS_INLINE
#include "base/elementwise_body.h"

// The same bits as one lane of the vector function.
WS_INLINE float exp(float x) { return first_lane(exp(splat(x))); }
WS_INLINE float log(float x) { return first_lane(log(splat(x))); }

// ---- loops over a row

// Calls f(i, lanes) for i = 0, 16, ...; lanes is AllLanes or, at the tail, FirstLanes: take it as `auto` and pass it to
// load and store.
template <typename F>
WS_INLINE void for_each_vector(int64_t n, F&& f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) f(i, AllLanes{});
  if (i < n) f(i, FirstLanes{static_cast<int>(n - i)});
}

// Sum over i < n of value(i, lanes), called as above; lanes out of use are ignored. THE summation order of the project:
// vector v = i / 16 adds to accumulator v % 4, then ((0 + 1) + (2 + 3)), then the lane tree of reduce_add. All from 0.
template <typename F>
WS_INLINE float sum_of(int64_t n, F&& value) {
  F16 a0 = splat(0.0f), a1 = a0, a2 = a0, a3 = a0;
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    a0 = a0 + value(i, AllLanes{});
    a1 = a1 + value(i + kLanes, AllLanes{});
    a2 = a2 + value(i + 2 * kLanes, AllLanes{});
    a3 = a3 + value(i + 3 * kLanes, AllLanes{});
  }
  F16 tail[3] = {splat(0.0f), splat(0.0f), splat(0.0f)};
  int t = 0;
  for (; i + kLanes <= n; i += kLanes) tail[t++] = value(i, AllLanes{});
  // An accumulator is never -0, so adding the zeros of unused lanes and vectors changes nothing.
  F16 last = splat(0.0f);
  if (i < n) {
    const FirstLanes lanes{static_cast<int>(n - i)};
    last = keep(value(i, lanes), lanes);
  }
  a0 = a0 + (t > 0 ? tail[0] : last);
  if (t > 0) a1 = a1 + (t > 1 ? tail[1] : last);
  if (t > 1) a2 = a2 + (t > 2 ? tail[2] : last);
  if (t > 2) a3 = a3 + last;
  return reduce_add((a0 + a1) + (a2 + a3));
}

// Largest of value(i, lanes) over i < n, -inf for n = 0. Not meant for NaN.
template <typename F>
WS_INLINE float max_of(int64_t n, F&& value) {
  const F16 lowest = splat(-std::numeric_limits<float>::infinity());
  F16 a0 = lowest, a1 = lowest;
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    a0 = max(a0, value(i, AllLanes{}));
    a1 = max(a1, value(i + kLanes, AllLanes{}));
  }
  if (i + kLanes <= n) {
    a0 = max(a0, value(i, AllLanes{}));
    i += kLanes;
  }
  if (i < n) {
    const FirstLanes lanes{static_cast<int>(n - i)};
    a1 = max(a1, select(first_lanes(lanes.count), value(i, lanes), lowest));
  }
  return reduce_max(max(a0, a1));
}

WS_INLINE float sum(const float* x, int64_t n) {
  return sum_of(n, [x](int64_t i, auto lanes) { return load(x + i, lanes); });
}
WS_INLINE float max(const float* x, int64_t n) {
  return max_of(n, [x](int64_t i, auto lanes) { return load(x + i, lanes); });
}
// Products are rounded before they are added.
WS_INLINE float dot(const float* x, const float* y, int64_t n) {
  return sum_of(n, [x, y](int64_t i, auto lanes) { return load(x + i, lanes) * load(y + i, lanes); });
}
WS_INLINE float sum_squares(const float* x, int64_t n) { return dot(x, x, n); }
// Sum of e^(x[i] - shift).
WS_INLINE float sum_exp(const float* x, float shift, int64_t n) {
  return sum_of(n, [x, s = splat(shift)](int64_t i, auto lanes) { return exp(load(x + i, lanes) - s); });
}

}  // namespace WS_ISA
}  // namespace wideseek
