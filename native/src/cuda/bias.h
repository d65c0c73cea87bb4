// Biases of linear layers: before a product, and their gradients. Contracts: backend.h.
#pragma once

#include "base/typed_pointer.h"
#include "cuda/platform.h"

namespace wideseek::cuda {

// out [T,N] = bias [N] in every row: a product that is then added to it rounds only once.
void fill_with_bias(Stream stream, TypedPointer out, const float* bias, int64_t T, int64_t N);

// scratch: bias_backward_scratch(N) floats.
int64_t bias_backward_scratch(int64_t N);
void bias_backward(Stream stream, TypedPointer dbias, ConstTypedPointer dout, int64_t T, int64_t N, float* scratch);

}  // namespace wideseek::cuda
