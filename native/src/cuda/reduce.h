// Sums over the threads of a block, and over the partial sums that blocks leave.
#pragma once

#include "base/typed_pointer.h"
#include "cuda/platform.h"

namespace wideseek::cuda {

// The sum over all threads of a block of a multiple of 32, in a fixed order; all threads get it.
__device__ __forceinline__ float block_sum(float value) {
  __shared__ float partial[32];
  for (int mask = 16; mask > 0; mask /= 2) value += __shfl_xor_sync(0xffffffffu, value, mask);
  __syncthreads();  // the readers of the last call are done
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  float total = 0;
  for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) total += partial[warp];
  return total;
}

// out [C] accumulated += the sum of the rows of partial [rows, C], in an order that depends on `rows` alone.
void add_column_sums(Stream stream, TypedPointer out, const float* partial, int64_t rows, int64_t C);

}  // namespace wideseek::cuda
