// exp, log and sigmoid of a thread's float: the bits of one lane of cpu/vector_math.h, whose text this instantiates.
#pragma once

#include <bit>
#include <limits>
#include <type_traits>

#include "cuda/platform.h"

namespace wideseek::cuda {
namespace one_lane {

struct Number {
  float v;
};
struct Integer {
  int32_t v;
};
struct Truth {
  bool v;
};

__device__ __forceinline__ Number splat(float x) { return {x}; }
__device__ __forceinline__ Number operator+(Number a, Number b) { return {__fadd_rn(a.v, b.v)}; }
__device__ __forceinline__ Number operator-(Number a, Number b) { return {__fadd_rn(a.v, -b.v)}; }
__device__ __forceinline__ Number operator*(Number a, Number b) { return {__fmul_rn(a.v, b.v)}; }
__device__ __forceinline__ Number operator/(Number a, Number b) { return {__fdiv_rn(a.v, b.v)}; }
__device__ __forceinline__ Number operator-(Number a) { return {-a.v}; }
__device__ __forceinline__ Number fma(Number a, Number b, Number c) { return {__fmaf_rn(a.v, b.v, c.v)}; }
// The first operand must be a number; the result is NaN where the second is. The device has an instruction for it, the
// comparison and selection would be two.
__device__ __forceinline__ Number max(Number a, Number b) {
#if defined(WIDESEEK_CUDA_EMULATION)
  return {a.v > b.v ? a.v : b.v};
#else
  float result;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a.v), "f"(b.v));
  return {result};
#endif
}
__device__ __forceinline__ Number min(Number a, Number b) {
#if defined(WIDESEEK_CUDA_EMULATION)
  return {a.v < b.v ? a.v : b.v};
#else
  float result;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a.v), "f"(b.v));
  return {result};
#endif
}

__device__ __forceinline__ Truth operator<(Number a, Number b) { return {a.v < b.v}; }
__device__ __forceinline__ Truth operator==(Number a, Number b) { return {a.v == b.v}; }
__device__ __forceinline__ Number select(Truth m, Number yes, Number no) { return {m.v ? yes.v : no.v}; }

__device__ __forceinline__ Integer splat_int(int32_t x) { return {x}; }
__device__ __forceinline__ Integer bits(Number a) { return {std::bit_cast<int32_t>(a.v)}; }
__device__ __forceinline__ Number as_float(Integer a) { return {std::bit_cast<float>(a.v)}; }
__device__ __forceinline__ Number to_float(Integer a) { return {static_cast<float>(a.v)}; }
// Unsigned inside, since these wrap.
__device__ __forceinline__ Integer operator+(Integer a, Integer b) {
  return {static_cast<int32_t>(static_cast<uint32_t>(a.v) + static_cast<uint32_t>(b.v))};
}
__device__ __forceinline__ Integer operator-(Integer a, Integer b) {
  return {static_cast<int32_t>(static_cast<uint32_t>(a.v) - static_cast<uint32_t>(b.v))};
}
__device__ __forceinline__ Integer operator&(Integer a, Integer b) { return {a.v & b.v}; }
template <int N>
__device__ __forceinline__ Integer shift_left(Integer a) {
  return {static_cast<int32_t>(static_cast<uint32_t>(a.v) << N)};
}
template <int N>
__device__ __forceinline__ Integer shift_right(Integer a) {
  return {a.v >> N};
}

#define WS_ELEMENTWISE __device__ __forceinline__
#include "base/elementwise_body.h"

}  // namespace one_lane

__device__ __forceinline__ float exp(float x) { return one_lane::exp({x}).v; }
__device__ __forceinline__ float log(float x) { return one_lane::log({x}).v; }
__device__ __forceinline__ float sigmoid(float x) { return one_lane::sigmoid({x}).v; }

// ---- for results that are stored as T. fp32 gets the project's formulas. bf16 gets the device's instructions, whose
// error is far below the rounding of the result: the exact formulas are as many instructions as a kernel can issue in
// the time that its memory traffic takes.

template <typename T>
__device__ __forceinline__ float sigmoid_for(float x) {
#if !defined(WIDESEEK_CUDA_EMULATION)
  if constexpr (std::is_same_v<T, BF16>) return __fdividef(1.0f, 1.0f + __expf(-x));
#endif
  return sigmoid(x);
}

// 1 / sqrt(sum / n + eps)
template <typename T>
__device__ __forceinline__ float rstd_for(float sum_squares, int64_t n, float eps) {
  const float square = __fadd_rn(__fdiv_rn(sum_squares, static_cast<float>(n)), eps);
#if !defined(WIDESEEK_CUDA_EMULATION)
  if constexpr (std::is_same_v<T, BF16>) return rsqrtf(square);
#endif
  return __fdiv_rn(1.0f, __fsqrt_rn(square));
}

}  // namespace wideseek::cuda
