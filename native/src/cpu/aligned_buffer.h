// Owned, 64-byte aligned memory for kernels: packed weights and workspaces.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>
#include <string>
#include <type_traits>
#include <utility>

#include "base/error.h"
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace wideseek {

template <typename T>
class AlignedBuffer {
  static_assert(std::is_trivial_v<T>);

 public:
  AlignedBuffer() = default;
  // Uninitialised.
  explicit AlignedBuffer(int64_t count) { allocate(count); }
  AlignedBuffer(AlignedBuffer&& other) noexcept { swap(other); }
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~AlignedBuffer() { std::free(data_); }

  T* data() { return data_; }
  const T* data() const { return data_; }
  int64_t size() const { return size_; }

  // At least `count` elements; the old contents are lost when it has to grow.
  T* grow(int64_t count) {
    if (count > size_) {
      std::free(data_);
      data_ = nullptr;
      size_ = 0;
      allocate(count);
    }
    return data_;
  }

 private:
  void allocate(int64_t count) {
    constexpr size_t kLine = 64, kHugePage = size_t{2} << 20;
    const size_t bytes = static_cast<size_t>(count) * sizeof(T);
    // Weights are read once per token, so page walks would cost as much as the reading.
    const size_t alignment = bytes >= kHugePage ? kHugePage : kLine;
    const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
    data_ = static_cast<T*>(std::aligned_alloc(alignment, rounded == 0 ? alignment : rounded));
    WS_CHECK(data_ != nullptr, kOutOfMemory, "AlignedBuffer",
             "could not allocate " + std::to_string(rounded) + " bytes");
#if defined(__linux__)
    // Not what was rounded up: of thousands of experts, the last huge page of each would cost gigabytes. Advice only:
    // failure costs speed, nothing else.
    if (alignment == kHugePage) madvise(data_, bytes, MADV_HUGEPAGE);
#endif
    size_ = count;
  }
  void swap(AlignedBuffer& other) {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }
  T* data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace wideseek
