// Element types of stored tensors and their exact conversions to and from fp32.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

namespace wideseek {

// Type of stored weights. Activations, gradients, moments and all arithmetic are fp32 on the CPU.
enum class DType { kFloat32, kBFloat16, kFloat16 };

inline int64_t dtype_bytes(DType dtype) { return dtype == DType::kFloat32 ? 4 : 2; }

inline float bf16_to_float(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

// Round to nearest even; NaN stays NaN (quiet).
inline uint16_t float_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

inline float fp16_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 0x1fu;
  const uint32_t mantissa = half & 0x3ffu;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;  // subnormal or zero, exact in fp32
  return sign ? -magnitude : magnitude;
}

// Round to nearest even, overflow to infinity, gradual underflow.
inline uint16_t float_to_fp16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return sign | 0x7e00u;
  if (magnitude >= 0x477ff000u) return sign | 0x7c00u;  // 65520 and above round to infinity
  if (magnitude < 0x38800000u) {                        // below 2^-14: the fp32 adder does the rounding
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return sign | static_cast<uint16_t>(std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(0.5f));
  }
  const uint32_t rounded = magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u);
  return sign | static_cast<uint16_t>(rounded >> 13);
}

// Widens (exactly) or copies `count` elements of `dtype` at `source`.
inline void convert_to_float(const void* source, DType dtype, float* out, int64_t count) {
  if (dtype == DType::kFloat32) {
    std::memcpy(out, source, static_cast<size_t>(count) * sizeof(float));
    return;
  }
  const auto* halves = static_cast<const uint16_t*>(source);
  if (dtype == DType::kBFloat16) {
    for (int64_t i = 0; i < count; ++i) out[i] = bf16_to_float(halves[i]);
  } else {
    for (int64_t i = 0; i < count; ++i) out[i] = fp16_to_float(halves[i]);
  }
}

// Rounds to nearest even.
inline void convert_from_float(const float* source, void* out, DType dtype, int64_t count) {
  if (dtype == DType::kFloat32) {
    std::memcpy(out, source, static_cast<size_t>(count) * sizeof(float));
    return;
  }
  auto* halves = static_cast<uint16_t*>(out);
  if (dtype == DType::kBFloat16) {
    for (int64_t i = 0; i < count; ++i) halves[i] = float_to_bf16(source[i]);
  } else {
    for (int64_t i = 0; i < count; ++i) halves[i] = float_to_fp16(source[i]);
  }
}

}  // namespace wideseek
