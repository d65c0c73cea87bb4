// A matrix in global memory as the copy engine of compute capability 9.0 takes it: by boxes of 64 columns.
#pragma once

#include <cstdint>

#include "cuda/platform.h"
#if defined(WIDESEEK_CUDA_EMULATION)
#include "cuda/emulation/async_proxy.h"
#else
#include <cuda.h>  // types alone: the driver is not linked
#endif

namespace wideseek::cuda {

#if defined(WIDESEEK_CUDA_EMULATION)
using TensorMap = emulation::TensorMap;
#else
using TensorMap = CUtensorMap;
#endif

// Of bf16 [rows][columns], row-major; the columns are a multiple of 8, the matrix is aligned to 16 bytes. Boxes have
// `box_rows` rows, at most 256.
TensorMap make_tensor_map(const void* matrix, int64_t rows, int64_t columns, int box_rows);

}  // namespace wideseek::cuda
