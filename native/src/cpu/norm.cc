// RMSNorm over rows.
#include "cpu/row_kernels.h"
#include "cpu/row_ops.h"

namespace wideseek::cpu {

void rms_norm_forward(ThreadPool& pool, float* out, const float* x, const float* weight, int64_t T, int64_t C,
                      float eps) {
  const RowKernels& kernels = row_kernels();
  pool.parallel_for(T, row_grain(C), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) kernels.rms_norm(out + t * C, x + t * C, weight, C, eps);
  });
}

void rms_norm_backward(ThreadPool& pool, float* dx, float* dweight, const float* dout, const float* x,
                       const float* weight, int64_t T, int64_t C, float eps) {
  const RowKernels& kernels = row_kernels();
  reduce_over_rows(pool, T, C, dweight, [&](int64_t begin, int64_t end, float* partial) {
    for (int64_t t = begin; t < end; ++t) {
      kernels.rms_norm_backward(dx + t * C, partial, dout + t * C, x + t * C, weight, C, eps);
    }
  });
}

}  // namespace wideseek::cpu
