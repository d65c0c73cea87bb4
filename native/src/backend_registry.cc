// Which backends there are: the CPU always, CUDA where its library lies beside this binary and a GPU takes it.
#if defined(__linux__)
#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#endif

#include "backend.h"
#include "base/error.h"
#include "cpu/backend_cpu.h"

namespace wideseek {
namespace {

constexpr const char* kOp = "create_backend";

#if defined(__linux__)

using CreateCudaBackend = Backend* (*)(DType activation_dtype, bool pinned_optimizer_state);

// The folder of the file that this code was loaded from: the addon, or a test binary.
std::string own_folder() {
  Dl_info info{};
  if (::dladdr(reinterpret_cast<const void*>(&own_folder), &info) == 0 || info.dli_fname == nullptr) return ".";
  const std::string path = info.dli_fname;
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

void* open_library(const std::string& path) {
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  WS_CHECK(library != nullptr, kUnsupported, kOp, "the CUDA backend could not be loaded: " + std::string(::dlerror()));
  return library;
}

// Opened once and never closed: CUDA does not outlive its own unloading. WIDESEEK_CUDA_LIBRARY names another file.
void* open_cuda_library() {
  if (const char* named = std::getenv("WIDESEEK_CUDA_LIBRARY"); named != nullptr && *named != '\0') {
    return open_library(named);
  }
  constexpr const char* kName = "/libwideseek_cuda.so";
  const std::string folder = own_folder();
  for (const std::string& path : {folder + kName, folder + "/Release" + kName}) {
    if (::access(path.c_str(), F_OK) == 0) return open_library(path);
  }
  throw Error(ErrorCode::kUnsupported, kOp,
              "this build has no CUDA backend: nvcc was not found when it was built (" + folder + kName +
                  " does not exist); install the CUDA toolkit and build again, or run with device cpu");
}

std::unique_ptr<Backend> create_cuda_backend(DType activation_dtype, bool pinned_optimizer_state) {
  static void* const library = open_cuda_library();
  const auto* interface = static_cast<const char*>(::dlsym(library, "wideseek_cuda_interface"));
  WS_CHECK(interface != nullptr && std::string(interface) == WIDESEEK_INTERFACE, kUnsupported, kOp,
           "the CUDA backend is from another build; run `pnpm run build:native` again");
  const auto create = reinterpret_cast<CreateCudaBackend>(::dlsym(library, "wideseek_cuda_backend_create"));
  return std::unique_ptr<Backend>(create(activation_dtype, pinned_optimizer_state));
}

#else

std::unique_ptr<Backend> create_cuda_backend(DType, bool) {
  throw Error(ErrorCode::kUnsupported, kOp, "the CUDA backend needs Linux");
}

#endif

}  // namespace

std::unique_ptr<Backend> create_backend(const std::string& device, int num_threads, DType weight_dtype,
                                        bool pinned_optimizer_state) {
  WS_CHECK(num_threads >= 1, kInvalidArgument, kOp,
           "num_threads: got " + std::to_string(num_threads) + ", must be at least 1");
  if (device == "cpu") return create_cpu_backend(num_threads);
  WS_CHECK(device == "cuda", kInvalidArgument, kOp, "device: got \"" + device + "\", must be \"cpu\" or \"cuda\"");
  return create_cuda_backend(weight_dtype, pinned_optimizer_state);
}

}  // namespace wideseek
