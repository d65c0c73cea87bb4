// Biases of linear layers before a product; their gradients: rows.h.
#pragma once

#include "base/typed_pointer.h"
#include "cuda/platform.h"

namespace wideseek::cuda {

// out [T,N] = bias [N] in every row: a product that is then added to it rounds only once.
void fill_with_bias(Stream stream, TypedPointer out, const float* bias, int64_t T, int64_t N);

}  // namespace wideseek::cuda
