// One GPU as the backend sees it: its stream, raw memory and copies. Owns no policy of what is kept or counted
// (memory.h). Under emulation the GPU is the host.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "cuda/gpu_facts.h"
#include "cuda/platform.h"

namespace wideseek::cuda {

// What the stream was given between begin_recording and end_recording.
using Recording = std::shared_ptr<void>;

class Gpu {
 public:
  // Throws kUnsupported, as a sentence that tells what is missing, if there is no such GPU or it is too old.
  explicit Gpu(int index);
  ~Gpu();
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;

  Stream stream() const { return stream_; }
  // Null if there is not enough. Aligned to 256 bytes. Host memory is one that kernels reach over the bus.
  void* allocate(int64_t bytes);
  void* allocate_host(int64_t bytes);
  // Never throw: a lost device cannot give memory back, and destructors call them.
  void release(void* pointer) noexcept;
  void release_host(void* pointer) noexcept;
  int64_t free_bytes() const;

  // In stream order. `upload` and `download` wait; `upload_pinned` reads memory of allocate_host later.
  void upload(void* device, const void* host, int64_t bytes);
  void upload_pinned(void* device, const void* host, int64_t bytes);
  void download(void* host, const void* device, int64_t bytes);
  void copy(void* out, const void* source, int64_t bytes);
  void zero(void* pointer, int64_t bytes);
  void synchronize();
  // A point of the stream: the work given before the newest `record`, which `wait` waits for.
  Event create_event();
  void destroy_event(Event event) noexcept;
  void record(Event event);
  void wait(Event event);
  // Until the recording ends, what the stream is given is kept and not run; nothing may wait or allocate. The work of a
  // recording runs with the addresses and numbers that it was given.
  void begin_recording();
  Recording end_recording();
  void abandon_recording() noexcept;
  void run(const Recording& recording);
  // As synchronize, also on a lost device.
  void finish() noexcept;
  // Under emulation: fills memory with NaN bits, so that a read of what was not written shows; whether they still are.
  void poison(void* pointer, int64_t bytes);
  bool is_poisoned(const void* pointer, int64_t bytes) const;

 private:
  Stream stream_{};
};

#if defined(WIDESEEK_CUDA_EMULATION)
// The GPU that the next ones find; by default one that is taken.
void set_emulated_gpu(const GpuFacts& facts);
// Bytes that later allocations may take together, to test what happens when there are no more.
void set_emulated_free_bytes(int64_t bytes);
// From when the condition first holds, operations (copy, zero, download, synchronize) fail as on a lost device.
void lose_emulated_device(std::function<bool()> when = [] { return true; });
void repair_emulated_device();
// How often the host has waited for a device so far.
int64_t num_emulated_waits();
#endif

}  // namespace wideseek::cuda
