// Matrix products of linear layers, fp32 arithmetic, row-major activations with a row stride (ld*) in elements.
//
// BATCH INVARIANCE, on which bit equality of generation and training rests: every element of out = x W^T is ONE chain
//   c = 0; for k = 0 .. K-1: c = fma(x[k], W[k], c)
// in fp32, then + bias, then + residual, each rounded once. Partial chains may be stored and loaded again, which is
// exact, so any tiling, any number of rows and any number of threads gives the same bits. The backward products have
// fixed orders too; they do not depend on the number of threads either.
#pragma once

#include <cstdint>

#include "base/dtype.h"
#include "cpu/aligned_buffer.h"
#include "cpu/threads.h"

namespace wideseek {

// A weight [N = output features, K = input features] in panels of 64 outputs, [ceil(N/64)][K][64], zero padded: what
// the kernels read front to back. Stored as fp32 or bf16; bf16 is widened to fp32 exactly where it is used.
class PackedWeight {
 public:
  static constexpr int64_t kPanel = 64;
  // Zeros. dtype is kFloat32 or kBFloat16, else kUnsupported.
  PackedWeight(int64_t rows, int64_t cols, DType dtype);

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  DType dtype() const { return dtype_; }
  int64_t bytes() const { return num_elements_ * dtype_bytes(dtype_); }

  // Rows [first_row, first_row + num_rows) from / to row-major [num_rows, K] fp32. Storing rounds to nearest even.
  void store_rows(ThreadPool& pool, int64_t first_row, int64_t num_rows, const float* source);
  void load_rows(ThreadPool& pool, int64_t first_row, int64_t num_rows, float* out) const;
  // One row on the calling thread, as embedding tables are read.
  void load_row(int64_t row, float* out) const;

  // Panel p = outputs [64p, 64p + 64), [K][64]. Only the pointer of dtype() may be used.
  const float* panel_fp32(int64_t panel) const { return fp32_.data() + panel * cols_ * kPanel; }
  const uint16_t* panel_bf16(int64_t panel) const { return bf16_.data() + panel * cols_ * kPanel; }
  int64_t num_panels() const { return (rows_ + kPanel - 1) / kPanel; }

 private:
  int64_t rows_, cols_;
  DType dtype_;
  int64_t num_elements_;
  AlignedBuffer<float> fp32_;
  AlignedBuffer<uint16_t> bf16_;
};

// out [M,N] = x [M,K] W^T (+ bias [N]) (+ residual [M,N]); bias and residual may be null, out may be residual.
void linear_forward(ThreadPool& pool, float* out, int64_t ld_out, const float* x, int64_t ld_x,
                    const PackedWeight& weight, const float* bias, const float* residual, int64_t ld_residual,
                    int64_t M);

// The same without bias and residual for groups of rows, each with a weight of its own: group e is the rows
// [first_rows[e], first_rows[e + 1]). All weights have one shape.
void expert_linear_forward(ThreadPool& pool, float* out, const float* x, const PackedWeight* const* weights,
                           const int64_t* first_rows, int64_t num_groups);

// dx [M,K] (+)= dout [M,N] W: one chain over n, from 0 or from dx when accumulating.
void linear_backward_input(ThreadPool& pool, float* dx, int64_t ld_dx, const float* dout, int64_t ld_dout,
                           const PackedWeight& weight, int64_t M, bool accumulate);

// dweight [N,K] += dout [M,N]^T x [M,K]: one chain over rows m, from dweight.
void linear_backward_weight(ThreadPool& pool, float* dweight, const float* dout, int64_t ld_dout, const float* x,
                            int64_t ld_x, int64_t M, int64_t N, int64_t K);

}  // namespace wideseek
