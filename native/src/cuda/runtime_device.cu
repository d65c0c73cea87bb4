// CUDA error codes in our terms.
#include "cuda/runtime.h"

#include <string>

#include "base/error.h"

namespace wideseek::cuda {

void check(cudaError_t status, const char* op) {
  if (status == cudaSuccess) return;
  const std::string reason = std::string(cudaGetErrorName(status)) + ": " + cudaGetErrorString(status);
  switch (status) {
    case cudaErrorMemoryAllocation:
      cudaGetLastError();  // this one does not stick
      throw Error(ErrorCode::kOutOfMemory, op, reason);
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorInvalidDevice:
      throw Error(ErrorCode::kUnsupported, op, reason);
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorInvalidPtx:
    case cudaErrorJitCompilerNotFound:
      throw Error(ErrorCode::kUnsupported, op,
                  reason +
                      "; the driver cannot compile this build's kernels for the GPU: update it, or run with device "
                      "cpu");
    default:
      throw Error(ErrorCode::kDeviceLost, op, reason);
  }
}

}  // namespace wideseek::cuda
