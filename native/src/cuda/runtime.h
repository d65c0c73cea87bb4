// CUDA runtime errors as ours: out of memory, or a lost device that fails every later call.
#pragma once

#include <cuda_runtime.h>

namespace wideseek::cuda {

// Throws kOutOfMemory, kUnsupported (no device, driver too old) or kDeviceLost.
void check(cudaError_t status, const char* op);

}  // namespace wideseek::cuda
