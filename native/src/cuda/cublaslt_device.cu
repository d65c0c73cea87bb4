// cuBLASLt as this host has it.
#include "cuda/cublaslt.h"

namespace wideseek::cuda::cublaslt {

const Library& library() {
  static const Library opened = open_library();
  return opened;
}

}  // namespace wideseek::cuda::cublaslt
