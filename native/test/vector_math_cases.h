// The vector functions of one instruction set behind function pointers, so that a test can compare all sets.
#pragma once

#include <cstdint>

struct VectorMathCase {
  const char* name;
  void (*exp)(const float* x, float* y, int64_t n);
  void (*log)(const float* x, float* y, int64_t n);
  void (*sigmoid)(const float* x, float* y, int64_t n);
  void (*widen)(const uint16_t* x, float* y, int64_t n);
  float (*exp_scalar)(float x);
  float (*log_scalar)(float x);
  float (*sum)(const float* x, int64_t n);
  float (*max)(const float* x, int64_t n);
  float (*dot)(const float* x, const float* y, int64_t n);
  float (*sum_exp)(const float* x, float shift, int64_t n);
};

extern const VectorMathCase vector_math_portable;
#if defined(__x86_64__)
extern const VectorMathCase vector_math_avx2;
extern const VectorMathCase vector_math_avx512;
#endif
