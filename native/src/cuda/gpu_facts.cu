// The sentences for people whose GPU cannot be used.
#include "cuda/gpu_facts.h"

#include "base/error.h"

namespace wideseek::cuda {
namespace {

constexpr const char* kOp = "CUDA";
constexpr const char* kElse = ", or run with device cpu";

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

}  // namespace

void require_driver(const GpuFacts& facts, int index) {
  WS_CHECK(facts.driver_version != 0, kUnsupported, kOp,
           std::string("no CUDA device: the NVIDIA driver is not installed; install it") + kElse);
  const std::string needed = std::to_string(facts.runtime_version / 1000) + ".0";
  WS_CHECK(facts.driver_version / 1000 >= facts.runtime_version / 1000, kUnsupported, kOp,
           "the NVIDIA driver is too old: it supports CUDA " + version_text(facts.driver_version) +
               ", this build needs " + needed + " or newer; update the driver, or build with an older nvcc" + kElse);
  WS_CHECK(facts.count_error.empty() && facts.num_gpus > 0, kUnsupported, kOp,
           "no CUDA device: " + (facts.count_error.empty() ? "the driver sees none" : facts.count_error) +
               "; nvidia-smi must list a GPU, and CUDA_VISIBLE_DEVICES must not hide it" + kElse);
  WS_CHECK(index >= 0 && index < facts.num_gpus, kUnsupported, kOp,
           "no CUDA device " + std::to_string(index) + ": the driver sees " + std::to_string(facts.num_gpus));
}

void require_capability(const GpuFacts& facts) {
  WS_CHECK(facts.major >= 8, kUnsupported, kOp,
           "the GPU " + facts.name + " has compute capability " + std::to_string(facts.major) + "." +
               std::to_string(facts.minor) +
               ", 8.0 or later is needed (A100, H100 and newer); choose another GPU with "
               "CUDA_VISIBLE_DEVICES" +
               kElse);
}

}  // namespace wideseek::cuda
