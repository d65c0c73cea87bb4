// Device memory of one backend: what is allocated and kept for reuse, and how much.
#pragma once

#include <cstdint>
#include <map>
#include <unordered_map>
#include <vector>

#include "backend.h"
#include "cuda/gpu.h"

namespace wideseek::cuda {

// Sizes are rounded up to classes, and a block of up to kMaxKeptBytes that is given back waits for the next request of
// its class: cudaMalloc and cudaFree wait for the device, so a training step must not call them.
class Memory {
 public:
  static constexpr int64_t kMaxKeptBytes = int64_t{64} << 20;

  explicit Memory(Gpu& gpu) : gpu_(gpu) {}
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  // Throw kOutOfMemory with what was asked, what is free and a hint. Null is allowed for free.
  void* allocate(int64_t bytes);
  void* allocate_host(int64_t bytes);
  void free(void* pointer);
  // Whether it points into memory of allocate_host.
  bool is_on_host(const void* pointer) const;
  // Device memory alone; blocks that only wait for reuse are not counted.
  MemoryInfo info() const { return info_; }
  // Blocks are numbered in the order in which they were handed out, from 1.
  int64_t num_blocks_so_far() const { return num_blocks_so_far_; }
  int64_t number_of(void* pointer) const;
  int64_t num_device_allocations() const { return num_device_allocations_; }

 private:
  struct Block {
    int64_t bytes;  // asked for
    int64_t size;   // its class
    bool on_host;
    int64_t number;
  };
  void release_kept();

  Gpu& gpu_;
  std::unordered_map<void*, Block> live_;
  std::map<const std::byte*, int64_t> on_host_;  // sizes of the live blocks there
  std::map<int64_t, std::vector<void*>> kept_;   // by size class
  MemoryInfo info_{};
  int64_t num_device_allocations_ = 0;
  int64_t num_blocks_so_far_ = 0;
};

}  // namespace wideseek::cuda
