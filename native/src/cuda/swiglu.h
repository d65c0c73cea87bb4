// SwiGLU over packed gate | up rows. Contracts: backend.h.
#pragma once

#include "base/typed_pointer.h"
#include "cuda/platform.h"

namespace wideseek::cuda {

void swiglu_forward(Stream stream, TypedPointer out, ConstTypedPointer gate_up, int64_t T, int64_t F);
void swiglu_backward(Stream stream, TypedPointer gate_up, ConstTypedPointer dout, int64_t T, int64_t F);

}  // namespace wideseek::cuda
