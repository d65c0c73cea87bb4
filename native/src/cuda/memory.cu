// Size classes, the blocks that wait for reuse, and the account of both.
#include "cuda/memory.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <string>

#include "base/error.h"

namespace wideseek::cuda {
namespace {

constexpr int64_t kMinBytes = 512;
constexpr int64_t kLarge = int64_t{1} << 20;
constexpr int64_t kLargeStep = int64_t{2} << 20;  // the driver's page

int64_t size_class(int64_t bytes) {
  if (bytes <= kMinBytes) return kMinBytes;
  if (bytes <= kLarge) return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(bytes)));
  return ceil_div(bytes, kLargeStep) * kLargeStep;
}

std::string mebibytes(int64_t bytes) { return std::to_string(ceil_div<int64_t>(bytes, 1 << 20)) + " MiB"; }

}  // namespace

Memory::~Memory() {
  release_kept();
  for (const auto& [pointer, block] : live_) block.on_host ? gpu_.release_host(pointer) : gpu_.release(pointer);
}

void* Memory::allocate(int64_t bytes) {
  const int64_t size = size_class(bytes);
  std::vector<void*>& kept = kept_[size];
  void* pointer = nullptr;
  if (!kept.empty()) {
    pointer = kept.back();
    kept.pop_back();
  } else {
    pointer = gpu_.allocate(size);
    if (pointer == nullptr) {
      release_kept();
      pointer = gpu_.allocate(size);
    }
    ++num_device_allocations_;
  }
  WS_CHECK(pointer != nullptr, kOutOfMemory, "allocate",
           "could not allocate " + mebibytes(bytes) + " on the GPU: " + mebibytes(gpu_.free_bytes()) +
               " are free, this engine holds " + mebibytes(info_.allocated_bytes) +
               "; lower maxTrainTokens or kvCacheTokens, set recompute, or store weights as bfloat16");
  gpu_.poison(pointer, size);
  live_[pointer] = {bytes, size, false, ++num_blocks_so_far_};
  info_.allocated_bytes += size;
  info_.peak_bytes = std::max(info_.peak_bytes, info_.allocated_bytes);
  return pointer;
}

void* Memory::allocate_host(int64_t bytes) {
  const int64_t size = std::max(bytes, kMinBytes);
  void* pointer = gpu_.allocate_host(size);
  WS_CHECK(pointer != nullptr, kOutOfMemory, "allocate",
           "could not pin " + mebibytes(bytes) + " of host memory for the optimizer; keep its state on the GPU");
  gpu_.poison(pointer, size);
  live_[pointer] = {bytes, size, true, ++num_blocks_so_far_};
  on_host_[static_cast<std::byte*>(pointer)] = size;
  return pointer;
}

void Memory::free(void* pointer) {
  if (pointer == nullptr) return;
  const auto entry = live_.find(pointer);
  WS_CHECK(entry != live_.end(), kInternal, "free", "pointer was not allocated by this backend, or was freed before");
  const Block block = entry->second;
  live_.erase(entry);
  WS_CHECK(gpu_.is_poisoned(static_cast<std::byte*>(pointer) + block.bytes, block.size - block.bytes), kInternal,
           "free", "an allocation of " + std::to_string(block.bytes) + " bytes was written past its end");
  if (block.on_host) {
    on_host_.erase(static_cast<std::byte*>(pointer));
    gpu_.release_host(pointer);
    return;
  }
  info_.allocated_bytes -= block.size;
  if (block.size <= kMaxKeptBytes) {
    kept_[block.size].push_back(pointer);
  } else {
    gpu_.release(pointer);
  }
}

int64_t Memory::number_of(void* pointer) const {
  const auto found = live_.find(pointer);
  return found == live_.end() ? 0 : found->second.number;
}

bool Memory::is_on_host(const void* pointer) const {
  const auto* place = static_cast<const std::byte*>(pointer);
  const auto after = on_host_.upper_bound(place);
  if (after == on_host_.begin()) return false;
  const auto& [first, size] = *std::prev(after);
  return place < first + size;
}

void Memory::release_kept() {
  for (auto& [size, pointers] : kept_) {
    for (void* pointer : pointers) gpu_.release(pointer);
    pointers.clear();
  }
}

}  // namespace wideseek::cuda
