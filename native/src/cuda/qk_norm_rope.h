// Per-head RMSNorm and rotation of the query and key heads of packed qkv rows. Contracts: backend.h.
#pragma once

#include "backend.h"
#include "cuda/platform.h"

namespace wideseek::cuda {

constexpr int kMaxHeadDim = 256;

// Heads of up to 256 elements.
void qk_norm_rope_forward(Stream stream, TypedPointer out, ConstTypedPointer qkv, const float* q_norm,
                          const float* k_norm, const float* cos, const float* sin, const int32_t* positions,
                          const AttentionShape& shape, int64_t T, float eps);

// scratch: qk_norm_rope_backward_scratch(shape) floats.
int64_t qk_norm_rope_backward_scratch(const AttentionShape& shape);
void qk_norm_rope_backward(Stream stream, TypedPointer dqkv, TypedPointer dq_norm, TypedPointer dk_norm,
                           ConstTypedPointer qkv, const float* q_norm, const float* k_norm, const float* cos,
                           const float* sin, const int32_t* positions, const AttentionShape& shape, int64_t T,
                           float eps, float* scratch);

}  // namespace wideseek::cuda
