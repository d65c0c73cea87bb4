// Attention without tensor cores: every head size up to 256, fp32 and bf16. One warp computes one row of one head, with
// the key of a lane for the scores and the elements of a lane for the sums, so it is simple rather than fast.
#pragma once

#include "backend.h"
#include "cuda/attention_plan.h"

namespace wideseek::cuda {

constexpr int kMaxPlainHeadDim = 256;

void plain_attention_forward(Stream stream, TypedPointer out, float* lse, ConstTypedPointer qkv, const KvBlocks& cache,
                             const CudaAttentionPlan& plan);

// statistics [T,H].
void plain_attention_backward(Stream stream, TypedPointer dqkv, ConstTypedPointer dout, const float* lse,
                              const RowStatistic* statistics, ConstTypedPointer qkv, const KvBlocks& cache,
                              const CudaAttentionPlan& plan);

}  // namespace wideseek::cuda
