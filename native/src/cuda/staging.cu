// Copies to the ring, then from there to the device.
#include "cuda/staging.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "base/error.h"

namespace wideseek::cuda {

Staging::Staging(Gpu& gpu) : gpu_(gpu) {
  memory_ = static_cast<std::byte*>(gpu.allocate_host(kParts * kPartBytes));
  WS_CHECK(memory_ != nullptr, kOutOfMemory, "CUDA",
           "could not pin " + std::to_string(kParts * kPartBytes >> 20) +
               " MiB of host memory for uploads; free host memory or raise the limit on locked memory");
  for (Part& part : parts_) part.read = gpu.create_event();
}

Staging::~Staging() {
  for (const Part& part : parts_) gpu_.destroy_event(part.read);
  gpu_.release_host(memory_);
}

void Staging::upload(void* device, const void* host, int64_t bytes) {
  for (int64_t done = 0; done < bytes;) {
    if (used_ == kPartBytes) begin_next_part();
    const int64_t count = std::min(bytes - done, kPartBytes - used_);
    std::byte* const staged = take(count);
    std::memcpy(staged, static_cast<const std::byte*>(host) + done, static_cast<size_t>(count));
    gpu_.upload_pinned(static_cast<std::byte*>(device) + done, staged, count);
    done += count;
  }
}

void Staging::download(void* host, const void* device, int64_t bytes) {
  if (used_ + bytes > kPartBytes) begin_next_part();
  std::byte* const staged = take(bytes);
  gpu_.copy(staged, device, bytes);
  gpu_.synchronize();
  std::memcpy(host, staged, static_cast<size_t>(bytes));
}

std::byte* Staging::take(int64_t bytes) {
  constexpr int64_t kAlignment = 64;
  std::byte* const taken = memory_ + static_cast<int64_t>(part_) * kPartBytes + used_;
  used_ = std::min(ceil_div(used_ + bytes, kAlignment) * kAlignment, kPartBytes);
  return taken;
}

void Staging::begin_next_part() {
  gpu_.record(parts_[part_].read);
  parts_[part_].is_recorded = true;
  part_ = (part_ + 1) % kParts;
  used_ = 0;
  if (parts_[part_].is_recorded) gpu_.wait(parts_[part_].read);
}

}  // namespace wideseek::cuda
