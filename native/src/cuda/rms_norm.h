// RMSNorm over rows. Contracts: backend.h.
#pragma once

#include "base/typed_pointer.h"
#include "cuda/platform.h"

namespace wideseek::cuda {

constexpr int64_t kMaxNormColumns = 8192;  // of the backward pass

void rms_norm_forward(Stream stream, TypedPointer out, ConstTypedPointer x, const float* weight, int64_t T, int64_t C,
                      float eps);

// scratch: rms_norm_backward_scratch(C) floats.
int64_t rms_norm_backward_scratch(int64_t C);
void rms_norm_backward(Stream stream, TypedPointer dx, TypedPointer dweight, ConstTypedPointer dout,
                       ConstTypedPointer x, const float* weight, int64_t T, int64_t C, float eps, float* scratch);

}  // namespace wideseek::cuda
