// Device pointers that know their element type. Arithmetic counts elements, as with float*.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"
#include "base/error.h"

namespace wideseek {

struct ConstTypedPointer {
  const void* data = nullptr;
  DType dtype = DType::kFloat32;

  ConstTypedPointer() = default;
  ConstTypedPointer(const float* pointer) : data(pointer) {}  // implicit: an fp32 array is the common case
  ConstTypedPointer(const void* pointer, DType type) : data(pointer), dtype(type) {}
  ConstTypedPointer operator+(int64_t elements) const {
    return {static_cast<const std::byte*>(data) + elements * dtype_bytes(dtype), dtype};
  }
  explicit operator bool() const { return data != nullptr; }
  const float* fp32() const {
    WS_CHECK(dtype == DType::kFloat32, kInternal, "ConstTypedPointer", "an fp32 array was expected");
    return static_cast<const float*>(data);
  }
};

struct TypedPointer {
  void* data = nullptr;
  DType dtype = DType::kFloat32;

  TypedPointer() = default;
  TypedPointer(float* pointer) : data(pointer) {}
  TypedPointer(void* pointer, DType type) : data(pointer), dtype(type) {}
  TypedPointer operator+(int64_t elements) const {
    return {static_cast<std::byte*>(data) + elements * dtype_bytes(dtype), dtype};
  }
  explicit operator bool() const { return data != nullptr; }
  operator ConstTypedPointer() const { return {data, dtype}; }
  float* fp32() const {
    WS_CHECK(dtype == DType::kFloat32, kInternal, "TypedPointer", "an fp32 array was expected");
    return static_cast<float*>(data);
  }
};

}  // namespace wideseek
