// CUDA runtime errors as ours: out of memory, or a lost device that fails every later call.
#pragma once

#include <cuda_runtime.h>

namespace wideseek::cuda {

// Throws kOutOfMemory, kUnsupported (no device, driver too old) or kDeviceLost.
void check(cudaError_t status, const char* op);

// Whether launch_early makes a difference: while the stream is recorded, by drivers of CUDA 12.3 on, unless
// WIDESEEK_RECORDINGS=serial is in the environment, for tests.
bool may_begin_early(cudaStream_t stream);

}  // namespace wideseek::cuda
