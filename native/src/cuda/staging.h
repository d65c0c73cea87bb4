// Pinned host memory through which uploads go, so that none waits for the device, and small downloads, so that each
// waits once. Owns the memory, not what is
// uploaded.
#pragma once

#include <array>
#include <cstdint>

#include "cuda/gpu.h"

namespace wideseek::cuda {

// A ring of parts. A part is written again only when the device has read it: the host waits only if it is a whole ring
// ahead of the device, several times what the lists of one pass take.
class Staging {
 public:
  static constexpr int64_t kPartBytes = int64_t{4} << 20;
  static constexpr int kParts = 4;
  static constexpr int64_t kMaxDownloadBytes = int64_t{64} << 10;

  explicit Staging(Gpu& gpu);
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // In stream order; `host` has been read when this returns.
  void upload(void* device, const void* host, int64_t bytes);
  // Waits for the stream, once.
  void download(void* host, const void* device, int64_t bytes);

 private:
  struct Part {
    Event read;  // the device has read the part
    bool is_recorded = false;
  };
  void begin_next_part();
  // The next `bytes` of the part.
  std::byte* take(int64_t bytes);

  Gpu& gpu_;
  std::byte* memory_ = nullptr;
  std::array<Part, kParts> parts_{};
  size_t part_ = 0;
  int64_t used_ = 0;  // of the part
};

}  // namespace wideseek::cuda
