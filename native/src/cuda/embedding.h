// Rows of the embedding table, and the sums of their gradients. Contracts: backend.h.
#pragma once

#include "base/typed_pointer.h"
#include "cuda/platform.h"

namespace wideseek::cuda {

// table [V,C] is row-major, fp32 or bf16.
void embedding_forward(Stream stream, TypedPointer out, ConstTypedPointer table, const int32_t* token_ids, int64_t T,
                       int64_t C);

// scratch: embedding_backward_scratch(T, C) floats. dtable and dout may differ in dtype; a row's sum is rounded once.
int64_t embedding_backward_scratch(int64_t T, int64_t C);
void embedding_backward(Stream stream, TypedPointer dtable, ConstTypedPointer dout, const int32_t* token_ids, int64_t T,
                        int64_t C, float* scratch);

}  // namespace wideseek::cuda
