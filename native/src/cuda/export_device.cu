// What the addon finds in libwideseek_cuda.so. The caller owns the backend.
#include "cuda/backend_cuda.h"

// Both sides see the same classes, so the interface is a hash of the headers that define them (CMakeLists.txt).
extern "C" __attribute__((visibility("default"))) const char wideseek_cuda_interface[] = WIDESEEK_INTERFACE;

extern "C" __attribute__((visibility("default"))) wideseek::Backend* wideseek_cuda_backend_create(
    wideseek::DType activation_dtype, bool pinned_optimizer_state) {
  return wideseek::create_cuda_backend({activation_dtype, 0, pinned_optimizer_state}).release();
}
