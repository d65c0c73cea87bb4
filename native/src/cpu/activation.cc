// SwiGLU over packed gate | up rows.
#include "cpu/row_kernels.h"
#include "cpu/row_ops.h"

namespace wideseek::cpu {

void swiglu_forward(ThreadPool& pool, float* out, const float* gate_up, int64_t T, int64_t F) {
  const RowKernels& kernels = row_kernels();
  pool.parallel_for(T, row_grain(F), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const float* gate = gate_up + t * 2 * F;
      kernels.swiglu(out + t * F, gate, gate + F, F);
    }
  });
}

void swiglu_backward(ThreadPool& pool, float* gate_up, const float* dout, int64_t T, int64_t F) {
  const RowKernels& kernels = row_kernels();
  pool.parallel_for(T, row_grain(F), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      float* gate = gate_up + t * 2 * F;
      kernels.swiglu_backward(gate, gate + F, dout + t * F, F);
    }
  });
}

}  // namespace wideseek::cpu
