// What gemm.cc needs from one instruction set.
#pragma once

#include <cstdint>

namespace wideseek {

struct GemmKernels {
  // c [rows][64] = (load_c ? c : 0) + a [rows][depth] b [depth][64], each element one fma chain over the depth.
  void (*block)(const float* a, int64_t lda, const float* b, float* c, int64_t ldc, int64_t rows, int64_t depth,
                bool load_c);
  void (*block_bf16)(const float* a, int64_t lda, const uint16_t* b, float* c, int64_t ldc, int64_t rows, int64_t depth,
                     bool load_c);
  void (*widen)(const uint16_t* in, float* out, int64_t count);
  // out[c][r] = in[r][c]
  void (*transpose)(const float* in, int64_t ld_in, float* out, int64_t ld_out, int64_t rows, int64_t cols);
  // out = (chain + bias) + residual; bias and residual may be null, out may be chain or residual.
  void (*finish_row)(float* out, const float* chain, const float* bias, const float* residual, int64_t cols);
};

// Those of cpu_isa().
const GemmKernels& gemm_kernels();

extern const GemmKernels gemm_kernels_portable;
#if defined(__x86_64__)
extern const GemmKernels gemm_kernels_avx2;
extern const GemmKernels gemm_kernels_avx512;
#endif

}  // namespace wideseek
