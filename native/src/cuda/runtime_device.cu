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
    default:
      throw Error(ErrorCode::kDeviceLost, op, reason);
  }
}

}  // namespace wideseek::cuda
