// Gathering rows, and adding rows where they came from or belong.
#include <cstring>

#include "cpu/row_kernels.h"
#include "cpu/row_ops.h"

namespace wideseek::cpu {
namespace {

// Columns a thread owns in sums over rows: every column is summed over the rows in order by one thread.
constexpr int64_t kColumns = 64;

}  // namespace

void embedding_backward(ThreadPool& pool, float* dtable, const float* dout, const int32_t* token_ids, int64_t T,
                        int64_t C) {
  const RowKernels& kernels = row_kernels();
  pool.parallel_for(C, kColumns, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = 0; t < T; ++t) {
      kernels.add(dtable + token_ids[t] * C + begin, dout + t * C + begin, end - begin);
    }
  });
}

void bias_backward(ThreadPool& pool, float* dbias, const float* dout, int64_t T, int64_t N) {
  const RowKernels& kernels = row_kernels();
  pool.parallel_for(N, kColumns, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = 0; t < T; ++t) kernels.add(dbias + begin, dout + t * N + begin, end - begin);
  });
}

void combine_rows(ThreadPool& pool, float* out, const float* residual, const float* values, const int32_t* rows,
                  const float* shares, int64_t T, int64_t k, int64_t C) {
  const RowKernels& kernels = row_kernels();
  pool.parallel_for(T, row_grain(k * C), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      float* row = out + t * C;
      if (out != residual) std::memcpy(row, residual + t * C, static_cast<size_t>(C) * sizeof(float));
      for (int64_t j = t * k; j < (t + 1) * k; ++j) kernels.add_scaled(row, values + rows[j] * C, shares[j], C);
    }
  });
}

void gather_rows(ThreadPool& pool, float* out, const float* x, const int32_t* rows, int64_t R, int64_t C) {
  pool.parallel_for(R, row_grain(C), [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      std::memcpy(out + r * C, x + rows[r] * C, static_cast<size_t>(C) * sizeof(float));
    }
  });
}

void scatter_rows(ThreadPool& pool, float* x, const float* values, const int32_t* rows, int64_t R, int64_t C) {
  pool.parallel_for(R, row_grain(C), [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      std::memcpy(x + rows[r] * C, values + r * C, static_cast<size_t>(C) * sizeof(float));
    }
  });
}

}  // namespace wideseek::cpu
