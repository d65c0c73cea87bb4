// Steps of the stream that were recorded once and run again with one call: CUDA graphs. Owns when to record and when to
// forget, not what a step does.
#pragma once

#include <cstdint>
#include <functional>
#include <unordered_map>

#include "cuda/gpu.h"

namespace wideseek::cuda {

// Sizes of recorded steps: powers of two, from 8 on with one between each two.
int64_t recorded_rows(int64_t rows);

class Recordings {
 public:
  explicit Recordings(Gpu& gpu) : gpu_(gpu) {}
  ~Recordings() { forget(); }
  Recordings(const Recordings&) = delete;
  Recordings& operator=(const Recordings&) = delete;

  // Contract: Backend::replay. `work` runs as it is the first time, when kernels are loaded and temporary memory grows;
  // the second time it is recorded. `blocks_so_far`: Memory::num_blocks_so_far now.
  void replay(uint64_t key, int64_t blocks_so_far, const std::function<void()>& work);
  // The block of memory with this number (Memory) is given back: forgets what may name it.
  void forget_block(int64_t number);
  void forget();
  int64_t num_replays() const { return num_replays_; }
  bool is_recording() const { return is_recording_; }

 private:
  Gpu& gpu_;
  std::unordered_map<uint64_t, Recording> all_;  // empty: ran once
  int64_t newest_block_ = 0;                     // that a recording may name
  int64_t num_replays_ = 0;
  bool is_recording_ = false;
  bool is_refused_ = false;  // by the driver: everything runs as it is
};

}  // namespace wideseek::cuda
