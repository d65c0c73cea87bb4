// Attention: tensor cores where they take the shape, else the plain kernels. Contracts: backend.h.
#pragma once

#include "backend.h"
#include "cuda/attention_plan.h"
#include "cuda/kv_store.h"

namespace wideseek::cuda {

void attention_forward(Stream stream, TypedPointer out, float* lse, ConstTypedPointer qkv, const KvBlocks& cache,
                       const AttentionPlan& plan);

// scratch: attention_backward_scratch(plan) floats. dcache is not used: gradients go to their rows at once.
int64_t attention_backward_scratch(const AttentionPlan& plan);
int64_t attention_backward_scratch(const AttentionShape& shape, int64_t rows);
void attention_backward(Stream stream, TypedPointer dqkv, ConstTypedPointer dout, ConstTypedPointer out,
                        const float* lse, ConstTypedPointer qkv, const KvBlocks& cache, const KvBlocks& dcache,
                        const AttentionPlan& plan, float* scratch);

}  // namespace wideseek::cuda
