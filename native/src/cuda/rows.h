// Copies of rows and vectors. Contracts: backend.h.
#pragma once

#include "base/typed_pointer.h"
#include "cuda/platform.h"

namespace wideseek::cuda {

// Where the two dtypes differ, the values are widened or rounded to nearest even.
void gather_rows(Stream stream, TypedPointer out, ConstTypedPointer x, const int32_t* rows, int64_t R, int64_t C);
void scatter_rows(Stream stream, TypedPointer x, ConstTypedPointer values, const int32_t* rows, int64_t R, int64_t C);
void combine_rows(Stream stream, TypedPointer out, ConstTypedPointer residual, ConstTypedPointer values,
                  const int32_t* rows, const float* shares, int64_t T, int64_t k, int64_t C);
// out [count] = source.
void convert(Stream stream, TypedPointer out, ConstTypedPointer source, int64_t count);

void store_vector(Stream stream, float* out, const float* source, int64_t count, DType dtype);

}  // namespace wideseek::cuda
