// What libwideseek_cuda.so exports, with the emulated device and the fault that WIDESEEK_FAULT names:
//   no-driver | old-driver | no-gpu | old-gpu | no-cublaslt | memory=BYTES | lost-when=PATH (that exists)
#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/error.h"
#include "cuda/backend_cuda.h"
#include "cuda/cublaslt.h"
#include "cuda/gpu.h"

namespace {

using namespace wideseek;

void break_something(const std::string& fault) {
  cuda::GpuFacts facts{12040, 12040, 1, "", "Test GPU", 9, 0};
  const size_t equals = fault.find('=');
  const std::string value = equals == std::string::npos ? "" : fault.substr(equals + 1);
  const std::string what = fault.substr(0, equals);
  if (what == "no-driver") facts.driver_version = 0;
  if (what == "old-driver") facts.driver_version = 11080;
  if (what == "no-gpu") facts.num_gpus = 0;
  if (what == "old-gpu") facts.major = 7;
  if (what == "no-cublaslt") cuda::cublaslt::open_library();
  if (what == "memory") cuda::set_emulated_free_bytes(std::stoll(value));
  if (what == "lost-when") cuda::lose_emulated_device([value] { return std::filesystem::exists(value); });
  cuda::set_emulated_gpu(facts);
}

}  // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED const char wideseek_cuda_interface[] = WIDESEEK_INTERFACE;

EXPORTED Backend* wideseek_cuda_backend_create(DType activation_dtype, bool pinned_optimizer_state) {
  const char* fault = std::getenv("WIDESEEK_FAULT");
  break_something(fault == nullptr ? "" : fault);
  return create_cuda_backend({activation_dtype, 0, pinned_optimizer_state}).release();
}
