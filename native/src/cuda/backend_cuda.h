// The CUDA backend: kernels of this folder, products of cuBLASLt. Under emulation the same on the host.
#pragma once

#include <memory>

#include "backend.h"

namespace wideseek {

struct CudaBackendOptions {
  DType activation_dtype;       // fp32 or bf16; also of the weights
  int device;                   // index
  bool pinned_optimizer_state;  // master weights and moments in host memory that kernels reach over the bus
};

// Throws kUnsupported, as a sentence that tells what is missing, where it cannot run.
std::unique_ptr<Backend> create_cuda_backend(const CudaBackendOptions& options);

}  // namespace wideseek
