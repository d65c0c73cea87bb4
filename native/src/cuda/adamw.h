// The gradient norm and AdamW. Contracts: backend.h.
#pragma once

#include "backend.h"
#include "cuda/platform.h"

namespace wideseek::cuda {

// *sum is device memory. `values` is a multiple of 16 bytes. scratch: sum_squares_scratch() floats, 8-byte aligned.
int64_t sum_squares_scratch();
void sum_squares(Stream stream, double* sum, ConstTypedPointer values, int64_t count, float* scratch);

// All of a matrix in its row-major order. Arrays are multiples of 16 bytes. Every element of the state is read once and
// written once, so master and moments may be pinned host memory that the device can address.
void adamw_matrix(Stream stream, TypedPointer weights, int64_t count, const AdamWState& state, const AdamWStep& step);
// The same for fp32 weights that hold values of `dtype` where there is a master.
void adamw_vector(Stream stream, float* weights, DType dtype, int64_t count, const AdamWState& state,
                  const AdamWStep& step);

}  // namespace wideseek::cuda
