// Which backends this build has.
#include "backend.h"
#include "base/error.h"
#include "cpu/backend_cpu.h"

namespace wideseek {

std::unique_ptr<Backend> create_backend(const std::string& device, int num_threads) {
  WS_CHECK(num_threads >= 1, kInvalidArgument, "create_backend",
           "num_threads: got " + std::to_string(num_threads) + ", must be at least 1");
  if (device == "cpu") return create_cpu_backend(num_threads);
  WS_CHECK(device != "cuda", kUnsupported, "create_backend",
           "device: got \"cuda\", but this build has no CUDA backend; use \"cpu\"");
  throw Error(ErrorCode::kInvalidArgument, "create_backend",
              "device: got \"" + device + "\", must be \"cpu\" or \"cuda\"");
}

}  // namespace wideseek
