// The CUDA device of the tests: the emulated one in this program, or with --device cuda the GPU, through the library
// beside this program, as the addon takes it.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "backend.h"
#include "base/error.h"
#include "check.h"
#include "cuda/backend_cuda.h"
#include "cuda/emulation/emulation.h"

namespace device {

using namespace wideseek;

inline bool is_real() { return !check::options().device.empty(); }

inline std::unique_ptr<Backend> create(DType dtype, bool pinned_optimizer_state = false) {
  if (is_real()) return create_backend(check::options().device, 1, dtype, pinned_optimizer_state);
  return create_cuda_backend({dtype, 0, pinned_optimizer_state});
}

// Threads of the CPU backend that the device is held against: sizes of real models ask for all of them.
inline int cpu_threads() { return is_real() ? static_cast<int>(std::max(1u, std::thread::hardware_concurrency())) : 1; }

// f's result twice: under emulation with the threads of a block in either order, on a GPU simply again.
template <typename F>
auto twice(F&& f) {
  auto first = f();
  emulation::set_thread_order(emulation::ThreadOrder::kLastToFirst);
  auto second = f();
  emulation::set_thread_order(emulation::ThreadOrder::kFirstToLast);
  return std::pair{std::move(first), std::move(second)};
}

inline const bool kOpens = [] {
  check::open_device = [](const std::string& name) {
    WS_CHECK(name == "cuda", kInvalidArgument, "--device", "--device: got \"" + name + "\", must be \"cuda\"");
    create_backend(name, 1);
  };
  return true;
}();

}  // namespace device
