// Hands out parts of one allocation; run once without memory to learn its size.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/typed_pointer.h"

namespace wideseek {

class Arena {
 public:
  explicit Arena(std::byte* base) : base_(base) {}
  TypedPointer take(int64_t count, DType dtype) {
    std::byte* taken = base_ == nullptr ? nullptr : base_ + used_;
    used_ += (count * dtype_bytes(dtype) + 63) / 64 * 64;
    return {taken, dtype};
  }
  float* take_floats(int64_t count) { return take(count, DType::kFloat32).fp32(); }
  // As large as floats.
  int32_t* take_int32s(int64_t count) { return static_cast<int32_t*>(take(count, DType::kFloat32).data); }
  int64_t used() const { return used_; }

 private:
  std::byte* base_;
  int64_t used_ = 0;
};

}  // namespace wideseek
